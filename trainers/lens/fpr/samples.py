"""Samples of false-positive reduction: the detector's own true and false positives, and augmented patches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.errors import InputError
from lnsdk.pipelines.false_positives import cut_patch, frame_around
from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.common.samples import SCALES
from lnsdk.trainers.lens.fpr.settings import FprSettings
from lnsdk.trainers.lens.rois import IGNORED_OVERLAP

Array = NDArray[np.float32]
Found = Sequence[tuple[GridCase, SliceBoxes]]
"""Cases with what the detector found in them."""

SHIFT = 4.0
"""Largest random shift of a patch in plane, in pixels: half of the detector's (LENS VI-A), whose crops are not centred
on a box."""

SHIFT_Z = 1
"""Largest random shift of a patch along z, in slices."""

BORDER_SHIFT = 0.1
"""Largest random shift of each border of a box, over the box's side."""

TRUE, FALSE, UNUSED = 1, 0, -1
"""Labels of 3D boxes: a lesion; none; nobody knows."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """3D boxes that are learned from.

    Attributes
    ----------
    cases : tuple of GridCase
        Where they were found.
    owners : ndarray of int64, (N,)
        Which case each box was found in.
    boxes : ndarray of float32, (N, 6)
        x1, y1, z1, x2, y2, z2 in grid indices.
    labels : ndarray of int64, (N,)
        `TRUE` or `FALSE`.
    """

    cases: tuple[GridCase, ...]
    owners: NDArray[np.int64]
    boxes: Array
    labels: NDArray[np.int64]


def collect_candidates(found: Found, settings: FprSettings, stack_iou: float) -> Candidates:
    """Stack what the detector found in every case, and label the best 3D boxes.

    Parameters
    ----------
    found : sequence of (GridCase, SliceBoxes)
        Cases of the universal dataset (VI-B), whose labels hold the annotations and the mined boxes; 2D boxes as the
        detector gives them, all scores.
    settings : FprSettings
        Thresholds of the labels and number of boxes.
    stack_iou : float
        IoU above which the runtime joins boxes of neighbouring slices.

    Raises
    ------
    InputError
        ``candidates`` when there are no true or no false positives to learn from.
    """
    rows = [_label_case(case, boxes, settings, stack_iou) for case, boxes in found]
    candidates = Candidates(
        tuple(case for case, _ in found),
        np.concatenate([np.full(len(boxes), i) for i, (boxes, _) in enumerate(rows)] or [np.zeros(0, np.int64)]),
        np.concatenate([boxes for boxes, _ in rows] or [np.zeros((0, 6), np.float32)]),
        np.concatenate([labels for _, labels in rows] or [np.zeros(0, np.int64)]),
    )
    for label, name in ((TRUE, "true"), (FALSE, "false")):
        if not (candidates.labels == label).any():
            raise InputError(
                "candidates",
                f"the detector has no {name} positives among the {settings.boxes} best boxes of {len(found)} cases: "
                "train it longer, or use more cases",
            )
    return candidates


def label_boxes(
    found: SliceBoxes, members: NDArray[np.int64], labels: Labels, theta: float, theta_fp: float
) -> NDArray[np.int64]:
    """Label 3D boxes by the 2D boxes that they were made of (VI-B).

    Parameters
    ----------
    found : SliceBoxes
        2D boxes.
    members : ndarray of int64, (N,)
        The 3D box of each, as `lnsdk.ops.stack_boxes` gives it.
    labels : Labels
        What is known of the volume.
    theta, theta_fp : float
        As in `FprSettings`.

    Returns
    -------
    ndarray of int64, (number of 3D boxes,)
        `TRUE` when the IoU of any member with a labelled box of its slice is above `theta` (key-slice IoU, V-A).
        `FALSE` when the IoU of every member with every labelled and every uncertain box of its slice is below
        `theta_fp`, and none has a share of `IGNORED_OVERLAP` or more in a place where nothing is known. Else `UNUSED`.
    """
    count = int(members.max(initial=-1)) + 1
    lesion, unclear, unknown = (np.zeros(count) for _ in range(3))
    for z in np.unique(found.slices):
        here = found.slices == z
        boxes, stacks = found.boxes[here], members[here]
        spots = labels.ignored[(labels.ignored[:, 2] <= z) & (labels.ignored[:, 5] >= z)][:, [0, 1, 3, 4]]
        np.maximum.at(lesion, stacks, _best(ops.iou(boxes, labels.boxes[labels.boxes[:, 0] == z, 1:])))
        np.maximum.at(unclear, stacks, _best(ops.iou(boxes, labels.uncertain[labels.uncertain[:, 0] == z, 1:])))
        np.maximum.at(unknown, stacks, _best(ops.iobb(boxes, spots)))
    negative = (np.maximum(lesion, unclear) < theta_fp) & (unknown < IGNORED_OVERLAP)
    return np.where(lesion > theta, TRUE, np.where(negative, FALSE, UNUSED))


def draw_epoch(labels: NDArray[np.int64], negatives: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the samples of an epoch: every true positive and `negatives` times as many false ones, shuffled.

    False positives repeat only when there are too few of them.
    """
    positive, negative = np.flatnonzero(labels == TRUE), np.flatnonzero(labels == FALSE)
    drawn = np.resize(rng.permutation(negative), negatives * len(positive))
    return rng.permutation(np.concatenate((positive, drawn)))


