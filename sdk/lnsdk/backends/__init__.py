"""The engines that run a bundle's graphs, in one literal table."""

from lnsdk.backends.base import Backend, Graph, Session, Signature
from lnsdk.backends.onnx import OnnxBackend
from lnsdk.backends.torchscript import TorchScriptBackend
from lnsdk.errors import BackendUnavailable

__all__ = ["BACKENDS", "Backend", "Graph", "Session", "Signature", "choose"]

BACKENDS: dict[str, Backend] = {
    "onnx": OnnxBackend(),
    "torchscript": TorchScriptBackend(),
}

AUTO = {"auto": "onnx", "cpu": "onnx", "cuda": "torchscript"}
"""What ``backend="auto"`` means for each device: ONNX Runtime, which is always installed, unless a GPU is asked for."""


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
        raise ValueError(f"backend must be auto, {' or '.join(BACKENDS)}, got {name!r}")
    if device not in AUTO:
        raise ValueError(f"device must be auto, cpu or cuda, got {device!r}")
    backend = BACKENDS[AUTO[device] if name == "auto" else name]
    reason = backend.why_unavailable()
    if reason is not None:
        raise BackendUnavailable(f"{backend.name}: {reason}")
    return backend
