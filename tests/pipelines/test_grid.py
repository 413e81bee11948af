import numpy as np
import pytest

from lnsdk import Volume
from lnsdk.ops import resample_window
from lnsdk.pipelines.grid import Grid, make_grid
from lnsdk.pipelines.settings import Settings
from tests.toy_bundle import phantom

SETTINGS = Settings(
    experts=("universal",),
    spacing=(0.8, 0.8, 2.0),
    multiple=16,
    stride=4,
    window=(-1024, 3071),
    max_batch=8,
    pre_nms=6000,
    post_nms=100,
    proposal_iou=0.7,
    proposal_min_score=0.01,
    detection_iou=0.5,
    detection_min_score=0.05,
    per_slice=50,
    stack_iou=0.5,
    delta_weights=(10, 10, 5, 5),
    threshold=0.5,
)
SPACING = (0.9, 1.1, 3.0)


def made(crop: str) -> Grid:
    grid = make_grid(Volume(phantom((7, 120, 150), SPACING, None), np.diag([*SPACING, 1])), SETTINGS, crop)
    assert grid is not None
    return grid


@pytest.mark.parametrize("crop", ["body", "none"])
def test_slices_are_those_of_the_whole_grid(crop: str) -> None:
    grid = made(crop)
    whole = resample_window(grid.volume.voxels, SPACING, SETTINGS.spacing)
    assert grid.count == len(whole) == 10
    assert grid.height % 16 == grid.width % 16 == 0
    rows, columns = slice(*grid.rows), slice(*grid.columns)
    found = grid.slices(2, 6)
    assert found.shape == (4, grid.height, grid.width)
    height, width = grid.rows[1] - grid.rows[0], grid.columns[1] - grid.columns[0]
    assert np.array_equal(found[:, :height, :width], whole[2:6, rows, columns])
    assert not found[:, height:].any()
    assert not found[:, :, width:].any()


def test_the_crop_keeps_all_of_the_body() -> None:
    grid = made("body")
    assert grid.height * grid.width < made("none").height * made("none").width
    whole = resample_window(grid.volume.voxels, SPACING, SETTINGS.spacing)
    outside = np.ones(whole.shape, bool)
    outside[:, slice(*grid.rows), slice(*grid.columns)] = False
    assert whole[outside].max() < 10


def test_boxes_come_back_to_voxels() -> None:
    grid = made("body")
    voxels = np.array([[10.5, 20.25, 1.0, 40.0, 33.0, 3.5]])
    origin = np.tile([grid.columns[0], grid.rows[0], 0], 2)
    scale = np.tile(np.array(SPACING) / SETTINGS.spacing, 2)
    assert np.allclose(grid.to_voxels((voxels * scale - origin).astype(np.float32)), voxels, atol=1e-4)


def test_air_has_no_grid() -> None:
    assert make_grid(Volume(np.full((2, 30, 30), -1000, np.int16), np.eye(4)), SETTINGS, "none") is None


def test_a_part_of_a_lung_is_looked_at_as_a_whole() -> None:
    voxels = np.full((2, 30, 30), -870, np.int16)
    voxels[1, 20:23, 20:23] = 30
    for crop in ("body", "none"):
        grid = make_grid(Volume(voxels, np.eye(4)), SETTINGS, crop)
        assert grid is not None
        assert grid.rows == grid.columns == (0, 37)
