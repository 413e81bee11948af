"""Boxes by rank, and the greedy suppression among them: what nms and the decoding of proposals share.

A box's rank is the number of boxes before it, counted. Each box then gets one bit for every later box that it overlaps
too much, and one block at last goes down the ranks. None of this depends on the order in which threads run. Counting
takes N^2 comparisons and the bits N^2 / 2 overlaps of a dozen operations each, so a faster sort would save little.
"""

from typing import Any, TypeAlias

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from lnsdk.ops.cuda._arithmetic import bits, fadd, fdiv, fmul, fsub, lesser, lowest_bit
from lnsdk.ops.cuda._device import DeviceArray, Kernel, Stream, Workspace, blocks

BLOCK = 256
"""Threads of a block where nothing else decides."""

WORD = 64
"""Boxes whose bits share a word."""

MAX_BOXES = 1 << 16
"""The bits of so many boxes take 512 MB."""

MAX_WORDS = MAX_BOXES // WORD

TILE = 256
"""Keys that a block compares with at once."""

INDEX_BITS = 31
"""Low bits of a key, which hold the index; the 32 bits above hold the score."""

INDEX_MASK = (1 << INDEX_BITS) - 1

Corners: TypeAlias = tuple[Any, Any, Any, Any]


class Suppression:
    """One suppression on a stream: its scratch memory and its steps.

    Fill ``keys`` and ``count``, then call :meth:`rank`, which fills ``order``; fill ``boxes`` in that order, then call
    :meth:`sweep`.

    Parameters
    ----------
    capacity : int
        Most boxes that there can be, at most ``MAX_BOXES``.
    workspace : Workspace or None
        Where the memory comes from.
    stream : numba's stream
        Where the work is queued.

    Attributes
    ----------
    keys : device array of int64
        Of each box in any order: see :func:`sort_key`.
    count : device array of int32, one value
        How many boxes there are.
    order : device array of int32
        Indices of the boxes, by rank.
    boxes : device array of float32
        x1, y1, x2, y2 of each box, by rank.
    kept : device array of int32
        Ranks of the boxes that were kept, ascending.
    """

    def __init__(self, capacity: int, workspace: Workspace | None, stream: Stream) -> None:
        memory = workspace if workspace is not None else Workspace()
        self.stream = stream
        self.grid = blocks(capacity, BLOCK)
        self.words = blocks(capacity, WORD)
        self.keys = memory.buffer("keys", capacity, np.int64)
        self.count = memory.buffer("count", 1, np.int32)
        self.order = memory.buffer("order", capacity, np.int32)
        self.boxes = memory.buffer("boxes", 4 * capacity, np.float32)
        self.mask = memory.buffer("mask", capacity * self.words, np.int64)
        self.kept = memory.buffer("kept", capacity, np.int32)

    def rank(self) -> None:
        """Order the boxes by their keys."""
        RANK.launch(self.grid, BLOCK, self.stream, self.keys, self.count, self.order)

    def nothing(self, kept_count: DeviceArray) -> None:
        """Say that nothing was kept, where there are no boxes: a kernel takes no empty array."""
        NOTHING.launch(1, 1, self.stream, kept_count)

    def sweep(self, iou_threshold: float, limit: int, only_solid: bool, kept_count: DeviceArray) -> None:
        """Keep the best boxes, at most ``limit``; with ``only_solid``, boxes without area count as suppressed."""
        both = (self.words, self.words)
        OVERLAPS.launch(both, WORD, self.stream, self.boxes, self.count, iou_threshold, self.mask)
        SWEEP.launch(
            1,
            BLOCK,
            self.stream,
            self.boxes,
            self.count,
            self.mask,
            self.words,
            limit,
            only_solid,
            self.kept,
            kept_count,
        )


def require_threshold(iou_threshold: float) -> None:
    """Refuse what is no intersection over union."""
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must lie in 0..1, got {iou_threshold}")


def _sort_key(score: np.float32, index: int) -> Any:
    """Return an integer that ascends by falling score, then by index; 0.0 and -0.0 are equal scores."""
    pattern = np.int64(bits(score)) if score != 0 else np.int64(0)
    ascending = pattern if pattern >= 0 else pattern ^ np.int64(0x7FFFFFFF)
    return ((np.int64(0x7FFFFFFF) - ascending) << np.int64(INDEX_BITS)) | np.int64(index)


def _area(box: Corners) -> Any:
    return fmul(fsub(box[2], box[0]), fsub(box[3], box[1]))


def _shared_extent(low: np.float32, other_low: np.float32, high: np.float32, other_high: np.float32) -> Any:
    """Length of the overlap along an axis; NaN (infinite corners) counts as none, as on the CPU."""
    extent = fsub(other_high if other_high < high else high, other_low if low < other_low else low)
    return extent if extent > 0 else np.float32(0)


sort_key, area, shared_extent = (cuda.jit(device=True)(each) for each in (_sort_key, _area, _shared_extent))


def _suppresses(kept: Corners, box: Corners, iou_threshold: float) -> bool:
    shared = fmul(shared_extent(kept[0], box[0], kept[2], box[2]), shared_extent(kept[1], box[1], kept[3], box[3]))
    if not shared > 0:
        return False
    return bool(np.float64(fdiv(shared, fsub(fadd(area(kept), area(box)), shared))) > iou_threshold)


