"""ONNX Runtime: the default engine on the CPU; on CUDA where its GPU package is installed."""

import json
import os
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnsdk.backends.base import (
    FILES,
    Graph,
    PrecisionError,
    Session,
    Shape,
    Signature,
    Tensors,
    check_offered,
    check_signature,
)
from lnsdk.backends.forks import abandon_in_children
from lnsdk.errors import BackendUnavailable, InputError
from lnsdk.threads import available_cores

INSTALL = "pip install onnxruntime"
INSTALL_GPU = "pip install onnxruntime-gpu"

CUDA = "CUDAExecutionProvider"

PROVIDERS: dict[str, list[Any]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [(CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}), "CPUExecutionProvider"],
}
"""Of each device. On CUDA, float32 stays float32, and the first call does not try every algorithm."""

PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32", "fp16")}
"""Of each device. On the CPU, ONNX Runtime computes a float16 graph in float32, and a quantized one slower still."""

HEAVY = re.compile("Conv|MatMul|Gemm")
"""Operators whose precision counts."""


class OnnxBackend:
    """Runs the ``.onnx`` files of a bundle."""

    name = "onnx"

    def why_unavailable(self) -> str | None:
        """Return None when ONNX Runtime is installed, else what to install."""
        if find_spec("onnxruntime") is None:
            return f"no module named 'onnxruntime'; install it with `{INSTALL}`"
        return None

    def version(self) -> str:
        """Return ONNX Runtime's version."""
        return str(_runtime().__version__)

    def device(self, device: str) -> str:
        """Return ``"cpu"`` unless CUDA is asked for, which ONNX Runtime's GPU package has."""
        if device == "cuda" and CUDA not in _runtime().get_available_providers():
            raise BackendUnavailable(
                f"onnx: this ONNX Runtime has no CUDA; install it with `{INSTALL_GPU}`, or use device='cpu'"
            )
        return "cuda" if device == "cuda" else "cpu"

    def precisions(self, device: str) -> tuple[str, ...]:
        """Return `PRECISIONS` of the device."""
        return PRECISIONS[device]

    def open(self, graph: Graph, device: str, precision: str, threads: int | None) -> Session:
        """Load a graph; see `lnsdk.backends.base.Backend.open`."""
        check_offered(self, device, precision)
        return _OnnxSession(graph, device, precision, threads)


class _OnnxSession(Session):
    def __init__(self, graph: Graph, device: str, precision: str, threads: int | None) -> None:
        super().__init__(graph)
        self._device = device
        self._precision = precision
        self._threads = threads
        self._profile = None if precision == "fp32" else TemporaryDirectory(prefix="lnsdk-")
        self._engine = self._open()
        check_signature(graph, _signature(graph, self._engine))
        abandon_in_children(self)

    def check_precision(self) -> None:
        """Look at what the first run was computed in."""
        if self._profile is None:
            return
        types = _layer_types(Path(self._engine.end_profiling()))
        self._profile.cleanup()
        self._profile = None
        if set(types) - {"float16"}:
            raise PrecisionError(
                f"onnx: graph {self.graph.name!r} was to run in {self._precision}, but its layers ran in "
                f"{' and '.join(sorted(set(types)))}; export the bundle's {FILES[self._precision]} files again"
            )

    def abandon(self) -> object:
        """Give the engine away; the next run loads another."""
        engine, self._engine = self._engine, None
        return engine

    def _open(self) -> Any:
        runtime = _runtime()
        content = self.graph.read(FILES[self._precision])
        options = _options(runtime, self._threads)
        if self._profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._profile.name, "run"))
        try:
            engine = runtime.InferenceSession(content, options, providers=PROVIDERS[self._device])
        except _load_errors(runtime) as error:
            reason = str(error).splitlines()[0]
            raise InputError("bundle-graph", f"ONNX Runtime cannot load graph {self.graph.name!r}: {reason}") from error
        if self._device == "cuda" and CUDA not in engine.get_providers():
            raise BackendUnavailable(
                "onnx: CUDA cannot be used (ONNX Runtime fell back to the CPU); check the driver and its CUDA "
                "libraries, or use device='cpu'"
            )
        engine.disable_fallback()
        return engine

    def _run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        if self._engine is None:
            self._engine = self._open()
        names = list(self.graph.signature.outputs)
        return dict(zip(names, self._engine.run(names, dict(inputs)), strict=True))


def _runtime() -> ModuleType:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read while it is imported: nothing leaves a hospital's machine unasked
    try:
        runtime = import_module("onnxruntime")
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries is missing
        raise BackendUnavailable(f"onnx: {error}; install it with `{INSTALL}`") from error
    runtime.disable_telemetry_events()  # if someone imported it before
    return runtime


def _options(runtime: Any, threads: int | None) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = available_cores() if threads is None else threads
    options.inter_op_num_threads = 1
    # The graphs of a pipeline take turns: threads of one that spin while they wait would hold the cores of the next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # what was looked through, and nothing else
    options.log_severity_level = 3
    return options


def _layer_types(profile: Path) -> list[str]:
    """Element types of what each convolution and matrix product of a run read."""
    events = json.loads(profile.read_bytes())
    nodes = [event["args"] for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})]
    return [next(iter(node["input_type_shape"][0])) for node in nodes if HEAVY.search(node["op_name"])]


def _load_errors(runtime: Any) -> tuple[type[Exception], ...]:
    state = runtime.capi.onnxruntime_pybind11_state
    return (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.InvalidArgument, state.NotImplemented)


def _signature(graph: Graph, engine: Any) -> Signature:
    for tensor in (*engine.get_inputs(), *engine.get_outputs()):
        if tensor.type != "tensor(float)":
            raise InputError(
                "bundle-signature",
                f"graph {graph.name!r} has {tensor.name!r} of type {tensor.type}; every tensor must be float32",
            )
    return Signature(
        {tensor.name: _shape(tensor.shape) for tensor in engine.get_inputs()},
        {tensor.name: _shape(tensor.shape) for tensor in engine.get_outputs()},
    )


def _shape(sizes: list[int | str | None]) -> Shape:
    """ONNX Runtime names a dynamic dimension with a string, or None."""
    return tuple(size if isinstance(size, int) else None for size in sizes)
