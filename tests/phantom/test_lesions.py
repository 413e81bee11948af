"""What is drawn: sizes, densities and places of lesions, and their records."""

import json

import numpy as np
import pytest

from lnsdk.phantom import (
    LESION_TYPES,
    LesionTruth,
    Organ,
    Phantom,
    describe_ranges,
    draw_lesions,
    insert_lesions,
)
from lnsdk.phantom.lesion_types import LARGEST_MM, ROSE_LIMIT, SMALLEST_MM, draw_diameter
from lnsdk.phantom.noise import measure_noise
from lnsdk.phantom.placing import MARGIN_MM, rose_ratio


def test_half_of_the_lesions_are_under_12_mm_and_all_within_4_and_60() -> None:
    rng = np.random.default_rng(0)
    kinds = list(LESION_TYPES.values())
    share = np.array([kind.frequency for kind in kinds])
    assert share.sum() == pytest.approx(1.0)
    sizes = np.array([draw_diameter(kinds[int(rng.choice(len(kinds), p=share))], rng) for _ in range(2000)])
    assert 10.0 < np.median(sizes) <= 12.0
    assert sizes.min() >= SMALLEST_MM
    assert sizes.max() <= LARGEST_MM


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("lung_solid", -50, 60), ("lung_part_solid", -700, -300), ("liver", -60, -15), ("lymph_node", -30, 30)],
)
def test_ranges_of_hu_are_those_that_were_fixed(name: str, low: float, high: float) -> None:
    assert LESION_TYPES[name].hu == ((low, high),)


def test_ranges_are_printed_with_the_rule_of_visibility() -> None:
    text = describe_ranges()
    assert all(name in text for name in LESION_TYPES)
    assert "Rose" in text
    assert "-700..-300" in text


def test_drawn_lesions_lie_in_their_organs_apart_and_visible(trunk: Phantom) -> None:
    blocked = np.array([[0.0, 0.0, -0.5, 120.0, 239.0, 39.5]])
    specs = draw_lesions(trunk.volume, trunk.organs, 25, np.random.default_rng(1), keep_out=blocked)
    assert len(specs) > 15
    assert len({spec.type for spec in specs}) >= 4
    noise = measure_noise(trunk.volume.voxels, trunk.volume.spacing)
    for spec in specs:
        kind = LESION_TYPES[spec.type]
        x, y, z = (round(c) for c in spec.center)
        assert trunk.organs[z, y, x] in kind.homes
        assert kind.diameter_mm[0] <= spec.diameter_mm <= kind.diameter_mm[1]
        assert rose_ratio(spec.contrast_hu, spec.diameter_mm, noise, trunk.volume.spacing[2]) >= ROSE_LIMIT
        assert spec.center[0] - 0.5 * spec.diameter_mm / 1.5 > 120.0
    centers = np.array([spec.center for spec in specs]) * trunk.volume.spacing
    radii = np.array([0.5 * spec.diameter_mm for spec in specs])
    gaps = np.linalg.norm(centers[:, None] - centers[None], axis=2) - radii[:, None] - radii[None]
    assert gaps[~np.eye(len(specs), dtype=bool)].min() >= MARGIN_MM


def test_densities_keep_their_ranges(trunk: Phantom) -> None:
    for name in ("lung_solid", "lung_part_solid", "liver"):
        kind = LESION_TYPES[name]
        for spec in draw_lesions(trunk.volume, trunk.organs, 6, np.random.default_rng(2), types=(name,)):
            value = spec.contrast_hu if kind.relative_to else spec.hu
            assert kind.hu[0][0] <= value <= kind.hu[0][1]


def test_types_are_taken_one_by_one_when_there_is_one_for_each(trunk: Phantom) -> None:
    wanted = ("liver", "lung_solid", "liver")
    specs = draw_lesions(trunk.volume, trunk.organs, 3, np.random.default_rng(3), types=wanted)
    assert tuple(spec.type for spec in specs) == wanted


def test_types_without_a_place_are_skipped(trunk: Phantom) -> None:
    organs = np.where(trunk.organs == Organ.LIVER, np.uint8(Organ.OTHER), trunk.organs)
    assert draw_lesions(trunk.volume, organs, 3, np.random.default_rng(4), types=("liver",)) == []


def test_draws_are_repeated_for_a_seed(trunk: Phantom) -> None:
    first, second = (draw_lesions(trunk.volume, trunk.organs, 8, np.random.default_rng(9)) for _ in range(2))
    assert first == second


def test_records_survive_json(trunk: Phantom) -> None:
    rng = np.random.default_rng(5)
    _, truths = insert_lesions(trunk.volume, draw_lesions(trunk.volume, trunk.organs, 3, rng), rng)
    for truth in truths:
        again = LesionTruth.from_dict(json.loads(json.dumps(truth.to_dict())))
        assert again.to_dict() == truth.to_dict()
        assert again.box.dtype == np.float32
        assert again.slice_boxes.shape == (len(again.slices), 4)


def test_wrong_arguments_are_refused(trunk: Phantom) -> None:
    with pytest.raises(ValueError, match="organs must have the volume's shape"):
        draw_lesions(trunk.volume, trunk.organs[:-1], 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="types must be among"):
        draw_lesions(trunk.volume, trunk.organs, 1, np.random.default_rng(0), types=("wart",))
