"""Work on all cores, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

from lnsdk.threads import available_cores
from lnsdk.trainers.common.progress import TrainingProgress

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(title: str, task: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do a task for every item in processes on all cores, with a progress bar; the first error ends it.

    Parameters
    ----------
    title : str
        Of the progress bar.
    task : callable
        Item to result; both, and the task itself, go between processes.
    items : sequence
        What to do it for.

    Returns
    -------
    list
        The results, in the order of the items.
    """
    workers = min(available_cores(), max(len(items), 1))
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        TrainingProgress(title, len(items), 0) as progress,
    ):
        try:
            pending = [pool.submit(task, item) for item in items]
            for done in as_completed(pending):
                done.result()
                progress.advance({})
        except BaseException:
            pool.shutdown(cancel_futures=True)  # said now, not when all the others are made
            raise
    return [done.result() for done in pending]
