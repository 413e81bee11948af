"""What ``backend="auto"`` means: measured once, kept, and never an engine that the gate refuses."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lnsdk import BackendUnavailable, Detector
from lnsdk.bundle import Bundle, read_bundle
from lnsdk.pipelines import choice
from lnsdk.pipelines.choice import Decision, _fastest, automatic
from lnsdk.verification import EngineChoice, VerificationCase
from lnsdk.volume import Volume
from tests.toy_bundle import phantom


@pytest.fixture
def bundle(toy: Path) -> Bundle:
    return read_bundle(toy)


@pytest.fixture(autouse=True)
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions are made anew in every test, on a ball, which the toy finds."""
    monkeypatch.delenv(choice.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "_decided", {})
    voxels = phantom((9, 90, 100), (1.0, 1.0, 2.0), (50.2, 44.9, 4.0))
    ball = VerificationCase("ball", Volume(voxels, np.diag([1.0, 1.0, 2.0, 1.0])))

    def cases(count: int) -> Iterator[VerificationCase]:
        yield from [ball] * count

    monkeypatch.setattr("lnsdk.verification.simulated_cases", cases)


ONNX, OPENVINO, INT8 = (
    Decision("onnx", "cpu", "fp32"),
    Decision("openvino", "cpu", "fp32"),
    Decision("openvino", "cpu", "int8"),
)


def kept(folder: Path) -> list[Path]:
    return list((folder / "cache/lnsdk").glob("engine-*.json"))


def test_the_fastest_is_measured_and_kept(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decision = automatic(bundle, "auto", "auto", 1)
    (file,) = kept(tmp_path)
    content = json.loads(file.read_text())
    assert content["decision"] == decision._asdict()
    assert {"onnx cpu fp32", "openvino cpu fp32"} <= content["milliseconds"].keys()
    assert all(time > 0 for time in content["milliseconds"].values())

    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(choice, "_measure", refuse)
    assert automatic(bundle, "cpu", "auto", 1) == decision
    monkeypatch.setattr(choice, "_decided", {})  # as in another process
    assert automatic(bundle, "auto", "auto", 1) == decision
    with pytest.raises(AssertionError, match="measured again"):
        automatic(bundle, "auto", "auto", 2)


def test_a_detector_takes_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_measure", lambda *_: {EngineChoice(*ONNX): 10.0, EngineChoice(*OPENVINO): 5.0})
    provenance = Detector(bundle, threads=1).provenance
    assert (provenance.backend, provenance.precision) == ("openvino", "fp32")


def test_one_that_the_gate_refuses_is_not_timed(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnsdk.verification.gate.Detector", _blind_with_openvino)
    assert automatic(bundle, "auto", "auto", 1) == ONNX
    (file,) = kept(tmp_path)
    assert list(json.loads(file.read_text())["milliseconds"]) == ["onnx cpu fp32"]


def _blind_with_openvino(
    bundle: Bundle, backend: str, device: str, precision: str, threads: int | None, threshold: float
) -> Detector:
    return Detector(bundle, backend, device, precision, threads, threshold=1.0 if backend == "openvino" else threshold)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        ({ONNX: 10.0}, ONNX),
        ({ONNX: 10.0, OPENVINO: 9.8}, ONNX),
        ({ONNX: 10.0, OPENVINO: 9.0, INT8: 5.0}, INT8),
        ({ONNX: 10.0, OPENVINO: 12.0}, ONNX),
    ],
)
def test_noise_is_no_gain(milliseconds: dict[Decision, float], expected: Decision) -> None:
    assert _fastest({EngineChoice(*engine): time for engine, time in milliseconds.items()}) == expected


def test_a_model_that_finds_nothing_keeps_the_reference(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    water = VerificationCase("water", Volume(np.zeros((9, 90, 100), np.int16), np.diag([1.0, 1.0, 2.0, 1.0])))
    monkeypatch.setattr("lnsdk.verification.simulated_cases", lambda count: [water] * count)
    assert automatic(bundle, "auto", "auto", 1) == ONNX


def test_a_variable_names_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "openvino")
    assert automatic(bundle, "auto", "auto", None) == Decision("openvino", "auto", "fp32")
    assert automatic(bundle, "cuda", "auto", None) == Decision("torchscript", "cuda", "fp32")
    assert Detector(bundle).provenance.backend == "openvino"


def test_a_variable_that_names_nothing_is_told(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "abacus")
    with pytest.raises(BackendUnavailable, match="LNSDK_BACKEND is 'abacus'; it must be auto, onnx, openvino"):
        Detector(bundle)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_precision_finds_the_engine_that_has_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    only = [EngineChoice("openvino", "cpu", precision)]
    monkeypatch.setattr("lnsdk.verification.choices", lambda *_: only)
    assert automatic(bundle, "auto", precision, 1) == Decision("openvino", "cpu", precision)


def test_a_precision_that_no_engine_has_is_told(bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailable, match=r"no engine of this CPU can be used .*none computes in fp16"):
        automatic(bundle, "auto", "fp16", 1)
    with pytest.raises(BackendUnavailable, match=r"openvino cpu int8: the bundle has no models/image\.int8\.onnx"):
        automatic(bundle, "auto", "int8", 1)


def test_an_only_engine_needs_no_measurement(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnsdk.backends.openvino.find_spec", lambda name: None)
    assert automatic(bundle, "auto", "auto", None) == ONNX
    assert not kept(tmp_path)


def test_a_broken_engine_is_no_choice(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise BackendUnavailable("openvino: libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr("lnsdk.backends.openvino._openvino", broken)
    assert automatic(bundle, "auto", "auto", None) == ONNX


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"situation": 1, "decision": {}}'])
def test_a_damaged_decision_is_made_again(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    automatic(bundle, "auto", "auto", 1)
    (file,) = kept(tmp_path)
    file.write_text(content)
    monkeypatch.setattr(choice, "_decided", {})
    monkeypatch.setattr(choice, "_measure", lambda *_: {EngineChoice(*ONNX): 10.0})
    assert automatic(bundle, "auto", "auto", 1) == ONNX
    assert json.loads(file.read_text())["milliseconds"] == {"onnx cpu fp32": 10.0}
