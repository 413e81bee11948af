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
    grid = make_grid(Volume(phantom((7, 240, 300), SPACING, None), np.diag([*SPACING, 1])), SETTINGS, crop)
    assert grid is not None
    return grid


@pytest.mark.parametrize("crop", ["body", "none"])
def test_slices_are_those_of_the_whole_grid(crop: str) -> None:
    grid = made(crop)
    whole = resample_window(grid.volume.voxels, SPACING, SETTINGS.spacing)
    assert grid.offset == 0
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


def test_crops_begin_and_end_at_multiples() -> None:
    body, whole = made("body"), made("none")
    for span, of_all in ((body.rows, whole.rows), (body.columns, whole.columns)):
        assert span[0] > 0
        assert span[0] % 16 == 0
        assert span[1] % 16 == 0 or span[1] == of_all[1]


def placed(z: float, slices: int = 9, distance: float = 2.5) -> Grid:
    """A grid over slices from z on."""
    affine = np.diag([1.0, 1.0, distance, 1.0])
    affine[2, 3] = z
    grid = make_grid(Volume(phantom((slices, 60, 70), (1, 1, distance), None), affine), SETTINGS, "none")
    assert grid is not None
    return grid


@pytest.mark.parametrize(
    ("z", "offset", "count"),
    [(0, 0, 11), (-100, 0, 11), (0.5, 1.5, 10), (-0.5, 0.5, 10), (1.9999999, 0, 11), (7.25, 0.75, 10)],
)
def test_slices_lie_at_multiples_of_their_distance(z: float, offset: float, count: int) -> None:
    grid = placed(z)
    assert grid.offset == pytest.approx(offset)
    assert grid.count == count
    first, last = (grid.to_voxels(np.array([[0, 0, k, 1, 1, k]], np.float32))[0, 2] * 2.5 + z for k in (0, count - 1))
    assert first / 2 == pytest.approx(round(first / 2), abs=1e-5)
    assert z - 1e-5 <= first < z + 2
    assert z + 20 - 2 < last <= z + 20 + 1e-5


@pytest.mark.parametrize(("z", "slices"), [(0.5, 1), (0.25, 2), (3.0, 1)])
def test_a_volume_too_thin_begins_at_its_first_slice(z: float, slices: int) -> None:
    grid = placed(z, slices, distance=1.0)
    assert (grid.offset, grid.count) == (0, 1)


def test_more_slices_leave_the_others_as_they_are() -> None:
    rng = np.random.default_rng(0)
    voxels = rng.integers(-200, 200, (9, 40, 50)).astype(np.int16)
    for distance, cut in ((2.5, 2), (3.0, 1), (1.25, 3)):
        affine = np.diag([1.0, 1.0, distance, 1.0])
        whole = make_grid(Volume(voxels, affine), SETTINGS, "none")
        affine[2, 3] = cut * distance
        part = make_grid(Volume(voxels[cut:], affine), SETTINGS, "none")
        assert whole is not None
        assert part is not None
        missing = whole.count - part.count
        np.testing.assert_allclose(whole.slices(missing, whole.count), part.slices(0, part.count), atol=1e-3)
