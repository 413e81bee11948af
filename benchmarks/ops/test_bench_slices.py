"""From HU to the network's images: resampling against SimpleITK, PyTorch and OpenCV, and grouping of slices."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from benchmarks import limits
from benchmarks.measuring import Case, Measure, Peer
from lnsdk import ops, read
from lnsdk.ops.slices import grid_shape

SHAPE, SPACING = (99, 512, 512), (0.564453125, 0.564453125, 3.0)
OUT_SPACING, WINDOW = (0.8, 0.8, 2.0), (-1024.0, 3071.0)
GREY_PER_HU = 255 / (WINDOW[1] - WINDOW[0])
GRID = grid_shape(SHAPE, SPACING, OUT_SPACING)
RATIOS = [new / old for new, old in zip(OUT_SPACING[::-1], SPACING[::-1], strict=True)]

PEERS_TOLERANCE = 1e-2
"""Of 255: what is left of PyTorch's and OpenCV's float32 positions."""

RECORDED = pytest.param("recorded", marks=pytest.mark.realdata)
CHEST = [RECORDED if "LNSDK_DATA" in os.environ else "generated"]
"""Of the same shape, so that both take as long."""

Voxels = NDArray[np.int16]


@pytest.fixture(scope="module", params=CHEST)
def voxels(request: pytest.FixtureRequest) -> Voxels:
    if request.param == "recorded":
        data_dir: Path = request.getfixturevalue("data_dir")
        recorded = read(data_dir / "ct/chest_c3n00247").voxels
        assert recorded.shape == SHAPE
        return recorded
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    smooth = 600 * np.sin(z / 9) * np.sin(y / 40) * np.sin(x / 50) - 300
    return (smooth + np.random.default_rng(0).normal(0, 20, SHAPE)).astype(np.int16)


@dataclass(frozen=True)
class Resampling:
    """Output slices ``start .. start + count - 1`` with each of the libraries."""

    voxels: Voxels
    start: int = 0
    count: int = GRID[0]

    def peers(self, targets: bool) -> list[Peer]:
        """Everything but the voxels is prepared beforehand: the image's spacing, and where to sample."""
        image = sitk.GetImageFromArray(self.voxels)
        image.SetSpacing(SPACING)
        places = _torch_places()
        maps = np.meshgrid(*(_positions(axis).astype(np.float32) for axis in (1, 2)), indexing="ij")
        return [
            Peer("SimpleITK", lambda: self._simpleitk(image), 10 if targets else None),
            Peer("torch grid_sample", lambda: self._torch(places), 5 if targets else None),
            Peer("OpenCV remap", lambda: self._opencv(maps), 5 if targets else None),
        ]

    def _simpleitk(self, image: sitk.Image) -> NDArray[np.float32]:
        size, origin = (GRID[2], GRID[1], self.count), (0.0, 0.0, self.start * OUT_SPACING[2])
        resampled = sitk.Resample(
            image, size, sitk.Transform(), sitk.sitkLinear, origin, OUT_SPACING, image.GetDirection(), 0.0,
            sitk.sitkFloat32,
        )  # fmt: skip
        return sitk.GetArrayFromImage(sitk.IntensityWindowing(resampled, *WINDOW, 0, 255))

    def _torch(self, places: torch.Tensor) -> torch.Tensor:
        """In the plane with slices as channels, then along z: three times as fast as grid_sample in 3D."""
        before, after, weight = self._along_z()
        first = int(before[0])
        needed = torch.from_numpy(self.voxels[first : after[-1] + 1])[None].float()
        in_plane = torch.nn.functional.grid_sample(needed, places, padding_mode="border", align_corners=True)[0]
        weights = torch.from_numpy(weight)[:, None, None]
        low, high = (in_plane[torch.from_numpy(each - first)] for each in (before, after))
        blended = torch.lerp(low, high, weights)
        return blended.clamp_(*WINDOW).sub_(WINDOW[0]).mul_(GREY_PER_HU)

    def _opencv(self, maps: Any) -> NDArray[np.float32]:
        """In the plane slice by slice, then along z."""
        before, after, weights = self._along_z()
        rows, columns = maps
        in_plane = {
            z: cv2.remap(self.voxels[z].astype(np.float32), columns, rows, cv2.INTER_LINEAR)
            for z in range(before[0], after[-1] + 1)
        }
        out = np.empty((self.count, *GRID[1:]), np.float32)
        for index, image in enumerate(out):
            low, high, weight = in_plane[before[index]], in_plane[after[index]], float(weights[index])
            cv2.addWeighted(low, 1 - weight, high, weight, 0, dst=image)
            np.clip(image, *WINDOW, out=image)
            image -= np.float32(WINDOW[0])
            image *= np.float32(GREY_PER_HU)
        return out

    def _along_z(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        positions = _positions(0)[self.start : self.start + self.count]
        before = positions.astype(np.int64)
        return before, np.minimum(before + 1, SHAPE[0] - 1), (positions - before).astype(np.float32)


def _positions(axis: int) -> NDArray[np.float64]:
    return np.asarray(np.minimum(np.arange(GRID[axis]) * RATIOS[axis], SHAPE[axis] - 1))


def _torch_places() -> torch.Tensor:
    """In the plane, -1 to 1 from the first voxel to the last, x before y."""
    y, x = (2 * _positions(axis) / (SHAPE[axis] - 1) - 1 for axis in (1, 2))
    places = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)
    return torch.from_numpy(places.astype(np.float32))[None]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_resample_window(measure: Measure, voxels: Voxels, dtype: Any) -> None:
    out = np.zeros(GRID, dtype)
    single = dtype == np.float32
    answers = measure(
        Case(
            name=f"resample_window, {out.dtype}",
            size=f"{_by(SHAPE)} to {_by(GRID)}",
            count=out.size,
            unit="voxel",
            ours=lambda: ops.resample_window(voxels, SPACING, OUT_SPACING, WINDOW, dtype, out=out),
            fresh=lambda: ops.resample_window(voxels, SPACING, OUT_SPACING, WINDOW, dtype),
            peers=Resampling(voxels).peers(targets=True),
            limit=limits.moved_at_copy_rate(voxels.nbytes, out.nbytes, at_most=2),
            note="Bound by its arithmetic, three interpolations a voxel, not by memory."
            + ("" if single else " Peers stop at float32."),
        )
    )
    rounding = 0 if single else 2**-4  # half a unit of the last place of float16 below 256
    for name, answer in answers.items():
        assert np.abs(answers["ours"] - np.asarray(answer)).max() < PEERS_TOLERANCE + rounding, name


