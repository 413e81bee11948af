"""How right and how complete the mining is: mined boxes and lesions against the truth of simulated cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.evaluation_report import SIMULATED
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.lens.mining.matching import Match, person
from lnsdk.trainers.lens.mining.mine import Mined
from lnsdk.trainers.lens.mining.tracklets import Rows
from lnsdk.trainers.lens.mining.truth import (
    NONE,
    identity_of_annotation,
    lesions_of_boxes,
    lesions_of_rows,
    truth_of,
)

BOOTSTRAPS = 1000
"""Resamples of the patients behind an interval."""


class Tally(NamedTuple):
    """Counts of one patient or of all.

    Attributes
    ----------
    right, mined : int
        What of the mined is right, and all that was mined.
    recovered, removed : int
        What of the removed labels was recovered, and all that were removed.
    """

    right: int = 0
    mined: int = 0
    recovered: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Quality:
    """Precision and recall of a strategy.

    Attributes
    ----------
    strategy : str
        What was measured.
    mined_unit, removed_unit : str
        What precision and recall count.
    tally : Tally
        Over all patients.
    patients : int
        Number of patients.
    precision_interval, recall_interval : tuple of float
        95 % intervals by bootstrapping patients, whose boxes are not independent; NaN where nothing is counted.
    """

    strategy: str
    mined_unit: str
    removed_unit: str
    tally: Tally
    patients: int
    precision_interval: tuple[float, float]
    recall_interval: tuple[float, float]

    @property
    def precision(self) -> float:
        """Share of the mined that is right; NaN when nothing was mined."""
        return _share(self.tally.right, self.tally.mined)

    @property
    def recall(self) -> float:
        """Share of the removed labels that was recovered; NaN when nothing was removed."""
        return _share(self.tally.recovered, self.tally.removed)

    @classmethod
    def of(cls, strategy: str, units: tuple[str, str], cases: Sequence[GridCase], tallies: Sequence[Tally]) -> Self:
        """Add up the tallies of cases by patient.

        Parameters
        ----------
        strategy : str
            What was measured.
        units : tuple of str
            What precision and recall count.
        cases : sequence of GridCase
            Say whose the tallies are; a case without a patient is one by itself.
        tallies : sequence of Tally
            One per case.
        """
        people: dict[str, NDArray[np.int64]] = {}
        for case, tally in zip(cases, tallies, strict=True):
            name = person(case)
            people[name] = people.get(name, np.zeros(4, np.int64)) + np.array(tally)
        counts = np.array(list(people.values()), np.int64).reshape(-1, 4)
        total = Tally(*(int(value) for value in counts.sum(axis=0)))
        return cls(strategy, *units, total, len(people), _interval(counts[:, :2]), _interval(counts[:, 2:]))


def measure_mining(cases: Sequence[GridCase], mined: Mined) -> tuple[Quality, ...]:
    """Measure every strategy that ran.

    Parameters
    ----------
    cases : sequence of GridCase
        The simulated cases that were mined, with their truth.
    mined : Mined
        What was mined.

    Returns
    -------
    tuple of Quality
        Cross-slice propagation; intra-patient matching, once for hitting any true lesion and once for hitting the very
        lesion whose annotation it was matched with; uncertain boxes on labelled slices, and on all.
    """
    stages = mined.stages
    found: list[Quality] = []
    if "cross_slice" in stages:
        found.append(measure_rows("cross-slice", cases, stages["none"], stages["cross_slice"]))
    if "intra_patient" in stages:
        found += measure_matches(cases, stages["intra_patient"], mined.report.matches)
    for level, name in (
        ("cross_dataset", "cross-dataset, labelled slices"),
        ("unlabelled", "cross-dataset, all slices"),
    ):
        if level in stages:
            found.append(measure_uncertain(name, cases, stages[level]))  # type: ignore[index]
    return tuple(found)


def measure_rows(
    strategy: str,
    cases: Sequence[GridCase],
    before: Mapping[str, Labels],
    after: Mapping[str, Labels],
    every_lesion: bool = False,
) -> Quality:
    """Measure boxes that a strategy added.

    Parameters
    ----------
    strategy : str
        Name for it.
    cases : sequence of GridCase
        Simulated, with truth.
    before, after : mapping of str to Labels
        Name of a case to its labels; the added rows stand behind those before.
    every_lesion : bool
        Whether the strategy looks for every lesion, as data distillation does, or continues labelled ones only, as
        propagation does: recall counts the boxes of these.

    Returns
    -------
    Quality
        A box is right when its IoU with a true box on its slice, of any lesion, exceeds 0.5. A true box without an
        annotation is recovered when a right box is its lesion's on its slice.
    """
    tallies = [_tally_rows(before[case.name], after[case.name], truth_of(case), every_lesion) for case in cases]
    unit = "unlabelled boxes of all lesions" if every_lesion else "unlabelled boxes of labelled lesions"
    return Quality.of(strategy, ("boxes", unit), cases, tallies)


def measure_matches(
    cases: Sequence[GridCase], labels: Mapping[str, Labels], matches: Sequence[Match]
) -> tuple[Quality, Quality]:
    """Measure the lesions that intra-patient matching added.

    Parameters
    ----------
    cases : sequence of GridCase
        Simulated, with truth.
    labels : mapping of str to Labels
        Name of a case to its labels after matching.
    matches : sequence of Match
        Which lesions were added.

    Returns
    -------
    any_lesion : Quality
        A mined lesion is right when its 3D box hits a true one (IoBB above 0.3, VI-C).
    same_lesion : Quality
        It must hit the lesion that the annotation is of.

    Notes
    -----
    Recall is over the unlabelled lesions that are labelled in another study or series of their patient.
    """
    by_name = {case.name: case for case in cases}
    tallies: tuple[list[Tally], list[Tally]] = ([], [])
    for case in cases:
        truth = truth_of(case)
        wanted = _labelled_elsewhere(case, cases)
        own = [match for match in matches if match.case == case.name]
        boxes = np.array([enclosing_box(labels[case.name], match.lesion) for match in own], np.float32).reshape(-1, 6)
        hits = lesions_of_boxes(boxes, truth)
        same = np.array([_hits_source(hit, match, truth, by_name) for hit, match in zip(hits, own, strict=True)], bool)
        for right, out in zip((hits != NONE, same), tallies, strict=True):
            recovered = wanted & set(hits[right].tolist())
            out.append(Tally(int(right.sum()), len(own), len(recovered), len(wanted)))
    units = ("lesions", "unlabelled lesions labelled elsewhere")
    return (
        Quality.of("intra-patient, a true lesion", units, cases, tallies[0]),
        Quality.of("intra-patient, the same lesion", units, cases, tallies[1]),
    )


def measure_uncertain(strategy: str, cases: Sequence[GridCase], labels: Mapping[str, Labels]) -> Quality:
    """Measure uncertain boxes.

    Parameters
    ----------
    strategy : str
        Name for it.
    cases : sequence of GridCase
        Simulated, with truth.
    labels : mapping of str to Labels
        Name of a case to its labels after cross-dataset mining.

    Returns
    -------
    Quality
        A box is right when its IoU with a true box on its slice exceeds 0.5. Recall is over the unlabelled lesions that
        have no mined box yet; one is recovered when an uncertain box is right for it.
    """
    tallies = []
    for case in cases:
        truth, known = truth_of(case), labels[case.name]
        hits = lesions_of_rows(known.uncertain, truth)
        mined = set(lesions_of_rows(known.boxes, truth).tolist())
        wanted = set(np.flatnonzero(~truth.labelled).tolist()) - mined
        tallies.append(Tally(int((hits != NONE).sum()), len(hits), len(wanted & set(hits.tolist())), len(wanted)))
    return Quality.of(strategy, ("boxes", "unlabelled lesions not mined before"), cases, tallies)


def enclosing_box(labels: Labels, lesion: int) -> NDArray[np.float32]:
    """Mean of a lesion's rows in plane and their range along z: x1, y1, z1, x2, y2, z2."""
    rows: Rows = labels.boxes[labels.lesion == lesion]
    x1, y1, x2, y2 = rows[:, 1:].mean(axis=0)
    return np.array([x1, y1, rows[:, 0].min() - 0.5, x2, y2, rows[:, 0].max() + 0.5], np.float32)


