"""Image features along the slices: each image goes through its graph once and serves the three centres that need it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnsdk.pipelines.settings import CHANNELS

Array = NDArray[np.float32]

REACH = CHANNELS
"""Slices between a centre's image and its neighbours': images do not overlap (LENS IV-A)."""


@dataclass(frozen=True)
class Centers:
    """Consecutive centre slices with the features of their three images.

    Attributes
    ----------
    start : int
        The first centre's slice.
    previous, own, following : dict of str to ndarray
        Features of the image before, at and after each centre, by name; one row per centre. They are views that hold
        only until the next batch is asked for.
    """

    start: int
    previous: dict[str, Array]
    own: dict[str, Array]
    following: dict[str, Array]

    def fuse_inputs(self) -> dict[str, Array]:
        """Return the inputs of the ``fuse`` graph: ``<name>_prev``, ``<name>``, ``<name>_next``."""
        inputs: dict[str, Array] = {}
        for name, own in self.own.items():
            inputs |= {f"{name}_prev": self.previous[name], name: own, f"{name}_next": self.following[name]}
        return inputs


def centers(
    slices: Callable[[int, int], Array], count: int, run_image: Callable[[Array], dict[str, Array]], batch: int
) -> Iterator[Centers]:
    """Walk along the centre slices with their images' features, in bounded memory.

    Parameters
    ----------
    slices : callable
        ``slices(start, stop)`` gives grid slices (stop - start, y, x).
    count : int
        Number of grid slices; each is a centre.
    run_image : callable
        From images (N, 3, y, x) to features, each with N rows.
    batch : int
        Most centres, and most images, at once.

    Yields
    ------
    Centers
        Centres in ascending order; every batch but the last has `batch` of them.

    Notes
    -----
    Slices before the first repeat it, as those after the last do, so all images beyond an end are alike: they are
    computed once as image -1 or `count`.
    """
    window = _Window(batch + 2 * REACH)
    known = -1  # first image that is not computed yet
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        while known < min(stop + REACH, count + 1):
            end = min(known + batch, stop + REACH, count + 1)
            window.append(run_image(images(slices, count, known, end)))
            if known == -1:
                window.repeat_first(REACH - 1)
            known = end
        window.repeat_last(stop - start + 2 * REACH - window.filled)
        yield Centers(start, *(window.rows(offset, stop - start) for offset in (0, REACH, 2 * REACH)))
        window.drop(stop - start)


def images(slices: Callable[[int, int], Array], count: int, start: int, stop: int) -> Array:
    """Gather images `start` to `stop` (half-open): slice i with the slices beside it as channels; edge slices repeat.

    Returns
    -------
    ndarray of float32, shape (stop - start, 3, y, x)
    """
    neighbours = np.arange(start, stop)[:, None] + np.arange(CHANNELS) - CHANNELS // 2
    neighbours = np.clip(neighbours, 0, count - 1)
    first, last = int(neighbours.min()), int(neighbours.max())
    return np.asarray(slices(first, last + 1)[neighbours - first])


class _Window:
    """The features of consecutive images, in one buffer per name so that neighbouring rows are views."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._buffers: dict[str, Array] = {}
        self.filled = 0

    def append(self, features: dict[str, Array]) -> None:
        rows = len(next(iter(features.values())))
        for name, values in features.items():
            if name not in self._buffers:
                self._buffers[name] = np.empty((self._capacity, *values.shape[1:]), np.float32)
            self._buffers[name][self.filled : self.filled + rows] = values
        self.filled += rows

    def repeat_first(self, times: int) -> None:
        """Insert copies of the only or first row in front of the rows."""
        for values in self._buffers.values():
            values[times : times + self.filled] = values[: self.filled].copy()
            values[:times] = values[times]
        self.filled += times

    def repeat_last(self, times: int) -> None:
        for values in self._buffers.values():
            values[self.filled : self.filled + times] = values[self.filled - 1]
        self.filled += times

    def rows(self, start: int, count: int) -> dict[str, Array]:
        return {name: values[start : start + count] for name, values in self._buffers.items()}

    def drop(self, rows: int) -> None:
        """Forget the first rows and move the others to the front."""
        self.filled -= rows
        for values in self._buffers.values():
            values[: self.filled] = values[rows : rows + self.filled].copy()
