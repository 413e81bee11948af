"""Mining of a partially labelled data set, the strategies in the paper's order (LENS V and Table IV)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.mining.matching import Embedding, Match, MinedVolume, by_patient, match_patient
from lnsdk.trainers.lens.mining.propagation import propagate
from lnsdk.trainers.lens.mining.tracklets import NOBODY, THETA, group, outside, owners, pick
from lnsdk.trainers.lens.mining.uncertain import OVERLAP, SIGMA, add_as_lesions, add_uncertain, suspicious

Level = Literal["none", "cross_slice", "intra_patient", "cross_dataset", "unlabelled"]

LEVELS: tuple[Level, ...] = get_args(Level)
"""Rows of Table IV: each level adds a strategy to those before it."""


@dataclass(frozen=True)
class MiningSettings:
    """What to mine, and how sure to be.

    Attributes
    ----------
    level : str
        The last strategy to run, of `LEVELS`.
    delta : float or None
        Embedding distance below which a tracklet and an annotation are the same lesion (V-B). It belongs to one
        embedding: take the one that was chosen and stored with it; needed from "intra_patient" on. The paper's 0.15 is
        LesaNet's.
    theta : float
        IoU above which boxes are the same lesion (0.5, VI-B).
    sigma : float
        Score that an uncertain box exceeds (0.5, VI-B).
    overlap : float
        IoU above which a box overlaps what is known (V-B, V-C; 0.3, theta_FP of VI-B).
    uncertain_as_lesions : bool
        Take uncertain boxes for lesions ("ignored as GT", Table V); the paper found it worse.
    """

    level: Level = "unlabelled"
    delta: float | None = None
    theta: float = THETA
    sigma: float = SIGMA
    overlap: float = OVERLAP
    uncertain_as_lesions: bool = False

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {self.level!r}")
        for name in ("theta", "sigma", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.runs("intra_patient") and (self.delta is None or not self.delta >= 0):
            raise ValueError(
                f"delta must be a distance of 0 or more for level {self.level!r}, got {self.delta}: choose one for the "
                "embedding with lnsdk.trainers.lens.mining.delta.choose_delta"
            )

    def runs(self, level: Level) -> bool:
        """Whether a level is among those to run."""
        return LEVELS.index(level) <= LEVELS.index(self.level)


@dataclass(frozen=True)
class LevelCounts:
    """A row of Table IV.

    Attributes
    ----------
    level : str
        After which strategy.
    lesions, boxes : int
        Lesions ("# 3D GT") and their boxes on slices ("# 2D GT").
    uncertain : int
        Boxes that training ignores ("# 2D uncertain").
    slices : int
        Slices that samples are centred on ("# training slices").
    """

    level: str
    lesions: int
    boxes: int
    uncertain: int
    slices: int


@dataclass(frozen=True)
class MiningReport:
    """What was mined.

    Attributes
    ----------
    levels : tuple of LevelCounts
        Up to the level that was asked for.
    matches : tuple of Match
        Every lesion that intra-patient matching added.
    """

    levels: tuple[LevelCounts, ...]
    matches: tuple[Match, ...]

    def markdown(self) -> str:
        """The counts as a table with the columns of Table IV."""
        lines = ["| level | # 3D GT | # 2D GT | # 2D uncertain | # training slices |", "|---|---|---|---|---|"]
        rows = (f"| {c.level} | {c.lesions} | {c.boxes} | {c.uncertain} | {c.slices} |" for c in self.levels)
        return "\n".join([*lines, *rows]) + "\n"


@dataclass(frozen=True, eq=False)
class Mined:
    """Labels of all cases.

    Attributes
    ----------
    stages : mapping of str to mapping of str to Labels
        Level to name of a case to its labels then. Mined rows and lesions stand behind those of the level before.
    report : MiningReport
        Counts and matches.
    """

    stages: Mapping[Level, Mapping[str, Labels]]
    report: MiningReport

    @property
    def labels(self) -> Mapping[str, Labels]:
        """Labels to train on: those of the last level."""
        return self.stages[self.report.levels[-1].level]  # type: ignore[index]


def mine(
    cases: Sequence[GridCase],
    found: Mapping[str, SliceBoxes],
    specialists: Mapping[str, SliceBoxes],
    embedding: Embedding | None,
    settings: MiningSettings,
) -> Mined:
    """Mine missing annotations.

    Parameters
    ----------
    cases : sequence of GridCase
        All cases of the partially labelled data set. `patient`, `study` and `series` say which belong together; a case
        without a patient is a patient by itself.
    found : mapping of str to SliceBoxes
        Name of a case to the boxes of all experts together, for tracklets.
    specialists : mapping of str to SliceBoxes
        Name of a case to the boxes of the single-type experts, for uncertain lesions.
    embedding : Embedding or None
        Describes lesions; None will do below "intra_patient".
    settings : MiningSettings
        What to do.

    Returns
    -------
    Mined

    Raises
    ------
    ValueError
        When a case has no boxes, or the embedding is missing.

    Notes
    -----
    Nothing is mined in a case's ignored places. Up to "cross_dataset" samples are centred on slices with an annotation
    or a mined box, as uncertain lesions are mined on these alone; "unlabelled" opens all slices and mines them all
    (VI-D).
    """
    _check(cases, found, specialists, embedding, settings)
    stages: dict[Level, dict[str, Labels]] = {"none": {case.name: on_labelled_slices(case.labels) for case in cases}}
    volumes = [propagated(case, found[case.name], settings.theta) for case in cases]
    matches: list[Match] = []
    if settings.runs("cross_slice"):
        stages["cross_slice"] = {volume.case.name: on_labelled_slices(volume.labels) for volume in volumes}
    if settings.runs("intra_patient") and embedding is not None and settings.delta is not None:
        stages["intra_patient"] = {}
        for patient in by_patient(volumes):
            labels, new = match_patient(patient, embedding, settings.delta, settings.overlap)
            names = (volume.case.name for volume in patient)
            stages["intra_patient"] |= zip(names, map(on_labelled_slices, labels), strict=True)
            matches += new
    for level in ("cross_dataset", "unlabelled"):
        if settings.runs(level):
            known = stages["intra_patient"]
            stages[level] = {
                case.name: _with_uncertain(known[case.name], case, specialists[case.name], level, settings)
                for case in cases
            }
    levels = tuple(count(level, cases, stages[level]) for level in LEVELS if level in stages)
    return Mined(stages, MiningReport(levels, tuple(matches)))


def relabel(case: GridCase, labels: Labels) -> GridCase:
    """A case with other labels to train on; its fingerprint says so, so no training goes on that began with others."""
    content = json.dumps([case.fingerprint, labels.record()])
    return replace(case, labels=labels, fingerprint=hashlib.sha256(content.encode()).hexdigest())


def on_labelled_slices(labels: Labels) -> Labels:
    """Labels from which samples are centred on slices with a lesion only."""
    return replace(labels, slices=labelled_slices(labels))


def labelled_slices(labels: Labels) -> NDArray[np.int64]:
    """Slices with an annotation or a mined box, ascending."""
    return np.unique(labels.boxes[:, 0]).astype(np.int64)


def count(level: str, cases: Sequence[GridCase], labels: Mapping[str, Labels]) -> LevelCounts:
    """Count what the labels of all cases hold."""
    each = [labels[case.name] for case in cases]
    depths = [len(case.grid) if of.slices is None else len(of.slices) for case, of in zip(cases, each, strict=True)]
    return LevelCounts(
        level,
        sum(len(np.unique(of.lesion)) for of in each),
        sum(len(of.boxes) for of in each),
        sum(len(of.uncertain) for of in each),
        sum(depths),
    )


def _check(
    cases: Sequence[GridCase],
    found: Mapping[str, SliceBoxes],
    specialists: Mapping[str, SliceBoxes],
    embedding: Embedding | None,
    settings: MiningSettings,
) -> None:
    needed = [("found", found)] + [("specialists", specialists)] * settings.runs("cross_dataset")
    for name, boxes in needed:
        missing = [case.name for case in cases if case.name not in boxes]
        if missing:
            raise ValueError(f"{name} must hold the boxes of every case, got none for {', '.join(missing)}")
    if settings.runs("intra_patient") and embedding is None:
        raise ValueError(f"embedding must describe lesions for level {settings.level!r}, got None")


def propagated(case: GridCase, found: SliceBoxes, theta: float = THETA) -> MinedVolume:
    """A volume after cross-slice box propagation."""
    tracklets = group(outside(found, case.labels.ignored), theta)
    owner = owners(tracklets, case.labels, theta)
    return MinedVolume(
        case, propagate(case.labels, tracklets, owner, theta), tracklets, np.flatnonzero(owner == NOBODY)
    )


def _with_uncertain(
    labels: Labels, case: GridCase, specialists: SliceBoxes, level: Level, settings: MiningSettings
) -> Labels:
    """Labels after cross-dataset mining: on slices with a lesion, or on all of them."""
    slices = None if level == "unlabelled" else labelled_slices(labels)
    boxes = suspicious(labels, outside(specialists, case.labels.ignored), settings.sigma, settings.overlap)
    if slices is not None:
        boxes = pick(boxes, np.isin(boxes.slices, slices))
    mined = (
        add_as_lesions(labels, boxes, settings.theta) if settings.uncertain_as_lesions else add_uncertain(labels, boxes)
    )
    return replace(mined, slices=slices)
