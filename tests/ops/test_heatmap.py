"""Vote heat maps against the loop-only oracle."""

from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnsdk import _C, ops, threads
from tests import naive

LAYOUTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "every other": lambda array: np.repeat(array, 2, axis=1)[:, ::2],
    "reversed": lambda array: array[::-1].copy()[::-1],
}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.bool_])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("patch", "stride"), [(8, 4), (6, 4), (4, 4), (3, 5), (1, 1)])
def test_votes_are_the_oracle(patch: int, stride: int, layout: str, dtype: type, normalize: bool) -> None:
    votes = LAYOUTS[layout]((np.random.default_rng(0).random((3, 4)) * 3).astype(dtype))
    for shape in ((14, 21), (40, 3), (0, 5), (5, 0)):
        found = ops.vote_heatmap(votes, patch, stride, shape, normalize)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(
            found, naive.vote_heatmap(votes.astype(np.float32), patch, stride, shape, normalize)
        )


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(0, 4)), elements=st.floats(-9, 9, width=32)),
    st.integers(1, 9),
    st.integers(1, 9),
    st.tuples(st.integers(0, 15), st.integers(0, 15)),
    st.booleans(),
)
def test_any_votes_are_the_oracle(
    votes: NDArray[np.float32], patch: int, stride: int, shape: tuple[int, int], normalize: bool
) -> None:
    found = ops.vote_heatmap(votes, patch, stride, shape, normalize)
    np.testing.assert_array_equal(found, naive.vote_heatmap(votes, patch, stride, shape, normalize))


def test_votes_for_everything_give_one_everywhere_when_normalized() -> None:
    votes = np.ones((5, 7), np.float32)
    np.testing.assert_array_equal(ops.vote_heatmap(votes, 8, 2, (16, 20), normalize=True), 1)
    inner = ops.vote_heatmap(votes, 8, 2, (16, 20))[6:10, 6:14]
    np.testing.assert_array_equal(inner, 1)


def test_several_threads_give_the_values_of_one() -> None:
    votes = np.random.default_rng(0).random((60, 60), np.float32)
    with threads.limited_to(1):
        expected = ops.vote_heatmap(votes, 32, 8, (512, 512))
    with threads.limited_to(5):
        np.testing.assert_array_equal(ops.vote_heatmap(votes, 32, 8, (512, 512)), expected)


def test_maps_that_are_streamed_past_the_caches_are_the_same() -> None:
    votes = np.random.default_rng(0).random((150, 150), np.float32)
    large = ops.vote_heatmap(votes, 40, 10, (1600, 1501))
    assert large.nbytes >= _C.STREAMED_BYTES
    small = ops.vote_heatmap(votes, 40, 10, (1000, 1501))
    assert small.nbytes < _C.STREAMED_BYTES
    np.testing.assert_array_equal(large[:1000], small)
    assert (large[1590:] == 0).all()


@pytest.mark.parametrize(("patch", "stride"), [(40, 10), (41, 10), (39, 7), (64, 1), (5, 8)])
def test_long_maps_are_sums_of_the_windows(patch: int, stride: int) -> None:
    votes = np.random.default_rng(0).random((30, 33), np.float32)
    expected = np.zeros((400, 411))
    for i, j in np.ndindex(votes.shape):
        expected[i * stride : i * stride + patch, j * stride : j * stride + patch] += votes[i, j]
    found = ops.vote_heatmap(votes, patch, stride, (400, 411))
    np.testing.assert_allclose(found, expected * (stride / patch) ** 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("patch", "stride"), [(10**9, 1), (2**62, 2**62), (1, 10**12), (5, 2**64), (2**64, 5), (300, 1)]
)
@pytest.mark.parametrize("normalize", [False, True])
def test_windows_larger_than_the_map(patch: int, stride: int, normalize: bool) -> None:
    votes = np.random.default_rng(0).random((3, 2), np.float32)
    found = ops.vote_heatmap(votes, patch, stride, (4, 7), normalize)
    np.testing.assert_array_equal(found, naive.vote_heatmap(votes, patch, stride, (4, 7), normalize))


def test_writes_into_out() -> None:
    out = np.full((4, 4), np.nan, np.float32)
    assert ops.vote_heatmap([[1, 2], [3, 4]], 2, 2, (4, 4), out=out) is out
    assert out[::2, ::2].tolist() == [[1, 2], [3, 4]]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"votes\[0, 1\] is NaN or infinite"):
        ops.vote_heatmap([[0, np.nan]], 2, 2, (4, 4))
    with pytest.raises(ValueError, match=r"votes must have shape \(rows, cols\), got \(2,\)"):
        ops.vote_heatmap([0, 1], 2, 2, (4, 4))
    with pytest.raises(TypeError, match="votes must be real numbers"):
        ops.vote_heatmap([[1j]], 2, 2, (4, 4))
    with pytest.raises(ValueError, match="stride must be above 0, got 0"):
        ops.vote_heatmap([[1]], 2, 0, (4, 4))
    with pytest.raises(TypeError, match=r"patch must be an integer, got 2\.0"):
        ops.vote_heatmap([[1]], 2.0, 2, (4, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape must be y, x in pixels"):
        ops.vote_heatmap([[1]], 2, 2, (4, 4, 3))
    square = np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match="out must not share memory with an input"):
        ops.vote_heatmap(square, 2, 1, (4, 4), out=square)
    with pytest.raises(TypeError, match="out must be float32 like the result, got float64"):
        ops.vote_heatmap([[1]], 2, 2, (4, 4), out=np.zeros((4, 4)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"out must have the shape of the result, \(4, 4\), got \(2, 2\)"):
        ops.vote_heatmap([[1]], 2, 2, (4, 4), out=np.zeros((2, 2), np.float32))
