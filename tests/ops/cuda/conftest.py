"""These tests run on a GPU, and unchanged in numba's simulator (``NUMBA_ENABLE_CUDASIM=1``), which needs none."""

import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numba import cuda
from numba.core import config
from numba.np import numpy_support

from lnsdk.ops.cuda import _suppression, boxes, heatmap, proposals, slices


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    interval = sys.getswitchinterval()
    if config.ENABLE_CUDASIM:
        _use_small_blocks(monkeypatch)
        _make_shared_arrays_shared(monkeypatch)
        sys.setswitchinterval(interval / 50)  # threads at a barrier wait for the simulator to look
    elif not cuda.is_available():
        pytest.skip("numba finds no NVIDIA GPU that it can compile for")
    yield
    sys.setswitchinterval(interval)


def _use_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator starts a thread of Python for each thread of a block."""
    for module in (_suppression, boxes, proposals):
        monkeypatch.setattr(module, "BLOCK", 8)
    monkeypatch.setattr(proposals, "SELECT_BLOCK", 8)
    monkeypatch.setattr(proposals, "DIGIT_BITS", 3)
    monkeypatch.setattr(proposals, "DIGITS", 8)
    monkeypatch.setattr(slices, "RESAMPLE_BLOCK", (4, 2))
    monkeypatch.setattr(slices, "COPY_BLOCK", 4)
    monkeypatch.setattr(heatmap, "VOTE_BLOCK", 8)


def _make_shared_arrays_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator's threads may each make a shared array of their own where they reach its line at once."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    lock = threading.Lock()

    def array(self: Any, shape: Any, dtype: Any) -> Any:
        caller = sys._getframe(1)
        with lock:
            made = np.empty(shape, dtype if isinstance(dtype, type) else numpy_support.as_dtype(dtype))
            return self._allocations.setdefault((caller.f_code, caller.f_lineno), made)

    monkeypatch.setattr(FakeCUDAShared, "array", array)
