"""lnsdk's own small thread pool: splits a range between threads for kernels that release the GIL.

numba's thread pools abort a process that calls them from two threads, or kill the child of a fork; this one may be used
from many threads and is started afresh in a forked child.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from threading import Lock

_limit: ContextVar[int | None] = ContextVar("lnsdk_thread_limit", default=None)
_lock = Lock()
_pool: ThreadPoolExecutor | None = None


def available_cores() -> int:
    """Number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def current_limit() -> int:
    """Number of threads that a kernel called here may use: the innermost :func:`limited_to`, else every core."""
    return _limit.get() or available_cores()


@contextlib.contextmanager
def limited_to(threads: int | None) -> Iterator[None]:
    """Limit the kernels called inside the ``with`` block, in this thread, to so many threads; None keeps the limit.

    Raises
    ------
    ValueError
        When threads is below 1.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, or None for every core, got {threads}")
    token = _limit.set(threads if threads is not None else _limit.get())
    try:
        yield
    finally:
        _limit.reset(token)


def over_range(task: Callable[[int, int], None], count: int, smallest_part: int = 1) -> None:
    """Run ``task(start, stop)`` over parts that together cover 0..count, in parallel; returns when all are done.

    The calling thread takes the first part and every part that no other thread has begun, so a task may itself call
    this function. An error in a part is raised here once no part runs any more.

    Parameters
    ----------
    task : callable
        Takes a half-open range. It gains from threads only while it has released the GIL.
    count : int
        Length of the whole range.
    smallest_part : int
        Not worth splitting below this length.
    """
    parts = max(1, min(current_limit(), count // max(1, smallest_part)))
    bounds = [count * part // parts for part in range(parts + 1)]
    if parts == 1:
        task(0, count)
        return
    pool = _shared_pool()
    pending = [(pool.submit(task, *part), part) for part in itertools.pairwise(bounds[1:])]
    try:
        task(bounds[0], bounds[1])
    finally:
        unstarted = [part for future, part in pending if future.cancel()]
        errors = [future.exception() for future, _ in pending if not future.cancelled()]
    for part in unstarted:
        task(*part)
    for error in errors:
        if error is not None:
            raise error


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=available_cores(), thread_name_prefix="lnsdk")
        return _pool


def _forget_pool() -> None:
    """A forked child has none of its parent's threads, and possibly a lock that one of them held."""
    global _lock, _pool
    _lock, _pool = Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