def draw_patch(case: GridCase, box: Array, size: tuple[int, int, int], rng: np.random.Generator) -> tuple[Array, Array]:
    """Cut an augmented patch: shifted, resized, flipped along x and z, its box's borders moved a little.

    Parameters
    ----------
    case : GridCase
        Where the box was found.
    box : ndarray of float32, (6,)
        3D box.
    size : tuple of int
        Of the patch (z, y, x).
    rng : Generator
        Decides everything.

    Returns
    -------
    patch : ndarray of float32, `size`
        0..255.
    box : ndarray of float32, (6,)
        In patch indices.
    """
    shift = np.array([*rng.uniform(-SHIFT, SHIFT, 2), rng.integers(-SHIFT_Z, SHIFT_Z + 1)] * 2)
    frame = frame_around((box + shift).astype(np.float32), size, step=1 / rng.uniform(*SCALES))
    depth, height, width = case.grid.shape
    patch = cut_patch(lambda ranges: case.grid[tuple(slice(*r) for r in ranges)], (depth, height, width), frame, size)
    sides = np.tile(box[3:] - box[:3], 2)
    own = frame.to_patch((box + rng.uniform(-BORDER_SHIFT, BORDER_SHIFT, 6) * sides).astype(np.float32)[None])[0]
    for axis, corner in ((2, 0), (0, 2)):
        if rng.random() < 0.5:
            patch = np.flip(patch, axis)
            own[[corner, corner + 3]] = size[axis] - 1 - own[[corner + 3, corner]]
    return np.ascontiguousarray(patch), own


def case_digests(found: Found) -> dict[str, str]:
    """Digest of every case by its name: what it was made from, its labels, and what was found in it."""
    return {case.name: _digest(case, boxes) for case, boxes in found}


def _digest(case: GridCase, found: SliceBoxes) -> str:
    labels = case.labels
    arrays = (labels.boxes, labels.uncertain, labels.ignored, found.boxes, found.scores, found.slices)
    content = [case.fingerprint.encode(), *(np.ascontiguousarray(array).tobytes() for array in arrays)]
    return hashlib.sha256(b"\0".join(content)).hexdigest()


def _label_case(
    case: GridCase, found: SliceBoxes, settings: FprSettings, stack_iou: float
) -> tuple[Array, NDArray[np.int64]]:
    """The best 3D boxes of a case that are one or the other, and their labels."""
    stacked = ops.stack_boxes(found.boxes, found.scores, found.slices, stack_iou)
    labels = label_boxes(found, stacked.members, case.labels, settings.theta, settings.theta_fp)
    used = np.flatnonzero(labels[: settings.boxes] != UNUSED)
    return stacked.boxes[used], labels[used]


def _best(overlaps: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(overlaps.max(axis=1, initial=0.0))
