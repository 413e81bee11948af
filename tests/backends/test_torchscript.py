import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lnsdk import BackendUnavailable, InputError
from lnsdk.backends import BACKENDS
from lnsdk.backends.base import Graph, PrecisionError, Signature
from lnsdk.backends.torchscript import TorchScriptSession
from lnsdk.bundle import read_bundle
from lnsdk.threads import available_cores
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
    with pytest.raises(InputError, match=r"models/image\.ts is no TorchScript archive"):
        TORCHSCRIPT.open(bundle.graph("image"), "cpu", "fp32", None)
    with pytest.raises(InputError, match="torch cannot load graph 'scale'") as caught:
        TORCHSCRIPT.open(graph(b"not a network"), "cpu", "fp32", None)
    assert caught.value.reason == "bundle-graph"
    assert "\n" not in str(caught.value)


def test_only_fp32(scripted: Callable[[torch.nn.Module], bytes]) -> None:
    with pytest.raises(BackendUnavailable, match=r"torchscript: computes in fp32 on cpu here, got precision .fp16."):
        TORCHSCRIPT.open(graph(scripted(Scale())), "cpu", "fp16", None)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert TORCHSCRIPT.device("auto") == TORCHSCRIPT.device("cpu") == "cpu"
    with pytest.raises(BackendUnavailable, match="torch finds no CUDA GPU"):
        TORCHSCRIPT.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert TORCHSCRIPT.device("auto") == TORCHSCRIPT.device("cuda") == "cuda"


def test_threads_are_one_per_core_unless_told(scripted: Callable[[torch.nn.Module], bytes]) -> None:
    before = torch.get_num_threads()
    try:
        for threads, expected in ((3, 3), (None, available_cores()), (1, 1)):
            TORCHSCRIPT.open(graph(scripted(Scale())), "cpu", "fp32", threads)
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_process_is_told_to_load_anew(
    scripted: Callable[[torch.nn.Module], bytes], tmp_path: Path, threads: int
) -> None:
    (tmp_path / "scale.ts").write_bytes(scripted(Scale()))
    script = f"""
import os, pathlib, signal
import numpy as np
from lnsdk import BackendUnavailable
from tests.backends.test_torchscript import TORCHSCRIPT, graph
session = TORCHSCRIPT.open(graph(pathlib.Path({str(tmp_path / "scale.ts")!r}).read_bytes()), "cpu", "fp32", {threads})
inputs = {{"scale": np.ones((1, 1), np.float32), "image": np.ones((1, 3, 64, 64), np.float32)}}
session.run(inputs)
child = os.fork()
if child == 0:
    signal.alarm(30)
    try:
        session.run(inputs)
    except BackendUnavailable as error:
        os._exit(0 if "forked" in str(error) else 1)
    os._exit(2)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    assert subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_versions_are_told() -> None:
    assert TORCHSCRIPT.version() == torch.__version__
    assert BACKENDS["onnx"].version().count(".") == 2


def test_a_result_of_another_precision_is_refused(scripted: Callable[[torch.nn.Module], bytes]) -> None:
    inputs = {"scale": np.ones((1, 1), np.float32), "image": np.ones((1, 3, 4, 5), np.float32)}
    sound, other = (TorchScriptSession(graph(scripted(Scale())), "cpu", name) for name in ("fp32", "fp16"))
    sound.run(inputs)
    sound.check_precision()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*CUDA is not available")  # autocast for a GPU does nothing here
        other.run(inputs)
    with pytest.raises(PrecisionError, match=r"graph 'scale' computed in torch\.float32, asked for fp16"):
        other.check_precision()
