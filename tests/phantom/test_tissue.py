"""The organ map of a CT finds what the phantom says is there."""

from pathlib import Path

import numpy as np
import pytest

import lnsdk
from lnsdk.phantom import Organ, Phantom, draw_lesions, organ_map
from lnsdk.volume import Volume


def _share(mapped: np.ndarray, true: np.ndarray, organ: Organ) -> float:
    """Share of the voxels mapped to an organ that are of it."""
    return float((true[mapped == organ] == organ).mean())


def test_what_is_mapped_is_so_in_the_phantom(chest: Phantom) -> None:
    mapped = organ_map(chest.volume)
    fat = np.isin(chest.organs[np.isin(mapped, (Organ.FAT, Organ.SUBCUTANEOUS))], (Organ.FAT, Organ.SUBCUTANEOUS))
    assert fat.mean() > 0.9
    assert _share(mapped, chest.organs, Organ.LUNG) > 0.9
    assert _share(mapped, chest.organs, Organ.MUSCLE) > 0.8
    assert (mapped == Organ.LUNG).sum() > 0.6 * (chest.organs == Organ.LUNG).sum()
    assert (mapped == Organ.MUSCLE).sum() > 0.2 * (chest.organs == Organ.MUSCLE).sum()


def test_liver_is_mapped_only_within_its_boxes(trunk: Phantom) -> None:
    assert not (organ_map(trunk.volume) == Organ.LIVER).any()
    z, y, x = (int(np.median(axis)) for axis in np.nonzero(trunk.organs == Organ.LIVER))
    box = np.array([[x - 14.0, y - 14.0, z - 1.0, x + 14.0, y + 14.0, z + 1.0]])
    mapped = organ_map(trunk.volume, box)
    zs, ys, xs = np.nonzero(mapped == Organ.LIVER)
    assert len(zs) > 200
    assert _share(mapped, np.where(trunk.organs == Organ.VESSEL, Organ.LIVER, trunk.organs), Organ.LIVER) > 0.95
    assert (abs(xs - x) <= 16).all()
    assert (abs(ys - y) <= 16).all()
    assert (abs(zs - z) <= 1).all()


def test_all_air_is_all_air() -> None:
    air = Volume(np.full((3, 40, 40), -1000, np.int16), np.eye(4))
    assert (organ_map(air) == Organ.AIR).all()


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["ct/chest_c3n00247", "ct/chest_rider"])
def test_lungs_of_a_recorded_chest_are_found_and_nothing_around_it(data_dir: Path, name: str) -> None:
    volume = lnsdk.read(data_dir / name)
    mapped = organ_map(volume)
    lung = mapped == Organ.LUNG
    assert 0.1 < lung.mean() < 0.35
    assert not lung[:, :4].any()
    assert not lung[:, -40:].any()
    specs = draw_lesions(volume, mapped, 12, np.random.default_rng(0))
    assert len(specs) >= 10