def as_markdown(qualities: Sequence[Quality], title: str) -> str:
    """A table of precision and recall."""
    lines = [
        f"# {title}",
        "",
        f"Measured on {SIMULATED} with labels removed. Brackets: 95 % intervals from bootstrapping patients.",
        "",
        "| strategy | precision | right of mined | recall | recovered of removed |",
        "|---|---|---|---|---|",
    ]
    for q in qualities:
        precision, recall = _percent(q.precision, q.precision_interval), _percent(q.recall, q.recall_interval)
        counts = f"{q.tally.right} of {q.tally.mined} {q.mined_unit}"
        removed = f"{q.tally.recovered} of {q.tally.removed} {q.removed_unit}"
        lines.append(f"| {q.strategy} | {precision} | {counts} | {recall} | {removed} |")
    return "\n".join(lines) + "\n"


def as_json(qualities: Sequence[Quality], title: str) -> dict[str, Any]:
    """Everything that was measured; null for a share of nothing."""
    rows = []
    for quality in qualities:
        row = asdict(quality) | {"tally": quality.tally._asdict()}
        row |= {"precision": _number(quality.precision), "recall": _number(quality.recall)}
        intervals = ("precision_interval", "recall_interval")
        rows.append(row | {name: [_number(end) for end in row[name]] for name in intervals})
    return {"title": title, "data": SIMULATED, "bootstraps_over_patients": BOOTSTRAPS, "strategies": rows}


