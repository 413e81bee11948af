"""Starts a process per engine and collects what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnsdk.verification.engines import EngineChoice

TIMEOUT = 1800.0
"""Seconds after which an engine is given up: building one for TensorRT takes minutes."""


@dataclass(frozen=True)
class Timing:
    """What one engine took on one CT.

    Attributes
    ----------
    engine : EngineChoice
        Which.
    ct : str
        Name of the CT.
    slices, lesions : int
        Of the CT, and found in it.
    load, first : float
        Seconds from the start of the process to a detector that is ready, and of its first call.
    warm : tuple of float
        Seconds of the calls after it, from the files to lesions.
    stages : mapping of str to float
        Milliseconds of every stage in the fastest of them.
    peak_bytes : int
        Most memory that the process has held.
    versions : mapping of str to str
        Of the packages that took part.
    """

    engine: EngineChoice
    ct: str
    slices: int
    lesions: int
    load: float
    first: float
    warm: tuple[float, ...]
    stages: Mapping[str, float]
    peak_bytes: int
    versions: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """The fastest warm call."""
        return min(self.warm)


@dataclass(frozen=True)
class Failure:
    """An engine that gave no measurement.

    Attributes
    ----------
    engine : EngineChoice
        Which.
    ct : str
        Name of the CT.
    reason : str
        Its last words.
    """

    engine: EngineChoice
    ct: str
    reason: str


def measure(
    bundle: Path, engine: EngineChoice, name: str, ct: Path, repeats: int, threads: int | None
) -> Timing | Failure:
    """Time an engine on a CT in a new process.

    Parameters
    ----------
    bundle : Path
        The model.
    engine : EngineChoice
        Which.
    name : str
        Of the CT, for the report.
    ct : Path
        What `lnsdk.read` takes, or an array file (`lnsdk.bench.arrays`), whose reading is not timed.
    repeats : int
        Warm calls, at least 1.
    threads : int or None
        CPU threads.

    Returns
    -------
    Timing or Failure
    """
    request = {
        "bundle": str(bundle),
        "backend": engine.backend,
        "device": engine.device,
        "precision": engine.precision,
        "threads": threads,
        "ct": str(ct),
        "repeats": repeats,
        "started": time.time(),
    }
    command = [sys.executable, "-m", "lnsdk.bench.child"]
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return Failure(engine, name, f"gave no result in {TIMEOUT:.0f} seconds")
    if done.returncode != 0:
        return Failure(engine, name, _last_line(done.stderr) or f"ended with exit code {done.returncode}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Timing(engine, name, **{**found, "warm": tuple(found["warm"])})


def _last_line(text: str) -> str:
    lines: Sequence[str] = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
