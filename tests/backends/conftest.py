from pathlib import Path

import pytest

from lnsdk.bundle import Bundle, read_bundle
from tests.toy_bundle import write_toy_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path: Path = tmp_path_factory.mktemp("bundle") / "toy"
    return read_bundle(write_toy_bundle(path))
