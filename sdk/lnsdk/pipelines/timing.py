"""Time by stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

STAGES = ("read", "resample", "image", "fuse", "decode", "head", "stack", "fpr", "total")
"""Stages of a detector whose milliseconds every result holds, in the order of the work; ``image`` to ``head`` repeat
for each batch, and ``fpr`` is 0 without false-positive reduction."""


class Stopwatch:
    """Adds up the wall time of named stages, in milliseconds; `stages` keeps the order in which they were named."""

    def __init__(self, *stages: str) -> None:
        self.stages = dict.fromkeys(stages, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of a ``with`` block to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            self.stages[stage] += (perf_counter() - start) * 1000
