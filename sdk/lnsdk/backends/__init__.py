"""The engines that run a bundle's graphs, in one literal table."""

from lnsdk.backends.base import FILES, Backend, Graph, Session, Signature
from lnsdk.backends.onnx import OnnxBackend
from lnsdk.backends.openvino import OpenVinoBackend
from lnsdk.backends.tensorrt import TensorRTBackend
from lnsdk.backends.torchscript import TorchScriptBackend
from lnsdk.errors import BackendUnavailable

__all__ = ["AUTO", "BACKENDS", "FILES", "Backend", "Graph", "Session", "Signature", "choose"]

BACKENDS: dict[str, Backend] = {
    "onnx": OnnxBackend(),
    "openvino": OpenVinoBackend(),
    "torchscript": TorchScriptBackend(),
    "tensorrt": TensorRTBackend(),
    "tensorrt-lean": TensorRTBackend(lean=True),
}

AUTO = {"auto": "onnx", "cpu": "onnx", "cuda": "torchscript"}
"""What ``backend="auto"`` means for each device where there is no other to measure. TensorRT must be asked for: its
first start takes minutes, and the tests that build an engine have not run yet."""


def choose(name: str, device: str = "auto") -> Backend:
    """Return a backend that can be used here.

    Parameters
    ----------
    name : str
        A name of `BACKENDS`, or ``"auto"``.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``: what ``"auto"`` must be able to run on.

    Raises
    ------
    ValueError
        If there is no backend or no device of that name.
    BackendUnavailable
        If it is not installed; the message says what to install.
    """
    if name != "auto" and name not in BACKENDS:
        *others, last = BACKENDS
        raise ValueError(f"backend must be auto, {', '.join(others)} or {last}, got {name!r}")
    if device not in AUTO:
        raise ValueError(f"device must be auto, cpu or cuda, got {device!r}")
    backend = BACKENDS[AUTO[device] if name == "auto" else name]
    reason = backend.why_unavailable()
    if reason is not None:
        raise BackendUnavailable(f"{backend.name}: {reason}")
    return backend
