"""Use of the lesion embedding: as the mining calls it, and its file with the delta that was chosen for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lnsdk.errors import InputError
from lnsdk.trainers.common.checkpoint import first_line, read_checkpoint
from lnsdk.trainers.lens.embedding.views import scan, stack_views, view
from lnsdk.trainers.lens.mining.delta import DeltaChoice
from lnsdk.trainers.lens.mining.tracklets import Rows
from lnsdk.trainers.networks.embedding import EmbeddingNetwork, EmbeddingShape, LesionViews


def embed(network: EmbeddingNetwork, grid: NDArray[np.float16], rows: Rows, batch: int = 64) -> NDArray[np.float32]:
    """Describe boxes of a volume.

    Parameters
    ----------
    network : EmbeddingNetwork
        In evaluation mode.
    grid : ndarray of float16, (z, y, x)
        Values 0..255.
    rows : ndarray of float32, (N, 5)
        z (a whole number), x1, y1, x2, y2.
    batch : int
        Boxes that the network sees at once.

    Returns
    -------
    ndarray of float32, (N, D)
        L2-normalised.

    Raises
    ------
    ValueError
        When `rows` has another shape or a box lies on no slice of the grid.
    """
    rows = np.asarray(rows, np.float32)
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise ValueError(f"rows must be z, x1, y1, x2, y2: expected shape (N, 5), got {rows.shape}")
    if not ((rows[:, 0] >= 0) & (rows[:, 0] < len(grid))).all():
        raise ValueError(f"rows must lie on slices 0 to {len(grid) - 1} of the grid")
    parts = [np.zeros((0, network.shape.dimensions), np.float32)]
    device = next(network.parameters()).device
    volume = scan(grid)
    for start in range(0, len(rows), batch):
        views = stack_views([view(volume, row) for row in rows[start : start + batch]])
        with torch.inference_mode():
            parts.append(network(LesionViews(*(part.to(device) for part in views))).cpu().numpy())
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class LesionEmbedding:
    """The project's embedding, as the mining calls it (`lnsdk.trainers.lens.mining.matching.Embedding`).

    Attributes
    ----------
    network : EmbeddingNetwork
        Trained.
    delta : DeltaChoice or None
        The threshold that was chosen for it.
    chosen_on : str
        Digest of what it was chosen on.
    """

    network: EmbeddingNetwork
    delta: DeltaChoice | None = None
    chosen_on: str = ""

    def __call__(self, grid: NDArray[np.float16], rows: Rows, /) -> NDArray[np.float32]:
        """Describe boxes of a volume: see `embed`."""
        return embed(self.network, grid, rows)


def store_delta(path: Path, choice: DeltaChoice, chosen_on: str) -> None:
    """Store the threshold in the checkpoint of the embedding that it was chosen for, with a digest of what on.

    Raises
    ------
    InputError
        ``checkpoint`` when the file is damaged.
    """
    content = read_checkpoint(path)
    partial = path.with_suffix(".partial")
    torch.save(content | {"delta": choice.record(), "chosen_on": chosen_on}, partial)
    partial.replace(path)


def load_embedding(path: Path) -> LesionEmbedding:
    """Read an embedding, with its threshold if one was chosen.

    Raises
    ------
    InputError
        ``checkpoint`` when the file is damaged or something else.
    """
    content = read_checkpoint(path)
    try:
        shape = content["shape"]
        windows = tuple((float(low), float(high)) for low, high in shape["windows"])
        names = {name: tuple(shape[name]) for name in ("types", "channels")}
        network = EmbeddingNetwork(EmbeddingShape(**(shape | names | {"windows": windows})))
        network.load_state_dict(content["network"])
        delta = content.get("delta")
        choice = None if delta is None else DeltaChoice(**delta)
        return LesionEmbedding(network.eval(), choice, content.get("chosen_on", ""))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError("checkpoint", f"{path} is no checkpoint of an embedding: {first_line(error)}") from error
