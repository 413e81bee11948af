"""The thread pool: every part once, errors come back, nesting and forking work."""

import os
import threading
import time

import pytest

from lnsdk import threads


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_parts_cover_the_range_once(count: int, limit: int) -> None:
    seen = [0] * count
    parts = []

    def mark(start: int, stop: int) -> None:
        parts.append((start, stop))
        for index in range(start, stop):
            seen[index] += 1

    with threads.limited_to(limit):
        threads.over_range(mark, count)
    assert seen == [1] * count
    assert len(parts) <= max(1, limit)


def test_short_ranges_are_not_split() -> None:
    parts = []
    with threads.limited_to(8):
        threads.over_range(lambda start, stop: parts.append((start, stop)), 100, smallest_part=60)
    assert parts == [(0, 100)]


@pytest.mark.parametrize("failing", [0, 99])
def test_an_error_comes_back_when_no_part_runs_any_more(failing: int) -> None:
    done: list[tuple[int, int]] = []

    def fail(start: int, stop: int) -> None:
        if start <= failing < stop:
            raise KeyError(failing)
        time.sleep(0.01)
        done.append((start, stop))

    with threads.limited_to(4), pytest.raises(KeyError):
        threads.over_range(fail, 100)
    finished = len(done)
    time.sleep(0.05)
    assert len(done) == finished <= 3


def test_nested_and_concurrent_calls_do_not_wait_for_each_other() -> None:
    total = []

    def outer(start: int, stop: int) -> None:
        with threads.limited_to(3):
            for _ in range(start, stop):
                threads.over_range(lambda first, last: total.append(last - first), 6)

    def call() -> None:
        with threads.limited_to(6):
            threads.over_range(outer, 12)

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=30)
        assert not caller.is_alive()
    assert sum(total) == 6 * 12 * 6


def test_limits() -> None:
    assert threads.current_limit() == threads.available_cores() >= 1
    with threads.limited_to(3):
        assert threads.current_limit() == 3
        with threads.limited_to(None):
            assert threads.current_limit() == 3
        with threads.limited_to(1):
            assert threads.current_limit() == 1
    assert threads.current_limit() == threads.available_cores()
    with pytest.raises(ValueError, match="threads must be 1 or more"), threads.limited_to(0):
        pass


# Since Python 3.12 a fork in a process with threads warns, whatever the child does.
@pytest.mark.filterwarnings("ignore:.*use of fork.. may lead to deadlocks in the child:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    with threads.limited_to(4):
        threads.over_range(lambda start, stop: None, 100)
        child = os.fork()
        if child == 0:
            parts: list[int] = []
            threads.over_range(lambda start, stop: parts.append(stop - start), 100)
            os._exit(0 if sum(parts) == 100 else 1)
    assert os.waitpid(child, 0)[1] == 0
