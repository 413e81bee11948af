"""Maps to proposals on the device: ``decode_proposals`` of :mod:`lnsdk.pipelines.proposals` once more."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from lnsdk.ops import _arguments
from lnsdk.ops.cuda import _device
from lnsdk.ops.cuda._arithmetic import fadd, fsub, lesser
from lnsdk.ops.cuda._device import DeviceArray, Kernel, OnDevice, Stream, Workspace, blocks
from lnsdk.ops.cuda._suppression import BLOCK, INDEX_BITS, MAX_BOXES, Suppression, require_threshold, sort_key

SELECT_BLOCK = 1024
"""Threads of the one block that selects."""

DIGIT_BITS = 9
"""Bits of a key that one pass of the selection decides: 63 bits are seven times nine."""

DIGITS = 1 << DIGIT_BITS

KEY_BITS = 32 + INDEX_BITS


@dataclass(frozen=True)
class Proposals:
    """One slice's proposals on the device; how many these are is known on the device alone.

    Attributes
    ----------
    boxes : device array of float32, shape (post_nms, 4)
        x1, y1, x2, y2 in grid pixels, best first, then empty boxes of zeros.
    count : device array of int32, shape (1,)
        How many were found.
    """

    boxes: DeviceArray
    count: DeviceArray


def decode_proposals(
    centerness: OnDevice,
    distances: OnDevice,
    *,
    stride: int,
    min_score: float,
    iou_threshold: float,
    pre_nms: int,
    post_nms: int,
    out: Proposals | None = None,
    workspace: Workspace | None = None,
    stream: Stream = 0,
) -> Proposals:
    """Turn one slice's maps on the device into proposals, all experts' pooled (LENS, section IV-B).

    The best ``pre_nms`` pixels above ``min_score`` (ties by the lower index) become boxes, which are clipped to the
    grid; boxes without area are dropped, and the others suppress each other. The boxes are bit for bit those of
    :func:`lnsdk.pipelines.proposals.decode_proposals`.

    Parameters
    ----------
    centerness : float32 on the device, shape (experts, h, w), C-contiguous
        Probabilities.
    distances : float32 on the device, shape (experts, 4, h, w), C-contiguous
        From the pixel's centre to the box's left, top, right and bottom, in grid pixels.
    stride : int
        Grid pixels per pixel of the maps.
    min_score : float
        The centerness that a proposal must exceed.
    iou_threshold : float
        IoU above which proposals suppress each other.
    pre_nms, post_nms : int
        Most proposals before and after their suppression; before it at most 65,536.
    out : Proposals, optional
        Arrays on the device to write into: float32 of shape (post_nms, 4) and int32 of shape (1,), C-contiguous.
    workspace : Workspace, optional
        Scratch memory: 8 bytes per pixel of centerness, and N^2 / 8 + 32 N bytes for N = ``pre_nms``.
    stream : numba's stream or a handle
        Where the work is queued.

    Returns
    -------
    Proposals
        ``out`` itself when it was given.

    Raises
    ------
    BackendUnavailable
        When there is no GPU, driver or CUDA compiler; the message says which.
    TypeError
        When a map is not float32 on the device, or stride, pre_nms or post_nms is no integer.
    ValueError
        When a shape, the threshold or a limit is wrong, or an array is not C-contiguous.
    """
    stream = _device.stream_of(stream)
    scores = _device.float32(centerness, "centerness", (None, None, None), stream)
    experts, height, width = scores.shape
    sides = _device.float32(distances, "distances", (experts, 4, height, width), stream)
    step, capacity = _arguments.positive_integer(stride, "stride"), _arguments.positive_integer(pre_nms, "pre_nms")
    limit = _arguments.positive_integer(post_nms, "post_nms")
    require_threshold(iou_threshold)
    if capacity > MAX_BOXES:
        raise ValueError(f"pre_nms must be at most {MAX_BOXES}, got {capacity}")
    capacity = min(capacity, scores.size)
    given = (out.boxes, out.count) if out is not None else (None, None)
    result, boxes = _device.output(given[0], "out.boxes", (limit, 4), np.float32, stream)
    result_count, kept_count = _device.output(given[1], "out.count", (1,), np.int32, stream)

    memory = workspace if workspace is not None else Workspace()
    above = memory.buffer("above", scores.size, np.int64)
    found = Suppression(capacity, memory, stream)
    if scores.size == 0:
        found.nothing(kept_count)
    else:
        flat, minimum = scores.reshape(scores.size), np.float32(min_score)
        SELECT.launch(1, SELECT_BLOCK, stream, flat, minimum, capacity, above, found.keys, found.count)
        found.rank()
        DECODE.launch(found.grid, BLOCK, stream, found.order, found.count, sides, step, found.boxes)
        found.sweep(iou_threshold, limit, True, kept_count)
    COLLECT.launch(blocks(4 * limit, BLOCK), BLOCK, stream, found.boxes, found.kept, kept_count, boxes)
    return out if out is not None else Proposals(result, result_count)


def _select(
    scores: NDArray[np.float32],
    minimum: np.float32,
    capacity: int,
    above: NDArray[np.int64],
    keys: NDArray[np.int64],
    count: NDArray[np.int32],
) -> None:
    """Write the ``capacity`` smallest keys of the scores above the minimum, in any order, and how many there are.

    One block reads the scores once, 4 bytes each. Only where more than ``capacity`` are above the minimum does it find
    the last key that counts, nine bits at a time from the highest. Places are handed out as threads come, which does
    not show: keys are all different, and are ranked afterwards.
    """
    sizes = cuda.shared.array(2, np.int32)
    counted = cuda.shared.array(DIGITS, np.int32)
    chosen = cuda.shared.array(2, np.int64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    if thread == 0:
        sizes[0] = sizes[1] = 0
    cuda.syncthreads()
    for pixel in range(thread, scores.shape[0], threads):
        if scores[pixel] > minimum:
            above[cuda.atomic.add(sizes, 0, 1)] = sort_key(scores[pixel], pixel)
    cuda.syncthreads()
    total = np.int64(sizes[0])
    prefix, wanted = (
        np.int64(0),
        np.int64(capacity),
    )  # the key sought begins with the prefix and is the wanted-th of those
    shift = np.int64(KEY_BITS)
    while total > capacity and shift > 0:
        shift -= DIGIT_BITS
        for digit in range(thread, DIGITS, threads):
            counted[digit] = 0
        cuda.syncthreads()
        for place in range(thread, total, threads):
            if above[place] >> (shift + DIGIT_BITS) == prefix:
                cuda.atomic.add(counted, (above[place] >> shift) & (DIGITS - 1), 1)
        cuda.syncthreads()
        for digit in range(thread, DIGITS, threads):
            below = np.int64(0)
            for smaller in range(digit):
                below += counted[smaller]
            if below < wanted <= below + counted[digit]:
                chosen[0], chosen[1] = digit, below
        cuda.syncthreads()
        prefix = (prefix << np.int64(DIGIT_BITS)) | chosen[0]
        wanted -= chosen[1]
    for place in range(thread, total, threads):
        if total <= capacity or above[place] <= prefix:
            keys[cuda.atomic.add(sizes, 1, 1)] = above[place]
    if thread == 0:
        count[0] = lesser(total, capacity)


SELECT = Kernel(_select, "void(float32[::1], float32, int64, int64[::1], int64[::1], int32[::1])")


def _decode(
    order: NDArray[np.int32],
    count: NDArray[np.int32],
    distances: NDArray[np.float32],
    stride: int,
    boxes: NDArray[np.float32],
) -> None:
    """Write the box of each chosen pixel, clipped to the grid, whose first pixel begins at -0.5."""
    rank = cuda.grid(1)
    if rank >= count[0]:
        return
    height, width = distances.shape[2], distances.shape[3]
    expert, row, column = order[rank] // (height * width), order[rank] // width % height, order[rank] % width
    x, y = np.float32(column * stride), np.float32(row * stride)
    right, bottom = (
        fsub(np.float32(width * stride), np.float32(0.5)),
        fsub(np.float32(height * stride), np.float32(0.5)),
    )
    boxes[4 * rank] = clipped(fsub(x, distances[expert, 0, row, column]), right)
    boxes[4 * rank + 1] = clipped(fsub(y, distances[expert, 1, row, column]), bottom)
    boxes[4 * rank + 2] = clipped(fadd(x, distances[expert, 2, row, column]), right)
    boxes[4 * rank + 3] = clipped(fadd(y, distances[expert, 3, row, column]), bottom)


def _clipped(value: np.float32, high: np.float32) -> Any:
    """Clip to -0.5..high; NaN stays, so that its box is dropped."""
    raised = np.float32(-0.5) if value < np.float32(-0.5) else value
    return high if raised > high else raised


clipped = cuda.jit(device=True)(_clipped)

DECODE = Kernel(_decode, "void(int32[::1], int32[::1], float32[:, :, :, ::1], int64, float32[::1])")


def _collect(
    ranked: NDArray[np.float32], kept: NDArray[np.int32], count: NDArray[np.int32], boxes: NDArray[np.float32]
) -> None:
    """Write the boxes that were kept, and zeros behind the last."""
    value = cuda.grid(1)
    place, corner = value // 4, value % 4
    if place < boxes.shape[0]:
        boxes[place, corner] = ranked[4 * kept[place] + corner] if place < count[0] else 0


COLLECT = Kernel(_collect, "void(float32[::1], int32[::1], int32[::1], float32[:, ::1])")
