"""The logic around TensorRT, with stand-ins for it: nothing here builds or runs an engine."""

import gc
import json
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk import BackendUnavailable, InputError
from lnsdk.backends import BACKENDS, choose
from lnsdk.backends.base import Session
from lnsdk.backends.tensorrt import TensorRTSession
from lnsdk.backends.tensorrt.builder import check_precision
from lnsdk.backends.tensorrt.gpu import first_gpu
from tests.backends.tensorrt.fakes import GRAPH, PROFILE, SIGNATURE, Machine, fake_tensorrt, install, layers

TENSORRT, LEAN = BACKENDS["tensorrt"], BACKENDS["tensorrt-lean"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LNSDK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/tensorrt"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Machine:
    made = Machine()
    install(monkeypatch, made, fake_tensorrt(made))
    return made


def opened(precision: str = "fp32") -> TensorRTSession:
    session = TENSORRT.open(GRAPH, "cuda", precision, None)
    assert isinstance(session, TensorRTSession)
    return session


def inputs(batch: int = 2, width: int = 4) -> dict[str, NDArray[np.float32]]:
    return {
        "image": np.arange(batch * 3 * width, dtype=np.float32).reshape(batch, 3, width),
        "scale": np.full((batch, 1), 0.5, np.float32),
    }


def expected(given: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    total = given["image"].sum((1, 2)) + given["scale"].sum(1)
    return np.repeat(total[:, None], 2, 1)


def engine_of(folder: Path) -> Path:
    (path,) = folder.glob("*.engine")
    return path


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_a_graph_runs(machine: Machine, batch: int) -> None:
    given = inputs(batch)
    outputs = opened().run(given)
    assert list(outputs) == ["sums"]
    assert np.array_equal(outputs["sums"], expected(given))


def test_inputs_of_any_layout_are_copied_in_c_order(machine: Machine) -> None:
    given = inputs()
    turned = given | {"image": np.asfortranarray(given["image"])}
    assert np.array_equal(opened().run(turned)["sums"], expected(given))


def test_an_engine_is_built_once_and_kept_as_it_is(machine: Machine, folder: Path) -> None:
    opened()
    opened()
    assert machine.builds == 1
    engine = json.loads(engine_of(folder).read_bytes())  # nothing in front of it
    assert engine["flags"] == []  # no TF32
    assert {path.name.rpartition(".")[2] for path in folder.iterdir()} == {"engine", "json", "timings"}


SIDECAR = (
    "graph",
    "model_sha256",
    "tensorrt",
    "version_compatible",
    "gpu",
    "compute_capability",
    "precision",
    "profile",
    "lnsdk",
    "sha256",
)
"""What a sidecar says of its engine."""


@pytest.mark.parametrize("key", SIDECAR)
@pytest.mark.parametrize("change", ["another", "missing"])
def test_an_engine_with_another_sidecar_is_built_anew(machine: Machine, folder: Path, key: str, change: str) -> None:
    opened()
    sidecar = Path(f"{engine_of(folder)}.json")
    description = json.loads(sidecar.read_bytes())
    before = description.pop(key)
    if change == "another":
        description[key] = "another"
    sidecar.write_text(json.dumps(description))
    machine.calls.clear()
    opened()
    assert machine.builds == 2
    assert machine.calls.index("build") < machine.calls.index("deserialize")  # the foreign one was not looked at
    assert key == "sha256" or json.loads(sidecar.read_bytes())[key] == before
    opened()
    assert machine.builds == 2


def test_the_sidecar_holds_nothing_else(machine: Machine, folder: Path) -> None:
    opened()
    assert json.loads(Path(f"{engine_of(folder)}.json").read_bytes()).keys() == set(SIDECAR)


@pytest.mark.parametrize("suffix", ["", ".json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: b"{" + content,
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: b"[]",
        lambda content: b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_built_anew(
    machine: Machine, folder: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    opened()
    path = Path(f"{engine_of(folder)}{suffix}")
    path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(opened().run(inputs())["sums"], expected(inputs()))
    assert machine.builds == 2


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_a_missing_file_is_built_anew(machine: Machine, folder: Path, suffix: str) -> None:
    opened()
    Path(f"{engine_of(folder)}{suffix}").unlink()
    opened()
    assert machine.builds == 2


def test_another_version_gpu_precision_shape_or_model_is_another_engine(
    machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    opened("fp16")
    TENSORRT.open(replace(GRAPH, read=lambda suffix: b"another model"), "cuda", "fp32", None)
    install(monkeypatch, machine, fake_tensorrt(machine, "11.4.0.106"))
    opened()
    monkeypatch.setattr(first_gpu(), "name", "Thor")
    opened()
    assert machine.builds == len(list(folder.glob("*.engine"))) == 5


def test_an_engine_that_tensorrt_refuses_is_built_anew(machine: Machine) -> None:
    opened()
    machine.refuses_engines = True
    with pytest.raises(InputError, match="cannot load graph 'sum': the driver is too old"):
        opened()
    assert machine.builds == 2


def test_timings_of_earlier_builds_are_used(machine: Machine, folder: Path) -> None:
    opened()
    opened("fp16")
    (timings,) = folder.glob("*.timings")
    assert timings.read_bytes() == b"timed timed "
    timings.write_bytes(b"damaged")
    engine_of_fp32 = next(path for path in folder.glob("*.engine") if b"FP32" in path.read_bytes())
    engine_of_fp32.unlink()
    opened()
    assert timings.read_bytes() == b"timed "


def test_two_that_build_at_once_do_no_harm(machine: Machine, folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(lambda _: opened(), range(8)))
    assert all(np.array_equal(session.run(inputs())["sums"], expected(inputs())) for session in sessions)
    opened().run(inputs())
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("precision", "types", "told"),
    [
        ("fp16", ["Row major linear FP32", "Float"], "computes in fp32"),
        ("fp16", ["Half", "BF16"], "computes in bf16, fp16"),
        ("fp16", [], "computes in unknown types"),
        ("fp32", ["Float", "Channel major FP16 format where channel % 8 == 0"], "computes in fp16, fp32"),
        ("fp32", ["Row major linear FP32", "FP8"], "computes in fp32, fp8"),
        ("fp32", ["N/A due to dynamic shapes", "Int64"], "computes in unknown types"),
    ],
)
def test_another_precision_is_refused(precision: str, types: list[str], told: str) -> None:
    with pytest.raises(BackendUnavailable, match=f"asked for {precision}, but the engine of graph 'sum' {told}"):
        check_precision(GRAPH, precision, layers(*types))


@pytest.mark.parametrize(
    ("precision", "types"),
    [
        ("fp32", ["Row major linear FP32", "Float", "Int32", "Bool"]),
        ("fp16", ["Half", "Float", "Row major linear FP16 format", "Int64"]),
    ],
)
def test_the_precision_that_was_asked_for_is_accepted(precision: str, types: list[str]) -> None:
    check_precision(GRAPH, precision, layers(*types))


def test_types_of_weights_count_and_names_alone_do_not() -> None:
    check_precision(GRAPH, "fp16", [{"Weights": {"Type": "Half", "Count": 9}}, {"Bias": {"Type": "Float"}}])
    with pytest.raises(BackendUnavailable, match="unknown types"):
        check_precision(GRAPH, "fp32", ["a layer's name, fp32", {"Name": "fp32"}])


def test_an_engine_of_another_precision_is_not_kept(machine: Machine, folder: Path) -> None:
    machine.types["fp16"] = machine.types["fp32"]
    with pytest.raises(BackendUnavailable, match="asked for fp16"):
        opened("fp16")
    assert list(folder.iterdir()) == []


def test_a_model_that_cannot_be_read_is_told(machine: Machine) -> None:
    with pytest.raises(InputError, match="cannot read graph 'sum': node 0 is odd; node 1 is odd") as caught:
        TENSORRT.open(replace(GRAPH, read=lambda suffix: b"no ONNX"), "cuda", "fp32", None)
    assert caught.value.reason == "bundle-graph"


def test_a_build_that_fails_says_why(machine: Machine) -> None:
    machine.build_fails = True
    with pytest.raises(BackendUnavailable, match=r"cannot build an engine of graph 'sum': out of memory; use"):
        opened()


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("image", ("INPUT", "FLOAT", [-1, 5, -1]), "'image' of shape (any, 5, any) where its bundle promises"),
        ("image", ("INPUT", "FLOAT", [1, 3, -1]), "'image' of shape (1, 3, any) where its bundle promises"),
        ("sums", ("OUTPUT", "HALF", [-1, 2]), "'sums' of type HALF in TensorRT; every tensor must be float32"),
        ("more", ("OUTPUT", "FLOAT", [-1]), "outputs sums, more where its bundle promises sums"),
    ],
)
def test_another_signature_is_refused(machine: Machine, name: str, tensor: Any, message: str) -> None:
    machine.tensors[name] = tensor
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        opened()
    assert caught.value.reason == "bundle-signature"


@pytest.mark.parametrize(("batch", "width"), [(5, 4), (1, 9), (1, 1)])
def test_shapes_outside_the_profile_are_refused(machine: Machine, batch: int, width: int) -> None:
    message = (
        f"'image' of graph 'sum' has shape ({batch}, 3, {width}); its TensorRT engine takes (1, 3, 2) to (4, 3, 8)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        opened().run(inputs(batch, width))


def test_every_thread_has_its_own_context_and_stream(machine: Machine) -> None:
    session = opened()
    machine.calls.clear()
    machine.contexts.clear()
    barrier = threading.Barrier(4)

    def work(batch: int) -> bool:
        barrier.wait()
        given = inputs(batch)
        return all(np.array_equal(session.run(given)["sums"], expected(given)) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(1, 5)))
    assert machine.calls.count("stream") == machine.calls.count("context") == 4
    assert len({context.thread for context in machine.contexts}) == 4


def test_memory_grows_and_stays(machine: Machine) -> None:
    session = opened()
    session.run(inputs(2))
    machine.calls.clear()
    session.run(inputs(1))
    session.run(inputs(2))
    assert not [call for call in machine.calls if call.startswith(("allocate", "free"))]
    session.run(inputs(4))
    assert [call for call in machine.calls if call.startswith("allocate")]


def test_memory_is_given_back_in_a_current_context(machine: Machine) -> None:
    session = opened()
    session.run(inputs())
    thread = threading.Thread(target=session.run, args=(inputs(),))
    thread.start()
    thread.join()
    gc.collect()
    taken = [call for call in machine.calls if call.startswith("allocate")]
    assert machine.calls.count("free") == len(taken) // 2  # the thread's, when it ended
    del session
    gc.collect()
    assert machine.calls.count("free") == len(taken)
    assert set(machine.current.values()) == {0}


class OnDevice:
    """An array that says it is on the device."""

    def __init__(self, machine: Machine, array: NDArray[Any], **changes: Any) -> None:
        address = 1 + len(machine.memory)
        machine.memory[address] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (address, False),
            "version": 3,
        } | changes


def test_data_on_the_device_is_not_copied(machine: Machine) -> None:
    session = opened()
    given = inputs(3)
    there = {name: OnDevice(machine, array, strides=array.strides) for name, array in given.items()}
    machine.calls.clear()
    sums = session.run_on_device(there, stream=77)["sums"]
    assert not {"upload", "download", "wait"} & set(machine.calls)
    assert "run on 77" in machine.calls
    interface = sums.__cuda_array_interface__
    assert (interface["shape"], interface["typestr"], interface["version"]) == ((3, 2), "<f4", 3)
    values = machine.at(interface["data"][0])[: 4 * 6].view(np.float32).reshape(3, 2)
    assert np.array_equal(values, expected(given))
    machine.calls.clear()
    session.run_on_device(there, stream=77)
    assert "synchronize" not in machine.calls
    session.run(given)  # on the thread's own stream: what the other may still use is waited for
    assert machine.calls.count("synchronize") == 1


@pytest.mark.parametrize(
    ("image", "changes", "error", "message"),
    [
        (np.zeros((2, 3, 4), np.float32), {"strides": (4, 8, 24)}, ValueError, "image must be C-contiguous"),
        (np.zeros((2, 3, 4)), {}, TypeError, "must be float32, got float64"),
        (np.zeros((2, 4, 4), np.float32), {}, ValueError, "must have shape (any, 3, any)"),
        (np.zeros((3, 3, 4), np.float32), {}, ValueError, "one batch size"),
        (np.zeros((2, 3, 9), np.float32), {}, ValueError, "TensorRT engine takes"),
    ],
)
def test_data_on_the_device_is_checked(
    machine: Machine, image: NDArray[Any], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    session = opened()
    scale = OnDevice(machine, inputs()["scale"])
    with pytest.raises(error, match=re.escape(message)):
        session.run_on_device({"image": OnDevice(machine, image, **changes), "scale": scale})


def test_data_that_is_elsewhere_is_refused(machine: Machine) -> None:
    given: Any = inputs()
    with pytest.raises(TypeError, match="image must be on the device"):
        opened().run_on_device(given)


def test_a_forked_process_is_told_to_load_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened()
    session.run(inputs())
    parent_gpu = first_gpu()
    parent = os.getpid()
    calls = list(machine.calls)
    lost: list[object] = []
    monkeypatch.setattr("lnsdk.backends.tensorrt.session._LOST_IN_FORK", lost)
    monkeypatch.setattr("lnsdk.backends.tensorrt.gpu.os.getpid", lambda: parent + 1)
    with pytest.raises(BackendUnavailable, match="forked after the GPU was opened"):
        session.run(inputs())
    with pytest.raises(BackendUnavailable, match="forked after the GPU was opened"):
        opened()
    del session
    gc.collect()
    assert machine.calls == calls  # the GPU was not touched
    monkeypatch.undo()
    with parent_gpu.current():
        lost.clear()


def test_the_lean_runtime_runs_engines_of_earlier_versions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()

    def lean(version: str) -> Session:
        return LEAN.open(GRAPH, "cuda", "fp32", None)

    install(monkeypatch, machine, fake_tensorrt(machine), fake_tensorrt(machine, name="tensorrt_lean"))
    lean("10.13.2.6")
    assert json.loads(engine_of(folder).read_bytes())["flags"] == ["version compatible"]
    for version in ("10.13.2.6", "10.14.1.48.post1"):
        install(monkeypatch, machine, fake_tensorrt(machine, version, "tensorrt_lean"))
        given = inputs()
        assert np.array_equal(lean(version).run(given)["sums"], expected(given))
    assert machine.builds == 1
    for version in ("10.12.0.36", "11.0.0.114"):
        install(monkeypatch, machine, fake_tensorrt(machine, version, "tensorrt_lean"))
        with pytest.raises(BackendUnavailable, match="has no engine of graph 'sum' for this model"):
            lean(version)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-lean"])
@pytest.mark.parametrize("missing", ["tensorrt", "pycuda"])
def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str, missing: str) -> None:
    backend = BACKENDS[name]
    module = name.replace("-", "_") if missing == "tensorrt" else missing
    monkeypatch.setattr("lnsdk.backends.tensorrt.find_spec", lambda wanted: None if wanted == module else "there")
    expected = f"no module named '{module}'; install it with `pip install 'lnsdk[{name}]'` on a machine with an NVIDIA"
    assert expected in (backend.why_unavailable() or "")
    with pytest.raises(BackendUnavailable, match=f"{name}: no module named '{module}'"):
        choose(name)


def test_a_machine_without_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Machine()
    install(monkeypatch, made, fake_tensorrt(made), devices=0)
    assert TENSORRT.why_unavailable() == "the driver finds no NVIDIA GPU; use device='cpu'"
    assert choose("auto") is BACKENDS["onnx"]
    assert choose("auto", "cuda") is BACKENDS["torchscript"]


def test_an_old_tensorrt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Machine()
    install(monkeypatch, made, fake_tensorrt(made, "10.9.0.34"))
    assert (TENSORRT.why_unavailable() or "").startswith("TensorRT 10.9.0.34 is older than 10.12; update it with")


def test_a_tensorrt_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    made = Machine()
    install(monkeypatch, made, fake_tensorrt(made))
    monkeypatch.setattr("lnsdk.backends.tensorrt.import_module", refuse)
    assert "libnvinfer.so.10: cannot open shared object file; install it with" in (TENSORRT.why_unavailable() or "")


def test_tensorrt_must_be_asked_for(machine: Machine) -> None:
    assert choose("auto") is choose("auto", "cpu") is BACKENDS["onnx"]
    assert choose("auto", "cuda") is BACKENDS["torchscript"]
    assert choose("tensorrt", "cuda") is TENSORRT


def test_devices_and_precisions(machine: Machine) -> None:
    assert TENSORRT.device("auto") == TENSORRT.device("cuda") == "cuda"
    with pytest.raises(BackendUnavailable, match="tensorrt: runs on NVIDIA GPUs only, got device 'cpu'"):
        TENSORRT.device("cpu")
    with pytest.raises(BackendUnavailable, match="computes in fp32 or fp16 on cuda here, got precision 'int8'"):
        TENSORRT.open(GRAPH, "cuda", "int8", None)
    with pytest.raises(ValueError, match="graph 'sum' needs a profile"):
        TENSORRT.open(replace(GRAPH, profile=None), "cuda", "fp32", None)


def test_a_cache_folder_that_cannot_be_used_is_told(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LNSDK_CACHE", str(tmp_path / "file"))
    with pytest.raises(BackendUnavailable, match=r"engines cannot be kept in .*/file/tensorrt; .* set LNSDK_CACHE to"):
        opened()
    assert machine.builds == 0  # told before minutes are spent


def test_a_cache_folder_that_others_can_write_to_is_refused(machine: Machine, folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(BackendUnavailable, match="and by nobody else"):
        opened()


def test_a_full_disk_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lnsdk.backends.tensorrt.cache.NamedTemporaryFile", refuse)
    with pytest.raises(BackendUnavailable, match=r"cannot write .*\.engine \(No space left on device\); make room"):
        opened()


def test_the_profile_is_part_of_the_key(machine: Machine, folder: Path) -> None:
    assert SIGNATURE.inputs.keys() == PROFILE.keys()
    opened()
    text = json.loads(Path(f"{engine_of(folder)}.json").read_bytes())["profile"]
    assert text == {name: [list(shape) for shape in shapes] for name, shapes in PROFILE.items()}
