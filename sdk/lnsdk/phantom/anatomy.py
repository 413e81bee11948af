"""Phantom CTs: chests and upper abdomens that look enough like patients to train and test a lesion detector on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.abdomen import paint_abdomen
from lnsdk.phantom.build import Build, draw_build
from lnsdk.phantom.canvas import Canvas
from lnsdk.phantom.organs import Organ
from lnsdk.phantom.skeleton import paint_ribs, paint_shoulders, paint_spine, paint_wall
from lnsdk.phantom.thorax import paint_heart, paint_lungs, paint_mediastinum
from lnsdk.volume import Volume

F64 = npt.NDArray[np.float64]

REGIONS = ("chest", "abdomen", "both")

TEXTURE = {
    Organ.LUNG: (16.0, 3.0),
    Organ.LIVER: (3.0, 6.0),
    Organ.SPLEEN: (3.0, 5.0),
    Organ.FAT: (5.0, 4.0),
    Organ.SUBCUTANEOUS: (5.0, 4.0),
    Organ.MUSCLE: (7.0, 3.5),
    Organ.MARROW: (30.0, 2.2),
    Organ.BONE: (50.0, 3.0),
    Organ.OTHER: (4.0, 5.0),
}
"""Amplitude (HU) and grain (mm) of each tissue's own texture."""


@dataclass(frozen=True)
class Phantom:
    """A simulated CT.

    Parameters
    ----------
    volume
        int16 HU (z, y, x) with its affine.
    organs
        uint8 (z, y, x): the `Organ` of every voxel.
    """

    volume: Volume
    organs: npt.NDArray[np.uint8]


def chest_phantom(
    seed: int, slices: int = 100, spacing: Sequence[float] = (0.75, 0.75, 3.0), size: int = 512, region: str | None = None
) -> Phantom:
    """Simulate a CT of a chest, an upper abdomen or both.

    Parameters
    ----------
    seed
        Decides the patient, the scan and the noise; the same seed and arguments give the same voxels.
    slices
        Number of axial slices.
    spacing
        Voxel size (x, y, z) in mm.
    size
        Rows and columns of a slice.
    region
        "chest", "abdomen" or "both"; drawn from the seed when None. Where the slices start is random within the region.

    Returns
    -------
    The volume (first slice at the feet) and its organ map.

    Raises
    ------
    ValueError
        For an unknown region, or sizes and spacings that are not positive.
    """
    if region is not None and region not in REGIONS:
        raise ValueError(f"region must be one of {', '.join(REGIONS)} or None, got {region!r}")
    if slices < 1 or size < 1 or len(spacing) != 3 or min(spacing) <= 0.0:
        raise ValueError(f"slices, size and the three spacings must be positive, got {slices}, {size}, {tuple(spacing)}")
    rng = np.random.default_rng([seed, 1])
    if region is None:
        region = str(rng.choice(REGIONS, p=[0.45, 0.2, 0.35]))
    build = draw_build(rng, 0.5 * size * spacing[0], spacing[2])
    bottom = _first_height(rng, region, slices * spacing[2], build)
    origin = (
        -0.5 * (size - 1) * spacing[0] + build.shift[0],
        -0.5 * (size - 1) * spacing[1] + 10.0 + build.shift[1],
        bottom,
    )
    canvas = Canvas((slices, size, size), spacing, origin)
    _paint(canvas, build, rng)
    voxels = _scan(canvas, build, rng)
    affine = np.diag([*map(float, spacing), 1.0])
    affine[:3, 3] = origin
    return Phantom(Volume(voxels, affine, description=f"phantom {region}, seed {seed}"), canvas.organ)


def _first_height(rng: np.random.Generator, region: str, length: float, build: Build) -> float:
    """Height (mm) of the first slice, such that the slices show the region."""
    low, high = {"chest": (-90.0, 225.0), "abdomen": (-290.0, 25.0), "both": (-250.0, 215.0)}[region]
    low, high = low * build.tall, high * build.tall
    spare = high - low - length
    start = low + (float(rng.random()) * spare if spare > 0 else 0.5 * spare)
    return start + float(rng.normal(0, 6))


def _paint(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint from the outside in; what comes later covers what came before."""
    _paint_table(canvas, build)
    paint_wall(canvas, build, rng)
    paint_shoulders(canvas, build, rng)
    paint_lungs(canvas, build, rng)
    paint_heart(canvas, build, rng)
    paint_abdomen(canvas, build, rng)
    paint_spine(canvas, build, rng)
    paint_ribs(canvas, build)
    paint_mediastinum(canvas, build, rng)


def _paint_table(canvas: Canvas, build: Build) -> None:
    z = canvas.heights
    y = 112.0 * build.deep + build.fat + 26.0
    for depth, value in ((0.0, -150.0), (1.6, -940.0)):
        center = np.stack([np.zeros_like(z), np.full_like(z, y)], axis=1)
        theta = np.arange(180) * (2 * np.pi / 180)
        norm = (np.abs(np.cos(theta)) / (205.0 - depth)) ** 4 + (np.abs(np.sin(theta)) / (15.0 - depth)) ** 4
        canvas.outline(center, np.tile(norm**-0.25, (len(z), 1)), value, Organ.AIR)


def _taps(sigma: float) -> npt.NDArray[np.float32]:
    half = max(int(np.ceil(2.5 * sigma)), 1)
    at = np.arange(-half, half + 1)
    taps = np.exp(-0.5 * (at / max(sigma, 1e-3)) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def _scan(canvas: Canvas, build: Build, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Add tissue texture and the scanner's correlated noise, and round to HU."""
    from lnsdk.phantom import kernels

    field = rng.standard_normal((48, 48, 48), dtype=np.float32)
    amplitude = np.zeros(len(Organ), dtype=np.float32)
    pitch = np.ones(len(Organ), dtype=np.float32)
    for organ, (height, grain) in TEXTURE.items():
        amplitude[organ], pitch[organ] = height * float(rng.uniform(0.6, 1.4)), grain
    pixel = float(canvas.spacing[0])
    narrow = (0.75 - 0.3 * build.kernel) / pixel * 0.9
    wide = 2.2 * narrow
    lowpass = 0.85
    nz, ny, nx = canvas.hu.shape
    out = np.empty(canvas.hu.shape, dtype=np.int16)
    scale = None
    center = np.array([0.5 * nx, 0.5 * ny])
    turned, first, second = np.empty((nx, ny), np.float32), np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32)
    for k in range(nz):
        white = rng.standard_normal((ny, nx), dtype=np.float32)
        kernels.blur_rows(white, _taps(narrow), turned)
        kernels.blur_rows(turned, _taps(narrow), first)
        kernels.blur_rows(first, _taps(wide), turned)
        kernels.blur_rows(turned, _taps(wide), second)
        first -= np.float32(lowpass) * second
        if scale is None:
            scale = np.float32(build.sigma / float(first.std()))
        first *= scale
        kernels.finish_slice(
            canvas.hu[k], canvas.organ[k], first, field, amplitude, pitch, canvas.spacing, k * canvas.spacing[2], 0.35, center, out[k]
        )
    return out
