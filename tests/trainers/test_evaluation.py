"""Evaluation on synthetic cases whose outcome is known, and the report that it writes."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from lnsdk.errors import InputError
from lnsdk.results import Detections, Lesion, Provenance
from lnsdk.trainers.common import evaluation
from lnsdk.trainers.common.evaluation import ControlCase, Detect, Evaluation, EvaluationCase, Found
from lnsdk.trainers.common.evaluation_report import write_report
from lnsdk.volume import Volume

NOTHING = Found(np.zeros((0, 6), np.float32), np.zeros(0, np.float32), {})


def evaluate(detect: Detect, cases: Iterable[EvaluationCase], bootstraps: int) -> Evaluation:
    return evaluation.summarize(evaluation.run(detect, cases), bootstraps=bootstraps)


def volume(value: int = 0) -> Volume:
    return Volume(np.full((4, 5, 6), value, np.int16), np.eye(4))


def cube(x: float) -> list[float]:
    return [x, 0, 0, x + 2, 2, 2]


def case(n: int, kind: Literal["real", "phantom"], seed: int) -> EvaluationCase:
    """A small lung nodule, found by both experts, and a large liver lesion that only the liver expert ranks high."""
    return EvaluationCase(
        id=f"case-{n}",
        volume=volume(n),
        boxes=np.array([cube(0), cube(10)]),
        types=("lung", "liver"),
        diameters=np.array([5.0, 40.0]),
        ignored=np.array([cube(30)]),
        kind=kind,
        seed=seed,
    )


def detect(_: Volume) -> Found:
    """Nodule, something in the place to ignore, a false positive, liver lesion, by falling fused score."""
    return Found(
        boxes=np.array([cube(0), cube(30), cube(50), cube(10)], np.float32),
        scores=np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        expert_scores={
            "lung": np.array([0.9, 0.8, 0.7, 0.1], np.float32),
            "liver": np.array([0.5, 0.1, 0.2, 0.6], np.float32),
        },
    )


def cases() -> list[EvaluationCase]:
    return [case(0, "real", 0), case(1, "phantom", 0), case(2, "phantom", 1), case(3, "real", 1)]


def test_rows() -> None:
    result = evaluate(detect, iter(cases()), bootstraps=5)
    assert result.experts == ("lung", "liver")
    assert (result.lesions, dict(result.volumes), result.seeds) == (8, {"real": 2, "phantom": 2}, (0, 1))
    named = {(row.table, row.label, row.overlap): row.froc for row in result.rows}
    # half the lesions are found before the first false positive of each volume, the others after it
    np.testing.assert_allclose(result.overall.sensitivity, [0.5, 0.5, 0.5, 1, 1, 1, 1])
    np.testing.assert_allclose(named["ranking", "liver", "iobb"].sensitivity, np.ones(7))
    np.testing.assert_allclose(named["ranking", "fused", "iou"].sensitivity, result.overall.sensitivity)
    np.testing.assert_allclose(named["lesion type", "lung", "iobb"].sensitivity, np.ones(7))
    np.testing.assert_allclose(named["lesion type", "liver", "iobb"].sensitivity, [0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(named["lesion type, expert liver", "liver", "iobb"].sensitivity, np.ones(7))
    assert named["background", "real", "iobb"].volumes == 2
    assert named["insertion seed", "1", "iobb"].lesions == 4
    sizes = [row.label for row in result.rows if row.table == "lesion size"]
    assert sizes == ["under 6 mm", "30 mm and more"]


def test_volumes_without_any_detection() -> None:
    result = evaluate(lambda v: NOTHING if v.voxels[0, 0, 0] == 0 else detect(v), cases(), bootstraps=5)
    assert result.overall.mean_sensitivity < 1
    assert result.experts == ("lung", "liver")


def test_nothing_found_anywhere(tmp_path: Path) -> None:
    result = evaluate(lambda _: NOTHING, cases(), bootstraps=5)
    assert result.overall.mean_sensitivity == 0
    write_report(result, tmp_path, "silent detector")


def test_volumes_are_asked_for_one_by_one() -> None:
    asked: list[str] = []

    def lazily() -> list[EvaluationCase]:
        return cases()

    def generator() -> object:
        for one in lazily():
            asked.append(one.id)
            yield one

    done: list[int] = []
    evaluation.run(detect, generator(), lambda result: done.append(len(asked)))  # type: ignore[arg-type]
    assert done == [1, 2, 3, 4]


def test_operating_point() -> None:
    results = evaluation.run(detect, cases())
    assert evaluation.operating_point(results, 1.0) == pytest.approx((0.6, 1.0, 1.0))
    assert evaluation.operating_point(results, 0.5) == pytest.approx((0.9, 0.0, 0.5))


def test_no_operating_point() -> None:
    with pytest.raises(InputError, match="train it longer"):
        evaluation.operating_point(evaluation.run(lambda _: NOTHING, cases()))


def test_scores_at() -> None:
    places = np.array([cube(0), cube(70), cube(50)])
    np.testing.assert_allclose(evaluation.scores_at(detect(volume()), places), [0.9, 0, 0.7])
    np.testing.assert_array_equal(evaluation.scores_at(NOTHING, places), np.zeros(3))


def test_zero_contrast_control() -> None:
    def sees_the_value(v: Volume) -> Found:
        return detect(v) if v.voxels.any() else NOTHING

    boxes = np.array([cube(0), cube(3), cube(1)])
    voxels = np.zeros((4, 5, 6), np.int16)
    voxels[1, 1, 1:3] = 1
    case = ControlCase(volume(0), Volume(voxels, np.eye(4)), boxes, ("lung", "liver", "node"))
    control = evaluation.zero_contrast_control(sees_the_value, [case])
    assert control.types == ("lung", "node")  # no voxel changed in the second box
    np.testing.assert_allclose(control.after, [0.9, 0.9])
    np.testing.assert_allclose(control.after - control.before, [0.9, 0.9])
    with pytest.raises(ValueError, match="at least one insertion that changed a voxel"):
        evaluation.zero_contrast_control(sees_the_value, [case._replace(inserted=volume(0))])


def test_intervals_resample_patients() -> None:
    everything = [replace(one, patient="same") for one in cases()]
    result = evaluate(detect, everything, bootstraps=20)
    assert result.patients == 1
    assert np.ptp(result.overall.mean_interval) == 0
    assert evaluate(detect, cases(), bootstraps=5).patients == 4


def test_from_detections() -> None:
    lesion = Lesion((0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5), (1.5, 2.5, 3.5), 3.0, 0.75, {"lung": 0.5, "liver": 0.75}, 3)
    provenance = Provenance("m", "1", "0" * 64, "onnx", "cpu", "fp32", ("lung", "liver"), 0.0, "body", {})
    found = evaluation.from_detections(Detections((lesion,), (), MappingProxyType({}), provenance, volume()))
    np.testing.assert_array_equal(found.boxes, [[0, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(found.scores, [0.75])
    np.testing.assert_array_equal(found.expert_scores["lung"], [0.5])
    empty = evaluation.from_detections(Detections((), (), MappingProxyType({}), provenance, volume()))
    assert empty.boxes.shape == (0, 6)


def test_report_says_simulated_everywhere(tmp_path: Path) -> None:
    files = write_report(evaluate(detect, cases(), bootstraps=20), tmp_path / "report", "toy detector")
    document = json.loads(files.json.read_text())
    assert document["data"] == "simulated lesions"
    assert document["threshold_at_one_false_positive_per_volume"] == pytest.approx(0.6)
    assert document["rows"][0]["mean_sensitivity"] == pytest.approx(11 / 14)
    assert len(document["rows"][0]["interval_95"]) == 7
    text = files.markdown.read_text()
    tables = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(tables) >= 5
    assert all("simulated" in line for line in tables)
    assert text.count("| simulated lesions |") == len(tables)
    assert "| fused boxes ranked by expert liver |" in text
    assert text.count("they do not show what the expert would find by itself") >= 2
    assert "| 1/8 | 1/4 | 1/2 | 1 | 2 | 4 | 8 | mean |" in text
    with Image.open(files.picture) as picture:
        assert picture.width > 800


def test_report_without_bootstraps(tmp_path: Path) -> None:
    files = write_report(evaluate(detect, cases(), bootstraps=0), tmp_path, "toy detector")
    assert json.loads(files.json.read_text())["rows"][0]["mean_interval_95"] == [None, None]
