"""The functions for the GPU, without one: run in numba's simulator, compiled as far as PTX, and refused clearly."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import cuda
from numba.core import sigutils

from lnsdk.errors import BackendUnavailable
from lnsdk.ops import cuda as gpu
from lnsdk.ops.cuda import _device, _suppression, boxes, heatmap, proposals, slices

ROOT = Path(__file__).parents[2]

FOLDERS = ("tests/ops/cuda", "tests/pipelines/gpu")
"""Tests that run on a GPU or in the simulator."""

# Of PTX, those in float: add.rn.f32, fma.rn.f64 and so on. Without .rn the assembler may contract them as well.
ROUNDED = re.compile(r"^\s*((?:add|sub|mul|div|fma|mad|rcp|sqrt)\.[\w.]*f(?:16|32|64))\b", re.MULTILINE)


def test_in_the_simulator() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(ROOT / folder) for folder in FOLDERS)],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) > 90


def _kernels(module: ModuleType) -> dict[str, _device.Kernel]:
    """Kernels that a module defines, and those in its tables."""
    found = {}
    for name, value in vars(module).items():
        each = value if isinstance(value, dict) and name.isupper() else {"": value}
        found.update({f"{name} {key}": kernel for key, kernel in each.items() if isinstance(kernel, _device.Kernel)})
    return found


KERNELS = {
    name: kernel
    for module in (_suppression, boxes, heatmap, proposals, slices)
    for name, kernel in _kernels(module).items()
}


compiling = pytest.mark.skipif(
    not cuda.cudadrv.nvvm.is_available(),
    reason="numba finds no libnvvm: install the CUDA toolkit, or nvidia-cuda-nvcc-cu12 and set CUDA_HOME",
)


@compiling
@pytest.mark.parametrize("name", KERNELS)
def test_no_kernel_contracts_its_arithmetic(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ampere = SimpleNamespace(compute_capability=(8, 0))  # numba compiles what kernels call for the GPU that is there
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: ampere)
    kernel = KERNELS[name]
    ptx, _ = cuda.compile_ptx(kernel.function, sigutils.normalize_signature(kernel.signature)[0], cc=(8, 0))
    assert ".entry" in ptx
    instructions = set(ROUNDED.findall(ptx))
    assert {each for each in instructions if not re.fullmatch(r"(add|sub|mul|div)\.rn\.f(32|64)", each)} == set()
    assert bool(instructions) == (kernel.function.__name__ in ("_resample", "_vote", "_overlaps", "_decode"))


@compiling
def test_contraction_would_be_seen() -> None:
    def contracted(a, b, out):  # type: ignore[no-untyped-def]
        out[0] = a * b + a

    ptx, _ = cuda.compile_ptx(
        contracted, sigutils.normalize_signature("void(float32, float32, float32[::1])")[0], cc=(8, 0)
    )
    assert ROUNDED.findall(ptx) == ["fma.rn.f32"]


def test_without_a_gpu_the_message_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda, "cuda_error", lambda: "\nCUDA driver library\ncannot be found.\n")
    votes: Any = np.ones((2, 2), np.float32)
    with pytest.raises(BackendUnavailable, match=r"needs an NVIDIA GPU and its driver: CUDA driver library cannot be"):
        gpu.vote_heatmap(votes, 2, 2, (4, 4))
    monkeypatch.setattr(cuda, "cuda_error", lambda: None)
    monkeypatch.setattr("numba.cuda.cudadrv.nvvm.is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="libnvvm and libdevice, which numba does not find: install the CUDA"):
        gpu.vote_heatmap(votes, 2, 2, (4, 4))
    monkeypatch.setattr("numba.cuda.cudadrv.nvvm.is_available", lambda: True)
    with pytest.raises(BackendUnavailable, match="the driver finds none"):
        gpu.vote_heatmap(votes, 2, 2, (4, 4))


def test_only_who_asks_for_it_imports_numba() -> None:
    script = """
import sys
import lnsdk.ops
assert "numba" not in sys.modules
assert "lnsdk.ops.cuda" not in sys.modules
import lnsdk.ops.cuda
assert "numba.cuda" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
