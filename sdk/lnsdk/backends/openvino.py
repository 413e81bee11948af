"""OpenVINO on the CPU: the bundle's ONNX graphs in float32, in bfloat16 on CPUs that have it, or quantized."""

from collections import deque
from importlib import import_module
from importlib.util import find_spec
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

INSTALL = "pip install 'lnsdk[openvino]'"

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's name of the precision for what is not quantized."""

HEAVY = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
"""OpenVINO's names of the layers whose precision counts."""

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
        try:
            capabilities = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        except RuntimeError as error:  # its plugin for CPUs cannot be loaded
            raise BackendUnavailable(f"openvino: {_reason(error)}; install it again with `{INSTALL}`") from error
        return tuple(name for name in HINTS if name != "bf16" or "BF16" in capabilities)

    def open(self, graph: Graph, device: str, precision: str, threads: int | None) -> Session:
        """Load a graph; see `lnsdk.backends.base.Backend.open`."""
        check_offered(self, device, precision)
        return _OpenVinoSession(graph, precision, threads)


class _OpenVinoSession(Session):
    def __init__(self, graph: Graph, precision: str, threads: int | None) -> None:
        super().__init__(graph)
        self._precision = precision
        self._threads = threads
        self._engine: _Compiled | None = self._open()
        abandon_in_children(self)

    def abandon(self) -> object:
        """Give the engine away; the next run loads another."""
        engine, self._engine = self._engine, None
        return engine

    def _open(self) -> "_Compiled":
        content = self.graph.read(FILES[self._precision])
        try:
            core = _openvino().Core()
            model = core.read_model(content)
            check_signature(self.graph, _signature(self.graph, model))
            compiled = core.compile_model(model, "CPU", _options(self._precision, self._threads))
        except RuntimeError as error:
            raise InputError(
                "bundle-graph", f"OpenVINO cannot load graph {self.graph.name!r}: {_reason(error)}"
            ) from error
        _check_precision(self.graph.name, self._precision, compiled)
        return _Compiled(compiled)

    def _run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        if self._engine is None:
            self._engine = self._open()
        outputs = self._engine.run(inputs)
        return {name: outputs[name] for name in self.graph.signature.outputs}


class _Compiled:
    """A compiled model with requests for the threads that run it at once."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._used = [tensor.any_name for tensor in model.inputs]  # an input that nothing reads is dropped
        self._idle: deque[Any] = deque(maxlen=available_cores())

    def run(self, inputs: Tensors) -> Any:
        """Run it with a request that no other thread uses: each has buffers of its own."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        outputs = request.infer({name: inputs[name] for name in self._used}, share_inputs=True)
        self._idle.append(request)
        return outputs


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


def _check_precision(graph: str, precision: str, model: Any) -> None:
    """Refuse a model whose convolutions and matrix products do not run in what was asked for.

    Of a quantized one, most must: the first and the last layers stay in float32.
    """
    layers = [operation.get_rt_info() for operation in model.get_runtime_model().get_ops()]
    found = [_text(layer["runtimePrecision"]) for layer in layers if _text(layer["layerType"]) in HEAVY]
    right = sum(name in LAYERS[precision] for name in found)
    if found and (2 * right < len(found) if precision == "int8" else right < len(found)):
        kinds = ", ".join(sorted(set(found)))
        raise PrecisionError(f"openvino: graph {graph!r} was to run in {precision}, but its layers run in {kinds}")


def _text(value: Any) -> str:
    return str(value.astype(str))


def _reason(error: RuntimeError) -> str:
    """The last line of OpenVINO's report: those before say where in its sources it was."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


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
