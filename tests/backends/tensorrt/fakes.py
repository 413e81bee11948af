"""Stand-ins for TensorRT and pycuda, which do nothing but arithmetic and remember what they were asked: no GPU needed.

An "engine" is the JSON of its tensors; running it gives every output the sum of all inputs, per row of the batch.
"""

import json
import sys
import threading
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lnsdk.backends.base import Graph, Signature
from lnsdk.backends.tensorrt import gpu, log

SIGNATURE = Signature({"image": (None, 3, None), "scale": (None, 1)}, {"sums": (None, 2)})
PROFILE = {"image": ((1, 3, 2), (2, 3, 4), (4, 3, 8)), "scale": ((1, 1), (2, 1), (4, 1))}
MODELS = {".onnx": b"an fp32 model", ".fp16.onnx": b"an fp16 model"}
GRAPH = Graph("sum", SIGNATURE, MODELS.__getitem__, PROFILE)


class Machine:
    """The GPU, its memory by address, and what was asked of it."""

    def __init__(self) -> None:
        self.current: dict[int, int] = {}
        self.memory: dict[int, np.ndarray] = {}
        self.calls: list[str] = []
        self.builds = 0
        self.types = {"fp32": "Row major linear FP32", "fp16": "Channel major FP16 format where channel % 8 == 0"}
        self.tensors = {
            "image": ("INPUT", "FLOAT", [-1, 3, -1]),
            "scale": ("INPUT", "FLOAT", [-1, 1]),
            "sums": ("OUTPUT", "FLOAT", [-1, 2]),
        }
        self.refuses_engines = False
        self.build_fails = False
        self.contexts: list[Any] = []

    def used(self, what: str) -> None:
        """Note a call, which must be made while the primary context is current in this thread."""
        assert self.current.get(threading.get_ident(), 0) > 0, f"{what} without a current context"
        self.calls.append(what)

    def at(self, address: int) -> np.ndarray:
        return self.memory[address]


def fake_cuda(machine: Machine, devices: int = 1) -> ModuleType:
    class Error(Exception):
        pass

    class Context:
        def push(self) -> None:
            thread = threading.get_ident()
            machine.current[thread] = machine.current.get(thread, 0) + 1

        @staticmethod
        def pop() -> None:
            machine.current[threading.get_ident()] -= 1

        @staticmethod
        def synchronize() -> None:
            machine.used("synchronize")

    class Device:
        def __init__(self, number: int) -> None:
            assert number == 0

        @staticmethod
        def count() -> int:
            return devices

        def name(self) -> str:
            return "Orin"

        def compute_capability(self) -> tuple[int, int]:
            return (8, 7)

        def retain_primary_context(self) -> Context:
            machine.calls.append("retain")
            return Context()

    class Allocation:
        def __init__(self, size: int) -> None:
            machine.used(f"allocate {size}")
            self.address = 4096 * (len(machine.memory) + 1)
            machine.memory[self.address] = np.zeros(size, np.uint8)

        def __int__(self) -> int:
            return self.address

        def __del__(self) -> None:
            machine.used("free")

    class Stream:
        def __init__(self) -> None:
            machine.used("stream")
            self.handle = id(self)

        def synchronize(self) -> None:
            machine.used("wait")

    def upload(dest: Allocation, src: np.ndarray, stream: Stream) -> None:
        machine.used("upload")
        machine.at(int(dest))[: src.nbytes] = src.reshape(-1).view(np.uint8)

    def download(dest: np.ndarray, src: Allocation, stream: Stream) -> None:
        machine.used("download")
        dest[...] = machine.at(int(src))[: dest.nbytes].view(np.float32).reshape(dest.shape)

    driver = ModuleType("pycuda.driver")
    vars(driver).update(
        Error=Error,
        Context=Context,
        Device=Device,
        Stream=Stream,
        init=lambda: None,
        mem_alloc=Allocation,
        memcpy_htod_async=upload,
        memcpy_dtoh_async=download,
    )
    return driver


class _Context:
    def __init__(self, machine: Machine, tensors: dict[str, Any]) -> None:
        self.machine = machine
        self.tensors = tensors
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch = (0, 0)
        self.thread = threading.get_ident()
        machine.used("context")
        machine.contexts.append(self)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> list[int]:
        return [self.shapes["image"][0], *self.tensors[name][2][1:]]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        return 100 * self.shapes["image"][0]

    def set_device_memory(self, memory: int, size: int) -> None:
        self.scratch = (memory, size)

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.machine.used(f"run on {stream_handle}")
        assert self.thread == threading.get_ident()
        assert len(self.machine.at(self.scratch[0])) >= self.scratch[1]
        batch = self.shapes["image"][0]
        total = np.zeros(batch, np.float32)
        for name, shape in self.shapes.items():
            count = int(np.prod(shape))
            total += self.machine.at(self.addresses[name])[: 4 * count].view(np.float32).reshape(batch, -1).sum(1)
        sums = self.machine.at(self.addresses["sums"])[: 8 * batch].view(np.float32).reshape(batch, 2)
        sums[:] = total[:, None]
        return True


