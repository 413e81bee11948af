"""Files of boxes: what they mean, what is refused, and that lnsdk reads what it writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsdk import InputError
from lnsdk.metrics import Convention, DetectedBoxes, KnownBoxes, read_detected_boxes, read_known_boxes, write_boxes

VOXELS = [10, 20, 3, 11, 24, 4]
"""Voxels 10 to 11 along x, 20 to 24 along y, and 3 to 4 along z."""

EXTENT = [9.5, 19.5, 2.5, 11.5, 24.5, 4.5]
"""The same in continuous coordinates."""


def save(folder: Path, content: object) -> Path:
    path = folder / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_files_of_the_lens_evaluator(tmp_path: Path) -> None:
    detected = read_detected_boxes(save(tmp_path, {"b": [[*VOXELS, 0.5], [0, 0, 0, 0, 0, 0, -2]], "a": []}))
    assert list(detected) == ["b", "a"]
    np.testing.assert_array_equal(detected["b"].boxes, [EXTENT, [-0.5, -0.5, -0.5, 0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(detected["b"].scores, [0.5, -2])
    assert detected["a"].boxes.shape == (0, 6)
    known = read_known_boxes(str(save(tmp_path, {"a": [VOXELS]})))
    np.testing.assert_array_equal(known["a"].boxes, [EXTENT])
    assert known["a"].types == ("",)
    assert np.isnan(known["a"].diameters_mm).all()


@pytest.mark.parametrize("asked", [None, "inclusive", "continuous"])
@pytest.mark.parametrize("said", [None, "inclusive", "continuous"])
def test_what_the_numbers_are(tmp_path: Path, said: Convention | None, asked: Convention | None) -> None:
    content = {"a": [VOXELS]} if said is None else {"boxes": said, "volumes": {"a": [VOXELS]}}
    path = save(tmp_path, content)
    if None not in (said, asked) and said != asked:
        with pytest.raises(InputError, match=f"its boxes are {said}, and {asked} was asked for") as caught:
            read_known_boxes(path, asked)
        assert caught.value.reason == "other-convention"
    else:
        expected = VOXELS if "continuous" in (said, asked) else EXTENT
        np.testing.assert_array_equal(read_known_boxes(path, asked)["a"].boxes, [expected])


def test_what_is_known_besides(tmp_path: Path) -> None:
    rows = [VOXELS, {"box": VOXELS, "type": "cyst"}, {"box": VOXELS, "diameter_mm": 7}]
    known = read_known_boxes(save(tmp_path, {"a": rows}))["a"]
    assert known.types == ("", "cyst", "")
    np.testing.assert_array_equal(known.diameters_mm, [np.nan, np.nan, 7])
    np.testing.assert_array_equal(known.boxes, [EXTENT] * 3)
    scored = read_detected_boxes(save(tmp_path, {"a": [{"box": VOXELS, "score": 0.25}]}))["a"]
    np.testing.assert_array_equal(scored.boxes, [EXTENT])
    np.testing.assert_array_equal(scored.scores, [0.25])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    boxes = np.array([[0.1, 0.2, 0.3, 1.4, 1.5, 1.6], [-1, 2, 3, 4, 5, 6]])
    known = {"a": KnownBoxes(boxes, ("cyst", ""), np.array([np.nan, 4.5])), "b": KnownBoxes(boxes[:0], (), np.empty(0))}
    write_boxes(tmp_path / "known.json", known)
    again = read_known_boxes(tmp_path / "known.json", "continuous")
    assert list(again) == ["a", "b"]
    for name, expected in known.items():
        np.testing.assert_array_equal(again[name].boxes, expected.boxes)
        np.testing.assert_array_equal(again[name].diameters_mm, expected.diameters_mm)
        assert again[name].types == expected.types
    write_boxes(tmp_path / "found.json", {"a": DetectedBoxes(boxes, np.array([0.9, 1 / 3]))})
    found = read_detected_boxes(tmp_path / "found.json")["a"]
    np.testing.assert_array_equal(found.boxes, boxes)
    np.testing.assert_array_equal(found.scores, [0.9, 1 / 3])
    assert json.loads((tmp_path / "known.json").read_text()) == {
        "boxes": "continuous",
        "volumes": {
            "a": [{"box": boxes[0].tolist(), "type": "cyst"}, {"box": boxes[1].tolist(), "diameter_mm": 4.5}],
            "b": [],
        },
    }


UNIT = np.array([[0.0, 0, 0, 1, 1, 1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (DetectedBoxes(UNIT[:, :4], np.ones(1)), r"volumes\['a'\].boxes must have shape \(N, 6\), got \(1, 4\)"),
        (DetectedBoxes(UNIT * np.nan, np.ones(1)), r"volumes\['a'\].boxes\[0\] must be finite"),
        (DetectedBoxes(UNIT[:, ::-1], np.ones(1)), r"volumes\['a'\].boxes\[0\] must be finite and end after"),
        (DetectedBoxes(UNIT, np.ones(2)), r"volumes\['a'\].scores must be one finite number per box \(1\)"),
        (DetectedBoxes(UNIT, np.array([np.nan])), r"volumes\['a'\].scores must be one finite"),
        (KnownBoxes(UNIT, (), np.ones(1)), "one type and one diameter per box"),
        (KnownBoxes(UNIT, ("",), np.ones(2)), "one type and one diameter per box"),
        (KnownBoxes(UNIT, ("",), np.array([np.inf])), r"diameters_mm must be"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_boxes(tmp_path / "boxes.json", {"a": content})
    assert not (tmp_path / "boxes.json").exists()


BAD_FILES: list[tuple[object, str]] = [
    ("", "cannot be read as JSON"),
    ("{", "cannot be read as JSON"),
    ("[" * 200_000, "nested too deeply"),
    ('{"a": [], "a": []}', "'a' is there twice"),
    ([], r"must hold an object that names volumes, .*found \[\]"),
    ({"a": VOXELS}, r"volume 'a', box 1: expected"),
    ({"a": {"b": [VOXELS]}}, r"volume 'a': expected a list of boxes .*found \{"),
    ({"a": None}, "volume 'a': expected a list of boxes .*found null"),
    ({"volumes": {"a": []}}, 'must say "boxes": "inclusive" or "continuous" .*found null'),
    ({"boxes": "half", "volumes": {}}, 'found "half"'),
    ({"boxes": ["inclusive"], "volumes": {}}, 'must say "boxes"'),
]

BAD_KNOWN: list[tuple[object, str]] = [
    (VOXELS[:5], "expected 6 finite numbers"),
    ([*VOXELS, 0.5], "a lesion has no score, .*are detections and truth swapped"),
    ([*VOXELS[:5], "3"], "expected 6 finite numbers .*"),
    ([*VOXELS[:5], True], "expected 6 finite numbers"),
    ([*VOXELS[:5], 10**400], "expected 6 finite numbers"),
    ([*VOXELS[:5], float("nan")], "expected 6 finite numbers .*NaN"),
    ([*VOXELS[:5], float("inf")], "expected 6 finite numbers .*Infinity"),
    ([10, 20, 3, 9, 24, 3], r"the box ends before it begins, x1, y1, z1, x2, y2, z2: \[10, 20, 3, 9, 24, 3\]"),
    ({"type": "cyst"}, r'expected \[x1, y1, z1, x2, y2, z2\] or \{"box"'),
    ({"box": VOXELS, "score": 1}, "unknown key 'score'; the keys are box, diameter_mm, type"),
    ({"box": VOXELS, "type": 3}, "the type must be a text that can be printed, found 3"),
    ({"box": VOXELS, "diameter_mm": -1}, "diameter_mm must be"),
    ({"box": VOXELS, "diameter_mm": None}, "diameter_mm must be .*found null"),
    ({"box": "everywhere"}, "expected 6 finite numbers"),
]

BAD_DETECTED: list[tuple[object, str]] = [
    (VOXELS, "a detection needs a score"),
    ([*VOXELS, None], "expected 7 finite numbers"),
    ([*VOXELS, float("nan")], "expected 7 finite numbers .*NaN"),
    ([10, 20, 3, 9, 24, 3, 0.5], "the box ends before it begins"),
    ({"box": VOXELS}, 'a detection needs a "score"'),
    ({"box": VOXELS, "score": "high"}, "the score must be a finite number"),
    ({"box": VOXELS, "score": 1, "type": "cyst"}, "unknown key 'type'; the keys are box, score"),
]

Read = Callable[[Path], object]


@pytest.mark.parametrize("read", [read_known_boxes, read_detected_boxes])
@pytest.mark.parametrize(("content", "message"), BAD_FILES)
def test_bad_files(tmp_path: Path, read: Read, content: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(save(tmp_path, content))
    assert caught.value.reason == "bad-boxes"


@pytest.mark.parametrize(
    ("read", "good", "bad", "message"),
    [(read_known_boxes, VOXELS, *case) for case in BAD_KNOWN]
    + [(read_detected_boxes, [*VOXELS, 1], *case) for case in BAD_DETECTED],
)
def test_bad_boxes(tmp_path: Path, read: Read, good: object, bad: object, message: str) -> None:
    with pytest.raises(InputError, match=f"volume 'v', box 2: {message}") as caught:
        read(save(tmp_path, {"u": [good], "v": [good, bad]}))
    assert caught.value.reason == "bad-boxes"
    assert len(str(caught.value)) < 400


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nowhere\.json") as caught:
        read_known_boxes(tmp_path / "nowhere.json")
    assert caught.value.reason == "missing-path"
    (tmp_path / "boxes.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="no JSON file in UTF-8"):
        read_known_boxes(tmp_path / "boxes.json")


def test_a_convention_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="convention must be"):
        read_known_boxes(save(tmp_path, {}), "exclusive")  # type: ignore[arg-type]


def result(folder: Path, volume: str, content: object) -> None:
    (folder / volume).mkdir(exist_ok=True)
    (folder / volume / "detections.json").write_text(json.dumps(content))


def test_a_folder_of_results_is_detections(tmp_path: Path) -> None:
    lesion = {"box": EXTENT, "score": 0.75, "key_slice": 3}
    result(tmp_path, "b", {"schema_version": 1, "lesions": [lesion]})
    result(tmp_path, "a", {"schema_version": 1, "lesions": []})
    (tmp_path / "notes.txt").write_text("no result")
    detected = read_detected_boxes(tmp_path)
    assert list(detected) == ["a", "b"]
    np.testing.assert_array_equal(detected["b"].boxes, [EXTENT])
    np.testing.assert_array_equal(detected["b"].scores, [0.75])
    assert len(detected["a"].boxes) == 0
    with pytest.raises(InputError, match="says that its boxes are continuous, and inclusive was asked for"):
        read_detected_boxes(tmp_path, "inclusive")
    with pytest.raises(InputError, match="cannot read"):
        read_known_boxes(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], 'is no result of lnsdk: it has no list "lesions"'),
        ({"lesions": {}}, 'is no result of lnsdk: it has no list "lesions"'),
        ({"lesions": [{"box": EXTENT}]}, "lesion 1: expected a box and a score"),
        ({"lesions": [7]}, "lesion 1: expected a box and a score"),
        ({"lesions": [{"box": EXTENT[:5], "score": 1}]}, "volume 'a', box 1: expected 6 finite numbers"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(InputError, match="holds no VOLUME/detections"):
        read_detected_boxes(tmp_path)
    result(tmp_path, "a", content)
    with pytest.raises(InputError, match=message):
        read_detected_boxes(tmp_path)


def test_continuous_boxes_have_a_volume(tmp_path: Path) -> None:
    path = save(tmp_path, {"a": [EXTENT, [1, 2, 3, 4, 5, 3]]})
    with pytest.raises(InputError, match=r"box 2: the box has no volume.*Are these inclusive indices\?"):
        read_known_boxes(path, "continuous")
    read_known_boxes(path, "inclusive")


@pytest.mark.parametrize("kind", ["\x1b[31mred", "two\nlines", "\ud800"])
def test_types_can_be_printed(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="the type must be a text that can be printed"):
        read_known_boxes(save(tmp_path, {"a": [{"box": VOXELS, "type": kind}]}))
