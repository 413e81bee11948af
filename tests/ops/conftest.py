"""numba kernels run twice: compiled, and as the Python functions that they are made of."""

import pytest

from lnsdk.ops import heatmap, slices


@pytest.fixture(params=["compiled", "python"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which form of the numba kernels the test runs with."""
    if request.param == "python":
        for kernel in (slices.RESAMPLE, heatmap.VOTE):
            monkeypatch.setattr(kernel, "_compiled", kernel.function)
    return str(request.param)
