"""Training samples: augmented nine-slice crops of the cases of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels

GROUP = 9
"""Slices of a 2.5D sample: three images of three slices (LENS VI-B)."""

SCALES = (0.8, 1.2)
"""Range of random resizing (LENS VI-A)."""

WIDE_SCALES = (0.5, 1.5)
"""The range of data distillation (LENS VI-D)."""

SHIFT = 8
"""Largest random shift in pixels (LENS VI-A)."""

NOISE_HU = 12.0
"""Largest sigma of the noise that is added to half of the samples."""

VISIBLE_SHARE = 0.5
"""A lesion cut by the crop's border counts when at least this share of its box is left, else it is ignored."""


@dataclass(frozen=True)
class Sample:
    """One crop: slices (9, size, size) in 0..255, and the boxes (N, 4) of `Labels` on its centre slice."""

    slices: Tensor
    boxes: Tensor
    uncertain: Tensor
    ignored: Tensor


class Dataset:
    """Cases that share a label scope, ready to be drawn from.

    Parameters
    ----------
    name : str
        Of the data set.
    cases : sequence of GridCase
        Its volumes.

    Attributes
    ----------
    lesions : int
        Labelled lesions: what an epoch draws once each.
    """

    def __init__(self, name: str, cases: Sequence[GridCase]) -> None:
        self.name = name
        self.cases = tuple(cases)
        self._places = [
            (case, case.labels.boxes[case.labels.lesion == lesion])
            for case in self.cases
            for lesion in np.unique(case.labels.lesion)
        ]
        types = [case.labels.types[lesion] for case in self.cases for lesion in np.unique(case.labels.lesion)]
        self._by_type = [np.flatnonzero(np.array(types) == name) for name in sorted(set(types))]
        self._open = [case for case in self.cases if case.labels.slices is None or len(case.labels.slices)]
        self.lesions = len(self._places)

    def draw(
        self, rng: np.random.Generator, size: int, positive: bool, balance: bool = False, wide: bool = False
    ) -> Sample:
        """Draw a random augmented crop.

        Parameters
        ----------
        rng : Generator
            Decides everything.
        size : int
            Side of the crop in pixels, a multiple of 16.
        positive : bool
            Around a labelled lesion, or anywhere on the slices that the labels leave open.
        balance : bool
            Draw each lesion type as often as the others, and not each lesion.
        wide : bool
            Augment as data distillation does (VI-D): by `WIDE_SCALES`, and with flips along y too.

        Returns
        -------
        Sample

        Raises
        ------
        ValueError
            When the data set has no place of that kind.
        """
        case, z, center = self._labelled_place(rng, balance) if positive else self._any_place(rng)
        side = round(size / rng.uniform(*(WIDE_SCALES if wide else SCALES)))
        reach = side // 2 - SHIFT if positive else 0
        offset = rng.integers(-reach, reach + 1, 2) if reach > 0 else np.zeros(2, np.int64)
        corner = np.round(center).astype(np.int64) + offset - side // 2
        corner = _over_grid(corner, case.grid.shape, side) + rng.integers(-SHIFT, SHIFT + 1, 2)
        window = _read_window(case.grid, z, corner, side)
        sample = _augment(window, _window_boxes(case.labels, z, corner, side), size, rng)
        return _turned_over(sample) if wide and rng.random() < 0.5 else sample

    def _labelled_place(self, rng: np.random.Generator, balance: bool) -> tuple[GridCase, int, np.ndarray]:
        """A labelled lesion, one of its slices, and its centre there (x, y)."""
        if not self._places:
            raise ValueError(f"data set {self.name!r} has no labelled lesion to draw a sample around")
        if balance:
            of_type = self._by_type[int(rng.integers(len(self._by_type)))]
            case, rows = self._places[int(of_type[rng.integers(len(of_type))])]
        else:
            case, rows = self._places[int(rng.integers(len(self._places)))]
        row = rows[rng.integers(len(rows))]
        return case, int(row[0]), (row[1:3] + row[3:5]) / 2

    def _any_place(self, rng: np.random.Generator) -> tuple[GridCase, int, np.ndarray]:
        """A place anywhere on the slices of a case that samples may be centred on."""
        if not self._open:
            raise ValueError(f"data set {self.name!r} has no slice to draw from: Labels.slices is empty everywhere")
        case = self._open[int(rng.integers(len(self._open)))]
        depth, height, width = case.grid.shape
        slices = np.arange(depth) if case.labels.slices is None else case.labels.slices
        return case, int(slices[rng.integers(len(slices))]), rng.uniform((0, 0), (width, height))


def noise_sigma(rng: np.random.Generator) -> float:
    """Draw how much noise is added to a sample: up to `NOISE_HU`, in grid values."""
    return rng.uniform(0.0, NOISE_HU) * 255.0 / 4095.0


