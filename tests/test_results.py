import csv
import json
from dataclasses import FrozenInstanceError, replace
from importlib.resources import files
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from PIL import Image

from lnsdk import Detections, Lesion, Volume
from lnsdk.metrics import read_detected_boxes
from lnsdk.results import Provenance

PROVENANCE = Provenance(
    model="toy",
    model_version="1.0.0",
    model_sha256="0" * 64,
    backend="onnx",
    device="cpu",
    precision="fp32",
    experts=("universal", "lung"),
    threshold=0.5,
    crop="body",
    versions={"lnsdk": "0.1.0"},
)

LESION = Lesion(
    box=(9.5, 19.5, 0.5, 19.5, 29.5, 2.5),
    box_mm=(4.75, 9.75, 1.0, 9.75, 14.75, 5.0),
    center_mm=(7.25, 12.25, 3.0),
    diameter_mm=5.0,
    score=0.875,
    expert_scores={"universal": 0.875, "lung": 0.25},
    key_slice=1,
    key_slice_uid="1.2.3.1",
)


def result(*lesions: Lesion) -> Detections:
    volume = Volume(
        np.zeros((4, 40, 50), np.int16),
        np.diag([0.5, 0.5, 2.0, 1.0]),
        series_uid="1.2.3",
        study_uid="1.2",
        frame_of_reference_uid="1.2.9",
        description="CHEST^DOE JOHN 19700101",
    )
    return Detections(lesions, ("one slice was missing",), {"total": 12.34567}, PROVENANCE, volume)


def schema() -> dict[str, object]:
    text = files("lnsdk").joinpath("schema/detections.schema.json").read_text(encoding="utf-8")
    content: dict[str, object] = json.loads(text)
    return content


@pytest.mark.parametrize("lesions", [(), (LESION,), (LESION, replace(LESION, key_slice_uid="", key_slice_frame=3))])
def test_json_is_valid(tmp_path: Path, lesions: tuple[Lesion, ...]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    text = result(*lesions).to_json(tmp_path / "result.json")
    assert (tmp_path / "result.json").read_text(encoding="utf-8") == text + "\n"
    jsonschema.validate(json.loads(text), schema(), jsonschema.Draft202012Validator)


def test_json_holds_the_score_of_false_positive_reduction() -> None:
    found = replace(
        result(replace(LESION, fpr_score=0.25), LESION), provenance=replace(PROVENANCE, false_positive_reduction=True)
    )
    document = json.loads(found.to_json())
    assert document["false_positive_reduction"] is True
    assert [lesion["fpr_score"] for lesion in document["lesions"]] == [0.25, None]
    jsonschema.validate(document, schema(), jsonschema.Draft202012Validator)
    document["lesions"][0]["fpr_score"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema(), jsonschema.Draft202012Validator)


def test_files_written_before_false_positive_reduction_stay_valid() -> None:
    document = json.loads(result(LESION).to_json())
    assert document.pop("false_positive_reduction") is False
    assert document["lesions"][0].pop("fpr_score") is None
    jsonschema.validate(document, schema(), jsonschema.Draft202012Validator)


def test_json_holds_the_result() -> None:
    document = json.loads(result(LESION).to_json())
    lesion = document["lesions"][0]
    assert lesion["box"] == [9.5, 19.5, 0.5, 19.5, 29.5, 2.5]
    assert lesion["box_mm"] == {"min": [4.75, 9.75, 1.0], "max": [9.75, 14.75, 5.0]}
    assert lesion["key_slice_sop_instance_uid"] == "1.2.3.1"
    assert lesion["key_slice_frame"] is None
    framed = json.loads(result(replace(LESION, key_slice_frame=3)).to_json())["lesions"][0]
    assert framed["key_slice_frame"] == 3
    assert document["series_uid"] == "1.2.3"
    assert document["frame_of_reference_uid"] == "1.2.9"
    assert document["volume"]["affine_voxel_to_lps"][0] == [0.5, 0, 0, 0]
    assert document["timings_ms"] == {"total": 12.346}
    assert document["warnings"] == ["one slice was missing"]


@pytest.mark.parametrize(
    "change",
    [
        {"false_positive_reduction": "yes"},
        {"schema_version": 2},
        {"patient_name": "DOE"},
        {"threshold": 1.5},
        {"series_uid": "DOE"},
        {"model": {"name": "toy", "version": "1", "sha256": "short"}},
        {"lesions": [{"box": [0, 0, 0, 1, 1, 1]}]},
    ],
)
def test_the_schema_refuses_what_it_should(change: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(result(LESION).to_json()) | change, schema(), jsonschema.Draft202012Validator)


def test_a_folder_of_results_can_be_evaluated(tmp_path: Path) -> None:
    for name, found in (("a", result(LESION, LESION)), ("b", result())):
        (tmp_path / name).mkdir()
        found.to_json(tmp_path / name / "detections.json")
    detected = read_detected_boxes(tmp_path)
    np.testing.assert_allclose(detected["a"].boxes, [LESION.box] * 2)
    np.testing.assert_allclose(detected["a"].scores, [LESION.score] * 2)
    assert len(detected["b"].boxes) == 0


def test_the_description_of_a_series_stays_out(tmp_path: Path) -> None:
    found = result(LESION)
    found.to_csv(tmp_path / "result.csv")
    for text in (found.to_json(), (tmp_path / "result.csv").read_text()):
        assert "DOE" not in text
        assert "1970" not in text


def test_csv_is_a_luna16_submission(tmp_path: Path) -> None:
    result(LESION, replace(LESION, score=0.5)).to_csv(tmp_path / "result.csv")
    rows = list(csv.reader((tmp_path / "result.csv").read_text().splitlines()))
    assert rows[0] == ["seriesuid", "coordX", "coordY", "coordZ", "probability"]
    assert rows[1] == ["1.2.3", "7.250", "12.250", "3.000", "0.875000"]
    assert len(rows) == 3


def test_png_is_a_picture(tmp_path: Path) -> None:
    result(LESION).to_png(tmp_path / "result.png")
    with Image.open(tmp_path / "result.png") as picture:
        assert picture.format == "PNG"
        assert picture.mode == "RGB"


def test_results_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        LESION.score = 1.0  # type: ignore[misc]


def test_results_are_equal_when_their_content_is() -> None:
    assert result(LESION) == result(LESION)
    assert result(LESION) != result()
