"""The engines and precisions of this machine that a bundle can run in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lnsdk.backends import BACKENDS, FILES, Backend
from lnsdk.bundle import Bundle
from lnsdk.errors import BackendUnavailable
from lnsdk.pipelines.settings import precision_of


@dataclass(frozen=True)
class EngineChoice:
    """An engine, where it runs, and what it computes in.

    Attributes
    ----------
    backend, device, precision : str
        As `lnsdk.Detector` takes them.
    missing : str or None
        Why it cannot be used here, None when it can.
    """

    backend: str
    device: str
    precision: str
    missing: str | None = None

    def __str__(self) -> str:
        """Return all three in words."""
        return f"{self.backend} {self.device} {self.precision}"


REFERENCE = EngineChoice("onnx", "cpu", "fp32")
"""What the others are compared with."""


def choices(
    bundle: Bundle, backends: Sequence[str] = (), precisions: Sequence[str] = (), device: str = "auto"
) -> list[EngineChoice]:
    """List engines, devices and precisions, those that cannot be used with the reason.

    Parameters
    ----------
    bundle : Bundle
        What is to be run.
    backends, precisions : sequence of str
        Which to list; empty means all.
    device : str
        ``"cpu"``, ``"cuda"``, or ``"auto"`` for all that an engine can use here.
    """
    return [choice for name in backends or BACKENDS for choice in _of_engine(bundle, name, precisions, device)]


def _of_engine(bundle: Bundle, name: str, wanted: Sequence[str], device: str) -> Iterator[EngineChoice]:
    """Every device and wanted precision of an engine; one line with the reason where it cannot be used at all."""
    backend = BACKENDS[name]
    places = ("cpu", "cuda") if device == "auto" else (device,)
    offered = {place: _precisions(backend, place) for place in places}
    usable = {place: found for place, found in offered.items() if not isinstance(found, str)}
    if not usable:
        place, reason = next(iter(offered.items()))
        yield EngineChoice(name, place, "fp32", str(reason))
    for place, precisions in usable.items():
        for precision in [each for each in precisions if not wanted or each in wanted]:
            yield EngineChoice(name, place, precision, _lacking(bundle, name, precision))


def _precisions(backend: Backend, device: str) -> tuple[str, ...] | str:
    """What an engine computes in on a device, or why it cannot be used there."""
    reason = backend.why_unavailable()
    if reason is not None:
        return reason
    try:
        backend.device(device)
        return backend.precisions(device)
    except BackendUnavailable as error:
        return str(error).removeprefix(f"{backend.name}: ")


def _lacking(bundle: Bundle, backend: str, precision: str) -> str | None:
    """Say which file a bundle lacks for a precision, if it does."""
    for graph in bundle.graphs:
        suffix = ".ts" if backend == "torchscript" else FILES[precision_of(graph, precision)]
        if f"models/{graph}{suffix}" not in bundle.files:
            return f"the bundle has no models/{graph}{suffix}"
    return None
