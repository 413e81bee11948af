"""TorchScript on the CPU or a CUDA GPU, when torch is installed."""

import io
import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnsdk.backends.base import (
    Graph,
    PrecisionError,
    Session,
    Shape,
    Signature,
    Tensors,
    check_offered,
    check_signature,
)
from lnsdk.errors import BackendUnavailable, InputError
from lnsdk.threads import available_cores

INSTALL = "pip install 'lnsdk[torch]'"

PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32", "fp16")}

IMAGE_AXES = "NCHW"


class TorchScriptBackend:
    """Runs the ``.ts`` files of a bundle."""

    name = "torchscript"

    def why_unavailable(self) -> str | None:
        """Return None when torch is installed, else what to install."""
        if find_spec("torch") is None:
            return f"no module named 'torch'; install it with `{INSTALL}`"
        return None

    def version(self) -> str:
        """Return torch's version."""
        return str(_torch().__version__)

    def device(self, device: str) -> str:
        """Return the device to use; ``"auto"`` is the first CUDA GPU when there is one."""
        has_gpu = device != "cpu" and _torch().cuda.is_available()
        if device == "cuda" and not has_gpu:
            raise BackendUnavailable("torchscript: torch finds no CUDA GPU; use device='cpu' or install a CUDA build")
        return "cuda" if has_gpu else "cpu"

    def precisions(self, device: str) -> tuple[str, ...]:
        """Return ``"fp32"`` and, on a GPU, ``"fp16"``: convolutions and products in float16 by torch's autocast."""
        return PRECISIONS[device]

    def open(self, graph: Graph, device: str, precision: str, threads: int | None) -> Session:
        """Load a graph; see `lnsdk.backends.base.Backend.open`. `threads` is torch's setting for the whole process."""
        check_offered(self, device, precision)
        _torch().set_num_threads(available_cores() if threads is None else threads)
        return TorchScriptSession(graph, device, precision)


class TorchScriptSession(Session):
    """A graph in torch; `forward` takes and gives tensors where they lie, `run` arrays."""

    def __init__(self, graph: Graph, device: str, precision: str) -> None:
        super().__init__(graph)
        self.device = device
        self._precision = precision
        self._computed: set[Any] = set()
        self._process = os.getpid()
        self._module = _load(graph, device)
        check_signature(graph, _signature(graph, self._module))

    def forward(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """Run the graph on tensors of its device, in the order of its signature; they are not looked at.

        Returns
        -------
        tuple of torch.Tensor
            In the order of the signature, float32, or where the graph computes in it float16. On a GPU they may still
            be being computed, on torch's current stream.
        """
        torch = _torch()
        # Without this the executor compiles anew for every batch size that it meets, inside the call.
        with torch.inference_mode(), torch.jit.optimized_execution(False), self._autocast(torch):
            outputs = self._module(*(self._laid_out(torch, tensor) for tensor in inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        self._computed = {output.dtype for output in outputs}
        return outputs

    def check_precision(self) -> None:
        """Refuse a graph whose results are not what autocast should have made of them."""
        expected = _torch().float16 if self._precision == "fp16" else _torch().float32
        if expected not in self._computed:
            found = ", ".join(map(str, self._computed))
            raise PrecisionError(
                f"torchscript: graph {self.graph.name!r} computed in {found}, asked for {self._precision}"
            )

    def _run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        if os.getpid() != self._process:
            # libgomp's threads are lost in a fork, so running would wait forever.
            raise BackendUnavailable(
                "torchscript: this process was forked after the network was loaded, which torch's threads do not "
                "survive; load it in each process, start processes with 'spawn', or use backend='onnx'"
            )
        torch = _torch()
        tensors = [_tensor(torch, inputs[name]).to(self.device) for name in self.graph.signature.inputs]
        arrays = [output.float().contiguous().cpu().numpy() for output in self.forward(tensors)]
        return dict(zip(self.graph.signature.outputs, arrays, strict=True))

    def _autocast(self, torch: Any) -> AbstractContextManager[Any]:
        if self._precision != "fp16":
            return nullcontext()
        return torch.autocast("cuda", torch.float16)  # type: ignore[no-any-return]

    def _laid_out(self, torch: Any, tensor: Any) -> Any:
        """Channels last on a GPU, whose convolutions are fastest so."""
        if self.device == "cpu" or tensor.dim() != len(IMAGE_AXES):
            return tensor
        return tensor.contiguous(memory_format=torch.channels_last)


def _torch() -> ModuleType:
    try:
        return import_module("torch")
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries is missing
        raise BackendUnavailable(f"torchscript: {error}; install it with `{INSTALL}`") from error


def _load(graph: Graph, device: str) -> Any:
    torch = _torch()
    content = io.BytesIO(graph.read(".ts"))
    with warnings.catch_warnings():
        # torch 2.13 and later announce the end of torch.jit; other runtimes read only TorchScript, so it stays.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is", category=DeprecationWarning)
        try:
            module = torch.jit.load(content, map_location=device)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError("bundle-graph", f"torch cannot load graph {graph.name!r}: {reason}") from error
    return module.eval()


def _tensor(torch: Any, array: NDArray[np.float32]) -> Any:
    """Share the array's memory; torch warns of read-only arrays, so those are copied."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _signature(graph: Graph, module: Any) -> Signature:
    """TorchScript knows its arguments' names but no shapes, and its results only by their order."""
    schema = module.forward.schema
    names = [argument.name for argument in schema.arguments[1:]]
    result = schema.returns[0].type
    count = len(result.elements()) if result.kind() == "TupleType" else 1
    if count != len(graph.signature.outputs):
        raise InputError(
            "bundle-signature",
            f"graph {graph.name!r} gives {count} tensors where its bundle promises "
            f"{', '.join(graph.signature.outputs)}; export the bundle again",
        )
    inputs = {name: _unknown(graph.signature.inputs.get(name, ())) for name in names}
    return Signature(inputs, {name: _unknown(shape) for name, shape in graph.signature.outputs.items()})


def _unknown(shape: Shape) -> Shape:
    return (None,) * len(shape)
