"""What a set of simulated patients holds: how many lesions, how many of them labelled, how many seen again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lnsdk.trainers.common.cases import GridCase


@dataclass(frozen=True)
class Count:
    """A group of cases in numbers.

    Attributes
    ----------
    name : str
        Expert, or lesion type.
    patients, studies, series, cases : int
        Cases are series, or sub-volumes of them.
    lesions : int
        Different lesions.
    sights : int
        Lesions times the series that show them.
    labelled : int
        How many of the sights carry a label.
    again : int
        Lesions that another study shows too.
    other_series : int
        Lesions that another series of the same study shows too.
    matchable : int
        Sights without a label whose lesion has one elsewhere: what intra-patient matching can find (LENS V-B).
    """

    name: str
    patients: int
    studies: int
    series: int
    cases: int
    lesions: int
    sights: int
    labelled: int
    again: int
    other_series: int
    matchable: int


@dataclass(frozen=True)
class SetSummary:
    """A set in numbers: by expert, and for each expert by lesion type."""

    experts: tuple[Count, ...]
    types: dict[str, tuple[Count, ...]]

    def markdown(self) -> str:
        """The numbers as tables."""
        head = (
            "patients | studies | series | cases | lesions | lesions x series | labelled | seen in another study "
            "| seen in another series | unlabelled, labelled elsewhere |"
        )
        tables = [_table(f"| set | {head}", self.experts)]
        for expert, types in self.types.items():
            tables += [f"\n## {expert}, by lesion type\n", _table(f"| type | {head}", types)]
        return "\n".join(["# Simulated patients\n", *tables, ""])


def summarize(cases: Sequence[GridCase]) -> SetSummary:
    """Count what cases with a truth hold.

    Raises
    ------
    ValueError
        When a case has no truth.
    """
    sights = [sight for case in cases for sight in _sights(case)]
    experts = list(dict.fromkeys(case.expert for case in cases))
    types: dict[str, tuple[Count, ...]] = {}
    for expert in experts:
        own = [sight for sight in sights if sight.case.expert == expert]
        kinds = sorted({sight.type for sight in own})
        types[expert] = tuple(
            _count(kind, [s.case for s in own if s.type == kind], [s for s in own if s.type == kind]) for kind in kinds
        )
    return SetSummary(
        tuple(
            _count(e, [case for case in cases if case.expert == e], [s for s in sights if s.case.expert == e])
            for e in experts
        ),
        types,
    )


@dataclass(frozen=True, eq=False)
class _Sight:
    """A lesion in a case."""

    case: GridCase
    identity: str
    type: str
    labelled: bool


def _sights(case: GridCase) -> list[_Sight]:
    truth = case.truth
    if truth is None:
        raise ValueError(f"cases must have a truth to be counted, but {case.name} has none")
    rows = zip(truth.identities, truth.types, truth.labelled, strict=True)
    return [_Sight(case, identity, kind, bool(labelled)) for identity, kind, labelled in rows]


def _count(name: str, cases: Sequence[GridCase], sights: Sequence[_Sight]) -> Count:
    labelled: dict[tuple[str, str], bool] = defaultdict(bool)
    studies: dict[str, set[str]] = defaultdict(set)
    series: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sight in sights:
        labelled[sight.identity, sight.case.series] |= sight.labelled
        studies[sight.identity].add(sight.case.study)
        series[sight.identity, sight.case.study].add(sight.case.series)
    known = {identity for (identity, _), yes in labelled.items() if yes}
    return Count(
        name=name,
        patients=len({case.patient for case in cases}),
        studies=len({case.study for case in cases}),
        series=len({case.series for case in cases}),
        cases=len({case.name for case in cases}),
        lesions=len(studies),
        sights=len(labelled),
        labelled=sum(labelled.values()),
        again=_several(studies.values()),
        other_series=len({identity for (identity, _), own in series.items() if len(own) > 1}),
        matchable=sum(identity in known and not yes for (identity, _), yes in labelled.items()),
    )


def _several(groups: Iterable[set[str]]) -> int:
    return int(np.sum([len(group) > 1 for group in groups]))


def _table(head: str, counts: Sequence[Count]) -> str:
    rule = "|---" + "|--:" * (head.count("|") - 2) + "|"
    return "\n".join([head, rule, *map(_row, counts)])


def _row(count: Count) -> str:
    labelled = f"{count.labelled} ({100 * count.labelled / max(count.sights, 1):.0f} %)"
    cells = [count.name, count.patients, count.studies, count.series, count.cases, count.lesions, count.sights]
    return "| " + " | ".join(map(str, [*cells, labelled, count.again, count.other_series, count.matchable])) + " |"
