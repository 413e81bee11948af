import numpy as np
import pytest

from lnsdk import Volume
from lnsdk.report.slices import LUNG, SOFT_TISSUE, view_slice
from lnsdk.results import Box
from tests.pipelines.test_detector import ORIENTATIONS, ball, reoriented

BALL: Box = (60.3, 45.6, 10.0, 80.3, 65.6, 18.0)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_is_shown_upright(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    volume = reoriented(ball((30, 120, 130), (1.0, 1.0, 1.0), (70.3, 55.6, 14.2)), order, signs)
    low = np.array([60.3, 45.6, 4.2])
    corners = volume.lps_to_voxels([low, low + 20])
    box = tuple(np.concatenate([corners.min(axis=0), corners.max(axis=0)]).tolist())
    view = view_slice(volume, round((box[2] + box[5]) / 2))
    assert view.letters in [("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")]
    left, top, right, bottom = view.rectangle(box)
    assert (right - left, bottom - top) == pytest.approx((20, 20))
    ball_rows, ball_columns = np.nonzero(view.hu > 150)
    assert np.mean(ball_columns) + 0.5 == pytest.approx((left + right) / 2, abs=0.6)
    assert np.mean(ball_rows) + 0.5 == pytest.approx((top + bottom) / 2, abs=0.6)
    if order[2] == 2:  # axial: as stored before it was turned
        axial = ball((30, 120, 130), (1.0, 1.0, 1.0), (70.3, 55.6, 14.2)).voxels
        assert any(np.array_equal(view.hu, image) for image in axial)


def test_pixels_keep_their_size() -> None:
    volume = Volume(np.zeros((3, 4, 5), np.int16), np.diag([0.5, 0.7, 3.0, 1.0]))
    assert view_slice(volume, 0).pixel_mm == (0.5, 0.7)
    turned = Volume(
        np.zeros((3, 4, 5), np.int16), np.array([[0, 0.7, 0, 0], [0.5, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    )
    view = view_slice(turned, 0)
    assert view.pixel_mm == (0.7, 0.5)
    assert view.hu.shape == (5, 4)


@pytest.mark.parametrize(("around", "window"), [(-850, LUNG), (-1000, LUNG), (40, SOFT_TISSUE), (-100, SOFT_TISSUE)])
def test_the_window_fits_the_surroundings(around: int, window: object) -> None:
    voxels = np.full((1, 80, 80), around, np.int16)
    voxels[0, 36:44, 36:44] = 30
    view = view_slice(Volume(voxels, np.eye(4)), 0)
    assert view.window_for((35.5, 35.5, -0.5, 43.5, 43.5, 0.5)) is window


def test_grey_levels_span_the_window() -> None:
    voxels = np.array([[[-2000, -160, 40, 240, 3000]]], np.int16)
    assert view_slice(Volume(voxels, np.eye(4)), 0).grey(SOFT_TISSUE).tolist() == [[0, 0, 128, 255, 255]]
