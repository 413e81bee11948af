"""What ``backend="auto"`` means on a CPU: the fastest engine and precision within the gate's bounds, measured once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from lnsdk._jit import private_folder, processor
from lnsdk._version import __version__
from lnsdk.backends import AUTO, BACKENDS
from lnsdk.bundle import Bundle
from lnsdk.errors import BackendUnavailable, InputError
from lnsdk.threads import available_cores

if TYPE_CHECKING:
    from lnsdk.pipelines.detector import Detector
    from lnsdk.verification import EngineChoice, VerificationCase

VARIABLE = "LNSDK_BACKEND"
"""Environment variable that names what ``"auto"`` is, instead of a measurement."""

ENGINES = ("onnx", "openvino")
"""Engines to choose among."""

GAIN = 0.95
"""Share of the reference's time that another engine must stay below: less is noise."""

CASES = 2
"""Simulated CTs that the gate compares on; the first is timed."""

RUNS = 3
"""Runs of every engine, in turns; the fastest counts, which the first is not."""

_logger = logging.getLogger("lnsdk")
_deciding = Lock()
_decided: dict[str, Decision] = {}


class Decision(NamedTuple):
    """An engine, where it runs and what it computes in."""

    backend: str
    device: str
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
        For CUDA, TorchScript. On a CPU what `VARIABLE` names, else the only engine that can be used, else the fastest
        one that finds the lesions of the float32 reference within the bounds of its precision, on simulated CTs. That
        is measured the first time, which takes about ten seconds, and kept in lnsdk's cache folder for the model, the
        machine, the number of threads and the versions of the engines. It is measured once: start the first detector
        while nothing else runs.

    Raises
    ------
    BackendUnavailable
        When `VARIABLE` names no engine, or no engine of this CPU computes in the precision.
    """
    named = AUTO["cuda"] if device == "cuda" else _named()
    if named is not None:
        return Decision(named, device, "fp32" if precision == "auto" else precision)
    situation = _situation(bundle, precision, threads)
    key = hashlib.sha256(json.dumps(situation, sort_keys=True).encode()).hexdigest()[:16]
    with _deciding:
        if key not in _decided:
            _decided[key] = _read(key, situation) or _decide(bundle, precision, threads, key, situation)
        return _decided[key]


def _named() -> str | None:
    """The engine that the environment names, if it does."""
    named = os.environ.get(VARIABLE)
    if not named or named == "auto":
        return None
    if named not in BACKENDS:
        raise BackendUnavailable(f"{VARIABLE} is {named!r}; it must be auto, {', '.join(BACKENDS)}")
    return named


def _situation(bundle: Bundle, precision: str, threads: int | None) -> dict[str, Any]:
    """All that a decision depends on, told without importing an engine."""
    return {
        "model_sha256": bundle.sha256,
        "lnsdk": __version__,
        "packages": {package: _installed(package) for package in ("onnxruntime", "openvino")},
        "processor": processor(),
        "precision": precision,
        "threads": available_cores() if threads is None else threads,
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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


def _decide(bundle: Bundle, precision: str, threads: int | None, key: str, situation: Mapping[str, Any]) -> Decision:
    """Choose, by a measurement where there is a choice, and keep the outcome where there is a folder for it."""
    candidates = _candidates(bundle, precision)
    if len(candidates) == 1:
        return _decision(candidates[0])
    _logger.info("measuring once which engine is the fastest here: %s", ", ".join(map(str, candidates)))
    milliseconds = _measure(bundle, candidates, threads)
    decision = _fastest(milliseconds)
    folder = private_folder()
    path = None if folder is None else folder / f"engine-{key}.json"
    _logger.info("chosen: %s on %s in %s; kept in %s until that is deleted", *decision, path or "this process alone")
    if path is not None:
        with suppress(OSError):  # a full disk: it is measured again next time
            times = {str(choice): time for choice, time in milliseconds.items()}
            kept = {"decision": decision._asdict(), "situation": situation, "milliseconds": times}
            _write(path, json.dumps(kept, indent=1))
    return decision


def _candidates(bundle: Bundle, precision: str) -> list[EngineChoice]:
    """The engines of this CPU that can be used, the reference first."""
    from lnsdk.verification import choices

    found = choices(bundle, ENGINES, () if precision == "auto" else (precision,), "cpu")
    usable = [choice for choice in found if choice.missing is None]
    if not usable:
        reasons = "; ".join(f"{choice}: {choice.missing}" for choice in found) or f"none computes in {precision}"
        raise BackendUnavailable(f"no engine of this CPU can be used ({reasons})")
    return usable


def _measure(bundle: Bundle, candidates: Sequence[EngineChoice], threads: int | None) -> dict[EngineChoice, float]:
    """Milliseconds of the reference, first, and of those that the gate lets pass, on simulated CTs."""
    from lnsdk.pipelines.detector import Detector
    from lnsdk.verification import REFERENCE, simulated_cases, verify

    cases = list(simulated_cases(CASES))
    try:
        passed = [row.choice for row in verify(bundle, candidates, cases, threads).rows if row.state == "passed"]
    except InputError:  # the model finds nothing there, so that nothing can be compared
        passed = []
    detectors = {
        choice: Detector(bundle, choice.backend, choice.device, choice.precision, threads, threshold=0.0)
        for choice in (REFERENCE, *passed)
    }
    runs = [{choice: _run(detector, cases[0]) for choice, detector in detectors.items()} for _ in range(RUNS)]
    return {choice: min(run[choice] for run in runs) for choice in detectors}


def _run(detector: Detector, case: VerificationCase) -> float:
    """Run once; return milliseconds."""
    return float(detector(case.volume).timings["total"])


def _fastest(milliseconds: Mapping[EngineChoice, float]) -> Decision:
    """Choose the fastest, unless it gains no more than noise over the first."""
    reference, *others = milliseconds
    best = min(others, key=milliseconds.__getitem__, default=reference)
    return _decision(best if milliseconds[best] < GAIN * milliseconds[reference] else reference)


def _decision(choice: EngineChoice) -> Decision:
    return Decision(choice.backend, choice.device, choice.precision)


def _write(path: Path, text: str) -> None:
    """Write a file beside its place and rename it, so that no reader meets half of one."""
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _renew_lock() -> None:
    """In a forked process, which may have begun while another thread was deciding."""
    global _deciding
    _deciding = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