def write_quality(qualities: Sequence[Quality], folder: Path, title: str) -> None:
    """Write ``mining.json`` and ``mining.md`` into a folder, which is made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(qualities, title), indent=1, allow_nan=False)
    (folder / "mining.json").write_text(text + "\n", encoding="utf-8")
    (folder / "mining.md").write_text(as_markdown(qualities, title), encoding="utf-8")


def _tally_rows(before: Labels, after: Labels, truth: Truth, every_lesion: bool) -> Tally:
    count = len(before.boxes)
    if not np.array_equal(after.boxes[:count], before.boxes):
        raise ValueError("after must hold the rows of before first, and what was added behind them")
    added = after.boxes[count:]
    hits = lesions_of_rows(added, truth)
    wanted = np.flatnonzero(np.ones_like(truth.labelled) if every_lesion else truth.labelled)
    places = {(o, float(z)) for o, z in zip(truth.owners.tolist(), truth.rows[:, 0], strict=True) if o in wanted}
    removed = places - _places(before.boxes, lesions_of_rows(before.boxes, truth))
    recovered = removed & _places(added, hits)
    return Tally(int((hits != NONE).sum()), len(added), len(recovered), len(removed))


def _places(rows: Rows, lesions: NDArray[np.int64]) -> set[tuple[int, float]]:
    """True lesion and slice of each row."""
    return set(zip(lesions.tolist(), rows[:, 0].tolist(), strict=True))


def _labelled_elsewhere(case: GridCase, cases: Sequence[GridCase]) -> set[int]:
    """The case's unlabelled lesions that are labelled in another study or series of its patient."""
    truth = truth_of(case)
    others = [
        truth_of(other)
        for other in cases
        if case.patient and other.patient == case.patient and (other.study, other.series) != (case.study, case.series)
    ]
    names = {other.identities[i] for other in others for i in np.flatnonzero(other.labelled)}
    return {int(i) for i in np.flatnonzero(~truth.labelled) if truth.identities[i] in names}


def _hits_source(hit: int, match: Match, truth: Truth, cases: Mapping[str, GridCase]) -> bool:
    """Whether a true lesion that was hit is the one that the annotation is of."""
    source = cases[match.source]
    identity = identity_of_annotation(source.labels, match.source_lesion, truth_of(source))
    return bool(hit != NONE) and truth.identities[hit] == identity


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _interval(counts: NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of the first column's sum over the second's, resampling the rows."""
    if not counts[:, 1].sum():
        return float("nan"), float("nan")
    drawn = np.random.default_rng(0).integers(len(counts), size=(BOOTSTRAPS, len(counts)))
    part, whole = counts[drawn].sum(axis=1).T
    low, high = np.percentile(part[whole > 0] / whole[whole > 0], [2.5, 97.5])
    return float(low), float(high)


def _percent(value: float, interval: tuple[float, float]) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{100 * value:.1f} % [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _number(value: float) -> float | None:
    """Rounded; None, which JSON knows, for what is not finite."""
    return round(value, 6) if np.isfinite(value) else None
