"""Phantom CTs: chests and upper abdomens that look enough like patients to train and test a lesion detector on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.abdomen import paint_abdomen
from lnsdk.phantom.build import Build, draw_build
from lnsdk.phantom.canvas import Canvas, smooth_steps, superellipse
from lnsdk.phantom.kernels import BLUR_ROWS, FINISH_SLICE
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
    Organ.MARROW: (22.0, 1.9),
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
    seed: int,
    slices: int = 100,
    spacing: Sequence[float] = (0.75, 0.75, 3.0),
    size: int = 512,
    region: str | None = None,
    noise: bool = True,
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
    noise
        Whether the scanner's noise is added; without it the same patient, to be scanned again and again.

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
        raise ValueError(
            f"slices, size and the three spacings must be positive, got {slices}, {size}, {tuple(spacing)}"
        )
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
    voxels = _scan(canvas, build, rng, noise)
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
    _paint_table(canvas, build, rng)
    paint_wall(canvas, build, rng)
    paint_shoulders(canvas, build, rng)
    paint_lungs(canvas, build, rng)
    paint_heart(canvas, build, rng)
    paint_abdomen(canvas, build, rng)
    paint_spine(canvas, build, rng)
    paint_ribs(canvas, build)
    paint_mediastinum(canvas, build, rng)


def _paint_table(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Couch under the patient: a thin shell, curved or flat, filled with foam; some scans do not show it."""
    if rng.random() < 0.15:
        return
    z = canvas.heights
    half, thick = float(rng.uniform(170, 230)), float(rng.uniform(10, 24))
    power = float(rng.uniform(2.0, 5.0))
    y = 112.0 * build.deep + 0.8 * build.fat + thick + float(rng.uniform(4, 16))
    foam = float(rng.uniform(-990, -900))
    center = np.stack([np.zeros_like(z), np.full_like(z, y)], axis=1)
    for depth, value in ((0.0, float(rng.uniform(-400, -100))), (float(rng.uniform(1.0, 2.5)), foam)):
        outline = superellipse(np.full_like(z, half - depth), np.full_like(z, thick - depth), power)
        canvas.outline(center, outline, value, Organ.AIR)


def _taps(sigma: float) -> npt.NDArray[np.float32]:
    """Gaussian filter of `sigma` pixels, summing to 1."""
    half = max(int(np.ceil(2.5 * sigma)), 1)
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / max(sigma, 1e-3)) ** 2)
    normalised: npt.NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return normalised


def _scan(canvas: Canvas, build: Build, rng: np.random.Generator, noisy: bool) -> npt.NDArray[np.int16]:
    """Add tissue texture and, where asked for, the scanner's correlated noise, and round to HU."""
    field = rng.standard_normal((48, 48, 48), dtype=np.float32)
    amplitude, pitch, slope = (np.zeros(len(Organ), dtype=np.float32) for _ in range(3))
    for organ, (height, grain) in TEXTURE.items():
        amplitude[organ], pitch[organ] = height * float(rng.uniform(0.6, 1.4)), grain
    slope[Organ.LUNG] = float(rng.uniform(0.1, 0.7))
    ny, nx = canvas.hu.shape[1:]
    out = np.empty(canvas.hu.shape, dtype=np.int16)
    center = np.array([0.5 * nx + float(rng.normal(0, 8)), 0.5 * ny])
    falloff = float(rng.uniform(0.1, 0.5))
    silence = np.zeros((ny, nx), np.float32)
    for k, noise in enumerate(_noise(canvas, build, rng) if noisy else repeat(silence, len(out))):
        height = k * float(canvas.spacing[2])
        FINISH_SLICE(
            canvas.hu[k],
            canvas.organ[k],
            noise,
            field,
            amplitude,
            pitch,
            slope,
            canvas.spacing,
            height,
            falloff,
            center,
            out[k],
        )
    return out


def _noise(canvas: Canvas, build: Build, rng: np.random.Generator) -> Iterator[npt.NDArray[np.float32]]:
    """Noise of each slice, float32 (y, x): band-limited, alike in neighbouring slices, streaky at the shoulders."""
    ny, nx = canvas.hu.shape[1:]
    pixel = float(canvas.spacing[0])
    grain = (0.85 - 0.55 * build.kernel) / pixel
    narrow, wide, streak = _taps(grain), _taps(2.2 * grain), _taps(7.0 / pixel)
    between = float(rng.uniform(0.05, 0.6))
    lowpass = np.float32(rng.uniform(0.5, 0.9))
    shoulders = smooth_steps(canvas.heights / build.tall, [(150, 0.0), (205, 1.0)]) * float(rng.uniform(0.1, 0.9))
    turned, noise, low = (np.empty(shape, np.float32) for shape in ((nx, ny), (ny, nx), (ny, nx)))
    white = rng.standard_normal((ny, nx), dtype=np.float32)
    scale = np.float32(0.0)
    for share in shoulders:
        fresh = rng.standard_normal((ny, nx), dtype=np.float32)
        white = np.float32(between) * white + np.float32(np.sqrt(1.0 - between**2)) * fresh
        BLUR_ROWS(white, narrow, turned)
        BLUR_ROWS(turned, narrow, noise)
        BLUR_ROWS(noise, wide, turned)
        BLUR_ROWS(turned, wide, low)
        noise -= lowpass * low
        if scale == 0.0:
            scale = np.float32(build.sigma / float(noise.std()))
        noise *= scale
        if share > 0.0:
            BLUR_ROWS(noise, streak, turned)
            strength = np.float32(1.2 * share * build.sigma / max(float(turned.std()), 1e-3))
            noise += strength * turned.T
        yield noise
