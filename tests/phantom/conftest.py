"""Phantoms that several tests look at."""

import pytest

from lnsdk.phantom import Phantom, chest_phantom


@pytest.fixture(scope="session")
def trunk() -> Phantom:
    """Chest and upper abdomen, coarse enough to be quick."""
    return chest_phantom(7, slices=40, spacing=(1.5, 1.5, 10.0), size=240, region="both")


@pytest.fixture(scope="session")
def chest() -> Phantom:
    """Part of a chest in thin slices."""
    return chest_phantom(3, slices=24, spacing=(1.0, 1.0, 2.5), size=320, region="chest")
