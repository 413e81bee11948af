import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lnsdk import BackendUnavailable, InputError
from lnsdk.backends import BACKENDS
from lnsdk.backends.base import Graph, Signature
from lnsdk.bundle import read_bundle
from tests.toy_bundle import write_bundle

TORCHSCRIPT = BACKENDS["torchscript"]
SIGNATURE = Signature(
    {"image": (None, 3, None, None), "scale": (None, 1)}, {"scaled": (None, 3, None, None), "mean": (None, 3)}
)


class Scale(torch.nn.Module):
    def forward(self, image: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = image * scale[:, :, None, None]
        return scaled, scaled.mean((2, 3))


class Single(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + 1


@pytest.fixture(scope="module")
def scripted() -> Callable[[torch.nn.Module], bytes]:
    def save(module: torch.nn.Module) -> bytes:
        content = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
            torch.jit.save(torch.jit.script(module), content)
        return content.getvalue()

    return save


def graph(content: bytes, signature: Signature = SIGNATURE) -> Graph:
    return Graph("scale", signature, {".ts": content}.__getitem__)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_graph_runs(scripted: Callable[[torch.nn.Module], bytes], batch: int) -> None:
    session = TORCHSCRIPT.open(graph(scripted(Scale())), "cpu", "fp32", None)
    image = np.ones((batch, 3, 4, 5), np.float32)
    image.flags.writeable = False
    outputs = session.run({"scale": np.full((batch, 1), 2, np.float32), "image": image})
    assert list(outputs) == ["scaled", "mean"]
    assert np.array_equal(outputs["mean"], np.full((batch, 3), 2))


def test_a_single_output_needs_no_tuple(scripted: Callable[[torch.nn.Module], bytes]) -> None:
    signature = Signature({"image": (None, 2)}, {"more": (None, 2)})
    session = TORCHSCRIPT.open(graph(scripted(Single()), signature), "cpu", "fp32", 1)
    assert session.run({"image": np.zeros((1, 2), np.float32)})["more"].tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (Signature({"image": (None, 3)}, SIGNATURE.outputs), "has inputs image, scale where its bundle promises image"),
        (Signature(SIGNATURE.inputs, {"scaled": (None,)}), "gives 2 tensors where its bundle promises scaled"),
    ],
)
def test_another_signature_is_refused(
    scripted: Callable[[torch.nn.Module], bytes], signature: Signature, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        TORCHSCRIPT.open(graph(scripted(Scale()), signature), "cpu", "fp32", None)
    assert caught.value.reason == "bundle-signature"


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "toy", {"models/image.ts": b"not a network"}))
    with pytest.raises(InputError, match="torch cannot load graph 'image'") as caught:
        TORCHSCRIPT.open(bundle.graph("image"), "cpu", "fp32", None)
    assert caught.value.reason == "bundle-graph"
    assert "\n" not in str(caught.value)


def test_only_fp32(scripted: Callable[[torch.nn.Module], bytes]) -> None:
    with pytest.raises(BackendUnavailable, match="torchscript: runs fp32 only, got fp16"):
        TORCHSCRIPT.open(graph(scripted(Scale())), "cpu", "fp16", None)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert TORCHSCRIPT.device("auto") == TORCHSCRIPT.device("cpu") == "cpu"
    with pytest.raises(BackendUnavailable, match="torch finds no CUDA GPU"):
        TORCHSCRIPT.device("cuda")
    with pytest.raises(ValueError, match="device must be auto, cpu or cuda, got 'tpu'"):
        TORCHSCRIPT.device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert TORCHSCRIPT.device("auto") == TORCHSCRIPT.device("cuda") == "cuda"


def test_versions_are_told() -> None:
    assert TORCHSCRIPT.version() == torch.__version__
    assert BACKENDS["onnx"].version().count(".") == 2
