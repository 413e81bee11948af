"""LUNA16: nodules of tiny CTs in its format."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from lnsdk.errors import InputError
from lnsdk.trainers.datasets.luna16 import read_luna16, sphere_boxes
from lnsdk.volume import Geometry
from tests.trainers.datasets.made import (
    AFFINE,
    BODY,
    BRIGHT,
    ORIGIN,
    SPACING,
    assert_on_bright_voxels,
    body,
    image,
    on_grid,
)

SERIES = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100"
CENTER = np.array([30.3, 27.6, 5.2])
"""Of the nodule, in voxels x, y, z."""

DIAMETER = 14.0
WORLD = CENTER * SPACING + ORIGIN
HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm"


def write_scan(root: Path, series: str = SERIES, subset: int = 0, orientation: str = "LPS") -> None:
    """A ball whose border voxels are as bright as they are covered, slice by slice."""
    voxels = body(12)
    z, y, x = np.indices(voxels.shape)
    chord = np.sqrt(np.maximum((DIAMETER / 2) ** 2 - ((z - CENTER[2]) * SPACING[2]) ** 2, 0))
    away = np.hypot(x - CENTER[0], y - CENTER[1]) * SPACING[0]
    covered = np.clip((chord - away) / SPACING[0] + 0.5, 0, 1) * (chord > 0)
    voxels = np.where(covered > 0, np.rint(BODY + (BRIGHT - BODY) * covered), voxels).astype(np.int16)
    folder = root / f"subset{subset}"
    folder.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image(voxels, orientation), str(folder / f"{series}.mhd"))


def write_table(root: Path, *rows: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "annotations.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root


def nodule(series: str = SERIES) -> str:
    return f"{series},{','.join(map(str, WORLD))},{DIAMETER}"


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "RPS", "LPI"])
def test_box_lies_on_the_bright_ball(tmp_path: Path, orientation: str) -> None:
    """The ball reaches 3.5 slices up and down from 5.2: slices 2 to 8, the grid's as well."""
    write_scan(tmp_path, orientation=orientation)
    (recording,) = read_luna16(write_table(tmp_path, nodule())).recordings
    case = on_grid(recording, tmp_path)
    assert case.labels.boxes[:, 0].tolist() == [2, 3, 4, 5, 6, 7, 8]
    for row in case.labels.boxes:
        assert_on_bright_voxels(case, row, 0.6)
    assert (case.expert, case.labels.types, case.series) == ("lung", ("lung_nodule",), SERIES)


def test_cross_sections_are_those_of_a_sphere() -> None:
    """Radius 5 mm, voxels 1 x 1 x 3 mm, centre on slice 4: chords of 5 and of sqrt(25 - 9) = 4 mm."""
    geometry = Geometry((9, 40, 40), np.diag([1.0, 1.0, 3.0, 1.0]))
    boxes = sphere_boxes(geometry, (20.0, 10.0, 12.0, 10.0))
    np.testing.assert_allclose(boxes, [[3, 16, 6, 24, 14], [4, 15, 5, 25, 15], [5, 16, 6, 24, 14]])


def test_nodule_between_two_slices_is_on_the_nearer_one() -> None:
    geometry = Geometry((9, 40, 40), np.diag([1.0, 1.0, 5.0, 1.0]))
    np.testing.assert_allclose(sphere_boxes(geometry, (20.0, 10.0, 12.0, 3.0)), [[2, 19.5, 9.5, 20.5, 10.5]])


def test_scans_without_nodules_are_recordings_too(tmp_path: Path) -> None:
    write_scan(tmp_path)
    write_scan(tmp_path, "1.2.3", subset=1)
    plain, full = (on_grid(each, tmp_path) for each in read_luna16(write_table(tmp_path, nodule())).recordings)
    assert plain.truth is not None
    assert full.truth is not None
    assert len(plain.truth.boxes) == 0
    np.testing.assert_allclose(full.truth.diameters, [DIAMETER], rtol=0.01)


def test_a_fifth_of_the_scans_is_for_validation(tmp_path: Path) -> None:
    (tmp_path / "subset0").mkdir()
    for number in range(20):
        (tmp_path / "subset0" / f"1.2.{number}.mhd").touch()
    root = write_table(tmp_path, nodule("1.2.3"))
    splits = [recording.split for recording in read_luna16(root).recordings]
    assert (splits.count("validation"), splits.count("train")) == (4, 16)
    assert splits == [recording.split for recording in read_luna16(root).recordings]
    assert splits != [recording.split for recording in read_luna16(root, seed=1).recordings]


def test_nodules_without_a_scan_are_refused_or_counted(tmp_path: Path) -> None:
    write_scan(tmp_path)
    root = write_table(tmp_path, nodule(), nodule("1.9"), nodule("1.9"))
    with pytest.raises(InputError, match=r"2 nodules of 1 series without a CT \(1\.9\)"):
        read_luna16(root)
    data = read_luna16(root, allow_missing=True)
    assert len(data.recordings) == 1
    assert data.left_out == ("2 nodules of 1 series without a CT (1.9)",)


def test_table_may_lie_with_the_other_tables(tmp_path: Path) -> None:
    write_scan(tmp_path)
    write_table(tmp_path / "CSVFILES", nodule())
    (recording,) = read_luna16(tmp_path).recordings
    assert len(recording.load()[1].types) == 1


def test_nodule_outside_its_scan_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path)
    (recording,) = read_luna16(write_table(tmp_path, f"{SERIES},500,30,-190,8")).recordings
    with pytest.raises(InputError, match="outside the CT of 64 x 64 x 12 voxels"):
        recording.load()


@pytest.mark.parametrize(
    ("rows", "message"),
    [((), "has no rows"), ((f"{SERIES},1,2,3,-1",), "diameter above 0"), ((f"{SERIES},1,2,x,9",), "must be a number")],
)
def test_bad_tables_are_refused(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    write_scan(tmp_path)
    with pytest.raises(InputError, match=message):
        read_luna16(write_table(tmp_path, *rows))


def test_missing_folders_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="root must be the folder that holds subset0"):
        read_luna16(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no subset"):
        read_luna16(tmp_path)
    write_scan(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_luna16(tmp_path)
    write_scan(write_table(tmp_path, nodule()), subset=3)
    with pytest.raises(InputError, match="lies in two subsets"):
        read_luna16(tmp_path)


def test_scan_without_voxels_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path)
    (tmp_path / "subset0" / f"{SERIES}.raw").unlink()
    (recording,) = read_luna16(write_table(tmp_path, nodule())).recordings
    with pytest.raises(InputError):
        recording.load()


def test_affine_of_the_examples_is_not_the_identity() -> None:
    np.testing.assert_allclose(AFFINE @ [*CENTER, 1], [*WORLD, 1])
