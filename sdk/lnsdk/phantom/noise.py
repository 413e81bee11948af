"""Noise of a scan: how strong and how grainy it is, measured in homogeneous soft tissue, and noise made like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

TILE = 20
"""Side (voxels) of the tiles in which noise is measured."""

LAGS = 7
"""Largest lag (voxels) of the autocorrelation that is kept."""

TILES = 400
"""Tiles looked at, at most."""


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of a scan.

    Parameters
    ----------
    sigma
        Standard deviation in soft tissue, HU.
    correlation
        float64 (2 LAGS + 1, 2 LAGS + 1): in-plane autocorrelation by lag (y, x), 1 in the middle.
    between_slices
        Correlation of neighbouring slices.
    area_mm2
        Area of one independent noise grain: pixel area times the sum of the autocorrelation where it is positive.
    """

    sigma: float
    correlation: F64
    between_slices: float
    area_mm2: float


def measure_noise(voxels: npt.NDArray[np.int16], spacing: tuple[float, float, float]) -> Noise:
    """Measure the noise of a CT in its most homogeneous tiles of soft tissue or fat.

    Parameters
    ----------
    voxels
        int16 HU (z, y, x).
    spacing
        x, y, z in mm.

    Returns
    -------
    Noise. A scan without soft tissue is measured wherever there is something other than air; one of air alone has
    none.
    """
    tiles, neighbours = _tiles(voxels)
    if len(tiles) == 0:
        delta = np.zeros((2 * LAGS + 1, 2 * LAGS + 1))
        delta[LAGS, LAGS] = 1.0
        return Noise(0.0, delta, 0.0, spacing[0] * spacing[1])
    flat = _without_trend(tiles)
    variance = flat.var(axis=(1, 2))
    calm = np.argsort(variance, kind="stable")[: max(len(variance) // 3, 1)]
    sigma = float(np.sqrt(np.median(variance[calm])))
    correlation = _autocorrelation(flat[calm] / np.sqrt(np.maximum(variance[calm], 1e-6))[:, None, None])
    between = 0.0
    if neighbours is not None:
        beside = _without_trend(neighbours[calm])
        deviation = np.sqrt(variance[calm] * beside.var(axis=(1, 2))) + 1e-9
        between = float(np.clip(np.median((flat[calm] * beside).mean(axis=(1, 2)) / deviation), 0.0, 0.9))
    area = spacing[0] * spacing[1] * float(np.maximum(correlation, 0.0).sum())
    return Noise(sigma, correlation, between, area)


def _tiles(voxels: npt.NDArray[np.int16]) -> tuple[F64, F64 | None]:
    """Tiles (N, TILE, TILE) of soft tissue, else of any tissue, and the tiles one slice above them."""
    nz, ny, nx = voxels.shape
    rows, cols = ny // TILE, nx // TILE
    if rows == 0 or cols == 0:
        return np.empty((0, TILE, TILE)), None
    levels = np.unique(np.linspace(0, max(nz - 2, 0), min(nz, 24)).astype(int))

    def cut(at: npt.NDArray[np.int64]) -> F32:
        planes = voxels[at, : rows * TILE, : cols * TILE].astype(np.float32)
        tiles: F32 = planes.reshape(len(at), rows, TILE, cols, TILE).swapaxes(2, 3).reshape(-1, TILE, TILE)
        return tiles

    tiles = cut(levels)
    mean, low, high = tiles.mean(axis=(1, 2)), tiles.min(axis=(1, 2)), tiles.max(axis=(1, 2))
    chosen = np.flatnonzero((mean > -20) & (mean < 160) & (low > -250) & (high < 420))
    if len(chosen) < 12:
        chosen = np.flatnonzero((mean > -140) & (mean < 200) & (low > -400) & (high < 600))
    if len(chosen) < 4:
        chosen = np.flatnonzero(mean > -900)
    chosen = chosen[:: max(len(chosen) // TILES, 1)]
    above = cut(levels + 1)[chosen].astype(np.float64) if nz > 1 else None
    return tiles[chosen].astype(np.float64), above


def _without_trend(tiles: F64) -> F64:
    """Subtract from each tile its best-fitting plane and curvature."""
    y, x = np.mgrid[-1 : 1 : TILE * 1j, -1 : 1 : TILE * 1j]
    basis = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y]).reshape(6, -1).T
    q, _ = np.linalg.qr(basis)
    flat = tiles.reshape(len(tiles), -1)
    rest: F64 = (flat - (flat @ q) @ q.T).reshape(tiles.shape)
    return rest


def _autocorrelation(tiles: F64) -> F64:
    """Mean in-plane autocorrelation of tiles of unit variance, by lag (y, x) up to LAGS."""
    size = 2 * TILE
    power = (np.abs(np.fft.fft2(tiles, s=(size, size))) ** 2).mean(axis=0)
    ones = np.abs(np.fft.fft2(np.ones((TILE, TILE)), s=(size, size))) ** 2
    full = np.fft.ifft2(power).real / np.maximum(np.fft.ifft2(ones).real, 1.0)
    lags = np.arange(-LAGS, LAGS + 1)
    kept = full[np.ix_(lags, lags)]
    kept[LAGS, LAGS] = max(kept[LAGS, LAGS], 1e-3)
    taper = np.cos(0.5 * np.pi * lags / (LAGS + 1))
    shaped: F64 = kept / kept[LAGS, LAGS] * np.outer(taper, taper) ** 2
    return shaped


def make_noise(noise: Noise, shape: tuple[int, int, int], rng: np.random.Generator) -> F32:
    """Make noise of the scan's sigma and correlation; float32 of `shape` (z, y, x), mean 0."""
    nz, ny, nx = shape
    rows, cols = ny + 2 * LAGS, nx + 2 * LAGS
    rows, cols = max(rows, 2 * LAGS + 1), max(cols, 2 * LAGS + 1)
    kernel = np.zeros((rows, cols))
    lags = np.arange(-LAGS, LAGS + 1)
    kernel[np.ix_(lags, lags)] = noise.correlation
    power = np.maximum(np.fft.fft2(kernel).real, 0.0)
    amplitude = np.sqrt(power / max(float(power.mean()), 1e-12))
    white = rng.standard_normal((nz, rows, cols))
    grains = np.fft.ifft2(np.fft.fft2(white) * amplitude).real[:, :ny, :nx]
    rho = noise.between_slices
    for k in range(1, nz):
        grains[k] = rho * grains[k - 1] + np.sqrt(1.0 - rho * rho) * grains[k]
    return (noise.sigma * grains).astype(np.float32)


def smooth_keeping_edges(patch: F32, sigma: float, reach: int = 3) -> F32:
    """Average over in-plane neighbours within 2.5 sigma of a first, lightly smoothed estimate (Lee's sigma filter)."""
    padded = np.pad(patch, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    ny, nx = patch.shape[1:]

    def shifted(dy: int, dx: int) -> F32:
        view: F32 = padded[:, reach + dy : reach + dy + ny, reach + dx : reach + dx + nx]
        return view

    first = sum(shifted(dy, dx) * (2 - abs(dy)) * (2 - abs(dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) / np.float32(
        16
    )
    total = np.zeros_like(patch)
    count = np.zeros_like(patch)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            value = shifted(dy, dx)
            near = np.abs(value - first) < 2.5 * sigma
            total += np.where(near, value, 0.0)
            count += near
    return np.where(count >= 4, total / np.maximum(count, 1.0), first).astype(np.float32)
