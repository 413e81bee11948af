"""Turns what a caller may pass into the arrays that the compiled kernels take; shapes and values are checked there."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


def _numbers(values: ArrayLike, name: str) -> NDArray[np.floating | np.integer]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    return array


def _is_double(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.dtype.itemsize == 8  # in any byte order


def floats(values: ArrayLike, name: str) -> NDArray[np.float32] | NDArray[np.float64]:
    """C-contiguous float64 when the values are float64, else float32, the type of lnsdk's boxes."""
    array = _numbers(values, name)
    if _is_double(array):
        return np.ascontiguousarray(array, np.float64)
    return np.ascontiguousarray(array, np.float32)


def boxes(values: ArrayLike, columns: int) -> NDArray[np.float32] | NDArray[np.float64]:
    """The boxes as :func:`floats`; an empty list is no boxes."""
    array = floats(values, "boxes")
    return array.reshape(0, columns) if array.shape == (0,) else array


def float_pair(
    a: ArrayLike, b: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 when one of them is, else both as float32."""
    first, second = _numbers(a, "a"), _numbers(b, "b")
    if _is_double(first) or _is_double(second):
        return np.ascontiguousarray(first, np.float64), np.ascontiguousarray(second, np.float64)
    return np.ascontiguousarray(first, np.float32), np.ascontiguousarray(second, np.float32)


def float32s(values: ArrayLike, name: str) -> NDArray[np.float32]:
    """C-contiguous float32."""
    return np.ascontiguousarray(_numbers(values, name), np.float32)


def int64s(values: ArrayLike, name: str) -> NDArray[np.int64]:
    """C-contiguous int64; an empty list counts as integers."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size > 0:
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    return np.ascontiguousarray(array, np.int64)


def number(value: float, name: str) -> float:
    """The value as a float; ``TypeError`` unless it is a real number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    return float(value)


def number_or_none(value: float | None, name: str) -> float | None:
    """The same, where None stands for no limit."""
    return None if value is None else number(value, name)


def count_or_none(value: int | None, name: str) -> int | None:
    """The value as an int; ``TypeError`` unless it is an integer or None, ``ValueError`` when it is below 0."""
    if value is None:
        return None
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer or None, got {value!r}")
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, or None, got {value}")
    return min(int(value), sys.maxsize)


def positive(value: float, name: str) -> float:
    """The value as a float; ``ValueError`` unless it is finite and above 0."""
    result = float(value)
    if not (np.isfinite(result) and result > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {value}")
    return result


def positive_integer(value: int, name: str) -> int:
    """The value as an int; ``TypeError`` unless it is an integer, ``ValueError`` unless it is above 0."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value <= 0:
        raise ValueError(f"{name} must be above 0, got {value}")
    return int(value)


def output(
    out: NDArray[Any] | None,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    inputs: Sequence[NDArray[Any]],
    rows_only: bool = False,
) -> NDArray[Any]:
    """The array to write a result into: the caller's once it is checked, else a new one.

    It may not lie over one of the inputs, which are still read while it is written. With ``rows_only`` it is enough
    that the items of each row lie side by side.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or out.dtype != dtype:
        got = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise TypeError(f"out must be {np.dtype(dtype)} like the result, got {got}")
    if out.shape != shape:
        raise ValueError(f"out must have the shape of the result, {shape}, got {out.shape}")
    if not (has_contiguous_rows(out) if rows_only else out.flags.c_contiguous) or not out.flags.writeable:
        raise ValueError(f"out must be writable and {'have contiguous rows' if rows_only else 'C-contiguous'}")
    if any(np.may_share_memory(out, each) for each in inputs):
        raise ValueError("out must not share memory with an input, which is still read while out is written")
    return out


def has_contiguous_rows(array: NDArray[Any]) -> bool:
    """Whether the items of each row lie side by side, and rows a whole number of items apart."""
    if array.size == 0:
        return True
    return array[(0,) * (array.ndim - 1)].flags.c_contiguous and all(
        stride % array.itemsize == 0 for stride in array.strides
    )
