"""What a kernel that only moves memory cannot beat, as work to be timed beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnsdk import threads

COPIED = 100_000_000
"""float32 numbers that are copied to find the rate of memory: 400 MB, far beyond any cache."""


@dataclass(frozen=True)
class Limit:
    """A time: that of `run`, scaled.

    Attributes
    ----------
    run : callable
        Timed in the same rounds as the kernel, so that both see the same machine.
    scale : float
        Share of the time of `run` that is the limit.
    how : str
        What the limit is, in words.
    at_most : float, optional
        Target: the kernel's time over the limit.
    """

    run: Callable[[], object]
    scale: float
    how: str
    at_most: float | None = None


def moved_at_copy_rate(read: int, written: int, at_most: float | None = None) -> Limit:
    """So many bytes read once and written once, at the rate of a copy by two threads."""
    moved = 2 * _buffers()[0].nbytes
    amounts = [f"{size / 1e6:.1f} MB {verb}" for size, verb in ((read, "read"), (written, "written")) if size]
    how = f"{' and '.join(amounts)} once, at the rate of a large two-thread copy"
    return Limit(lambda: _copy(COPIED), (read + written) / moved, how, at_most)


def copied_at_once(size: int, at_most: float | None = None) -> Limit:
    """A copy of so many bytes by two threads."""
    return Limit(lambda: _copy(size // 4), 1, f"{size / 1e6:.1f} MB copied by two threads", at_most)


def filled(out: NDArray[Any], at_most: float | None = None) -> Limit:
    """Writing one number to all of an array of this kind, by two threads."""
    target = np.zeros_like(out)

    def fill() -> None:
        threads.over_range(lambda start, stop: target[start:stop].fill(1), len(target))

    return Limit(fill, 1, f"{out.nbytes / 1e6:.1f} MB filled with one number by two threads", at_most)


def _copy(count: int) -> None:
    source, target = _buffers()
    threads.over_range(lambda start, stop: np.copyto(target[start:stop], source[start:stop]), count)


@cache
def _buffers() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.ones(COPIED, np.float32), np.ones(COPIED, np.float32)
