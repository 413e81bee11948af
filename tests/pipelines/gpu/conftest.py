"""As in tests/ops/cuda, these run on a GPU and unchanged in numba's simulator."""

from tests.ops.cuda.conftest import device

__all__ = ["device"]
