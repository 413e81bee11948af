"""What ``backend="auto"`` means on a CPU: the fastest engine and precision within the gate's bounds, measured once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from lnsdk._jit import private_folder, processor
from lnsdk._version import __version__
from lnsdk.backends import AUTO, BACKENDS
from lnsdk.bundle import Bundle
from lnsdk.errors import InputError
from lnsdk.threads import available_cores

if TYPE_CHECKING:
    from lnsdk.verification import EngineChoice, VerificationCase

VARIABLE = "LNSDK_BACKEND"
"""Environment variable that names what ``"auto"`` is, instead of a measurement."""

ENGINES = ("onnx", "openvino")
"""Engines to choose among."""

GAIN = 0.95
"""Share of the reference's time that another engine must stay below: less is noise."""

RUNS = 3
"""Runs of every engine; the fastest counts, which the first is not."""

_logger = logging.getLogger("lnsdk")
_deciding = Lock()
_decided: dict[str, Decision] = {}


class Decision(NamedTuple):
    """An engine and what it computes in."""

    backend: str
    precision: str


def automatic(bundle: Bundle, device: str, precision: str, threads: int | None) -> Decision:
    """Choose an engine for a detector's bundle.

    Parameters
    ----------
    bundle : Bundle
        What is to be run.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    precision : str
        ``"auto"``, or what the engine must compute in.
    threads : int or None
        CPU threads; the fastest engine depends on their number.

    Returns
    -------
    Decision
        For CUDA, TorchScript. On a CPU what `VARIABLE` names, else the only engine that is installed, else the fastest
        one that finds the lesions of the float32 reference within the bounds of its precision, on a simulated CT. That
        is measured the first time, which takes about ten seconds, and kept in lnsdk's cache folder for the model, the
        machine, the number of threads and the versions of the engines.
    """
    named = os.environ.get(VARIABLE)
    if named or device == "cuda":
        return Decision(named or AUTO[device], "fp32" if precision == "auto" else precision)
    candidates = _candidates(bundle, precision)
    if len(candidates) < 2:
        return Decision(AUTO[device], "fp32" if precision == "auto" else precision)
    situation = _situation(bundle, candidates, threads)
    with _deciding:
        key = hashlib.sha256(json.dumps(situation, sort_keys=True).encode()).hexdigest()[:16]
        if key not in _decided:
            _decided[key] = _read(key, situation) or _decide(bundle, candidates, threads, key, situation)
        return _decided[key]


def _candidates(bundle: Bundle, precision: str) -> list[EngineChoice]:
    from lnsdk.verification import choices

    wanted = () if precision == "auto" else (precision,)
    return [choice for choice in choices(bundle, ENGINES, wanted, "cpu") if choice.missing is None]


def _situation(bundle: Bundle, candidates: Sequence[EngineChoice], threads: int | None) -> dict[str, Any]:
    """All that a decision depends on."""
    return {
        "model_sha256": bundle.sha256,
        "lnsdk": __version__,
        "engines": {str(choice): BACKENDS[choice.backend].version() for choice in candidates},
        "processor": processor(),
        "threads": available_cores() if threads is None else threads,
    }


def _read(key: str, situation: Mapping[str, Any]) -> Decision | None:
    """Return what was decided in this situation before."""
    folder = private_folder()
    if folder is None:
        return None
    try:
        kept = json.loads((folder / f"engine-{key}.json").read_bytes())
        return Decision(**kept["decision"]) if kept["situation"] == situation else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _decide(
    bundle: Bundle,
    candidates: Sequence[EngineChoice],
    threads: int | None,
    key: str,
    situation: Mapping[str, Any],
) -> Decision:
    """Measure, and keep the outcome where there is a folder for it."""
    _logger.info("measuring which engine is the fastest here, once: %s", ", ".join(map(str, candidates)))
    milliseconds = _measure(bundle, candidates, threads)
    decision = _fastest(milliseconds)
    _logger.info("chosen: %s %s", *decision)
    kept = {"decision": decision._asdict(), "situation": situation, "milliseconds": milliseconds}
    folder = private_folder()
    if folder is not None:
        with suppress(OSError):  # a full disk: it is measured again next time
            _write(folder / f"engine-{key}.json", json.dumps(kept, indent=1))
    return decision


def _measure(bundle: Bundle, candidates: Sequence[EngineChoice], threads: int | None) -> dict[str, float]:
    """Time of the reference and of those that the gate lets pass, by ``backend precision``, on a simulated CT."""
    from lnsdk.pipelines.detector import Detector
    from lnsdk.verification import REFERENCE, simulated_cases, verify

    (case,) = simulated_cases(1)
    others = [choice for choice in candidates if choice != REFERENCE]
    try:
        passed = [row.choice for row in verify(bundle, others, [case], threads).rows if row.state == "passed"]
    except InputError:  # the model finds nothing there, so that nothing can be compared
        passed = []
    times = {}
    for choice in (REFERENCE, *passed):
        detector = Detector(bundle, choice.backend, choice.device, choice.precision, threads, threshold=0.0)
        times[f"{choice.backend} {choice.precision}"] = min(_milliseconds(detector, case) for _ in range(RUNS))
    return times


def _milliseconds(detector: Any, case: VerificationCase) -> float:
    return float(detector(case.volume).timings["total"])


def _fastest(milliseconds: Mapping[str, float]) -> Decision:
    reference, *others = milliseconds
    best = min(others, key=milliseconds.__getitem__, default=reference)
    chosen = best if milliseconds[best] < GAIN * milliseconds[reference] else reference
    return Decision(*chosen.split())


def _write(path: Path, text: str) -> None:
    """Write a file beside its place and rename it, so that no reader meets half of one."""
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
