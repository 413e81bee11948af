"""Scanning an anatomy: geometry, kernels, noise, and where lesions come to lie."""

from dataclasses import replace

import numpy as np
import pytest

from lnsdk.phantom import LesionSpec, LesionTruth
from lnsdk.trainers.common.patients.plan import SeriesPlan, StudyPlan
from lnsdk.trainers.common.patients.scan import (
    Frame,
    kernel_taps,
    lesion_in_series,
    noisy,
    place,
    sampling,
    scan,
    thickness_taps,
)
from lnsdk.volume import Volume

QUIET = SeriesPlan("1-1", 4.0, 1.5, (0.0, 0.0), 0.5, 0.0, 0)
WHOLE = StudyPlan("1", (0.0, 1.0), (QUIET,))


def ramp() -> Volume:
    """HU = 100 + world x + 2 y + 3 z, voxels of 2 x 2 x 2 mm, first at (10, 20, 30) mm."""
    z, y, x = np.mgrid[0:30, 0:40, 0:40] * 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 10, 20, 30
    return Volume((100 + (x + 10) + 2 * (y + 20) + 3 * (z + 30)).astype(np.int16), affine)


def lesion() -> LesionTruth:
    """Voxels 10..14 along x, 20..23 along y, slices 8..10."""
    return LesionTruth(
        "liver",
        np.array([9.5, 19.5, 7.5, 14.5, 23.5, 10.5], np.float32),
        10.0,
        -30.0,
        LesionSpec("liver", (12.0, 21.5, 9.0), 10.0, 70.0, -30.0, 1),
        np.array([8, 9, 10]),
        np.array([[10.5, 20.5, 13.5, 22.5], [9.5, 19.5, 14.5, 23.5], [10.5, 20.5, 13.5, 22.5]], np.float32),
    )


