"""The gate: what passes, and that a damaged engine, a wrong precision and a missing file are told apart."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lnsdk import InputError
from lnsdk.bundle import Bundle, read_bundle
from lnsdk.export.bundle import update_files
from lnsdk.export.precisions import add_precisions
from lnsdk.verification import EngineChoice, ParityError, Report, VerificationCase, choices, simulated_cases, verify
from lnsdk.volume import Volume
from tests.toy_bundle import write_toy_bundle

OPENVINO = EngineChoice("openvino", "cpu", "fp32")
INT8 = EngineChoice("openvino", "cpu", "int8")


@pytest.fixture(scope="module")
def quantized(toy: Path, case: VerificationCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lower") / "toy"
    report = add_precisions(read_bundle(toy), folder, ["fp16", "int8"], [case], simulated=0)
    assert report.passed
    return folder


def row(report: Report, choice: EngineChoice) -> dict[str, object]:
    (found,) = [row for row in report.to_dict()["engines"] if row["choice"]["backend"] == choice.backend]
    return dict(found)


def test_an_engine_of_the_same_precision_passes(toy: Path, case: VerificationCase) -> None:
    report = verify(read_bundle(toy), [OPENVINO], [case])
    assert report.passed
    assert report.volumes == ("ball",)
    found = row(report, OPENVINO)
    assert found["state"] == "passed"
    assert found["matched"] == found["lesions"]
    assert found["sensitivity"] == 1.0
    assert found["sensitivity_change"] == 0.0
    json.dumps(report.to_dict(), allow_nan=False)


def test_lower_precisions_are_written_and_verified(quantized: Path, case: VerificationCase) -> None:
    bundle = read_bundle(quantized)
    assert {f"models/{name}.int8.onnx" for name in ("image", "fuse")} < bundle.files.keys()
    assert {f"models/{name}.fp16.onnx" for name in ("image", "fuse", "head")} < bundle.files.keys()
    written = json.loads(bundle.read("docs/verification.json"))
    assert written["passed"]
    assert {entry["choice"]["precision"] for entry in written["engines"]} >= {"int8"}
    assert verify(bundle, [INT8], [case]).passed


def test_a_bundle_may_be_replaced_by_itself(toy: Path, case: VerificationCase, tmp_path: Path) -> None:
    folder = write_toy_bundle(tmp_path / "toy")
    add_precisions(read_bundle(folder), folder, ["int8"], [case], simulated=0)
    assert "models/image.int8.onnx" in read_bundle(folder).files


def damage(quantized: Path, folder: Path) -> Bundle:
    """Weights that are lost, in a bundle whose hashes are right."""
    for name, content in {name: read_bundle(quantized).read(name) for name in read_bundle(quantized).files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "configs").mkdir()
    (folder / "configs/metadata.json").write_bytes(read_bundle(quantized).description())
    path = folder / "models/image.int8.onnx"
    model = onnx.load(path)
    for weight in model.graph.initializer:
        if weight.name == "kernels":
            weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), weight.name))
    onnx.save(model, path)
    update_files(folder, "models/")
    return read_bundle(folder)


def test_a_damaged_engine_is_caught(quantized: Path, case: VerificationCase, tmp_path: Path) -> None:
    report = verify(damage(quantized, tmp_path / "toy"), [OPENVINO, INT8], [case])
    assert not report.passed
    assert [entry.state for entry in report.rows] == ["passed", "failed"]
    reasons = " ".join(report.rows[1].reasons)
    assert "lesions were found by one engine only" in reasons
    assert "mean sensitivity fell by 1.000 to 0.000, allowed 0.01" in reasons


def test_a_wrong_precision_is_caught(toy: Path, case: VerificationCase, tmp_path: Path) -> None:
    """Float32 graphs under the name of quantized ones."""
    content = read_bundle(toy).read
    files = {f"models/{name}.int8.onnx": content(f"models/{name}.onnx") for name in ("image", "fuse")}
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy", files))
    report = verify(bundle, [INT8], [case])
    assert [entry.state for entry in report.rows] == ["failed"]
    assert "graph 'image' was to run in int8, but its layers run in f32" in report.rows[0].reasons[0]


def test_what_is_not_there_is_missing_and_no_failure(toy: Path, case: VerificationCase) -> None:
    engines = choices(read_bundle(toy), ["torchscript", "openvino", "onnx"])
    report = verify(read_bundle(toy), engines, [case])
    reasons = {str(entry.choice): entry.reasons for entry in report.rows if entry.state == "missing"}
    assert reasons["openvino cpu int8"] == ["the bundle has no models/image.int8.onnx"]
    assert reasons["torchscript cpu fp32"] == ["the bundle has no models/image.ts"]
    (elsewhere,) = choices(read_bundle(toy), ["onnx"], device="cuda")
    assert elsewhere.missing is not None
    assert elsewhere.missing.startswith("this ONNX Runtime has no CUDA")


def test_engines_and_precisions_can_be_chosen(toy: Path) -> None:
    found = choices(read_bundle(toy), ["openvino"], ["fp32"], "cpu")
    assert [str(choice) for choice in found] == ["openvino cpu fp32"]


def test_a_precision_that_the_gate_refuses_is_not_written(toy: Path, tmp_path: Path) -> None:
    nothing = VerificationCase("water", Volume(np.zeros((8, 90, 100), np.int16), np.diag([1.0, 1.0, 2.0, 1.0])))
    with pytest.raises(InputError, match=r"finds no lesion above its operating point 0.5 on any of the 1 CTs"):
        add_precisions(read_bundle(toy), tmp_path / "out", ["int8"], [nothing], simulated=0)
    assert not (tmp_path / "out").exists()


def test_int8_needs_real_slices(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="int8 takes the ranges of its activations from real slices: name CTs"):
        add_precisions(read_bundle(toy), tmp_path / "out", ["int8"], [], simulated=1)


def test_air_has_no_ranges(toy: Path, tmp_path: Path) -> None:
    air = VerificationCase("air", Volume(np.full((8, 90, 100), -1000, np.int16), np.diag([1.0, 1.0, 2.0, 1.0])))
    with pytest.raises(InputError, match="a CT holds nothing but air, from which no range can be taken"):
        add_precisions(read_bundle(toy), tmp_path / "out", ["int8"], [air], simulated=0)


def test_without_a_case_nothing_is_said(toy: Path) -> None:
    with pytest.raises(InputError, match="there is no CT to verify on"):
        verify(read_bundle(toy), [OPENVINO], [])


def test_simulated_cases_are_always_the_same() -> None:
    (first,), (again, other) = simulated_cases(1), simulated_cases(2)
    assert np.array_equal(first.volume.voxels, again.volume.voxels)
    assert first.boxes is not None
    assert len(first.boxes) > 5
    assert not np.array_equal(first.volume.voxels, other.volume.voxels)


def test_an_engine_that_loses_scores_is_refused_by_the_exporter(
    toy: Path, case: VerificationCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnsdk.export.precisions.to_int8", lambda model, feeds: model)
    with pytest.raises(ParityError, match=r"openvino cpu int8: .* was to run in int8, but its layers run in f32"):
        add_precisions(read_bundle(toy), tmp_path / "out", ["int8"], [case], simulated=0)
    assert not (tmp_path / "out").exists()
