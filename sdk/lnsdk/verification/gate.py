"""The gate: every engine and precision against the float32 reference, on the machine at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnsdk.backends.base import PrecisionError
from lnsdk.bundle import Bundle
from lnsdk.errors import BackendUnavailable, InputError
from lnsdk.metrics import froc
from lnsdk.pipelines.detector import Detector
from lnsdk.pipelines.settings import read_settings
from lnsdk.results import Detections
from lnsdk.verification.cases import VerificationCase
from lnsdk.verification.engines import REFERENCE, EngineChoice
from lnsdk.verification.lesions import BOUNDS, Bounds, compare_lesions, violations

State: TypeAlias = Literal["passed", "failed", "missing"]
Known: TypeAlias = NDArray[np.float32]
Found: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass
class Row:
    """What the gate says of one engine.

    Attributes
    ----------
    choice : EngineChoice
        Which.
    bounds : Bounds
        Of its precision.
    state : str
        ``"passed"``, ``"failed"``, or ``"missing"`` where it cannot be used here.
    reasons : list of str
        Why it failed, volume by volume, or is missing.
    volumes : int
        CTs that were compared.
    lesions, matched, unmatched_above : int
        The reference's lesions on all volumes; those that the engine gave too; those that only one gave and that score
        more than the operating point.
    box_difference, score_difference : float
        Largest over the matched, in voxels and score.
    sensitivity : float or None
        Mean sensitivity over 1/8 to 8 false positives per simulated CT; None without such.
    sensitivity_change : float or None
        The same less the reference's.
    """

    choice: EngineChoice
    bounds: Bounds
    state: State = "passed"
    reasons: list[str] = field(default_factory=list)
    volumes: int = 0
    lesions: int = 0
    matched: int = 0
    unmatched_above: int = 0
    box_difference: float = 0.0
    score_difference: float = 0.0
    sensitivity: float | None = None
    sensitivity_change: float | None = None

    def fail(self, reason: str) -> None:
        """Note a failure."""
        self.state = "failed"
        self.reasons.append(reason)

    def lack(self, reason: str) -> None:
        """Note that the engine cannot be used here."""
        self.state = "missing"
        self.reasons.append(reason)


@dataclass(frozen=True)
class Report:
    """The gate's verdict.

    Attributes
    ----------
    model : str
        Name and SHA-256 of the bundle.
    operating_point : float
        Score from which a lesion must be found by both.
    volumes : tuple of str
        What was compared on.
    known_lesions : int
        Simulated lesions in them.
    rows : tuple of Row
        One per engine and precision, the reference left out.
    """

    model: str
    operating_point: float
    volumes: tuple[str, ...]
    known_lesions: int
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether engines were compared, and none failed."""
        states = {row.state for row in self.rows}
        return "passed" in states and "failed" not in states

    @property
    def compared(self) -> tuple[str, ...]:
        """Precisions in which an engine passed."""
        return tuple(dict.fromkeys(row.choice.precision for row in self.rows if row.state == "passed"))

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "model": self.model,
            "reference": asdict(REFERENCE),
            "operating_point": self.operating_point,
            "volumes": list(self.volumes),
            "known_lesions": self.known_lesions,
            "passed": self.passed,
            "compared": list(self.compared),
            "engines": [asdict(row) for row in self.rows],
        }


