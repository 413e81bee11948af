import subprocess
import sys
from pathlib import Path

import pytest

import lnsdk
from tests.toy_bundle import write_toy_bundle

IMPORT_LIMIT = 0.5
"""Seconds of processor time, not of the clock, that ``import lnsdk`` may take: other work must not fail the test."""


def test_importing_is_cheap() -> None:
    script = """
import sys, time
start = time.process_time()
import lnsdk
took = time.process_time() - start
heavy = ("torch", "tensorrt", "numba", "SimpleITK", "highdicom", "onnxruntime")
print(took, *(name for name in heavy if name in sys.modules))
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