suppresses = cuda.jit(device=True)(_suppresses)


def _rank(keys: NDArray[np.int64], count: NDArray[np.int32], order: NDArray[np.int32]) -> None:
    """Write each box's index to its rank; a thread per box, which counts the smaller keys."""
    tile = cuda.shared.array(TILE, np.int64)
    box, boxes = cuda.grid(1), count[0]
    if cuda.blockIdx.x * cuda.blockDim.x >= boxes:
        return
    key, rank = keys[lesser(box, boxes - 1)], 0
    for start in range(0, boxes, TILE):
        length = lesser(TILE, boxes - start)
        for other in range(cuda.threadIdx.x, length, cuda.blockDim.x):
            tile[other] = keys[start + other]
        cuda.syncthreads()
        for other in range(length):
            if tile[other] < key:
                rank += 1
        cuda.syncthreads()
    if box < boxes:
        order[rank] = key & INDEX_MASK


RANK = Kernel(_rank, "void(int64[::1], int32[::1], int32[::1])")


def _overlaps(
    boxes: NDArray[np.float32], count: NDArray[np.int32], iou_threshold: float, mask: NDArray[np.int64]
) -> None:
    """Write, for 64 boxes and 64 others, which of the others each would suppress; only later ranks are looked at.

    A thread compares its box with 64 others, which the block holds; words of a box lie side by side, as the sweep reads
    them.
    """
    tile = cuda.shared.array((WORD, 4), np.float32)
    lane, first, other_first = cuda.threadIdx.x, cuda.blockIdx.y * WORD, cuda.blockIdx.x * WORD
    if other_first < first or other_first >= count[0]:
        return
    if other_first + lane < count[0]:
        for corner in range(4):
            tile[lane, corner] = boxes[4 * (other_first + lane) + corner]
    cuda.syncthreads()
    row = first + lane
    if row >= count[0]:
        return
    box = (boxes[4 * row], boxes[4 * row + 1], boxes[4 * row + 2], boxes[4 * row + 3])
    word = np.int64(0)
    for other in range(lane + 1 if first == other_first else 0, lesser(WORD, count[0] - other_first)):
        if suppresses(box, (tile[other, 0], tile[other, 1], tile[other, 2], tile[other, 3]), iou_threshold):
            word |= np.int64(1) << np.int64(other)
    mask[row * cuda.gridDim.x + cuda.blockIdx.x] = word


OVERLAPS = Kernel(_overlaps, "void(float32[::1], int32[::1], float64, int64[::1])")


def _sweep(
    boxes: NDArray[np.float32],
    count: NDArray[np.int32],
    mask: NDArray[np.int64],
    words: int,
    limit: int,
    only_solid: bool,
    kept: NDArray[np.int32],
    kept_count: NDArray[np.int32],
) -> None:
    """Go down the ranks, 64 at a time, in one block: one thread keeps, then all strike out what that suppresses.

    Its time is that of fetching, one after the other, the bits of the boxes kept.
    """
    struck = cuda.shared.array(MAX_WORDS, np.int64)
    within = cuda.shared.array(WORD, np.int64)
    newly = cuda.shared.array(1, np.int64)
    total = cuda.shared.array(1, np.int64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    used = (count[0] + WORD - 1) // WORD
    for word in range(thread, used, threads):
        struck[word] = 0
    if thread == 0:
        total[0] = 0
    cuda.syncthreads()
    for row in range(thread, used * WORD, threads):
        if row >= count[0] or (only_solid and not has_area(boxes, row)):
            cuda.atomic.or_(struck, row // WORD, np.int64(1) << np.int64(row % WORD))
    for word in range(used):
        for lane in range(thread, lesser(WORD, count[0] - word * WORD), threads):
            within[lane] = mask[(word * WORD + lane) * words + word]
        cuda.syncthreads()
        if thread == 0:
            newly[0] = 0
            left = ~struck[word]
            while left != 0 and total[0] < limit:
                lane = lowest_bit(left) - 1
                bit = np.int64(1) << np.int64(lane)
                kept[total[0]] = word * WORD + lane
                total[0] += 1
                newly[0] |= bit
                left &= ~(within[lane] | bit)
        cuda.syncthreads()
        if total[0] >= limit:
            break
        for later in range(word + 1 + thread, used, threads):
            gone = struck[later]
            for lane in range(WORD):
                if (newly[0] >> np.int64(lane)) & np.int64(1):
                    gone |= mask[(word * WORD + lane) * words + later]
            struck[later] = gone
    if thread == 0:
        kept_count[0] = total[0]


def _nothing(kept_count: NDArray[np.int32]) -> None:
    kept_count[0] = 0


NOTHING = Kernel(_nothing, "void(int32[::1])")


def _has_area(boxes: NDArray[np.float32], row: int) -> bool:
    """Tell whether a box has an area; one with NaN has none."""
    return bool(boxes[4 * row + 2] > boxes[4 * row] and boxes[4 * row + 3] > boxes[4 * row + 1])


has_area = cuda.jit(device=True)(_has_area)

SWEEP = Kernel(_sweep, "void(float32[::1], int32[::1], int64[::1], int64, int64, boolean, int32[::1], int32[::1])")
