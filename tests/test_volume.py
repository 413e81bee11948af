"""Volume, its coordinates, and the way to LPS axes and back."""

from __future__ import annotations

import pickle
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lnsdk.errors import InputError
from lnsdk.volume import AxisMap, Geometry, Volume, lps_axis_map, to_lps_axes

AFFINE = np.array([[0.6, 0, 0, -170], [0, 0.7, 0, -150], [0, 0, 2.5, -123], [0, 0, 0, 1]])


def voxels(shape: tuple[int, int, int] = (3, 4, 5)) -> npt.NDArray[np.int16]:
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


axis_maps = st.builds(
    AxisMap,
    axes=st.sampled_from(list(permutations(range(3)))),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    source_shape=st.tuples(*[st.integers(1, 600)] * 3),
)


@st.composite
def boxes(draw: st.DrawFn) -> npt.NDArray[np.float32]:
    """Draw boxes (N, 6), lower corner first, around volumes of up to 600 voxels a side."""
    corners = draw(arrays(np.float32, st.tuples(st.integers(0, 5), st.just(6)), elements=st.floats(-1, 600, width=32)))
    return np.concatenate(
        [np.minimum(corners[:, :3], corners[:, 3:]), np.maximum(corners[:, :3], corners[:, 3:])], axis=1
    )


@given(axis_map=axis_maps, found=boxes())
def test_boxes_go_there_and_back(axis_map: AxisMap, found: npt.NDArray[np.float32]) -> None:
    there = axis_map.boxes_from_source(found)
    assert there.dtype == np.float32
    np.testing.assert_allclose(axis_map.boxes_to_source(there), found, atol=1e-4)
    np.testing.assert_allclose(axis_map.boxes_from_source(axis_map.boxes_to_source(found)), found, atol=1e-4)
    assert (there[:, 3:] >= there[:, :3]).all()


@given(axis_map=axis_maps, point=st.tuples(*[st.floats(0, 500)] * 3))
def test_a_place_in_the_patient_stays_where_it_is(axis_map: AxisMap, point: tuple[float, float, float]) -> None:
    source = Geometry(axis_map.source_shape, AFFINE)
    target = axis_map.geometry_to_target(source)
    box = np.array([[*point, *point]], np.float32)
    place = source.voxels_to_lps(axis_map.boxes_to_source(box)[:, :3])
    np.testing.assert_allclose(target.voxels_to_lps(box[:, :3]), place, atol=1e-3)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize(
    "flips", [(False, False, False), (True, False, False), (False, True, True), (True, True, True)]
)
def test_to_lps_axes_moves_voxels_and_slices(axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    straight = Volume(voxels(), AFFINE, sop_instance_uids=("a", "b", "c"))
    turn = AxisMap(axes, flips, straight.shape)
    turned = Volume(
        turn.voxels_to_target(straight.voxels), turn.geometry_to_target(straight.geometry).affine, series_uid="1.2"
    )
    back, axis_map = to_lps_axes(turned)
    assert np.array_equal(back.voxels, straight.voxels)
    assert back.voxels.flags.c_contiguous
    np.testing.assert_allclose(back.affine, AFFINE, atol=1e-12)
    assert back.series_uid == "1.2"
    assert axis_map.identity == (axes == (0, 1, 2) and not any(flips))


def test_volume_in_lps_axes_is_left_alone() -> None:
    volume = Volume(voxels(), AFFINE)
    same, axis_map = to_lps_axes(volume)
    assert same is volume
    assert axis_map.identity


def test_uids_follow_flipped_slices_and_are_dropped_on_other_axes() -> None:
    upside_down = AFFINE.copy()
    upside_down[2, 2] = -2.5
    flipped, _ = to_lps_axes(Volume(voxels(), upside_down, sop_instance_uids=("a", "b", "c"), frame_numbers=(1, 2, 3)))
    assert flipped.sop_instance_uids == ("c", "b", "a")
    assert flipped.frame_numbers == (3, 2, 1)
    coronal = AFFINE[:, [0, 2, 1, 3]]
    turned, axis_map = to_lps_axes(
        Volume(voxels(), coronal, sop_instance_uids=("a", "b", "c"), frame_numbers=(1, 2, 3))
    )
    assert turned.sop_instance_uids == ()
    assert turned.frame_numbers == ()
    assert axis_map.axis_of_slices == 1
    assert turned.shape == (4, 3, 5)


@given(angle=st.floats(-40, 40))
def test_oblique_axes_keep_their_nearest_direction(angle: float) -> None:
    radians = np.radians(angle)
    turn = np.array([[np.cos(radians), -np.sin(radians), 0], [np.sin(radians), np.cos(radians), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.7, 0.7, 2.0]
    assert lps_axis_map(Geometry((3, 4, 5), affine)).identity


@given(arrays(np.float64, (4, 3), elements=st.floats(-1000, 1000)))
def test_points_go_to_the_patient_and_back(points: npt.NDArray[np.float64]) -> None:
    volume = Volume(voxels(), AFFINE)
    np.testing.assert_allclose(volume.lps_to_voxels(volume.voxels_to_lps(points)), points, atol=1e-9)


def test_first_voxel_lies_at_the_origin() -> None:
    volume = Volume(voxels(), AFFINE)
    np.testing.assert_array_equal(
        volume.voxels_to_lps([[0, 0, 0], [1, 2, 1]]), [[-170, -150, -123], [-169.4, -148.6, -120.5]]
    )
    assert volume.spacing == pytest.approx((0.6, 0.7, 2.5))
    assert volume.shape == (3, 4, 5)


def test_voxels_become_contiguous() -> None:
    assert Volume(voxels()[:, ::-1], AFFINE).voxels.flags.c_contiguous


def test_affine_is_a_private_copy() -> None:
    affine = AFFINE.copy()
    volume = Volume(voxels(), affine)
    affine[0, 0] = 9
    assert volume.affine[0, 0] == 0.6
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 9


def test_wrong_type_of_voxels() -> None:
    with pytest.raises(TypeError, match="int16, got float64"):
        Volume(voxels().astype(float), AFFINE)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), r"shape \(4, 4\)"),
        (AFFINE * np.nan, "finite"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "invertible"),
        (np.ones((4, 4)), "last row"),
    ],
)
def test_wrong_affine(affine: npt.NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Volume(voxels(), affine)
    with pytest.raises(ValueError, match=message):
        Geometry((3, 4, 5), affine)


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="three axes"):
        Volume(np.zeros((4, 4), np.int16), AFFINE)
    with pytest.raises(ValueError, match="at least one voxel"):
        Volume(np.zeros((0, 4, 4), np.int16), AFFINE)
    with pytest.raises(ValueError, match="expected 3, got 2"):
        Volume(voxels(), AFFINE, sop_instance_uids=("a", "b"))
    with pytest.raises(ValueError, match="frame_numbers must be empty or one per slice: expected 3, got 1"):
        Volume(voxels(), AFFINE, frame_numbers=(1,))
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        Volume(voxels(), AFFINE).voxels_to_lps([1, 2, 3])
    axis_map = AxisMap((0, 1, 2), (False, False, True), (3, 4, 5))
    with pytest.raises(ValueError, match=r"\(N, 6\)"):
        axis_map.boxes_to_source(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="source's shape"):
        axis_map.voxels_to_target(voxels((4, 4, 5)))


def test_input_error_survives_pickling_between_processes() -> None:
    error = pickle.loads(pickle.dumps(InputError("missing-slice", "one line")))
    assert (error.reason, str(error)) == ("missing-slice", "one line")