def verify(
    bundle: Bundle,
    engines: Sequence[EngineChoice],
    cases: Iterable[VerificationCase],
    threads: int | None = None,
) -> Report:
    """Compare engines with the float32 reference.

    Parameters
    ----------
    bundle : Bundle
        The model.
    engines : sequence of EngineChoice
        Which to compare; the reference itself is left out.
    cases : iterable of VerificationCase
        On what; one is in memory at a time.
    threads : int, optional
        CPU threads of every engine.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        ``verification`` when there is no case, or when the reference finds no lesion at its operating point on any of
        them, so that there is nothing to compare.
    """
    rows = [Row(engine, BOUNDS[engine.precision]) for engine in engines if engine != REFERENCE]
    detectors = [_open(bundle, row, threads) for row in rows]
    reference = Detector(bundle, REFERENCE.backend, REFERENCE.device, REFERENCE.precision, threads, threshold=0.0)
    point = read_settings(bundle).operating_point
    known: list[Known] = []
    expected: list[Found] = []
    found: list[list[Found]] = [[] for _ in rows]
    names, above = [], 0
    for case in cases:
        right = reference(case.volume)
        names.append(case.name)
        above += sum(lesion.score >= point for lesion in right.lesions)
        results = [_run(row, detector, case) for row, detector in zip(rows, detectors, strict=True)]
        for row, result in zip(rows, results, strict=True):
            if result is not None:
                _compare(row, case.name, right, result, point)
        if case.boxes is not None:
            known.append(case.boxes)
            expected.append(_scored(right))
            for collected, result in zip(found, results, strict=True):
                collected += [] if result is None else [_scored(result)]
    if not names:
        raise InputError("verification", "there is no CT to verify on: name some, or ask for simulated ones")
    if not above and not any(row.state == "failed" for row in rows):
        raise InputError(
            "verification",
            f"the model finds no lesion above its operating point {point:g} on any of the {len(names)} CTs, so nothing "
            "was compared; verify on CTs with lesions",
        )
    _compare_sensitivity(rows, found, expected, known)
    return Report(f"{bundle.name} {bundle.sha256}", point, tuple(names), sum(map(len, known)), tuple(rows))


def _open(bundle: Bundle, row: Row, threads: int | None) -> Detector | None:
    """Load an engine; where that is not possible, say so in its row."""
    choice = row.choice
    if choice.missing is not None:
        row.lack(choice.missing)
        return None
    try:
        return Detector(bundle, choice.backend, choice.device, choice.precision, threads, threshold=0.0)
    except (PrecisionError, InputError) as error:
        row.fail(str(error))
    except BackendUnavailable as error:
        row.lack(str(error))
    except RuntimeError as error:  # NaN while it warms up, or whatever an engine reports
        row.fail(f"{choice} cannot run: {error}")
    return None


def _run(row: Row, detector: Detector | None, case: VerificationCase) -> Detections | None:
    """Run an engine on a volume; where that fails, say so in its row."""
    if detector is None:
        return None
    try:
        return detector(case.volume)
    except RuntimeError as error:
        row.fail(f"{case.name}: {error}")
        return None


def _compare(row: Row, name: str, right: Detections, result: Detections, point: float) -> None:
    """Add what an engine found on one volume to its row."""
    parity = compare_lesions(right, result, row.bounds)
    for reason in violations(parity, point, row.bounds):
        row.fail(f"{name}: {reason}")
    row.volumes += 1
    row.lesions += len(right.lesions)
    row.matched += parity.matched
    row.unmatched_above += sum(lesion.score >= point for lesion in parity.unmatched)
    row.box_difference = max(row.box_difference, parity.box_difference)
    row.score_difference = max(row.score_difference, parity.score_difference)


def _scored(result: Detections) -> Found:
    boxes = np.array([lesion.box for lesion in result.lesions], np.float64).reshape(-1, 6)
    return boxes, np.array([lesion.score for lesion in result.lesions], np.float64)


def _compare_sensitivity(
    rows: Sequence[Row],
    found: Sequence[Sequence[Found]],
    expected: Sequence[Found],
    known: Sequence[NDArray[np.float32]],
) -> None:
    """Mean sensitivity of every engine, and what it lost."""
    lesions = sum(map(len, known))
    right = _mean_sensitivity(expected, known) if lesions else 0.0
    for row, results in zip(rows, found, strict=True):
        allowed = row.bounds.sensitivity
        if not row.volumes or len(results) < len(known):
            continue
        if not lesions:
            if allowed is not None:
                row.fail(f"{row.choice.precision} needs CTs whose lesions are known: ask for simulated ones")
            continue
        row.sensitivity = _mean_sensitivity(results, known)
        row.sensitivity_change = row.sensitivity - right
        if allowed is not None and row.sensitivity_change < -allowed:
            row.fail(
                f"mean sensitivity fell by {-row.sensitivity_change:.3f} to {row.sensitivity:.3f}, allowed {allowed}"
            )


def _mean_sensitivity(found: Sequence[Found], known: Sequence[Known]) -> float:
    return froc(found, known, bootstraps=0).mean_sensitivity
