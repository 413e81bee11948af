"""Times a kernel, its limit and its peers beside each other.

A case is timed in three passes; in each, everything but the kernel has a block of rounds, then the kernel has its own.
What else the machine does falls on all of them, and blocks keep the idling threads of one library out of the rounds of
the next.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import Any

from benchmarks.limits import Limit
from benchmarks.report import LimitTime, Measured, PeerTime, Times

PASSES = 3

BLOCK_SECONDS = 0.2
"""What the rounds of a block take together, about."""

FEWEST_OF_OURS, MOST_ROUNDS = 3, 50
"""Rounds of a block: fewest of the kernel, and most."""

WARM_UP_SECONDS = 0.03
"""Untimed rounds before each block: until caches are warm and the threads of the library before have gone to sleep."""

SLOW_SECONDS = 1.0
"""A peer that takes longer is run twice."""

MORE_LOOKS = 3
"""So many more blocks has a case whose ratios seem worse than recorded, before that is believed."""


@dataclass(frozen=True)
class Peer:
    """What a user would take instead.

    Attributes
    ----------
    name : str
        The library, and what of it.
    run : callable
        Does what the kernel does.
    at_least : float, optional
        Target: the peer's time over the kernel's.
    """

    name: str
    run: Callable[[], Any]
    at_least: float | None = None


@dataclass(frozen=True)
class Case:
    """What to time.

    Attributes
    ----------
    name : str
        Cases of one name differ in size alone.
    size : str
        In words.
    count : int
        How many `unit`: what growth is measured over.
    unit : str
        Singular.
    ours : callable
        The kernel; writes into memory that was touched before, where it can.
    fresh : callable, optional
        The same, with its output allocated anew.
    peers : list of Peer
        What else does this.
    limit : Limit, optional
        What no kernel beats.
    at_most_seconds : float, optional
        Target.
    note : str
        What a reader of the figures should know.
    """

    name: str
    size: str
    count: int
    unit: str
    ours: Callable[[], Any]
    fresh: Callable[[], Any] | None = None
    peers: list[Peer] = field(default_factory=list)
    limit: Limit | None = None
    at_most_seconds: float | None = None
    note: str = ""


class Measure:
    """Times cases; calling it gives what everything answered, by name: ``"ours"``, ``"fresh"``, and the peers'."""

    def __init__(self, benchmark: Any, measured: list[Measured], is_worse: Callable[[Measured], bool]) -> None:
        self._benchmark = benchmark
        self._measured = measured
        self._is_worse = is_worse

    def __call__(self, case: Case) -> dict[str, Any]:
        runs = {peer.name: peer.run for peer in case.peers}
        if case.fresh:
            runs["fresh"] = case.fresh
        if self._benchmark.disabled:
            return {"ours": self._benchmark(case.ours), **{name: run() for name, run in runs.items()}}
        others = {name: _Contender(run) for name, run in runs.items()}
        answers = {name: each.answer for name, each in others.items()}
        if case.limit:
            others["limit"] = _Contender(case.limit.run)
        ours = _Contender(case.ours, is_ours=True)
        answers["ours"] = self._time(ours, list(others.values()))
        measured = _measured(case, ours, others)
        for _ in range(MORE_LOOKS):
            if not self._is_worse(measured):
                break
            for each in (*others.values(), ours):
                each.run_block()
            measured = _measured(case, ours, others)
        self._measured.append(measured)
        return answers

    def _time(self, ours: "_Contender", others: list["_Contender"]) -> Any:
        """Passes of blocks; pytest-benchmark times the rounds of the kernel."""
        done = count()

        def before_a_round() -> None:
            if next(done) % ours.rounds == 0:
                for other in others:
                    other.run_block()
                ours.warm_up()

        answer = self._benchmark.pedantic(ours.run, setup=before_a_round, rounds=PASSES * ours.rounds)
        ours.seconds += self._benchmark.stats.stats.data
        return answer


class _Contender:
    """The kernel or what it is compared with: its first answer, and the time of each round."""

    def __init__(self, run: Callable[[], Any], is_ours: bool = False) -> None:
        self.run = run
        started = perf_counter()
        self.answer = run()
        first = perf_counter() - started
        self.is_slow = first > SLOW_SECONDS and not is_ours
        self.seconds = [first] if self.is_slow else []
        self.rounds = 1 if self.is_slow else _rounds(_seconds(run), FEWEST_OF_OURS if is_ours else 1)

    def run_block(self) -> None:
        if self.is_slow and len(self.seconds) > 1:
            return
        if not self.is_slow:
            self.warm_up()
        self.seconds += [_seconds(self.run) for _ in range(self.rounds)]

    def warm_up(self) -> None:
        started = perf_counter()
        self.run()
        while perf_counter() - started < WARM_UP_SECONDS:
            self.run()

    @property
    def times(self) -> Times:
        return Times.of(self.seconds)


def _measured(case: Case, ours: _Contender, others: dict[str, _Contender]) -> Measured:
    limit = case.limit
    return Measured(
        case=case.name,
        size=case.size,
        count=case.count,
        unit=case.unit,
        ours=ours.times,
        at_most_seconds=case.at_most_seconds,
        fresh=others["fresh"].times if case.fresh else None,
        limit=LimitTime(others["limit"].times.scaled(limit.scale), limit.how, limit.at_most) if limit else None,
        peers=tuple(PeerTime(peer.name, others[peer.name].times, peer.at_least) for peer in case.peers),
        note=case.note,
    )


def _seconds(run: Callable[[], Any]) -> float:
    started = perf_counter()
    run()
    return perf_counter() - started


def _rounds(seconds: float, fewest: int) -> int:
    return min(MOST_ROUNDS, max(fewest, round(BLOCK_SECONDS / seconds)))
