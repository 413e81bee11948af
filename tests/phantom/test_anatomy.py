"""The phantom has the organs it should, as dense as they should be, and the same for the same seed."""

import subprocess
import sys

import numpy as np
import pytest

from lnsdk.phantom import ORGANS, Organ, Phantom, chest_phantom

EXPECTED_HU = {
    Organ.AIR: (-1024, -850),
    Organ.LUNG: (-930, -760),
    Organ.LIVER: (0, 150),
    Organ.SPLEEN: (20, 170),
    Organ.FAT: (-130, -70),
    Organ.SUBCUTANEOUS: (-130, -70),
    Organ.MUSCLE: (25, 90),
    Organ.MARROW: (60, 420),
    Organ.VESSEL: (20, 600),
    Organ.BONE: (90, 900),
}
"""Median HU of each organ."""


def test_organs_are_as_dense_as_they_should_be(trunk: Phantom) -> None:
    for organ, (low, high) in EXPECTED_HU.items():
        values = trunk.volume.voxels[trunk.organs == organ]
        assert len(values) > 200, organ.name
        assert low <= np.median(values) <= high, organ.name


def test_organs_lie_where_they_do_in_patients(trunk: Phantom) -> None:
    def center(organ: Organ) -> np.ndarray:
        z, y, x = np.nonzero(trunk.organs == organ)
        middle: np.ndarray = trunk.volume.voxels_to_lps([[x.mean(), y.mean(), z.mean()]])[0]
        return middle

    liver, spleen, lung, marrow = (center(o) for o in (Organ.LIVER, Organ.SPLEEN, Organ.LUNG, Organ.MARROW))
    assert liver[0] < -20 < 40 < spleen[0]  # x runs to the patient's left
    assert lung[2] > liver[2] + 60  # z runs to the head
    assert marrow[1] > lung[1] + 2  # y runs to the back


def test_same_seed_gives_the_same_voxels_and_another_seed_does_not() -> None:
    first, second, other = (chest_phantom(seed, slices=3, spacing=(4.0, 4.0, 5.0), size=96) for seed in (5, 5, 6))
    assert np.array_equal(first.volume.voxels, second.volume.voxels)
    assert np.array_equal(first.organs, second.organs)
    assert not np.array_equal(first.volume.voxels, other.volume.voxels)


def test_shape_spacing_and_types_are_as_asked() -> None:
    phantom = chest_phantom(1, slices=4, spacing=(2.0, 2.5, 3.0), size=128, region="abdomen")
    assert phantom.volume.shape == phantom.organs.shape == (4, 128, 128)
    assert phantom.volume.voxels.dtype == np.int16
    assert phantom.organs.dtype == np.uint8
    assert phantom.volume.spacing == pytest.approx((2.0, 2.5, 3.0))
    assert set(np.unique(phantom.organs)) <= {int(organ) for organ in ORGANS}


@pytest.mark.parametrize(("region", "organ"), [("chest", Organ.LUNG), ("abdomen", Organ.LIVER)])
def test_a_region_shows_its_organ(region: str, organ: Organ) -> None:
    phantom = chest_phantom(2, slices=24, spacing=(4.0, 4.0, 11.0), size=96, region=region)
    assert (phantom.organs == organ).mean() > 0.01


def test_noise_is_between_6_and_35_hu_and_correlated(chest: Phantom) -> None:
    from lnsdk.phantom.noise import measure_noise

    noise = measure_noise(chest.volume.voxels, chest.volume.spacing)
    assert 4.0 <= noise.sigma <= 45.0
    assert noise.area_mm2 > chest.volume.spacing[0] ** 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"region": "thigh"}, "region must be one of chest, abdomen, both"),
        ({"slices": 0}, "must be positive"),
        ({"spacing": (0.7, 0.7)}, "three spacings"),
        ({"spacing": (0.7, -0.7, 1.0)}, "must be positive"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chest_phantom(0, **arguments)  # type: ignore[arg-type]


def test_importing_the_phantom_does_not_import_numba() -> None:
    code = "import sys, lnsdk.phantom; sys.exit('numba' in sys.modules or 'SimpleITK' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_noise_it_is_the_same_patient() -> None:
    noisy, quiet = (chest_phantom(5, 6, (2.0, 2.0, 5.0), 192, "chest", noise=noise) for noise in (True, False))
    np.testing.assert_array_equal(noisy.organs, quiet.organs)
    difference = noisy.volume.voxels[noisy.organs == Organ.MUSCLE].astype(float)
    difference -= quiet.volume.voxels[noisy.organs == Organ.MUSCLE]
    assert 5.0 < difference.std() < 50.0
    assert abs(difference.mean()) < 3.0