class _Engine:
    def __init__(self, machine: Machine, content: dict[str, Any]) -> None:
        self.machine = machine
        self.content = content
        self.names = list(reversed(content["tensors"]))  # TensorRT promises no order
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return str(self.names[index])

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name=self.content["tensors"][name][0])

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.content["tensors"][name][1])

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.content["tensors"][name][2])

    def create_execution_context(self, strategy: str) -> _Context:
        assert strategy == "user managed"
        return _Context(self.machine, self.content["tensors"])

    def create_engine_inspector(self) -> Any:
        inspector = SimpleNamespace(execution_context=None)

        def information(wanted: str) -> str:
            assert wanted == "json"
            assert inspector.execution_context.shapes == {name: usual for name, (_, usual, _) in PROFILE.items()}
            return json.dumps({"Layers": [{"Outputs": [{"Format/Datatype": self.content["type"]}]}]})

        inspector.get_engine_information = information
        return inspector

    def serialize(self) -> bytes:
        return json.dumps(self.content).encode()


def fake_tensorrt(machine: Machine, version: str = "10.13.2.6", name: str = "tensorrt") -> ModuleType:
    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = "error", "internal error", "warning"

    class IProgressMonitor:
        pass

    class Builder:
        def __init__(self, logger: Any) -> None:
            machine.used("builder")
            self.logger = logger

        def create_network(self, flags: int) -> Any:
            assert flags == 1 << 1
            return SimpleNamespace(content=b"")

        def create_builder_config(self) -> Any:
            config = SimpleNamespace(flags={"tf32"}, profiles=[], timings=None)
            config.set_flag = config.flags.add
            config.clear_flag = config.flags.remove
            config.add_optimization_profile = config.profiles.append
            config.create_timing_cache = lambda content: SimpleNamespace(serialize=lambda: content + b"timed ")
            config.set_timing_cache = lambda cache, ignore_mismatch: vars(config).update(timings=cache)
            return config

        def create_optimization_profile(self) -> Any:
            shapes: dict[str, Any] = {}
            return SimpleNamespace(
                shapes=shapes,
                set_shape=lambda name, smallest, usual, largest: shapes.update({name: (smallest, usual, largest)}),
            )

        def build_engine_with_config(self, network: Any, config: Any) -> _Engine | None:
            machine.builds += 1
            machine.used("build")
            if machine.build_fails:
                self.logger.log("warning", "it is slow")
                self.logger.log("error", "out of\nmemory")
                return None
            assert config.profiling_verbosity == "detailed"
            assert [profile.shapes for profile in config.profiles] == [PROFILE]
            config.progress_monitor.phase_start("Building", None, 2)
            assert config.progress_monitor.step_complete("Building", 0)
            config.progress_monitor.phase_finish("Building")
            time.sleep(0.01)
            kind = "fp16" if b"fp16" in network.content else "fp32"
            content = {"tensors": machine.tensors, "type": machine.types[kind], "flags": sorted(config.flags)}
            return _Engine(machine, content | {"version": version, "build": machine.builds})

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            self.network = network

        num_errors = 2

        def get_error(self, index: int) -> Any:
            return SimpleNamespace(desc=lambda: f"node {index} is\nodd")

        def parse(self, model: bytes) -> bool:
            self.network.content = model
            return model.endswith(b"model")

    class Runtime:
        def __init__(self, logger: Any) -> None:
            machine.used("runtime")
            self.logger = logger

        def deserialize_cuda_engine(self, content: bytes) -> _Engine | None:
            machine.used("deserialize")
            made = json.loads(content)  # a foreign or damaged engine would crash the process
            assert made["version"].split(".")[0] == version.split(".")[0]
            if machine.refuses_engines:
                self.logger.log("error", "the driver is too old")
                return None
            return _Engine(machine, made)

    module = ModuleType(name)
    vars(module).update(
        __version__=version,
        ILogger=ILogger,
        IProgressMonitor=IProgressMonitor,
        Runtime=Runtime,
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user managed"),
    )
    if name == "tensorrt":
        vars(module).update(
            Builder=Builder,
            OnnxParser=OnnxParser,
            NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
            BuilderFlag=SimpleNamespace(TF32="tf32", VERSION_COMPATIBLE="version compatible"),
            ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
            LayerInformationFormat=SimpleNamespace(JSON="json"),
        )
    return module


def install(monkeypatch: pytest.MonkeyPatch, machine: Machine, *libraries: ModuleType, devices: int = 1) -> None:
    """Let `import` find the stand-ins, and no others."""
    package = ModuleType("pycuda")
    driver = fake_cuda(machine, devices)
    vars(package)["driver"] = driver
    modules = {"pycuda": package, "pycuda.driver": driver} | {library.__name__: library for library in libraries}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("lnsdk.backends.tensorrt.find_spec", modules.get)
    gpu.first_gpu.cache_clear()
    log.log.cache_clear()


def layers(*types: str) -> list[Any]:
    """The inspector's layers with outputs of these types."""
    return [{"Outputs": [{"Format/Datatype": type_}]} for type_ in types]
