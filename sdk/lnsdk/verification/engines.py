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
    found = [choice for name in backends or BACKENDS for choice in _of_engine(bundle, name, device)]
    return [choice for choice in found if not precisions or choice.precision in precisions]


def _of_engine(bundle: Bundle, name: str, device: str) -> Iterator[EngineChoice]:
    """Every device and precision of an engine; one line with the reason where it has none here."""
    backend = BACKENDS[name]
    places = ("cpu", "cuda") if device == "auto" else (device,)
    reasons = {place: backend.why_unavailable() or _why_not_on(backend, place) for place in places}
    usable = [place for place, reason in reasons.items() if reason is None]
    if not usable:
        place, reason = next(iter(reasons.items()))
        yield EngineChoice(name, place, "fp32", reason)
    for place in usable:
        for precision in backend.precisions(place):
            yield EngineChoice(name, place, precision, _lacking(bundle, name, precision))


def _why_not_on(backend: Backend, device: str) -> str | None:
    try:
        backend.device(device)
    except BackendUnavailable as error:
        return str(error).removeprefix(f"{backend.name}: ")
    return None


def _lacking(bundle: Bundle, backend: str, precision: str) -> str | None:
    """Say which file a bundle lacks for a precision, if it does."""
    for graph in bundle.graphs:
        suffix = ".ts" if backend == "torchscript" else FILES[precision_of(graph, precision)]
        if f"models/{graph}{suffix}" not in bundle.files:
            return f"the bundle has no models/{graph}{suffix}"
    return None
