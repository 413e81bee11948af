"""Branching vessels: trees that reach every part of an organ and taper like real ones (Murray's law)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

MURRAY = 2.7
"""Exponent of Murray's law: r^2.7 of a parent is the sum over its children (2.7 to 3 in lungs)."""


def grow_tree(
    root: F64,
    root_radius: float,
    targets: F64,
    rng: np.random.Generator,
    leaf_radius: float = 0.35,
    wander: float = 0.12,
) -> F64:
    """Grow a tree from `root` (x, y, z mm) to all `targets` (N, 3).

    The targets of a branch are halved again and again across their longest direction; each half gets a branch towards
    its centroid, whose radius follows from the number of targets it serves.

    Returns
    -------
    segments : float64 (S, 9)
        x, y, z, radius of both ends, then the generation (0 at the root).
    """
    rows: list[list[float]] = []
    pending: list[tuple[F64, float, F64, int]] = [(root, root_radius, targets, 0)]
    exponent = 1.0 / MURRAY
    per_leaf = root_radius / len(targets) ** exponent
    while pending:
        start, start_radius, points, generation = pending.pop()
        centroid = points.mean(axis=0)
        way = centroid - start
        length = float(np.sqrt(way @ way))
        share = 1.0 if len(points) == 1 else 0.55
        end = start + share * way + wander * share * length * rng.normal(size=3)
        middle = 0.5 * (start + end) + 0.5 * wander * share * length * rng.normal(size=3)
        radius = max(per_leaf * len(points) ** exponent, leaf_radius)
        begin_radius = min(start_radius, radius * 1.15)
        half_radius = 0.5 * (begin_radius + radius)
        rows.append([*start, begin_radius, *middle, half_radius, generation])
        rows.append([*middle, half_radius, *end, radius, generation])
        if len(points) == 1:
            continue
        spread = points - centroid
        axis = np.linalg.eigh(spread.T @ spread)[1][:, 2] if len(points) > 2 else points[1] - points[0]
        order = np.argsort(spread @ axis, kind="stable")
        cut = min(max(round(len(points) * rng.uniform(0.3, 0.7)), 1), len(points) - 1)
        pending.append((end, radius, points[order[:cut]], generation + 1))
        pending.append((end, radius, points[order[cut:]], generation + 1))
    return np.array(rows)
