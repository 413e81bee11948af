"""Organ map of a real CT by HU, homogeneity and connectivity: enough to know where a lesion may be placed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.organs import Organ
from lnsdk.volume import Volume

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

COARSE_MM = 2.0
"""In-plane size of the blocks that are labelled."""

OUTSIDE_HU, AIRLIKE_HU = -930.0, -480.0
"""Air around the patient is below the first on average, lung lies between both."""

LUNG_ML = 30.0
"""Smallest piece of lung."""

SKIN_MM = 16.0
"""Fat this near to the skin is subcutaneous."""


def organ_map(volume: Volume, liver_boxes: npt.ArrayLike = ()) -> U8:
    """Label a real CT of a chest, an abdomen or a limb.

    Parameters
    ----------
    volume
        The CT, axes along patient left, posterior and superior.
    liver_boxes
        (N, 6) boxes x1, y1, z1, x2, y2, z2 in voxels that lie in the liver; liver is labelled nowhere else.

    Returns
    -------
    uint8 (z, y, x) of `Organ`. What is uncertain is `Organ.OTHER`; borders between organs are, so that a labelled voxel lies inside.
    """
    spacing = volume.spacing
    block = max(1, round(COARSE_MM / spacing[0]))
    mean, spread = _blocks(volume.voxels, block)
    pixel = block * spacing[0]
    labels = _label(mean, spread, pixel, spacing[2])
    _label_liver(labels, mean, spread, np.asarray(liver_boxes, dtype=np.float64).reshape(-1, 6), block)
    full = np.repeat(np.repeat(labels, block, axis=1), block, axis=2)
    ny, nx = volume.voxels.shape[1:]
    pad = ((0, 0), (0, max(0, ny - full.shape[1])), (0, max(0, nx - full.shape[2])))
    organs: U8 = np.pad(full, pad, mode="edge")[:, :ny, :nx]
    return np.ascontiguousarray(organs)


def _blocks(voxels: npt.NDArray[np.int16], block: int) -> tuple[F32, F32]:
    """Mean and standard deviation of in-plane blocks."""
    nz, ny, nx = voxels.shape
    rows, cols = ny // block, nx // block
    mean = np.empty((nz, rows, cols), dtype=np.float32)
    spread = np.empty_like(mean)
    for k in range(nz):
        tiles = voxels[k, : rows * block, : cols * block].astype(np.float32).reshape(rows, block, cols, block)
        mean[k] = tiles.mean(axis=(1, 3))
        spread[k] = tiles.std(axis=(1, 3))
    return mean, spread


def _shifted(mask: Mask, dy: int, dx: int) -> Mask:
    """The mask moved in plane; what comes in from outside repeats the edge."""
    ny, nx = mask.shape[1:]
    padded = np.pad(mask, ((0, 0), (abs(dy), abs(dy)), (abs(dx), abs(dx))), mode="edge")
    moved: Mask = padded[:, abs(dy) + dy : abs(dy) + dy + ny, abs(dx) + dx : abs(dx) + dx + nx]
    return moved


def _eroded(mask: Mask, steps: int = 1) -> Mask:
    for _ in range(steps):
        mask = mask & _shifted(mask, 0, 1) & _shifted(mask, 0, -1) & _shifted(mask, 1, 0) & _shifted(mask, -1, 0)
    return mask


def _dilated(mask: Mask, steps: int = 1) -> Mask:
    return ~_eroded(~mask, steps)


def _box_mean(values: F32, reach: int) -> F32:
    """In-plane mean over windows of 2 reach + 1 blocks."""
    size = 2 * reach + 1
    for axis in (1, 2):
        widths = [(0, 0)] * 3
        widths[axis] = (reach + 1, reach)
        total = np.cumsum(np.pad(values, widths, mode="edge"), axis=axis, dtype=np.float64)
        n = values.shape[axis]
        values = ((total.take(range(size, size + n), axis=axis) - total.take(range(n), axis=axis)) / size).astype(np.float32)
    return values


def _components(mask: Mask) -> npt.NDArray[np.int32]:
    """Number the 3D-connected pieces of a mask, the largest 1."""
    import SimpleITK as sitk

    pieces = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)))
    numbered: npt.NDArray[np.int32] = sitk.GetArrayFromImage(sitk.RelabelComponent(pieces)).astype(np.int32)
    return numbered


def _holes_filled(mask: Mask) -> Mask:
    """Fill, slice by slice, what does not reach the border."""
    import SimpleITK as sitk

    filled = np.empty_like(mask)
    for k, plane in enumerate(mask):
        image = sitk.BinaryFillhole(sitk.GetImageFromArray(plane.astype(np.uint8)))
        filled[k] = sitk.GetArrayFromImage(image) > 0
    return filled


def _outside(mean: F32) -> Mask:
    """Air around the patient, the table included."""
    tissue = _eroded(mean > -300.0)
    pieces = _components(tissue)
    body = _dilated(pieces == 1, 2)
    air = ~_eroded(body)
    pieces = _components(air & (mean < AIRLIKE_HU) | (air & (pieces > 0)))
    outside = np.zeros_like(air)
    edge = np.zeros_like(air)
    edge[:, [0, -1]] = True
    edge[:, :, [0, -1]] = True
    for number in np.unique(pieces[edge & (pieces > 0)]):
        piece = pieces == number
        if float(np.median(mean[piece])) < OUTSIDE_HU:
            outside |= piece
    return outside


def _lungs(mean: F32, inside: Mask, voxel_ml: float) -> Mask:
    pieces = _components(inside & (mean < AIRLIKE_HU))
    lungs = np.zeros_like(inside)
    for number in range(1, min(int(pieces.max()), 8) + 1):
        piece = pieces == number
        if piece.sum() * voxel_ml >= LUNG_ML and float(np.median(mean[piece])) > OUTSIDE_HU:
            lungs |= piece
    return lungs & (mean > -985.0) & _enclosed(mean)


def _enclosed(mean: F32) -> Mask:
    """What has the body on its left, right, front and back: lung has, air under a blanket or in a fold has not."""
    body = _components(_eroded(mean > -300.0)) == 1

    def both_sides(axis: int) -> Mask:
        before = np.logical_or.accumulate(body, axis=axis)
        behind = np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
        sides: Mask = before & behind
        return sides

    return both_sides(1) & both_sides(2)


def _bone(mean: F32, spread: F32, pixel: float) -> tuple[Mask, Mask]:
    """All bone, and the marrow inside it: what bright, uneven walls enclose."""
    hard = mean > 280.0
    wall = hard & (_box_mean(((mean > 420.0) | (spread > 90.0)).astype(np.float32), 2) > 0.12)
    steps = max(1, round(4.0 / pixel))
    closed = _eroded(_dilated(wall, steps), steps)
    bone = _holes_filled(closed)
    numbered = _components(bone)
    sizes = np.bincount(numbered.ravel())
    bone &= np.isin(numbered, np.flatnonzero(sizes >= 25))
    marrow = bone & (mean > 60.0) & (mean < 420.0)
    return bone, marrow & _eroded(bone)


def _chest_inside(lungs: Mask) -> Mask:
    """Everything between the lungs, slice by slice: rows from the outer wall of one to that of the other, likewise columns."""

    def between(axis: int) -> Mask:
        seen = np.logical_or.accumulate(lungs, axis=axis)
        back = np.flip(np.logical_or.accumulate(np.flip(lungs, axis), axis=axis), axis)
        both: Mask = seen & back
        return both

    return between(1) | between(2)


def _label(mean: F32, spread: F32, pixel: float, thickness: float) -> U8:
    labels = np.full(mean.shape, Organ.OTHER, dtype=np.uint8)
    outside = _outside(mean)
    inside = ~outside
    voxel_ml = pixel * pixel * thickness / 1000.0
    lungs = _lungs(mean, inside, voxel_ml)
    smooth = _box_mean(mean, 1)
    fat = _eroded(inside & (mean > -135.0) & (mean < -55.0)) & (smooth > -130.0) & (smooth < -60.0)
    bone, marrow = _bone(mean, spread, pixel)
    noise = float(np.median(spread[fat])) if fat.any() else 15.0
    even = spread < 1.6 * noise + 6.0
    soft = inside & ~bone & (smooth > 10.0) & (smooth < 90.0) & even
    blood = inside & ~bone & (smooth > 110.0) & (smooth < 480.0) & even
    deep = _eroded(inside, max(1, round(SKIN_MM / pixel)))
    labels[outside] = Organ.AIR
    labels[inside & (mean < AIRLIKE_HU)] = Organ.AIR
    labels[_eroded(lungs)] = Organ.LUNG
    labels[fat] = Organ.SUBCUTANEOUS
    labels[fat & deep] = Organ.FAT
    labels[_eroded(soft)] = Organ.MUSCLE
    if lungs.sum() * voxel_ml > 200.0:
        labels[_cavity(lungs) & (labels == Organ.MUSCLE)] = Organ.OTHER
    labels[_eroded(blood)] = Organ.VESSEL
    labels[bone] = Organ.BONE
    labels[marrow] = Organ.MARROW
    return labels


def _cavity(lungs: Mask) -> Mask:
    """Inside of the chest; below the lungs the last slice that shows much of them continues."""
    inner = _chest_inside(lungs)
    area = lungs.sum(axis=(1, 2))
    full = np.flatnonzero(area > 0.5 * area.max())
    lowest = inner[full[0] : full[0] + 3].any(axis=0)
    inner[: full[0]] |= lowest
    return inner


def _label_liver(labels: U8, mean: F32, spread: F32, boxes: npt.NDArray[np.float64], block: int) -> None:
    """Label liver inside the given boxes, where tissue is even and as dense as the middle of the boxes."""
    if len(boxes) == 0:
        return
    smooth = _box_mean(mean, 1)
    inside = np.zeros(labels.shape, dtype=bool)
    for x1, y1, z1, x2, y2, z2 in boxes:
        low = np.ceil(np.array([z1, (y1 + 0.5) / block - 0.5, (x1 + 0.5) / block - 0.5]))
        high = np.floor(np.array([z2, (y2 + 0.5) / block - 0.5, (x2 + 0.5) / block - 0.5])) + 1
        where = tuple(slice(max(int(a), 0), max(int(b), 0)) for a, b in zip(low, high, strict=True))
        inside[where] = True
    liver = inside & (smooth > 20.0) & (smooth < 160.0)
    if not liver.any():
        return
    middle = float(np.median(smooth[liver]))
    even = np.abs(smooth - middle) < max(30.0, 2.0 * float(np.median(spread[liver])))
    labels[_eroded(liver & even)] = Organ.LIVER