@pytest.mark.parametrize("kernel", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("thickness", [2.0, 3.0, 5.0])
def test_a_ramp_keeps_its_values_at_every_world_place(kernel: float, thickness: float) -> None:
    """Kernels, thickness and geometry leave what is linear as it is, away from the borders."""
    plan = replace(QUIET, kernel=kernel, thickness_mm=thickness, shift_mm=(1.3, -2.1), pixel_mm=1.7)
    anatomy = ramp()
    series = scan(anatomy, place(anatomy, StudyPlan("1", (0.15, 0.8), (plan,)), plan), plan)
    assert series.spacing == pytest.approx((1.7, 1.7, thickness))
    z, y, x = np.mgrid[tuple(slice(0, n) for n in series.shape)]
    world = np.stack([x, y, z, np.ones_like(x)], axis=-1) @ series.affine.T
    expected = 100 + world[..., 0] + 2 * world[..., 1] + 3 * world[..., 2]
    inner = (slice(1, -1), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(series.voxels[inner], expected[inner], atol=0.51)


def test_field_of_view_and_slices_by_hand() -> None:
    """78 mm of pixels less 6 mm at either side are 66 mm: 45 pixels of 1.5 mm from (78 - 66) / 2 mm on, plus shift."""
    anatomy = ramp()
    study = StudyPlan("1", (0.25, 0.75), (QUIET,))
    frame = place(anatomy, study, replace(QUIET, shift_mm=(2.0, -1.0)))
    assert frame.shape == (8, 45, 45)  # 29 mm of 4 mm slices
    np.testing.assert_allclose(frame.first, [(6 + 2) / 2, (6 - 1) / 2, 0.25 * 58 / 2])
    np.testing.assert_allclose(frame.step, [0.75, 0.75, 2.0])


def test_kernels_sum_to_one_and_smooth_or_sharpen_an_edge() -> None:
    edge = (np.arange(60) >= 30).astype(np.float64)
    at = np.arange(60, dtype=np.float64)
    overshoot, width = [], []
    for kernel in (0.0, 0.5, 1.0):
        offsets, weights = kernel_taps(kernel)
        assert weights.sum() == pytest.approx(1.0)
        seen = sampling(at, 60, offsets, weights) @ edge
        overshoot.append(seen.max() - 1.0)
        width.append(int(((seen > 0.02) & (seen < 0.98)).sum()))
    assert width[0] > width[1] == 0
    assert overshoot[:2] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert overshoot[2] > 0.05


def test_thickness_averages_what_the_anatomy_has_not() -> None:
    offsets, weights = thickness_taps(5.0, 3.0)
    assert np.ptp(offsets) == pytest.approx(4.0, abs=0.21)  # sqrt(5^2 - 3^2), less a tap
    assert weights.sum() == pytest.approx(1.0)
    assert thickness_taps(2.0, 3.0)[0].tolist() == [0.0]


def test_sampling_by_hand() -> None:
    got = sampling(np.array([0.25, 1.0, 9.0]), 3, np.zeros(1), np.ones(1))
    np.testing.assert_allclose(got, [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(sampling(np.array([0.0, 0.0]), 1, np.zeros(1), np.ones(1)), [[1.0], [1.0]])


@pytest.mark.parametrize("kernel", [0.0, 1.0])
def test_noise_has_the_planned_strength(kernel: float) -> None:
    anatomy = Volume(np.zeros((12, 90, 90), np.int16), np.diag([1.0, 1.0, 2.0, 1.0]))
    plan = replace(QUIET, sigma=20.0, kernel=kernel, pixel_mm=0.7)
    frame = place(anatomy, WHOLE, plan)
    noise = scan(anatomy, frame, plan).voxels
    assert noise.std() == pytest.approx(20.0, rel=0.05)
    assert not np.array_equal(noise, scan(anatomy, frame, replace(plan, seed=1)).voxels)
    assert np.array_equal(noise, scan(anatomy, frame, plan).voxels)
    assert noisy(anatomy, 10.0, 0).voxels.std() == pytest.approx(10.0, rel=0.05)


def test_smooth_kernels_have_coarser_grain() -> None:
    anatomy = Volume(np.zeros((4, 90, 90), np.int16), np.diag([1.0, 1.0, 2.0, 1.0]))
    alike = []
    for kernel in (0.0, 1.0):
        plan = replace(QUIET, sigma=40.0, kernel=kernel, pixel_mm=0.7)
        noise = scan(anatomy, place(anatomy, WHOLE, plan), plan).voxels.astype(np.float64)
        alike.append(float((noise[..., 1:] * noise[..., :-1]).mean() / noise.var()))
    assert alike[0] > alike[1] + 0.3


def test_lesion_by_hand() -> None:
    """Series voxel = (anatomy voxel - first) / step."""
    frame = Frame((20, 100, 100), np.array([2.0, 4.0, 1.0]), np.array([0.5, 0.5, 1.0]))
    moved = lesion_in_series(lesion(), frame)
    assert moved is not None
    np.testing.assert_allclose(moved.box, [15, 31, 6.5, 25, 39, 9.5])
    assert moved.slices.tolist() == [7, 8, 9]
    np.testing.assert_allclose(moved.slice_boxes, [[17, 33, 23, 37], [15, 31, 25, 39], [17, 33, 23, 37]])
    assert moved.spec.center == pytest.approx((20.0, 35.0, 8.0))


def test_a_lesion_thinner_than_a_slice_fills_it() -> None:
    frame = Frame((10, 40, 40), np.zeros(3), np.array([1.0, 1.0, 6.0]))  # three voxels in slices of six
    moved = lesion_in_series(lesion(), frame)
    assert moved is not None
    assert moved.box[[2, 5]].tolist() == [1.0, 2.0]
    assert moved.slices.tolist() == [1, 2]
    assert moved.slice_boxes.shape == (2, 4)


@pytest.mark.parametrize(
    ("first", "shape"),
    [((0.0, 0.0, 11.0), (10, 40, 40)), ((0.0, 0.0, 0.0), (7, 40, 40)), ((13.0, 0.0, 0.0), (20, 20, 20))],
)
def test_lesions_beyond_the_scan_are_not_seen(first: tuple[float, ...], shape: tuple[int, int, int]) -> None:
    assert lesion_in_series(lesion(), Frame(shape, np.array(first), np.ones(3))) is None


def test_a_lesion_at_the_scans_end_ends_with_it() -> None:
    moved = lesion_in_series(lesion(), Frame((9, 40, 40), np.zeros(3), np.ones(3)))
    assert moved is not None
    assert moved.box[[2, 5]].tolist() == [7.5, 8.5]
    assert moved.slices.tolist() == [8]
