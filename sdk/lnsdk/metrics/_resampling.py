"""What the FROC curves share: events by falling score, bootstrap draws, and their weighted counts and intervals."""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Weights = NDArray[np.int32]

CONFIDENCE = 0.95
"""Coverage of the bootstrap intervals, as in the evaluation of LUNA16."""

CHUNK = 1 << 19
"""Numbers that one chunk of draws may hold at a time: 4 MB, which stays in the cache of a core or near it."""


@dataclass(frozen=True, eq=False)
class Events:
    """Scored events, highest score first.

    Attributes
    ----------
    owners : ndarray, (E,)
        Number of the volume (scan, image) that each event belongs to.
    until : ndarray, (T,)
        How many events score at least each threshold.
    """

    owners: Integers
    until: Integers

    @property
    def before(self) -> Integers:
        """How many events come before each threshold; past the last one twice all of them, (T + 2,)."""
        return np.concatenate([[0], self.until, [len(self.owners)]])


def ordered(scores: Floats, owners: Integers, thresholds: Floats) -> Events:
    """Events by falling score, counted at the thresholds, which fall as well."""
    order = np.argsort(-scores, kind="stable")
    return Events(owners[order], np.searchsorted(-scores[order], -thresholds, side="right"))


def falling(*scores: Floats) -> Floats:
    """Every distinct score, highest first."""
    return np.unique(np.concatenate(scores))[::-1]


def draws(count: int, clusters: Sequence[Hashable] | None, bootstraps: int, seed: int, name: str) -> Weights:
    """How often each of `count` volumes counts in every resample, (bootstraps, count): as often as its cluster."""
    named: Sequence[Hashable] = range(count) if clusters is None else clusters
    if len(named) != count:
        raise ValueError(f"clusters must have one entry per {name} ({count}), got {len(named)}")
    check_bootstraps(bootstraps)
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(named))}
    owner = np.array([numbers[cluster] for cluster in named], np.int64)
    drawn = np.random.default_rng(seed).integers(len(numbers), size=(bootstraps, len(numbers)))
    return tally(drawn)[:, owner]


def check_bootstraps(bootstraps: int) -> None:
    """``ValueError`` when it is below 0."""
    if bootstraps < 0:
        raise ValueError(f"bootstraps must be 0 or more, got {bootstraps}")


def tally(drawn: Integers) -> Weights:
    """How often each number 0..n - 1 was drawn, for each row of n draws."""
    rows, size = drawn.shape
    flat = (drawn + size * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * size).reshape(rows, size).astype(np.int32)


def chunks(weights: Weights, width: int) -> Iterator[Floats]:
    """The draws, as many at a time as give CHUNK numbers when each takes `width` of them."""
    step = max(1, CHUNK // max(1, width))
    for start in range(0, len(weights), step):
        yield weights[start : start + step].astype(np.float64)


class Blocks:
    """Events in their order, cut into blocks, with what each volume has up to every edge between them.

    Parameters
    ----------
    owners : ndarray, (E,)
        The volume of each event.
    volumes : int
        How many volumes there are.
    """

    def __init__(self, owners: Integers, volumes: int) -> None:
        events = len(owners)
        self.events = events
        # the edges take one matrix product, so there are more of them than events in a block (measured)
        self.size = max(1, math.isqrt(events) // 3, -(-events * volumes // (8 * CHUNK)))
        blocks = -(-events // self.size)
        in_block = np.bincount(owners * blocks + np.arange(events) // self.size, minlength=volumes * blocks)
        self.up_to = in_block.reshape(volumes, blocks).cumsum(axis=1, dtype=np.float64)
        padded = np.pad(owners, (0, (blocks + 1) * self.size - events), constant_values=volumes)
        self.owners = padded.reshape(blocks + 1, self.size)


class RunningTotals:
    """Sums of the weights of the first so many events, for many draws, without adding up all events of each draw.

    One matrix product gives the totals at the edges of the blocks; only the blocks that are asked for are added up
    event by event. Weights are whole numbers, so every sum is exact.

    Parameters
    ----------
    weights : ndarray, (B, V)
        How often each volume counts in every draw.
    blocks : Blocks
        The events.
    """

    def __init__(self, weights: Floats, blocks: Blocks) -> None:
        self._blocks = blocks
        self._weights = np.pad(weights, ((0, 0), (0, 1)))
        self._edges = np.pad(weights @ blocks.up_to, ((0, 0), (1, 0)))

    def at(self, counts: Integers) -> Floats:
        """Total weight of the first `counts` events, (B, P)."""
        block, rest = np.divmod(counts, self._blocks.size)
        inside = np.arange(self._blocks.size) < rest[:, :, None]
        partial = np.where(inside, self._of_block(block), 0).sum(axis=2)
        return np.asarray(np.take_along_axis(self._edges, block, axis=1) + partial)

    def first_above(self, limits: Floats) -> Integers:
        """Number of the first event whose running total is above the limit, (B, P); that of events where none is."""
        block = (self._edges[:, None, :] <= limits[:, :, None]).sum(axis=2) - 1
        running = self._of_block(block).cumsum(axis=2) + np.take_along_axis(self._edges, block, axis=1)[:, :, None]
        within = (running <= limits[:, :, None]).sum(axis=2)
        return np.asarray(np.minimum(block * self._blocks.size + within, self._blocks.events))

    def _of_block(self, block: Integers) -> Floats:
        """Weights of the events of a block, (B, P, size)."""
        rows = np.arange(len(block))[:, None, None]
        return np.asarray(self._weights[rows, self._blocks.owners[block]])


def interval(samples: ArrayLike) -> Floats:
    """Lower and upper percentile over the first axis, (2, ...); NaN where there are no samples."""
    values = np.asarray(samples, np.float64)
    if len(values) == 0:
        return np.full((2, *values.shape[1:]), np.nan)
    tail = 100 * (1 - CONFIDENCE) / 2
    return np.asarray(np.percentile(values, [tail, 100 - tail], axis=0))
