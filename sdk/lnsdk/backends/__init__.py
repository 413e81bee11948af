"""The engines that run a bundle's graphs, in one literal table."""

from lnsdk.backends.base import Backend, Graph, Session, Signature
from lnsdk.backends.onnx import OnnxBackend
from lnsdk.backends.tensorrt import TensorRTBackend
from lnsdk.backends.torchscript import TorchScriptBackend
from lnsdk.errors import BackendUnavailable

__all__ = ["BACKENDS", "Backend", "Graph", "Session", "Signature", "choose"]

BACKENDS: dict[str, Backend] = {
    "onnx": OnnxBackend(),
    "torchscript": TorchScriptBackend(),
    "tensorrt": TensorRTBackend(),
    "tensorrt-lean": TensorRTBackend(lean=True),
}

AUTO = {"auto": ("tensorrt", "onnx"), "cpu": ("onnx",), "cuda": ("tensorrt", "torchscript")}
"""What ``backend="auto"`` means for each device: the first that can be used. ONNX Runtime is always installed."""


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
    candidates = [BACKENDS[each] for each in (AUTO[device] if name == "auto" else (name,))]
    for backend in candidates:
        reason = backend.why_unavailable()
        if reason is None:
            return backend
    raise BackendUnavailable(f"{backend.name}: {reason}")
