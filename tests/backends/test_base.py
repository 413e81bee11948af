import re

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk import BackendUnavailable, InputError
from lnsdk.backends import BACKENDS, choose
from lnsdk.backends.base import Graph, Session, Signature, Tensors, check_signature

SIGNATURE = Signature({"image": (None, 3, None), "rois": (None, 4)}, {"scores": (None, 2)})
GRAPH = Graph("head", SIGNATURE, lambda suffix: b"")


class Doubler(Session):
    """Gives two columns per row, or what it is told to."""

    def __init__(self, columns: int = 2, value: float = 1.0) -> None:
        super().__init__(GRAPH)
        self.columns = columns
        self.value = value

    def _run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        return {"scores": np.full((len(inputs["image"]), self.columns), self.value, np.float32)}


def arrays(**changes: NDArray[np.generic]) -> dict[str, NDArray[np.float32]]:
    inputs: dict[str, NDArray[np.float32]] = {
        "image": np.zeros((2, 3, 5), np.float32),
        "rois": np.zeros((2, 4), np.float32),
    }
    return inputs | changes  # type: ignore[return-value]


def test_inputs_that_fit_are_run() -> None:
    assert Doubler().run(arrays())["scores"].shape == (2, 2)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"image": np.zeros((2, 3, 5), np.float32)}, ValueError, "must be named image, rois; got image"),
        (arrays(extra=np.zeros(1, np.float32)), ValueError, "must be named image, rois; got image, rois, extra"),
        (arrays(rois=np.zeros((2, 4))), TypeError, "input 'rois' of graph 'head' must be float32, got float64"),
        (arrays(rois=np.zeros((2, 5), np.float32)), ValueError, "must have shape (any, 4), got (2, 5)"),
        (arrays(rois=np.zeros(4, np.float32)), ValueError, "must have shape (any, 4), got (4,)"),
        (arrays(rois=np.zeros((3, 4), np.float32)), ValueError, "must have one batch size, got image 2, rois 3"),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    inputs: dict[str, NDArray[np.float32]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Doubler().run(inputs)


def test_outputs_that_do_not_fit_are_named() -> None:
    with pytest.raises(RuntimeError, match="gave 'scores' with shape \\(2, 3\\)"):
        Doubler(columns=3).run(arrays())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_no_numbers_are_named(value: float) -> None:
    with pytest.raises(RuntimeError, match="graph 'head' gave NaN or infinity in 'scores'"):
        Doubler(value=value).run(arrays())


def test_a_signature_may_be_known_in_part() -> None:
    check_signature(GRAPH, SIGNATURE)
    check_signature(GRAPH, Signature({"image": (None, None, None), "rois": (None, None)}, {"scores": (None, None)}))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Signature({"image": (None, 3, None)}, SIGNATURE.outputs), "has inputs image where its bundle promises"),
        (Signature({**SIGNATURE.inputs, "rois": (1, 4)}, SIGNATURE.outputs), "'rois' of shape (1, 4)"),
        (Signature({**SIGNATURE.inputs, "rois": (None, 5)}, SIGNATURE.outputs), "'rois' of shape (any, 5)"),
        (Signature({**SIGNATURE.inputs, "rois": (None,)}, SIGNATURE.outputs), "'rois' of shape (any)"),
        (Signature(SIGNATURE.inputs, {"boxes": (None, 2)}), "has outputs boxes where its bundle promises scores"),
    ],
)
def test_another_signature_is_refused(found: Signature, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        check_signature(GRAPH, found)
    assert caught.value.reason == "bundle-signature"


def test_auto_is_onnx_unless_a_gpu_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnsdk.backends.tensorrt.find_spec", lambda name: None)
    assert choose("auto") is choose("auto", "cpu") is BACKENDS["onnx"]
    assert choose("auto", "cuda") is BACKENDS["torchscript"]


@pytest.mark.parametrize("backend", ["auto", "onnx", "openvino", "torchscript"])
def test_an_unknown_device_is_refused(backend: str) -> None:
    with pytest.raises(ValueError, match="device must be auto, cpu or cuda, got 'tpu'"):
        choose(backend, "tpu")


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(
        ValueError, match="backend must be auto, onnx, openvino, torchscript, tensorrt or tensorrt-lean, got 'abacus'"
    ):
        choose("abacus")


@pytest.mark.parametrize(
    ("name", "module", "install"),
    [
        ("onnx", "onnxruntime", "pip install onnxruntime"),
        ("openvino", "openvino", "pip install 'lnsdk[openvino]'"),
        ("torchscript", "torch", "pip install 'lnsdk[torch]'"),
    ],
)
def test_a_missing_engine_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, install: str
) -> None:
    monkeypatch.setattr(f"lnsdk.backends.{name}.find_spec", lambda wanted: None)
    expected = f"{name}: no module named '{module}'; install it with `{install}`"
    with pytest.raises(BackendUnavailable, match=re.escape(expected)):
        choose(name)
