"""Windows of a large image as a normalised batch for a network."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk import _C, threads
from lnsdk.ops import _arguments

CHANNELS = (1, 3, 4)
"""Grey, RGB and RGBA."""

SMALLEST_PART = 1 << 16
"""Values of the batch below which a second thread is not worth starting."""


def gather_patches(
    image: NDArray[np.uint8],
    corners: ArrayLike,
    patch: int,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Cut square windows out of an image and normalise them, in one pass.

    Each value v becomes ``(v / 255 - mean) / std``, computed in float32 as ``v * (1 / (255 * std)) + (-mean / std)``
    with both constants rounded to float32.

    Parameters
    ----------
    image : ndarray of uint8, shape (y, x, C)
        1, 3 or 4 channels. Copied first when the pixels of a row do not lie side by side.
    corners : array_like of integers, shape (N, 2)
        y, x of each window's first pixel, in any order; windows lie inside the image and may overlap.
    patch : int
        Side of the windows in pixels.
    mean, std : float or sequence of C floats
        Of each channel, for values scaled to 0..1; std above 0.
    out : ndarray of float32, shape (N, C, patch, patch), C-contiguous, optional
        Where to write the batch.

    Returns
    -------
    ndarray of float32, shape (N, C, patch, patch)
        ``out`` itself when it was given.

    Raises
    ------
    TypeError
        When the image is not uint8, corners or patch are not integers, or out is not float32.
    ValueError
        When a shape is wrong, a window lies outside the image (the message names its index), or mean or std are not
        usable.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"image must be uint8, got {image.dtype}")
    if image.ndim != 3 or image.shape[2] not in CHANNELS:
        raise ValueError(f"image must have shape (y, x, C) with 1, 3 or 4 channels, got {image.shape}")
    side = _arguments.positive_integer(patch, "patch")
    places = _arguments.int64s(corners, "corners")
    if places.shape == (0,):
        places = places.reshape(0, 2)
    if places.ndim != 2 or places.shape[1] != 2:
        raise ValueError(f"corners must have shape (N, 2): y, x of each window, got {places.shape}")
    scale, shift = _scale_and_shift(mean, std, image.shape[2])
    _require_inside(places, side, image.shape)
    shape = (len(places), image.shape[2], side, side)
    batch = _arguments.output(out, shape, np.dtype(np.float32), (image, places))

    pixels = image if image[:1].flags.c_contiguous else np.ascontiguousarray(image)
    streaming = batch.nbytes >= _C.STREAMED_BYTES
    threads.over_range(
        lambda start, stop: _C.gather_patches(pixels, places[start:stop], scale, shift, batch[start:stop], streaming),
        len(places),
        max(1, SMALLEST_PART // batch[0].size) if len(batch) else 1,
    )
    return batch


def _require_inside(corners: NDArray[np.int64], patch: int, shape: tuple[int, ...]) -> None:
    """``ValueError`` for the first window that does not lie inside the image."""
    last = np.array(shape[:2]) - patch
    if len(corners) and (last < 0).any():
        raise ValueError(f"patch must fit into the image of {shape[0]} x {shape[1]} pixels (y, x), got {patch}")
    outside = np.flatnonzero(((corners < 0) | (corners > last)).any(axis=1))
    if len(outside):
        raise ValueError(
            f"corners[{outside[0]}] is {tuple(corners[outside[0]].tolist())}, but windows of {patch} pixels that lie "
            f"inside the image begin in 0..{last[0]}, 0..{last[1]}"
        )


def _scale_and_shift(
    mean: float | Sequence[float], std: float | Sequence[float], channels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    means, stds = (_per_channel(values, name, channels) for values, name in ((mean, "mean"), (std, "std")))
    if not (stds > 0).all():
        raise ValueError(f"std must be above 0, got {std}")
    with np.errstate(over="ignore"):
        scale, shift = (1 / (255 * stds)).astype(np.float32), (-means / stds).astype(np.float32)
    if not (np.isfinite(scale) & np.isfinite(shift)).all():
        raise ValueError(f"mean / std and 1 / std must be float32 numbers, got mean {mean} and std {std}")
    return scale, shift


def _per_channel(values: float | Sequence[float], name: str, channels: int) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.shape not in ((), (channels,)) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one finite number, or one for each of the {channels} channels, got {values}")
    return np.broadcast_to(array, (channels,))
