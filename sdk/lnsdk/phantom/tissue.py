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

GAS_HU, AIRLIKE_HU = -970.0, -480.0
"""Gas is below the first on average, lung lies between both."""

PADDING_HU = -1100.0
"""Below this lies what the scanner put outside its round field of view."""

LUNG_ML = 30.0
"""Smallest piece of lung."""

SKIN_MM = 16.0
"""Fat this near to the skin is subcutaneous."""

LIMB_MM = 230.0
"""A body narrower than this is a limb, or a part of the trunk cut out around one."""

WALL_MM, BACK_MM = 16.0, 50.0
"""In a trunk, muscle lies this near to the skin or the fat under it, or to the skin of the back."""

DEEP_FAT_MM = 40.0
"""Fat under the skin of a trunk is at most this thick; what lies deeper is around organs."""

ENCLOSED_SHARE = 0.6
"""Air of which more than this share has the body on all sides is inside it."""


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
    uint8 (z, y, x) of `Organ`. What is uncertain is `Organ.OTHER`; borders between organs are, so that a labelled voxel
    lies inside.
    """
    spacing = volume.spacing
    block = max(1, int(np.ceil(0.8 * COARSE_MM / spacing[0])))
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
        ends, starts = total.take(range(size, size + n), axis=axis), total.take(range(n), axis=axis)
        values = ((ends - starts) / size).astype(np.float32)
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
    """Air around the patient, the table included: what is no body, reaches the sides of the image and is no cut lung.

    Lung that the field of view cuts has the body in front and behind, and the body or the end of a round field at its
    sides.
    """
    beyond = mean < PADDING_HU
    body = _components(_eroded(mean > -300.0)) == 1
    enclosed = _between(body, 1) & _between(body | beyond, 2)
    pieces = _components(~_eroded(_dilated(body | beyond, 2)))
    edge = np.zeros_like(body)
    edge[:, [0, -1]] = True
    edge[:, :, [0, -1]] = True
    outside = beyond.copy()
    for number in np.unique(pieces[(edge | _dilated(beyond, 4)) & (pieces > 0)]):
        piece = pieces == number
        if enclosed[piece].mean() < ENCLOSED_SHARE or not GAS_HU < float(np.median(mean[piece])) < AIRLIKE_HU:
            outside |= piece
    return outside


def _between(mask: Mask, axis: int) -> Mask:
    """Blocks with the mask on both sides of them along an axis."""
    before = np.logical_or.accumulate(mask, axis=axis)
    behind = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
    between: Mask = before & behind
    return between


def _lungs(mean: F32, inside: Mask, voxel_ml: float) -> Mask:
    pieces = _components(inside & (mean < AIRLIKE_HU))
    lungs = np.zeros_like(inside)
    for number in range(1, min(int(pieces.max()), 8) + 1):
        piece = pieces == number
        if piece.sum() * voxel_ml >= LUNG_ML and float(np.median(mean[piece])) > GAS_HU:
            lungs |= piece
    return lungs & (mean > -985.0)


def _bone(mean: F32, spread: F32, blood: float, pixel: float) -> tuple[Mask, Mask]:
    """All bone, and the marrow inside: what bright, uneven walls enclose. `blood`: HU of the brightest vessels."""
    hard = mean > max(190.0, blood + 40.0)
    dense = (mean > max(300.0, blood + 120.0)) | (hard & (spread > 90.0))
    wall = hard & (_box_mean(dense.astype(np.float32), 2) > 0.12)
    steps = max(1, round(4.0 / pixel))
    bone = _holes_filled(_eroded(_dilated(wall, steps), steps) | _ringed(mean))
    numbered = _components(bone)
    sizes = np.bincount(numbered.ravel())
    bone &= np.isin(numbered, np.flatnonzero(sizes >= 25))
    marrow = bone & (mean > 60.0) & (mean < 420.0)
    return bone, marrow & _eroded(bone)


def _ringed(mean: F32) -> Mask:
    """Bright regions with a rim brighter than themselves: marrow has a cortex, blood fades into its surroundings."""
    import SimpleITK as sitk

    bright = _mostly(mean > 100.0, 0.7)
    ringed = np.zeros_like(bright)
    for k in range(len(mean)):
        core = _eroded(bright[k : k + 1])[0]
        image = sitk.ConnectedComponent(sitk.GetImageFromArray(core.astype(np.uint8)))
        inner = sitk.GetArrayFromImage(image).ravel()
        outer = sitk.GetArrayFromImage(sitk.GrayscaleDilate(sitk.Cast(image, sitk.sitkUInt16), [2, 2])).ravel()
        values = mean[k].ravel()
        count = np.maximum(np.bincount(inner), 1)
        rim = np.where(inner == 0, outer, 0)
        rim_count = np.bincount(rim, minlength=len(count))
        within = np.bincount(inner, values) / count
        around = np.bincount(rim, values, minlength=len(count)) / np.maximum(rim_count, 1)
        bony = (around > within + 5.0) & (count >= 12)
        bony[0] = False
        ringed[k] = bony[outer].reshape(core.shape)
    return ringed


def _blood_level(smooth: F32, even: Mask, pixel: float, voxel_ml: float) -> float:
    """HU that large, even, bright regions reach (heart and aorta with contrast); 0 without contrast."""
    steps = max(1, round(5.0 / pixel))
    for level in (320.0, 240.0, 160.0):
        region = _eroded(even & (smooth > level) & (smooth < 600.0), steps)
        if float(region.sum()) * voxel_ml > 3.0:
            return float(np.percentile(smooth[region], 90))
    return 0.0


def _mostly(mask: Mask, share: float = 0.74) -> Mask:
    """Blocks that are, with most of their neighbours, in the mask: noise neither holes it nor stays outside it."""
    most: Mask = _box_mean(mask.astype(np.float32), 1) > share
    return most


def _label(mean: F32, spread: F32, pixel: float, thickness: float) -> U8:
    labels = np.full(mean.shape, Organ.OTHER, dtype=np.uint8)
    outside = _outside(mean)
    inside = ~outside
    voxel_ml = pixel * pixel * thickness / 1000.0
    lungs = _lungs(mean, inside, voxel_ml)
    smooth = _box_mean(mean, 1)
    fatty = inside & (mean > -150.0) & (mean < -35.0)
    fat = _mostly(fatty) & (smooth > -130.0) & (smooth < -60.0)
    noise = float(np.median(spread[fatty])) if fatty.any() else 15.0
    even = spread < 2.0 * noise + 8.0
    bone, marrow = _bone(mean, spread, _blood_level(smooth, even & inside, pixel, voxel_ml), pixel)
    width = 0.7 * noise
    soft = inside & ~bone & (mean > 10.0 - width) & (mean < 90.0 + width) & even
    blood = inside & ~bone & (smooth > 110.0) & (smooth < 600.0) & even
    deep = _eroded(inside, max(1, round(SKIN_MM / pixel)))
    labels[outside | (mean < AIRLIKE_HU)] = Organ.AIR
    labels[_mostly(lungs)] = Organ.LUNG
    labels[fat] = Organ.SUBCUTANEOUS
    labels[fat & deep] = Organ.FAT
    labels[_mostly(soft, 0.85) & (smooth > 10.0) & (smooth < 90.0) & _trunk_wall(inside, lungs, fat, pixel)] = (
        Organ.MUSCLE
    )
    labels[_mostly(blood, 0.85)] = Organ.VESSEL
    labels[bone] = Organ.BONE
    labels[marrow] = Organ.MARROW
    return labels


def _trunk_wall(inside: Mask, lungs: Mask, fat: Mask, pixel: float) -> Mask:
    """Where soft tissue is muscle: in a trunk under the skin's fat or near the back, not between the lungs."""
    width = float(np.median(inside.sum(axis=2).max(axis=1))) * pixel
    if width < LIMB_MM:
        return np.ones_like(inside)
    outer = ~inside | (fat & ~_eroded(inside, round(DEEP_FAT_MM / pixel)))
    wall = _dilated(outer, max(1, round(WALL_MM / pixel)))
    back = inside.shape[1] - np.argmax(inside[:, ::-1], axis=1)
    near_back = np.arange(inside.shape[1])[None, :, None] > back[:, None, :] - BACK_MM / pixel
    muscle: Mask = (wall | near_back) & ~(_between(lungs, 1) | _between(lungs, 2))
    return muscle


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
    labels[_mostly(liver & even)] = Organ.LIVER
