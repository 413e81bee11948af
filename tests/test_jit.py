"""Compilation of the numba kernels: when it happens, where its cache lies, and without it."""

import errno
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

compiling = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="NUMBA_DISABLE_JIT is set: nothing is compiled"
)


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
    assert chosen is not None
    assert chosen.parent == folder / "cache/lnsdk"
    assert stat.S_IMODE(chosen.stat().st_mode) == stat.S_IMODE(chosen.parent.stat().st_mode) == 0o700
    assert _jit.cache_folder() is chosen


def test_a_folder_that_cannot_be_made_is_passed_over(folder: Path) -> None:
    (folder / "cache").write_text("a file where the folder should be")
    chosen = _jit.cache_folder()
    assert chosen is not None
    assert chosen.parent == folder / f"temporary/lnsdk-{os.getuid()}"


def test_folders_that_others_can_write_to_are_passed_over(folder: Path) -> None:
    for shared in (folder / "cache/lnsdk", folder / f"temporary/lnsdk-{os.getuid()}"):
        shared.mkdir(parents=True)
        shared.chmod(0o777)
    assert _jit.cache_folder() is None


def test_a_link_is_no_private_folder(folder: Path) -> None:
    (folder / "elsewhere").mkdir(mode=0o700)
    (folder / "cache").mkdir()
    (folder / "cache/lnsdk").symlink_to(folder / "elsewhere")
    chosen = _jit.cache_folder()
    assert chosen is not None
    assert chosen.parent == folder / f"temporary/lnsdk-{os.getuid()}"


def test_kernels_are_compiled_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jit, "cache_folder", lambda: None)
    _doubles()
    monkeypatch.setattr(_jit, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", _full_disk)
    _doubles()


def _full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _doubles() -> None:
    out = np.zeros(2, np.float32)
    _jit.Kernel(_double, "void(Array(float32, 1, 'C', True), float32[::1])")(np.ones(2, np.float32), out)
    assert out.tolist() == [2, 2]


@compiling
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
import os
import sys
import tempfile
import numpy as np
tempfile.tempdir = os.environ["XDG_CACHE_HOME"]
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


def _run_together(count: int, cache: Path) -> None:
    processes = [_start(cache) for _ in range(count)]
    assert [process.communicate()[1] for process in processes] == [""] * count
    assert [process.returncode for process in processes] == [0] * count


@compiling
def test_processes_that_race_for_an_empty_cache(tmp_path: Path) -> None:
    _run_together(8, tmp_path)
    compiled = {path.name.partition("-")[0]: path for path in tmp_path.rglob("*.nbc")}
    assert set(compiled) == {"pixel._count"}
    _run_together(1, tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, where not even root can write")
def test_processes_that_race_where_nothing_can_be_written() -> None:
    _run_together(8, Path("/proc/self"))
