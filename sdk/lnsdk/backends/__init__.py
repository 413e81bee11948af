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

AUTO = "onnx"
"""What ``backend="auto"`` means: ONNX Runtime on the CPU, which is always installed."""


def choose(name: str) -> Backend:
    """Return a backend that can be used here.

    Parameters
    ----------
    name : str
        A name of `BACKENDS`, or ``"auto"``.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    BackendUnavailable
        If it is not installed; the message says what to install.
    """
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"backend must be auto, {' or '.join(BACKENDS)}, got {name!r}")
    backend = BACKENDS[AUTO if name == "auto" else name]
    reason = backend.why_unavailable()
    if reason is not None:
        raise BackendUnavailable(f"{backend.name}: {reason}")
    return backend