def _over_grid(corner: np.ndarray, shape: Sequence[int], side: int) -> np.ndarray:
    """Move a window's corner (x, y) so that as much of it as possible lies on the grid."""
    last = np.asarray([shape[2] - side, shape[1] - side])
    return np.asarray(np.clip(corner, np.minimum(last, 0), np.maximum(last, 0)))


def _read_window(grid: np.ndarray, z: int, corner: np.ndarray, side: int) -> np.ndarray:
    """Nine slices around z: float32 (9, side, side)."""
    return read_slices(grid, np.arange(z - GROUP // 2, z + GROUP // 2 + 1), corner, side)


def read_slices(grid: np.ndarray, slices: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """A square window of some slices; edge slices stand for those beyond, zero (air) fills up in plane.

    Parameters
    ----------
    grid : ndarray, (z, y, x)
        Values 0..255.
    slices : ndarray of int64, (S,)
        Which slices.
    corner : ndarray of int64, (2,)
        x and y of the window's first pixel.
    side : int
        Of the window in pixels.

    Returns
    -------
    ndarray of float32, (S, side, side)
    """
    window = np.zeros((len(slices), side, side), np.float32)
    x0, y0 = int(corner[0]), int(corner[1])
    _, height, width = grid.shape
    low_y, high_y, low_x, high_x = max(y0, 0), min(y0 + side, height), max(x0, 0), min(x0 + side, width)
    if low_y < high_y and low_x < high_x:
        indices = np.clip(slices, 0, len(grid) - 1)
        window[:, low_y - y0 : high_y - y0, low_x - x0 : high_x - x0] = grid[indices, low_y:high_y, low_x:high_x]
    return window


class WindowBoxes(NamedTuple):
    """Boxes of one slice in a window's pixels: labelled (K, 4), uncertain (U, 4) and ignored (J, 4)."""

    labelled: np.ndarray
    uncertain: np.ndarray
    ignored: np.ndarray


def _window_boxes(labels: Labels, z: int, corner: np.ndarray, side: int) -> WindowBoxes:
    """What the labels say of slice z within a window."""
    shift = np.tile(corner, 2).astype(np.float32)
    boxes, uncertain = (rows[rows[:, 0] == z, 1:] - shift for rows in (labels.boxes, labels.uncertain))
    spots = labels.ignored[(labels.ignored[:, 2] <= z) & (labels.ignored[:, 5] >= z)][:, [0, 1, 3, 4]] - shift
    clipped = np.clip(boxes, -0.5, side - 0.5)
    share = _areas(clipped) / np.maximum(_areas(boxes), 1e-6)
    spots = np.clip(spots, -0.5, side - 0.5)
    uncertain = np.clip(uncertain, -0.5, side - 0.5)
    cut = clipped[(share > 0) & (share < VISIBLE_SHARE)]
    ignored = np.concatenate((spots[_areas(spots) > 0], cut))
    return WindowBoxes(clipped[share >= VISIBLE_SHARE], uncertain[_areas(uncertain) > 0], ignored)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _augment(window: np.ndarray, boxes: WindowBoxes, size: int, rng: np.random.Generator) -> Sample:
    """Resize to `size`, flip along x and z by chance, add noise to half of the samples."""
    side = window.shape[-1]
    slices = interpolate(torch.from_numpy(window)[None], size=(size, size), mode="bilinear", align_corners=False)[0]
    factor = size / side
    scaled = [(b + 0.5) * factor - 0.5 for b in boxes]
    if rng.random() < 0.5:
        slices = slices.flip(2)
        scaled = [np.stack((size - 1 - b[:, 2], b[:, 1], size - 1 - b[:, 0], b[:, 3]), 1) for b in scaled]
    if rng.random() < 0.5:
        slices = slices.flip(0)
    if rng.random() < 0.5:
        sigma = noise_sigma(rng)
        noise = torch.from_numpy(rng.standard_normal(slices.shape, np.float32))
        slices = (slices + sigma * noise).clamp(0.0, 255.0)
    return Sample(slices.contiguous(), *(torch.from_numpy(b.astype(np.float32)) for b in scaled))


def _turned_over(sample: Sample) -> Sample:
    """A sample flipped along y."""
    size = sample.slices.shape[1]

    def flipped(boxes: Tensor) -> Tensor:
        return torch.stack((boxes[:, 0], size - 1 - boxes[:, 3], boxes[:, 2], size - 1 - boxes[:, 1]), 1)

    boxes = (flipped(part) for part in (sample.boxes, sample.uncertain, sample.ignored))
    return Sample(sample.slices.flip(1), *boxes)
