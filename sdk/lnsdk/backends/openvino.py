"""OpenVINO on the CPU: the bundle's ONNX graphs in float32, in bfloat16 on CPUs that have it, or quantized."""

import os
from collections import deque
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnsdk.backends.base import FILES, Graph, Session, Shape, Signature, Tensors, check_offered, check_signature
from lnsdk.errors import BackendUnavailable, InputError
from lnsdk.threads import available_cores

INSTALL = "pip install 'lnsdk[openvino]'"

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's name of the precision for what is not quantized."""

LAYERS = {"fp32": ("f32",), "bf16": ("bf16",), "int8": ("i8", "u8")}
"""What OpenVINO calls the precision in which its convolutions run."""


class OpenVinoBackend:
    """Runs the ``.onnx`` files of a bundle, and the quantized ones."""

    name = "openvino"

    def why_unavailable(self) -> str | None:
        """Return None when OpenVINO is installed, else what to install."""
        if find_spec("openvino") is None:
            return f"no module named 'openvino'; install it with `{INSTALL}`"
        return None

    def version(self) -> str:
        """Return OpenVINO's version."""
        return str(_openvino().get_version()).partition("-")[0]

    def device(self, device: str) -> str:
        """Return ``"cpu"`` for ``"auto"`` and ``"cpu"``; there is no other device."""
        if device not in ("auto", "cpu"):
            raise BackendUnavailable(
                f"openvino: runs on the CPU only, got device {device!r}; use backend='torchscript' for a GPU"
            )
        return "cpu"

    def precisions(self, device: str) -> tuple[str, ...]:
        """Return ``"fp32"`` and ``"int8"``, and ``"bf16"`` where the CPU has instructions for it."""
        capabilities = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return tuple(name for name in HINTS if name != "bf16" or "BF16" in capabilities)

    def open(self, graph: Graph, device: str, precision: str, threads: int | None) -> Session:
        """Load a graph; see `lnsdk.backends.base.Backend.open`."""
        check_offered(self, device, precision)
        return _OpenVinoSession(graph, precision, threads)


class _OpenVinoSession(Session):
    def __init__(self, graph: Graph, precision: str, threads: int | None) -> None:
        super().__init__(graph)
        self._process = os.getpid()
        content = graph.read(FILES[precision])
        try:
            core = _openvino().Core()
            model = core.read_model(content)
            check_signature(graph, _signature(graph, model))
            self._engine = core.compile_model(model, "CPU", _options(precision, threads))
        except RuntimeError as error:
            raise InputError("bundle-graph", f"OpenVINO cannot load graph {graph.name!r}: {_reason(error)}") from error
        _check_precision(graph.name, precision, self._engine)
        self._used = [tensor.any_name for tensor in self._engine.inputs]  # an input that nothing reads is dropped
        self._idle: deque[Any] = deque()

    def _run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        if os.getpid() != self._process:
            raise BackendUnavailable(
                "openvino: this process was forked after the network was loaded, which OpenVINO's threads do not "
                "survive; load it in each process, start processes with 'spawn', or use backend='onnx'"
            )
        request = self._request()
        outputs = request.infer({name: inputs[name] for name in self._used}, share_inputs=True)
        self._idle.append(request)
        return {name: outputs[name] for name in self.graph.signature.outputs}

    def _request(self) -> Any:
        """One that no other thread uses: each has buffers of its own."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._engine.create_infer_request()


def _openvino() -> ModuleType:
    try:
        return import_module("openvino")
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries is missing
        raise BackendUnavailable(f"openvino: {error}; install it with `{INSTALL}`") from error


def _options(precision: str, threads: int | None) -> dict[str, str]:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": str(available_cores() if threads is None else threads),
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": "NO",  # the threads of a second detector would wait for the same cores
    }


def _check_precision(graph: str, precision: str, engine: Any) -> None:
    """Refuse an engine whose convolutions and matrix products do not run in what was asked for."""
    layers = [operation.get_rt_info() for operation in engine.get_runtime_model().get_ops()]
    heavy = [layer for layer in layers if _text(layer["layerType"]) in ("Convolution", "FullyConnected", "MatMul")]
    found = [_text(layer["runtimePrecision"]) for layer in heavy]
    right = [name in LAYERS[precision] for name in found]
    if heavy and not (any(right) if precision == "int8" else all(right)):
        kinds = ", ".join(sorted(set(found)))
        raise BackendUnavailable(f"openvino: graph {graph!r} was to run in {precision}, but its layers run in {kinds}")


def _text(value: Any) -> str:
    return str(value.astype(str))


def _reason(error: RuntimeError) -> str:
    """The last line of OpenVINO's report: those before say where in its sources it was."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()


def _signature(graph: Graph, model: Any) -> Signature:
    """OpenVINO drops inputs that nothing reads, so of those it reports no size."""
    for tensor in (*model.inputs, *model.outputs):
        kind = tensor.element_type.to_string()
        if kind != "f32":
            raise InputError(
                "bundle-signature", f"tensor {tensor.any_name!r} is of type {kind}; every tensor must be float32"
            )
    dropped = {name: (None,) * len(shape) for name, shape in graph.signature.inputs.items()}
    return Signature(
        dropped | {tensor.any_name: _shape(tensor.partial_shape) for tensor in model.inputs},
        {tensor.any_name: _shape(tensor.partial_shape) for tensor in model.outputs},
    )


def _shape(sizes: Any) -> Shape:
    return tuple(None if size.is_dynamic else size.get_length() for size in sizes)
