from pathlib import Path

import numpy as np
import pytest

from lnsdk.verification import VerificationCase
from lnsdk.volume import Volume
from tests.toy_bundle import phantom, write_toy_bundle


@pytest.fixture(scope="package")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture(scope="package")
def case() -> VerificationCase:
    """A ball in water, which the toy finds."""
    voxels = phantom((17, 90, 100), (1.0, 1.0, 2.0), (50.2, 44.9, 8.0))
    box = np.array([[40.2, 34.9, 3.0, 60.2, 54.9, 13.0]], np.float32)
    return VerificationCase("ball", Volume(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), box)
