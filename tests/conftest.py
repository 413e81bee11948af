"""Fixtures and settings that all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine and in every run: what fails once fails again.
settings.register_profile("lnsdk", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("lnsdk")

# Engines are not measured against each other whenever a test makes a detector.
os.environ["LNSDK_BACKEND"] = "onnx"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of recorded images, for tests marked ``realdata``."""
    named = os.environ.get("LNSDK_DATA")
    if named is None:
        pytest.fail(
            "LNSDK_DATA is not set; it must name the folder of recorded images (or deselect: -m 'not realdata')"
        )
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"LNSDK_DATA names no folder: looked for {folder.absolute()}")
    return folder