def test_one_slice(measure: Measure, voxels: Voxels) -> None:
    middle = GRID[0] // 2
    crop = ((middle, middle + 1), (0, GRID[1]), (0, GRID[2]))
    out = np.zeros((1, *GRID[1:]), np.float32)
    answers = measure(
        Case(
            name="resample_window, 1 slice",
            size=f"slice {middle} of {_by(GRID)}",
            count=out.size,
            unit="voxel",
            ours=lambda: ops.resample_window(voxels, SPACING, OUT_SPACING, WINDOW, crop=crop, out=out),
            fresh=lambda: ops.resample_window(voxels, SPACING, OUT_SPACING, WINDOW, crop=crop),
            peers=Resampling(voxels, middle, 1).peers(targets=False),
        )
    )
    for name, answer in answers.items():
        assert np.abs(answers["ours"] - np.asarray(answer)).max() < PEERS_TOLERANCE, name


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


IMAGES, CHANNELS = 3, 3
REACH = IMAGES * CHANNELS // 2


@pytest.fixture(scope="module")
def grid(voxels: Voxels) -> NDArray[np.float32]:
    return ops.resample_window(voxels, SPACING, OUT_SPACING, WINDOW)


def _stacked(grid: NDArray[np.float32], centers: NDArray[np.int64]) -> NDArray[np.float32]:
    slices = [grid[center + offset] for center in centers for offset in range(-REACH, REACH + 1)]
    return np.stack(slices).reshape(len(centers), IMAGES, CHANNELS, *grid.shape[1:])


def test_group_neighbouring_slices(measure: Measure, grid: NDArray[np.float32]) -> None:
    centers = np.arange(60, 76)
    answers = measure(
        Case(
            name="group_slices, neighbours",
            size=f"{len(centers)} centres, 9 slices each",
            count=len(centers),
            unit="centre",
            ours=lambda: ops.group_slices(grid, centers, IMAGES, CHANNELS),
            peers=[Peer("np.stack", lambda: _stacked(grid, centers), at_least=2)],
            note="A view: nothing is copied.",
        )
    )
    assert np.shares_memory(answers["ours"], grid)
    np.testing.assert_array_equal(answers["ours"], answers["np.stack"])


def test_group_scattered_slices(measure: Measure, grid: NDArray[np.float32]) -> None:
    centers = np.random.default_rng(0).choice(np.arange(REACH, len(grid) - REACH), 16, replace=False)
    out = np.zeros((len(centers), IMAGES, CHANNELS, *grid.shape[1:]), np.float32)
    answers = measure(
        Case(
            name="group_slices, scattered",
            size=f"{len(centers)} centres, 9 slices each",
            count=len(centers),
            unit="centre",
            ours=lambda: ops.group_slices(grid, centers, IMAGES, CHANNELS, out=out),
            fresh=lambda: ops.group_slices(grid, centers, IMAGES, CHANNELS),
            peers=[Peer("np.stack", lambda: _stacked(grid, centers), at_least=2)],
            limit=limits.copied_at_once(out.nbytes, at_most=1.25),
            note="1.25 times the limit is 80 % of the rate of a copy.",
        )
    )
    np.testing.assert_array_equal(answers["ours"], answers["np.stack"])
