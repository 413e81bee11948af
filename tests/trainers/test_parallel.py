"""Work on all cores: order of the results, and the first error."""

import time
from functools import partial
from pathlib import Path

import pytest

from lnsdk.trainers.common.parallel import in_parallel


def double(number: int) -> int:
    return 2 * number


def leave_a_trace(number: int, folder: Path) -> None:
    if number == 0:
        raise ValueError("the first is broken")
    time.sleep(0.3)
    (folder / str(number)).touch()


@pytest.mark.slow
def test_results_are_in_the_order_of_the_items() -> None:
    assert in_parallel("doubling", double, [3, 1, 2]) == [6, 2, 4]
    assert in_parallel("doubling", double, []) == []


@pytest.mark.slow
def test_first_error_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the first is broken"):
        in_parallel("leaving traces", partial(leave_a_trace, folder=tmp_path), list(range(40)))
    assert len(list(tmp_path.iterdir())) < 39
