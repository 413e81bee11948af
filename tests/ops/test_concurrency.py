"""What holds for every kernel: threads and processes get the answer of one thread, and inputs stay as they are."""

import hashlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk import _C, ops, threads

Array = NDArray[Any]


@dataclass(frozen=True)
class Call:
    """A kernel with its arrays and its other arguments."""

    function: Callable[..., Any]
    arrays: tuple[Array, ...]
    others: tuple[Any, ...] = ()

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """The answer as arrays, for other arrays when there are some."""
        answer = self.function(*(arrays or self.arrays), *self.others)
        if isinstance(answer, ops.StackedBoxes):
            return answer.boxes, answer.scores, answer.members
        return (answer,)


def _boxes(random: np.random.Generator, count: int, dimensions: int) -> NDArray[np.float32]:
    low = random.random((count, dimensions)) * 300
    return np.concatenate([low, low + random.uniform(5, 40, (count, dimensions))], axis=1).astype(np.float32)


def _calls() -> dict[str, Call]:
    """Every kernel; those that use several threads get enough for it."""
    random = np.random.default_rng(0)
    flat, deep, scores = _boxes(random, 3000, 2), _boxes(random, 3000, 3), random.random(3000, np.float32)
    groups = random.integers(0, 9, 3000)
    voxels = random.integers(-2000, 3500, (4, 100, 90)).astype(np.int16)
    grids = ((0.7, 0.7, 2.0), (0.5, 0.4, 0.9))
    image = random.integers(0, 256, (200, 210, 3)).astype(np.uint8)
    return {
        "nms": Call(ops.nms, (flat, scores), (0.4,)),
        "nms_3d": Call(ops.nms_3d, (deep.astype(np.float64), scores), (0.2,)),
        "batched_nms": Call(ops.batched_nms, (flat, scores, groups), (0.3,)),
        "iou": Call(ops.iou, (flat[:400], flat[300:])),
        "iobb": Call(ops.iobb, (deep[:400], deep[300:])),
        "stack_boxes": Call(ops.stack_boxes, (flat, scores, groups), (0.3,)),
        "resample_window": Call(ops.resample_window, (voxels,), grids),
        "resample_window to float16": Call(ops.resample_window, (voxels,), (*grids, (-150, 250), np.float16)),
        "group_slices": Call(ops.group_slices, (random.random((12, 120, 130), np.float32), np.array([0, 5, 6, 11]))),
        "vote_heatmap": Call(ops.vote_heatmap, (random.random((60, 50), np.float32),), (32, 8, (500, 430))),
        "gather_patches": Call(
            ops.gather_patches, (image, random.integers(0, 160, (40, 2))), (40, (0.5, 0.4, 0.3), 0.2)
        ),
    }


CALLS = _calls()


def _digests(limit: int) -> dict[str, str]:
    """Of the answers of all kernels, each with so many threads."""
    with threads.limited_to(limit):
        return {
            name: hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in call())).hexdigest()
            for name, call in CALLS.items()
        }


@pytest.fixture(scope="module")
def alone() -> dict[str, str]:
    """The answers of one thread."""
    return _digests(1)


