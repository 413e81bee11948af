"""The repository for Triton: parsed as Triton does, and complete."""

import shutil
from pathlib import Path

import onnxruntime
import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2  # type: ignore[import-untyped]

from lnsdk import InputError
from lnsdk.bundle import read_bundle
from lnsdk.cli.__main__ import main
from lnsdk.export.triton import write_triton
from tests.toy_bundle import FPR, write_toy_bundle


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("triton") / "toy", fpr=FPR)


def test_every_graph_becomes_a_model(toy: Path, tmp_path: Path) -> None:
    bundle = read_bundle(toy)
    written = write_triton(bundle, tmp_path / "models")
    names = [f"toy_{graph}" for graph in ("image", "fuse", "head", "fpr")]
    assert written == [tmp_path / "models" / name / "1" for name in names]
    for name, signature in zip(names, bundle.graphs.values(), strict=True):
        folder = tmp_path / "models" / name
        config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        assert (config.name, config.backend, config.max_batch_size) == (name, "onnxruntime", 8)
        session = onnxruntime.InferenceSession(folder / "1/model.onnx", providers=["CPUExecutionProvider"])
        for listed, tensors, shapes in (
            (config.input, session.get_inputs(), signature.inputs),
            (config.output, session.get_outputs(), signature.outputs),
        ):
            assert [tensor.name for tensor in listed] == [tensor.name for tensor in tensors]
            for tensor in listed:
                assert tensor.data_type == model_config_pb2.TYPE_FP32
                assert [None if size == -1 else size for size in tensor.dims] == list(shapes[tensor.name][1:])
        (warm_up,) = config.model_warmup
        assert {name: len(value.dims) for name, value in warm_up.inputs.items()} == {
            name: len(shape) - 1 for name, shape in signature.inputs.items()
        }
        assert all(size > 0 for value in warm_up.inputs.values() for size in value.dims)
        assert all(value.zero_data for value in warm_up.inputs.values())


def test_a_model_that_is_there_gets_another_version(toy: Path, tmp_path: Path) -> None:
    write_triton(read_bundle(toy), tmp_path)
    (tmp_path / "toy_image/1").rename(tmp_path / "toy_image/7")
    versions = {path.parent.name: path.name for path in write_triton(read_bundle(toy), tmp_path)}
    assert versions == {"toy_image": "8", "toy_fuse": "2", "toy_head": "2", "toy_fpr": "2"}


def test_the_command(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--bundle", str(toy), "--triton", str(tmp_path / "models")]) == 0
    assert f"written: {tmp_path / 'models/toy_fpr/1'}" in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert main(["export", "--bundle", str(toy), "--triton", str(tmp_path / "file")]) == 2
    assert "cannot write to" in capsys.readouterr().err
    checkpoint = ["export", "run.ckpt", "-o", str(tmp_path / "b"), "--threshold", "0.5"]
    assert main([*checkpoint, "--bundle", str(toy)]) == 2
    assert "leave one out" in capsys.readouterr().err
    for arguments in (["export"], ["export", "run.ckpt", "--threshold", "0.5"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert "name a checkpoint" in capsys.readouterr().err


def test_a_bundle_without_onnx_is_refused(toy: Path, tmp_path: Path) -> None:
    whole = read_bundle(toy)
    shutil.rmtree(toy / "models")
    with pytest.raises(InputError, match="missing"):
        write_triton(whole, tmp_path)
