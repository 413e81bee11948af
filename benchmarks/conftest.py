"""Settings that all benchmarks share."""

import pytest

from lnsdk import ops


@pytest.fixture(scope="session", autouse=True)
def warm_kernels() -> None:
    """Compile before anything is timed, as a detector does when it is constructed."""
    ops.warm_up()
