"""`lnsdk detect` with the default model on a recorded chest CT, from the start of the process to its end."""

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from time import perf_counter

import jsonschema  # type: ignore[import-untyped]
import pydicom
import pytest
from PIL import Image

from lnsdk.bundle import DEFAULT_BUNDLE, read_bundle

pytestmark = pytest.mark.realdata

MOST_SECONDS = 20
MOST_KIB = 2 * 1024 * 1024
"""What a chest CT of 99 slices may cost on two cores."""

PRIVATE = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "SeriesDate", "AccessionNumber", "StudyID")


PRINTED = "printed.txt"
"""What the command wrote to the terminal, beside its files."""


@pytest.fixture(scope="module")
def written(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the command once, within its limits of time and memory."""
    folder = tmp_path_factory.mktemp("out")
    command = [sys.executable, "-m", "lnsdk.cli.__main__", "detect", str(data_dir / "ct/chest_c3n00247")]
    start = perf_counter()
    with (
        (folder / PRINTED).open("w") as printed,
        subprocess.Popen([*command, "-o", str(folder)], stdout=printed, stderr=subprocess.STDOUT) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert perf_counter() - start < MOST_SECONDS
    assert usage.ru_maxrss < MOST_KIB
    return folder


def test_json_is_valid_and_complete(written: Path, data_dir: Path) -> None:
    document = json.loads((written / "detections.json").read_text())
    schema = json.loads(files("lnsdk").joinpath("schema/detections.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
    slices = [pydicom.dcmread(path, stop_before_pixels=True) for path in (data_dir / "ct/chest_c3n00247").iterdir()]
    assert document["series_uid"] == slices[0].SeriesInstanceUID
    assert document["study_uid"] == slices[0].StudyInstanceUID
    assert document["frame_of_reference_uid"] == slices[0].FrameOfReferenceUID
    assert document["volume"]["shape_zyx"] == [99, 512, 512]
    assert document["model"]["sha256"] == read_bundle(DEFAULT_BUNDLE).sha256
    heights = {item.SOPInstanceUID: float(item.ImagePositionPatient[2]) for item in slices}
    for lesion in document["lesions"]:
        height = heights[lesion["key_slice_sop_instance_uid"]]
        assert lesion["box_mm"]["min"][2] - 1.5 <= height <= lesion["box_mm"]["max"][2] + 1.5


def test_csv_names_the_series(written: Path) -> None:
    document = json.loads((written / "detections.json").read_text())
    rows = (written / "detections.csv").read_text().splitlines()
    assert len(rows) == len(document["lesions"]) + 1
    assert all(row.startswith(document["series_uid"] + ",") for row in rows[1:])


def test_no_patient_is_named(written: Path, data_dir: Path) -> None:
    header = pydicom.dcmread(next((data_dir / "ct/chest_c3n00247").iterdir()), stop_before_pixels=True)
    document = json.loads((written / "detections.json").read_text())
    for key in ("study_uid", "series_uid", "frame_of_reference_uid", "lesions"):
        del document[key]  # identifiers that the result must hold; they may contain digits of a date
    with Image.open(written / "detections.png") as picture:
        picture.load()  # chunks behind the pixels too
        about = str(picture.info)
    printed = (written / PRINTED).read_text()
    assert "score" in printed
    text = json.dumps(document) + about + printed
    for name in PRIVATE:
        value = str(header.get(name, ""))
        assert len(value) < 4 or value not in text
