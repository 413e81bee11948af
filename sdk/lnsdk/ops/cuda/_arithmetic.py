"""Arithmetic of the kernels, rounded after every operation as on the CPU.

Compilers of CUDA code contract ``a * b + c`` into one fused multiply-add with one rounding, which changes the last bit.
The functions of libdevice whose names end in ``_rn`` are never contracted: they are the instructions ``add.rn``,
``mul.rn`` and so on, which IEEE 754 fixes to the bit. numba's simulator has none of them; there NumPy computes.
"""

from typing import Any

import numpy as np
from numba import cuda
from numba.core import config
from numba.cuda import libdevice


def _quietly(operation: np.ufunc) -> Any:
    """Infinite values are no reason for a warning: a GPU gives none."""
    return np.errstate(all="ignore")(lambda a, b: operation(a, b))


def _bits(value: np.float32) -> np.int32:
    return np.float32(value).view(np.int32)


def _lesser(a: Any, b: Any) -> Any:
    return b if b < a else a


def _greater(a: Any, b: Any) -> Any:
    return b if b > a else a


def _lowest_bit(word: np.int64) -> int:
    return (int(word) & -int(word)).bit_length()


if config.ENABLE_CUDASIM:
    fadd = dadd = _quietly(np.add)
    fsub = _quietly(np.subtract)
    fmul = dmul = _quietly(np.multiply)
    fdiv = ddiv = _quietly(np.divide)
    bits, lowest_bit = _bits, _lowest_bit
    lesser, greater = _lesser, _greater
else:
    fadd, fsub, fmul, fdiv = libdevice.fadd_rn, libdevice.fsub_rn, libdevice.fmul_rn, libdevice.fdiv_rn
    dadd, dmul, ddiv = libdevice.dadd_rn, libdevice.dmul_rn, libdevice.ddiv_rn
    bits, lowest_bit = libdevice.float_as_int, libdevice.ffsll
    lesser, greater = (
        cuda.jit(device=True)(_lesser),
        cuda.jit(device=True)(_greater),
    )  # numba 0.68 has no min and max here