def test_eight_threads_at_once_get_the_answers_of_one(alone: dict[str, str]) -> None:
    begin = threading.Barrier(8)
    found: list[dict[str, str]] = []

    def call(limit: int) -> None:
        begin.wait()
        found.extend(_digests(limit) for _ in range(3))

    callers = [threading.Thread(target=call, args=(1 + index % 4,)) for index in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [alone] * 24


# Since Python 3.12 a fork in a process with threads warns, whatever the child does.
@pytest.mark.filterwarnings("ignore:.*use of fork.. may lead to deadlocks in the child:DeprecationWarning")
def test_a_forked_child_gets_the_answers_of_its_parent(alone: dict[str, str]) -> None:
    assert _digests(4) == alone  # the pool runs
    child = os.fork()
    if child == 0:
        equal = False
        try:
            equal = _digests(4) == alone
        finally:
            os._exit(0 if equal else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert _digests(4) == alone


def test_spawned_processes_get_the_answers_of_their_parent(alone: dict[str, str]) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as workers:
        assert list(workers.map(_digests, [1, 4])) == [alone] * 2


@pytest.fixture
def never_switching() -> Iterator[None]:
    """The interpreter takes the GIL from nobody: another thread runs only when the one that has it lets it go."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(600)
    yield
    sys.setswitchinterval(before)


def _another_thread_runs_during(work: Callable[[], object]) -> bool:
    begun, other = threading.Event(), threading.Event()
    seen = []

    def run() -> None:
        begun.set()
        work()
        seen.append(other.is_set())

    worker = threading.Thread(target=run)
    worker.start()
    begun.wait()
    other.set()
    worker.join()
    return seen[0]


def _long_calls() -> dict[str, Callable[[], object]]:
    """For each compiled function a call that takes milliseconds."""
    random = np.random.default_rng(1)
    flat, deep, scores = _boxes(random, 30_000, 2), _boxes(random, 30_000, 3), random.random(30_000, np.float32)
    groups = random.integers(0, 9, 30_000)
    voxels, grids = random.integers(-2000, 3500, (20, 300, 300)).astype(np.int16), ((1, 1, 1), (0.5, 0.5, 0.5))
    votes, image = random.random((200, 200), np.float32), random.integers(0, 256, (300, 300, 3)).astype(np.uint8)
    corners = random.integers(0, 200, (200, 2))
    return {
        "nms": lambda: ops.nms(flat, scores, 0.5),
        "nms_3d": lambda: ops.nms_3d(deep, scores, 0.5),
        "batched_nms": lambda: ops.batched_nms(flat, scores, groups, 0.5),
        "iou": lambda: ops.iou(flat[:2000], flat[:2000]),
        "iobb": lambda: ops.iobb(flat[:2000], flat[:2000]),
        "stack_boxes": lambda: ops.stack_boxes(flat, scores, groups, 0.5),
        "resample_rows": lambda: ops.resample_window(voxels, *grids),
        "vote_rows": lambda: ops.vote_heatmap(votes, 40, 10, (3000, 2000)),
        "gather_patches": lambda: ops.gather_patches(image, corners, 100, 0.5, 0.25),
    }


LONG_CALLS = _long_calls()


def _compiled_call(name: str) -> Callable[[], object]:
    """The compiled function alone: NumPy, which prepares its arguments, lets the GIL go as well."""
    function = getattr(_C, name)
    recorded: list[tuple[Any, ...]] = []

    def record(*arguments: Any) -> Any:
        recorded.append(arguments)
        return function(*arguments)

    with pytest.MonkeyPatch.context() as patch, threads.limited_to(1):
        patch.setattr(_C, name, record)
        LONG_CALLS[name]()
    return lambda: function(*recorded[0])


# The other thread may be late on a busy machine, so it has several chances; without the release it never runs.
@pytest.mark.usefixtures("never_switching")
@pytest.mark.parametrize("name", LONG_CALLS)
def test_other_threads_run_while_a_kernel_does(name: str) -> None:
    call = _compiled_call(name)
    assert any(_another_thread_runs_during(call) for _ in range(50))


@pytest.mark.usefixtures("never_switching")
def test_no_other_thread_runs_while_the_gil_is_held() -> None:
    """What the test above would see without the release."""
    assert not any(_another_thread_runs_during(lambda: sorted(range(100_000, 0, -1))) for _ in range(50))


@pytest.mark.parametrize("name", CALLS)
def test_arrays_are_left_as_they_are(name: str) -> None:
    call = CALLS[name]
    copies = [array.copy() for array in call.arrays]
    call()
    for array, copy in zip(call.arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def _read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _every_other(array: Array) -> Array:
    """The same values in every other place of a larger array, along every axis."""
    spread = np.zeros([2 * count for count in array.shape], array.dtype)
    view = spread[(slice(None, None, 2),) * array.ndim]
    view[...] = array
    return view


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "read-only": _read_only,
    "every other": _every_other,
    "backwards": lambda array: np.flip(np.flip(array).copy()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_arrays_may_lie_anyhow(name: str, layout: str) -> None:
    call = CALLS[name]
    arrays = [LAYOUTS[layout](array) for array in call.arrays]
    for found, expected in zip(call(*arrays), call(), strict=True):
        np.testing.assert_array_equal(found, expected)
