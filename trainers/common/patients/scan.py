"""Scanning an anatomy: a series of it with its own geometry, kernel and noise, and where its lesions lie there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lnsdk.phantom import LesionTruth
from lnsdk.trainers.common.patients.plan import SHIFT_MM, SeriesPlan, StudyPlan
from lnsdk.volume import Volume

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SMOOTH_MM = 0.8
"""Sigma of the smoothest kernel's blur; the middle kernel and sharper ones add none."""

SHARPENING, SHARPENING_MM = 0.6, 1.0
"""The sharpest kernel adds this share of what differs from a blur of this sigma (unsharp masking)."""

GRAIN_MM = (0.85, 0.30)
"""Sigma of the filter that noise has gone through, with the smoothest and the sharpest kernel, as the phantoms'."""

BETWEEN_SLICES = 0.15
"""Correlation of the noise of neighbouring slices."""

TAP_MM = 0.2
"""Distance between the samples that stand for a kernel or for the thickness of a slice."""

MOST_SIGMAS = 3.0
"""Kernels end here."""

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""Range of 12-bit CT (LENS VI-A)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the voxels of a series lie in the anatomy.

    Attributes
    ----------
    shape : (int, int, int)
        Voxels of the series, z, y, x.
    first, step : ndarray of float64, (3,)
        Voxel i of the series lies at `first + i * step` in voxels of the anatomy, x, y, z.
    """

    shape: tuple[int, int, int]
    first: F64
    step: F64

    def from_anatomy(self, points: npt.ArrayLike) -> F64:
        """Points (..., 3), x, y, z in voxels of the anatomy, in voxels of the series."""
        moved: F64 = (np.asarray(points, np.float64) - self.first) / self.step
        return moved

    def boxes(self, boxes: npt.ArrayLike) -> F64:
        """Boxes (N, 6) of the anatomy in voxels of the series."""
        corners = np.asarray(boxes, np.float64).reshape(-1, 2, 3)
        return self.from_anatomy(corners).reshape(-1, 6)

    def slices(self, boxes: npt.ArrayLike) -> F64:
        """In-plane boxes (N, 4) of the anatomy in voxels of the series."""
        corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
        moved: F64 = ((corners - self.first[:2]) / self.step[:2]).reshape(-1, 4)
        return moved


def place(anatomy: Volume, study: StudyPlan, series: SeriesPlan) -> Frame:
    """Lay a series into an anatomy: its field of view stays inside, its slices cover what the study scanned."""
    spacing = np.asarray(anatomy.spacing)
    extent = (np.asarray(anatomy.shape[::-1]) - 1) * spacing
    step = np.array([series.pixel_mm, series.pixel_mm, series.thickness_mm])
    fields = [max(float(extent[a]) - 2.0 * SHIFT_MM, 0.0) for a in (0, 1)]
    length = (study.scanned[1] - study.scanned[0]) * float(extent[2])
    counts = np.floor(np.array([*fields, length]) / step + 1e-6).astype(int) + 1
    corner = 0.5 * (extent[:2] - (counts[:2] - 1) * step[:2]) + series.shift_mm
    first = np.array([*corner, study.scanned[0] * float(extent[2])])
    return Frame((int(counts[2]), int(counts[1]), int(counts[0])), first / spacing, step / spacing)


def scan(anatomy: Volume, frame: Frame, series: SeriesPlan) -> Volume:
    """Reconstruct a series: slices averaged over their thickness, filtered in plane by the kernel, with noise.

    Parameters
    ----------
    anatomy : Volume
        What is scanned, with its lesions; a phantom without noise, or a real CT with its own.
    frame : Frame
        Where the series lies in it.
    series : SeriesPlan
        Thickness, kernel and noise.

    Returns
    -------
    Volume
        In the anatomy's world coordinates.
    """
    nz, ny, nx = anatomy.shape
    spacing = np.asarray(anatomy.spacing)
    x, y, z = (frame.first[a] + frame.step[a] * np.arange(n) for a, n in enumerate(frame.shape[::-1]))
    offsets, weights = kernel_taps(series.kernel)
    across, down = (sampling(at, n, offsets / mm, weights) for at, n, mm in ((x, nx, spacing[0]), (y, ny, spacing[1])))
    offsets, weights = thickness_taps(series.thickness_mm, float(spacing[2]))
    along = sampling(z, nz, offsets / spacing[2], weights)
    voxels = np.empty(frame.shape, np.int16)
    for k, noise in enumerate(_noise(frame, series)):
        used = np.flatnonzero(along[k])
        slab = np.tensordot(along[k, used], anatomy.voxels[used].astype(np.float32), axes=1)
        voxels[k] = np.clip(np.rint(down @ slab @ across.T + noise), LOWEST_HU, HIGHEST_HU)
    affine = anatomy.affine @ np.block(
        [[np.diag(frame.step), frame.first[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]
    )
    return Volume(voxels, affine, description=f"simulated series {series.name}")


def noisy(volume: Volume, sigma: float, seed: int) -> Volume:
    """A volume with the noise of a middle kernel added."""
    frame = Frame(volume.shape, np.zeros(3), np.ones(3))
    plan = SeriesPlan("", volume.spacing[2], volume.spacing[0], (0.0, 0.0), 0.5, sigma, seed)
    voxels = np.empty(volume.shape, np.int16)
    for k, noise in enumerate(_noise(frame, plan)):
        voxels[k] = np.clip(np.rint(volume.voxels[k] + noise), LOWEST_HU, HIGHEST_HU)
    return replace(volume, voxels=voxels)


def kernel_taps(kernel: float) -> tuple[F64, F64]:
    """Offsets (mm) and weights of a reconstruction kernel along one axis: 0 smooth, 0.5 as it is, 1 sharpened."""
    blur = SMOOTH_MM * max(1.0 - 2.0 * kernel, 0.0)
    if kernel <= 0.5:
        return _gaussian(blur)
    offsets, wide = _gaussian(SHARPENING_MM)
    amount = SHARPENING * (2.0 * kernel - 1.0)
    return np.append(offsets, 0.0), np.append(-amount * wide, 1.0 + amount)


def thickness_taps(thickness_mm: float, own_mm: float) -> tuple[F64, F64]:
    """Offsets (mm) and weights that average the anatomy over a slice, which its own slices (`own_mm`) do in part."""
    width = float(np.sqrt(max(thickness_mm**2 - own_mm**2, 0.0)))
    taps = max(int(np.ceil(width / TAP_MM)), 1)
    return ((np.arange(taps) + 0.5) / taps - 0.5) * width, np.full(taps, 1.0 / taps)


def _gaussian(sigma_mm: float) -> tuple[F64, F64]:
    reach = int(np.ceil(MOST_SIGMAS * sigma_mm / TAP_MM))
    offsets: F64 = TAP_MM * np.arange(-reach, reach + 1, dtype=np.float64)
    weights: F64 = np.exp(-0.5 * (offsets / max(sigma_mm, 1e-6)) ** 2)
    weights /= weights.sum()
    return offsets, weights


def sampling(positions: F64, count: int, offsets: F64, weights: F64) -> F32:
    """Matrix (len(positions), count) that interpolates linearly at positions + offsets and adds by weight.

    Positions and offsets are indices of samples; what lies beyond the first or last sample repeats it.
    """
    at = np.clip(positions[:, None] + offsets[None], 0.0, count - 1.0)
    before = np.minimum(np.floor(at).astype(np.int64), max(count - 2, 0))
    share = at - before
    matrix = np.zeros((len(positions), count))
    rows = np.broadcast_to(np.arange(len(positions))[:, None], at.shape)
    np.add.at(matrix, (rows, before), weights * (1.0 - share))
    np.add.at(matrix, (rows, np.minimum(before + 1, count - 1)), weights * share)
    return matrix.astype(np.float32)


def _noise(frame: Frame, series: SeriesPlan) -> Iterator[F32]:
    """Noise of each slice, float32 (y, x), of standard deviation `sigma` and a grain that depends on the kernel."""
    rng = np.random.default_rng(series.seed)
    smooth, sharp = GRAIN_MM
    offsets, weights = _gaussian(smooth + (sharp - smooth) * series.kernel)
    depth, height, width = frame.shape
    down, across = (
        _unit_rows(sampling(np.arange(n, dtype=np.float64), n, offsets / series.pixel_mm, weights))
        for n in (height, width)
    )
    white = rng.standard_normal((height, width), np.float32)
    for _ in range(depth):
        fresh = rng.standard_normal((height, width), np.float32)
        white *= np.float32(BETWEEN_SLICES)
        white += np.float32(np.sqrt(1.0 - BETWEEN_SLICES**2)) * fresh
        noise = np.asarray(down @ white @ across.T, np.float32)
        noise *= np.float32(series.sigma)
        yield noise


def _unit_rows(matrix: F32) -> F32:
    """Rows of length 1: white noise keeps its standard deviation."""
    unit: F32 = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit


def lesion_in_series(lesion: LesionTruth, frame: Frame) -> LesionTruth | None:
    """Move what is known of a lesion from voxels of the anatomy to those of a series.

    A lesion thinner than a slice is seen in the whole thickness of it. The box ends where the series does.

    Returns
    -------
    LesionTruth or None
        None when no slice of the series shows it, or when its middle lies beside the field of view.
    """
    depth, height, width = frame.shape
    (box,) = frame.boxes(lesion.box[None])
    middle, half = 0.5 * (box[:3] + box[3:]), 0.5 * max(box[5] - box[2], 1.0)
    slices = np.arange(max(int(np.ceil(middle[2] - half)), 0), min(int(np.floor(middle[2] + half)), depth - 1) + 1)
    if len(slices) == 0 or not (0 <= middle[0] <= width - 1 and 0 <= middle[1] <= height - 1):
        return None
    box[2], box[5] = middle[2] - half, middle[2] + half
    at = frame.first[2] + frame.step[2] * slices
    own = np.stack([np.interp(at, lesion.slices, lesion.slice_boxes[:, c]) for c in range(4)], axis=1)
    low, high = np.array([-0.5, -0.5, -0.5]), np.array([width, height, depth]) - 0.5
    x, y, z = (float(value) for value in frame.from_anatomy(lesion.spec.center))
    return replace(
        lesion,
        box=np.clip(box, np.tile(low, 2), np.tile(high, 2)).astype(np.float32),
        spec=replace(lesion.spec, center=(x, y, z)),
        slices=slices.astype(np.int64),
        slice_boxes=np.clip(frame.slices(own), np.tile(low[:2], 2), np.tile(high[:2], 2)).astype(np.float32),
    )
