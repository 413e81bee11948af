"""Compilation of the numba kernels: when it happens, where its cache lies, and without it."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk import _jit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the cache goes in this test; forgotten before and after."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    _jit.cache_folder.cache_clear()
    yield tmp_path
    _jit.cache_folder.cache_clear()


def test_the_cache_is_private(folder: Path) -> None:
    chosen = _jit.cache_folder()
    assert chosen.parent == folder / "cache/lnsdk"
    assert stat.S_IMODE(chosen.stat().st_mode) == stat.S_IMODE(chosen.parent.stat().st_mode) == 0o700
    assert _jit.cache_folder() is chosen


def test_a_folder_that_cannot_be_made_is_passed_over(folder: Path) -> None:
    (folder / "cache").write_text("a file where the folder should be")
    assert _jit.cache_folder().parent == folder / f"temporary/lnsdk-{os.getuid()}"


def test_folders_that_others_can_write_to_are_passed_over(folder: Path) -> None:
    for shared in (folder / "cache/lnsdk", folder / f"temporary/lnsdk-{os.getuid()}"):
        shared.mkdir(parents=True)
        shared.chmod(0o777)
    chosen = _jit.cache_folder()
    assert chosen.parent == folder / "temporary"
    assert chosen.name.startswith("lnsdk-")
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o700


def test_a_link_is_no_private_folder(folder: Path) -> None:
    (folder / "elsewhere").mkdir(mode=0o700)
    (folder / "cache").mkdir()
    (folder / "cache/lnsdk").symlink_to(folder / "elsewhere")
    assert _jit.cache_folder().parent == folder / f"temporary/lnsdk-{os.getuid()}"


def test_other_argument_types_are_an_error_and_not_a_compilation() -> None:
    kernel = _jit.Kernel(_double, "void(Array(float32, 1, 'C', True), float32[::1])")
    out = np.zeros(2, np.float32)
    kernel(np.ones(2, np.float32), out)
    assert out.tolist() == [2, 2]
    with pytest.raises(TypeError, match="No matching definition"):
        kernel(np.ones(2), out)


def _double(values: NDArray[np.floating], out: NDArray[np.float32]) -> None:
    for index in range(len(values)):
        out[index] = 2 * values[index]


EXERCISE = """
import sys
import numpy as np
from lnsdk.metrics import pixel_froc
assert "numba" not in sys.modules, "lnsdk.metrics imports numba before a kernel is needed"
probabilities = np.zeros((4, 4), np.float32)
probabilities[1, 1] = 0.5
assert pixel_froc([probabilities], [[[0.5, 0.5, 1.5, 1.5]]], bootstraps=0).score == 1
"""


def _start(cache: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", EXERCISE],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_compilation(tmp_path: Path) -> None:
    process = _start(tmp_path, NUMBA_DISABLE_JIT="1")
    assert process.communicate()[1] == ""
    assert process.returncode == 0


def test_processes_that_race_for_an_empty_cache(tmp_path: Path) -> None:
    processes = [_start(tmp_path) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    assert [process.returncode for process in processes] == [0] * 4
    compiled = {path.name.partition("-")[0]: path for path in tmp_path.rglob("*.nbc")}
    assert set(compiled) == {"pixel._count"}
    again = _start(tmp_path)
    assert again.communicate()[1] == ""
    assert again.returncode == 0
