"""Checks on single real lesions: ranks by distance, and sarcomas pasted into a field."""

from pathlib import Path

import numpy as np
import pytest

from lnsdk.trainers.common import real_lesions
from lnsdk.trainers.common.evaluation import Found
from lnsdk.volume import Volume

SPACING = np.diag([2.0, 2.0, 4.0, 1.0])


def found(*detections: tuple[list[float], float]) -> Found:
    boxes = np.array([box for box, _ in detections], np.float32).reshape(-1, 6)
    return Found(boxes, np.array([score for _, score in detections], np.float32), {})


def image() -> Volume:
    """A dense block in water, 60 x 40 x 32 mm, as if cropped around it."""
    voxels = np.zeros((8, 20, 30), np.int16)
    voxels[3:6, 8:13, 10:20] = 300
    return Volume(voxels, SPACING)


BLOCK = np.array([9.5, 7.5, 2.5, 19.5, 12.5, 5.5])


def find_block(volume: Volume) -> Found:
    """A thin false positive with the higher score, then the block."""
    z, y, x = np.nonzero(volume.voxels == 300)
    block = [x.min() - 0.5, y.min() - 0.5, z.min() - 0.5, x.max() + 0.5, y.max() + 0.5, z.max() + 0.5]
    return found(([float(v) for v in block], 0.4), ([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 0.9))


def test_rank_at() -> None:
    volume = Volume(np.zeros((20, 50, 50), np.int16), SPACING)
    boxes = found(([0, 0, 0, 2, 2, 2], 0.2), ([20, 20, 4, 24, 24, 6], 0.6), ([19, 20, 4, 23, 24, 6], 0.7))
    here = real_lesions.rank_at(boxes, volume, (44.0, 44.0, 20.0), 2.0)
    assert here is not None
    assert (here.rank, here.boxes, here.distance_mm) == (2, 3, 0.0)  # the better one lies exactly at the radius
    wider = real_lesions.rank_at(boxes, volume, (44.0, 44.0, 20.0), 2.1)
    assert wider is not None
    assert (wider.rank, wider.distance_mm) == (1, 2.0)
    assert wider.score == pytest.approx(0.7)
    assert real_lesions.rank_at(boxes, volume, (90.0, 90.0, 70.0), 2.0) is None
    assert real_lesions.rank_at(found(), volume, (0.0, 0.0, 0.0), 2.0) is None


def test_luna16_annotations(tmp_path: Path) -> None:
    path = tmp_path / "annotations.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,1,2,3,5.5\n1.3,4,5,6,7\n1.2,7,8,9,-1\n")
    assert real_lesions.read_luna16_annotations(path, "1.2") == (((1, 2, 3), 5.5), ((7, 8, 9), 10.0))


def test_sarcoma_boxes_are_widened(tmp_path: Path) -> None:
    path = tmp_path / "lesion_boxes.csv"
    path.write_text("patient,x0,y0,z0,x1,y1,z1\nSTS_001,52,52,12,145,149,42\n")
    np.testing.assert_array_equal(
        real_lesions.read_sarcoma_boxes(path)["STS_001"], [51.5, 51.5, 11.5, 145.5, 149.5, 42.5]
    )


def test_median_size() -> None:
    sizes = real_lesions.median_size_mm([[0, 0, 0, 1, 2, 3], [0, 0, 0, 3, 2, 1], [0, 0, 0, 2, 2, 2]], [[1, 1, 2]] * 3)
    np.testing.assert_array_equal(sizes, [2, 2, 4])


def test_paste_keeps_the_place_in_the_patient() -> None:
    volume = image()
    field, offset = real_lesions.paste_in_field(volume, np.random.default_rng(1))
    i, j, k = offset
    np.testing.assert_array_equal(field.voxels[k : k + 8, j : j + 20, i : i + 30], volume.voxels)
    np.testing.assert_allclose(field.voxels_to_lps([offset]), volume.voxels_to_lps([[0, 0, 0]]))
    assert field.shape == (8 + 30, 200, 240)
    assert (field.voxels[:, :5] == -1000).all()
    assert abs(np.median(field.voxels[:, 5:-5, 5:-5]) + 100) < 2
    again, _ = real_lesions.paste_in_field(volume, np.random.default_rng(1))
    np.testing.assert_array_equal(field.voxels, again.voxels)


def test_places_differ() -> None:
    rng = np.random.default_rng(0)
    offsets = np.array([real_lesions.paste_in_field(image(), rng)[1] for _ in range(20)])
    assert (np.ptp(offsets, axis=0) > [80, 60, 15]).all()


def test_image_larger_than_the_field_is_refused() -> None:
    with pytest.raises(ValueError, match="field_mm must hold the image"):
        real_lesions.paste_in_field(image(), np.random.default_rng(0), (70.0, 50.0))


def test_placements() -> None:
    results = real_lesions.sarcoma_placements(find_block, [("block", image(), BLOCK)], (20.0, 10.0, 12.0), placements=4)
    assert len(results) == 4
    assert len({result.offset for result in results}) == 4
    for result in results:
        assert (result.boxes, result.rank, result.best_rank) == (2, 2, 2)
        assert result.iou == pytest.approx(1)
        assert result.best_iou == pytest.approx(1)
        assert result.top_iou == 0
        assert result.score == pytest.approx(0.4)
        assert result.blind_iou < 0.5


def test_placement_of_a_detector_that_finds_nothing() -> None:
    (result,) = real_lesions.sarcoma_placements(
        lambda _: found(), [("block", image(), BLOCK)], (20.0, 10.0, 12.0), placements=1
    )
    assert (result.boxes, result.rank, result.best_rank, result.best_iou) == (0, None, None, 0.0)


def test_placements_as_a_table() -> None:
    results = real_lesions.sarcoma_placements(find_block, [("block", image(), BLOCK)], (20.0, 10.0, 12.0), placements=2)
    lines = real_lesions.placements_markdown(results).splitlines()
    assert len(lines) == 4
    assert "simulated field" in lines[0]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.realdata
def test_the_nodule_of_lidc_0001(data_dir: Path) -> None:
    (series,) = (data_dir / "ct" / "lidc" / "LIDC-IDRI-0001").glob("*/*")
    table = data_dir / "oracles" / "luna16" / "tables" / "annotations.csv"
    (nodule,) = real_lesions.read_luna16_annotations(table, series.name)
    assert nodule.diameter_mm == pytest.approx(23.4, abs=0.1)


@pytest.mark.realdata
def test_sarcoma_boxes_of_the_data(data_dir: Path) -> None:
    boxes = real_lesions.read_sarcoma_boxes(data_dir / "ct" / "sts" / "lesion_boxes.csv")
    assert len(boxes) == 10
    np.testing.assert_array_equal(boxes["STS_001"], [51.5, 51.5, 11.5, 145.5, 149.5, 42.5])
