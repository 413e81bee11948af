"""Boxes and cases of few numbers, and an embedding that is looked up."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels, Truth

Row = Sequence[float]


def square(z: float, x: float = 10.0, y: float = 10.0, size: float = 10.0) -> list[float]:
    """A row: slice, and a square by its lower corner."""
    return [z, x, y, x + size, y + size]


def found(rows: Sequence[Row] = (), scores: Sequence[float] | None = None) -> SliceBoxes:
    """Boxes of a detector with one expert, slices ascending."""
    array = np.asarray(rows, np.float32).reshape(-1, 5)
    order = np.argsort(array[:, 0], kind="stable")
    score = np.full(len(array), 0.9, np.float32) if scores is None else np.asarray(scores, np.float32)
    return SliceBoxes(array[order, 1:], score[order], score[order, None], array[order, 0].astype(np.int64))


def case(
    name: str,
    labels: Labels,
    truth: Truth | None = None,
    patient: str = "p",
    study: str = "1",
    series: str = "1",
    depth: int = 12,
) -> GridCase:
    """A case with an empty grid."""
    grid = np.zeros((depth, 64, 64), np.float16)
    return GridCase(name, "universal", grid, labels, truth, patient, study, series, name)


def by_left_edge(grid: NDArray[np.float16], rows: NDArray[np.float32], /) -> NDArray[np.float32]:
    """An embedding: the left edge of a box, so that distances are differences of it."""
    return np.asarray(rows[:, 1:2], np.float32)
