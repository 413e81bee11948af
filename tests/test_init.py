import subprocess
import sys
from pathlib import Path

import pytest

import lnsdk
from tests.toy_bundle import write_toy_bundle

IMPORT_LIMIT = 0.5
"""Seconds that ``import lnsdk`` may take."""


def test_importing_is_cheap() -> None:
    script = """
import sys, time
start = time.perf_counter()
import lnsdk
took = time.perf_counter() - start
print(took, *(name for name in ("torch", "numba", "SimpleITK", "highdicom", "onnxruntime") if name in sys.modules))
assert set(lnsdk.__all__) <= set(dir(lnsdk))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, *loaded = ended.stdout.split()
    assert float(seconds) < IMPORT_LIMIT
    assert loaded == []


def test_detecting_needs_no_torch(tmp_path: Path) -> None:
    toy = write_toy_bundle(tmp_path / "toy")
    script = f"import sys, lnsdk; lnsdk.Detector({str(toy)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lnsdk' has no attribute 'nothing'"):
        lnsdk.nothing  # noqa: B018
