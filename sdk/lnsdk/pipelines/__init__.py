"""One module per runtime class, and the table that says which class runs which task."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lnsdk.bundle import read_bundle
from lnsdk.errors import InputError
from lnsdk.signing import PublicKey

if TYPE_CHECKING:
    from lnsdk.pipelines.detector import Detector

_TASKS = {"detector": ("lnsdk.pipelines.detector", "Detector")}


def load(
    bundle: str | Path, backend: str = "auto", device: str = "auto", trusted_keys: Sequence[PublicKey] | None = None
) -> "Detector":
    """Load a bundle into the pipeline that its task names.

    Parameters
    ----------
    bundle : str or Path
        A bundle folder, or a zip of one.
    backend : str
        ``"auto"``, ``"onnx"``, ``"torchscript"``, ``"tensorrt"`` or ``"tensorrt-lean"``; see `lnsdk.Detector`.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    trusted_keys : sequence of str, Path or bytes, optional
        Public keys, one of which must have signed the bundle; see `lnsdk.Detector`.

    Returns
    -------
    Detector
        For task ``"detector"``, the only one so far.

    Raises
    ------
    InputError
        If the bundle cannot be trusted or its task is unknown.
    BackendUnavailable
        If the backend is not installed.
    """
    verified = read_bundle(bundle)
    task = verified.task
    if task not in _TASKS:
        raise InputError("bundle-task", f"bundle {bundle} is for task {task!r}; known tasks: {', '.join(_TASKS)}")
    module, name = _TASKS[task]
    pipeline: type[Detector] = getattr(import_module(module), name)
    return pipeline(verified, backend=backend, device=device, trusted_keys=trusted_keys)
