"""The compiled kernels run on every instruction set that this processor has."""

from collections.abc import Iterator

import pytest

from lnsdk import _C


@pytest.fixture(params=_C.instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """The instruction set that the kernels use in this test."""
    before = _C.instruction_set()
    _C.use_instruction_set(request.param)
    yield str(request.param)
    _C.use_instruction_set(before)
