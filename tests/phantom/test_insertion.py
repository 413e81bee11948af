"""What is inserted is where its record says it is, as large and as dense, and at zero contrast it is nothing."""

from dataclasses import replace

import numpy as np
import pytest

from lnsdk.phantom import LesionSpec, Phantom, draw_lesions, insert_lesions
from lnsdk.phantom.noise import make_noise, measure_noise
from lnsdk.volume import Volume

SPACING = np.array([0.8, 0.8, 2.0])


def _uniform(hu: float, sigma: float = 0.0, size: int = 96) -> Volume:
    rng = np.random.default_rng(0)
    voxels = np.rint(hu + sigma * rng.normal(size=(24, size, size))).astype(np.int16)
    return Volume(voxels, np.diag([*SPACING, 1.0]))


def _spec(
    kind: str = "lymph_node", diameter: float = 14.0, center: tuple[float, float, float] = (48, 47, 12)
) -> LesionSpec:
    contrast = {"lymph_node": 150.0, "lung_solid": 870.0, "liver": -45.0}[kind]
    background = {"lymph_node": -100.0, "lung_solid": -850.0, "liver": 100.0}[kind]
    return LesionSpec(kind, center, diameter, background + contrast, contrast, 4)


@pytest.mark.parametrize(("kind", "hu"), [("lymph_node", -100.0), ("lung_solid", -850.0), ("liver", 100.0)])
@pytest.mark.parametrize("diameter", [8.0, 20.0])
def test_the_box_holds_the_changed_voxels(kind: str, hu: float, diameter: float) -> None:
    volume = _uniform(hu)
    spec = _spec(kind, diameter)
    changed, (truth,) = insert_lesions(volume, [spec], np.random.default_rng(0))
    difference = np.abs(changed.voxels.astype(float) - volume.voxels)
    z, y, x = np.nonzero(difference >= 0.5 * abs(spec.contrast_hu))
    low, high = np.array([x.min(), y.min(), z.min()]) - 0.5, np.array([x.max(), y.max(), z.max()]) + 0.5
    assert np.abs(truth.box[:3] - low).max() < 0.75
    assert np.abs(truth.box[3:] - high).max() < 0.75
    assert list(truth.slices) == list(range(z.min(), z.max() + 1))
    assert truth.diameter_mm == pytest.approx(diameter, rel=0.15)
    inside = difference[difference >= 0.9 * difference.max()]
    assert inside.mean() == pytest.approx(abs(spec.contrast_hu), rel=0.25)


def test_slice_boxes_lie_in_the_box_and_fill_it() -> None:
    _, (truth,) = insert_lesions(_uniform(-100.0), [_spec(diameter=20.0)], np.random.default_rng(0))
    assert np.abs(truth.slice_boxes[:, :2].min(axis=0) - truth.box[:2]).max() < 0.4
    assert np.abs(truth.slice_boxes[:, 2:].max(axis=0) - truth.box[3:5]).max() < 0.4
    assert (truth.slice_boxes[:, :2] >= truth.box[:2] - 1e-4).all()
    assert (truth.slice_boxes[:, 2:] <= truth.box[3:5] + 1e-4).all()
    assert truth.slices[0] - 0.5 - 0.75 < truth.box[2] < truth.slices[0] + 0.5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_a_voxel_of_shift_moves_the_box_by_half_a_voxel(axis: int) -> None:
    volume = _uniform(-100.0)
    shift = np.zeros(3)
    shift[axis] = 0.5
    here = _spec(diameter=16.0)
    x, y, z = np.array(here.center) + shift
    there = replace(here, center=(float(x), float(y), float(z)))
    (first,), (second,) = (insert_lesions(volume, [spec], np.random.default_rng(0))[1] for spec in (here, there))
    moved = second.box - first.box
    assert moved == pytest.approx(np.tile(shift, 2), abs=0.2)


def test_thin_lesions_lose_contrast_in_thick_slices() -> None:
    thick = Volume(np.full((9, 64, 64), -850, np.int16), np.diag([0.8, 0.8, 5.0, 1.0]))
    spec = _spec("lung_solid", 4.0, (32, 32, 4))
    changed, (truth,) = insert_lesions(thick, [spec], np.random.default_rng(0))
    highest = int(changed.voxels.max()) + 850
    assert 0.2 * spec.contrast_hu < highest < 0.95 * spec.contrast_hu
    assert len(truth.slices) == 1


def test_noise_inside_is_like_that_around() -> None:
    rng = np.random.default_rng(1)
    volume = _uniform(50.0, size=160)
    grainy = np.zeros((15, 15))
    grainy[6:9, 6:9] = [[0.2, 0.5, 0.2], [0.5, 1.0, 0.5], [0.2, 0.5, 0.2]]
    pattern = replace(measure_noise(_uniform(50.0, 20.0).voxels, volume.spacing), correlation=grainy, sigma=20.0)
    noisy = np.rint(50.0 + make_noise(pattern, volume.shape, rng)).astype(np.int16)
    noisy[:, 40:120, 40:120] -= 150
    with_noise = replace(volume, voxels=noisy)
    measured = measure_noise(noisy, volume.spacing)
    assert measured.sigma == pytest.approx(20.0, rel=0.15)
    assert measured.correlation[7, 8] == pytest.approx(0.5, abs=0.15)
    changed, (truth,) = insert_lesions(with_noise, [_spec(diameter=26.0, center=(80, 80, 12))], rng)
    x1, y1, _, x2, y2, _ = truth.box
    core = changed.voxels[10:14, int(y1) + 7 : int(y2) - 6, int(x1) + 7 : int(x2) - 6].astype(float)
    assert core.mean() == pytest.approx(50.0, abs=12.0)
    assert core.std() == pytest.approx(20.0, rel=0.3)
    neighbours = np.corrcoef(core[:, :, 1:].ravel(), core[:, :, :-1].ravel())[0, 1]
    assert neighbours == pytest.approx(0.5, abs=0.2)


def test_at_zero_contrast_nothing_can_be_told_from_its_surroundings(chest: Phantom) -> None:
    rng = np.random.default_rng(3)
    specs = draw_lesions(chest.volume, chest.organs, 14, rng)
    shown, truths = insert_lesions(chest.volume, specs, np.random.default_rng(0))
    hidden, same = insert_lesions(chest.volume, specs, np.random.default_rng(0), contrast_scale=0.0)
    assert [t.box.tolist() for t in truths] == [t.box.tolist() for t in same]
    native = chest.volume.voxels.astype(float)
    sigma = measure_noise(chest.volume.voxels, chest.volume.spacing).sigma
    for truth in truths:
        x1, y1, z1, x2, y2, z2 = np.round(truth.box).astype(int)
        where = (slice(max(z1, 0), z2 + 1), slice(y1, y2 + 1), slice(x1, x2 + 1))
        before, after = native[where], hidden.voxels[where].astype(float)
        assert abs(after.mean() - before.mean()) < 0.5 * sigma
        assert after.std() < 1.25 * before.std() + 2.0
        assert after.std() > 0.7 * before.std() - 2.0
        visible = abs(shown.voxels[where].astype(float).mean() - before.mean())
        assert visible > 0.15 * abs(truth.spec.contrast_hu)


def test_the_given_volume_is_not_changed_and_insertion_repeats(chest: Phantom) -> None:
    before = chest.volume.voxels.copy()
    specs = draw_lesions(chest.volume, chest.organs, 4, np.random.default_rng(6))
    first, second = (insert_lesions(chest.volume, specs, np.random.default_rng(7))[0] for _ in range(2))
    assert np.array_equal(chest.volume.voxels, before)
    assert np.array_equal(first.voxels, second.voxels)
    assert not np.array_equal(first.voxels, before)


def test_a_lung_lesion_ends_at_the_chest_wall() -> None:
    voxels = np.full((24, 96, 96), -850, np.int16)
    voxels[:, :, 52:] = 50
    wall = Volume(voxels, np.diag([*SPACING, 1.0]))
    _, (truth,) = insert_lesions(wall, [_spec("lung_solid", 16.0)], np.random.default_rng(0))
    assert truth.box[3] < 53.5
    assert truth.box[0] < 42.0


def test_a_lesion_without_room_in_its_organ_is_not_inserted() -> None:
    muscle = _uniform(50.0)
    changed, truths = insert_lesions(muscle, [_spec("lung_solid")], np.random.default_rng(0))
    assert truths == ()
    assert np.array_equal(changed.voxels, muscle.voxels)


def test_air_has_no_noise() -> None:
    noise = measure_noise(np.full((4, 64, 64), -1000, np.int16), (1.0, 1.0, 1.0))
    assert noise.sigma == 0.0
