"""Rows of the LENS paper's Tables II to V: what each of them trains, and what it fuses."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lnsdk.trainers.lens.proposals.base import Method

Data = Literal["all", "universal", "lung", "liver", "lymph_node", "pooled", "positive_pooled"]
"""Data sets of a training. ``all`` gives every set its expert (IV-C); ``pooled`` treats all sets as one;
``positive_pooled`` takes only labelled lesions from the single-type sets, and nothing else of their slices (VI-D)."""

LabelSource = Literal[
    "none",
    "cross_slice",
    "intra_patient",
    "cross_dataset",
    "unlabelled",
    "uncertain_as_truth",
    "adjacent_slices",
    "distillation",
    "truth",
]
"""Labels of the universal set: the official ones; with the strategies of section V, each with all before it; mined
uncertain lesions taken as true ones (Table V); Wang et al. (reference [36]); data distillation (reference [33]); every
lesion on every slice, which only a simulation knows and no mining can surpass."""


@dataclass(frozen=True)
class Recipe:
    """One training; rows that share a recipe share its weights.

    Attributes
    ----------
    data : str
        Data sets and experts.
    labels : str
        Labels of the universal set.
    proposal : str
        Proposal network.
    one_stage : bool
        Without a detection head.
    domain_attention : bool
        With the adapters of reference [23].
    wide_augmentation : bool
        With the augmentation of data distillation (VI-D).
    """

    data: Data = "all"
    labels: LabelSource = "none"
    proposal: Method = "afp"
    one_stage: bool = False
    domain_attention: bool = False
    wide_augmentation: bool = False

    @property
    def name(self) -> str:
        """Folder of the training."""
        parts = [self.proposal, "one_stage" * self.one_stage, "attention" * self.domain_attention]
        parts.append("wide" * self.wide_augmentation)
        return "-".join([part for part in parts if part] + [self.data, self.labels])


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes
    ----------
    label : str
        As the paper calls it.
    recipes : tuple of Recipe
        Its trainings; the boxes of several networks are pooled.
    paper : float
        The paper's average sensitivity in percent.
    fused : bool
        Whether all experts' boxes are pooled, or the universal expert's count alone.
    reduced : bool
        Whether false positives are reduced (IV-D).
    """

    label: str
    recipes: tuple[Recipe, ...]
    paper: float
    fused: bool = True
    reduced: bool = False

    @property
    def name(self) -> str:
        """File of the row's result."""
        kind = "fused" if self.fused else "universal"
        return "+".join(recipe.name for recipe in self.recipes) + f".{kind}" + ".fpr" * self.reduced


@dataclass(frozen=True)
class Ordering:
    """A statement of the paper: the first row's average sensitivity is higher than the second's."""

    better: str
    worse: str


@dataclass(frozen=True)
class Table:
    """Rows and the paper's orderings among them.

    Attributes
    ----------
    title : str
        What the paper's table compares.
    rows : tuple of Row
        In the paper's order.
    orderings : tuple of Ordering
        Named by the rows' labels.
    seeds : int
        Seeds that are run unless others are asked for.
    """

    title: str
    rows: tuple[Row, ...]
    orderings: tuple[Ordering, ...]
    seeds: int = 3


UNIVERSAL = Recipe("universal")
JOINT = Recipe("all")
MINED = Recipe("all", "unlabelled")
MINED_UNIVERSAL = Recipe("universal", "unlabelled")
DISTILLING = Recipe("universal", wide_augmentation=True)
"""Predicts what data distillation takes for truth, with "data augmentation in both training and testing" (VI-D)."""

BASELINE = Row("Baseline (RPN, MULAN-style)", (Recipe("universal", proposal="rpn"),), 33.9)
SINGLE = Row("(a) AFP", (UNIVERSAL,), 36.8)
PROPOSED = Row("(g) all of LENS", (MINED,), 47.6)


def _mining(labels: LabelSource) -> tuple[Recipe, ...]:
    return (Recipe("universal", labels),)


def _separate(universal: Recipe) -> tuple[Recipe, ...]:
    return (universal, Recipe("lung"), Recipe("liver"), Recipe("lymph_node"))


def _orderings(*labels: str) -> tuple[Ordering, ...]:
    """Each row is better than the one after it."""
    return tuple(Ordering(better, worse) for better, worse in pairwise(labels))


TABLE_II = Table(
    "components of the framework",
    (
        BASELINE,
        SINGLE,
        Row("(b) + multi-dataset", (JOINT,), 37.3, fused=False),
        Row("(c) + proposal fusion", (JOINT,), 39.4),
        Row("(d) FCOS, mined", (Recipe("all", "unlabelled", "fcos"),), 45.7),
        Row("(e) AFP, mined", (MINED_UNIVERSAL,), 46.8),
        Row("(f) + multi-dataset, mined", (MINED,), 47.3, fused=False),
        PROPOSED,
        Row("(h) + FPR", (MINED,), 50.4, reduced=True),
    ),
    (
        *_orderings("(c) + proposal fusion", "(b) + multi-dataset", "(a) AFP", BASELINE.label),
        *_orderings("(h) + FPR", PROPOSED.label, "(f) + multi-dataset, mined", "(e) AFP, mined", "(a) AFP"),
        Ordering(PROPOSED.label, "(d) FCOS, mined"),
        Ordering(PROPOSED.label, "(c) + proposal fusion"),
    ),
)
"""Table II."""

TABLE_III = Table(
    "proposal networks",
    (
        Row("RPN, two stages", (Recipe("all", "unlabelled", "rpn"),), 42.5),
        Row("CenterNet, two stages", (Recipe("all", "unlabelled", "centernet"),), 45.3),
        Row("FCOS, one stage", (Recipe("all", "unlabelled", "fcos", one_stage=True),), 41.7),
        Row("FCOS, two stages", (Recipe("all", "unlabelled", "fcos"),), 45.7),
        Row("AFP, two stages", (MINED,), 47.6),
    ),
    _orderings("AFP, two stages", "FCOS, two stages", "CenterNet, two stages", "RPN, two stages", "FCOS, one stage"),
    seeds=1,
)
"""Table III."""

TABLE_IV = Table(
    "missing-annotation mining",
    (
        Row("No mining", (UNIVERSAL,), 36.8),
        Row("+ Cross-slice", _mining("cross_slice"), 37.7),
        Row("+ Intra-patient", _mining("intra_patient"), 40.7),
        Row("+ Cross-dataset", _mining("cross_dataset"), 44.6),
        Row("+ Unlabelled", _mining("unlabelled"), 46.8),
        Row("Wang et al.", _mining("adjacent_slices"), 38.0),
        Row("Data distillation", (Recipe("universal", "distillation", wide_augmentation=True),), 43.7),
        Row("Every lesion labelled (bound)", _mining("truth"), float("nan")),
    ),
    (
        *_orderings("+ Unlabelled", "+ Cross-dataset", "+ Intra-patient", "+ Cross-slice", "No mining"),
        *_orderings("+ Unlabelled", "Data distillation", "Wang et al.", "No mining"),
        Ordering("Every lesion labelled (bound)", "No mining"),
    ),
)
"""Table IV; the mining uses the experts of a joint training, the rows train on the universal set alone (VI-D).
The last row is no row of the paper: it bounds what mining can add."""

TABLE_V = Table(
    "combining data sets",
    (
        Row("Single dataset", (UNIVERSAL,), 36.8),
        Row("Single dataset, mined", (MINED_UNIVERSAL,), 46.8),
        Row("Data pooling", (Recipe("pooled"),), 39.4),
        Row("Data pooling, mined", (Recipe("pooled", "unlabelled"),), float("nan")),
        Row("Positive data pooling", (Recipe("positive_pooled"),), 32.8),
        Row("Positive data pooling, mined", (Recipe("positive_pooled", "unlabelled"),), float("nan")),
        Row("Separate models", _separate(UNIVERSAL), 39.6),
        Row("Separate models, mined", _separate(MINED_UNIVERSAL), float("nan")),
        Row("Proposed", (JOINT,), 39.4),
        Row("Proposed, mined", (MINED,), 47.6),
        Row("Uncertain as truth, mined", (Recipe("all", "uncertain_as_truth"),), 44.9),
        Row("Proposed + domain attention", (Recipe("all", domain_attention=True),), float("nan")),
        Row("Proposed + domain attention, mined", (Recipe("all", "unlabelled", domain_attention=True),), 47.1),
    ),
    (
        *_orderings("Separate models", "Data pooling", "Single dataset", "Positive data pooling"),
        Ordering("Proposed, mined", "Separate models"),
        Ordering("Proposed, mined", "Uncertain as truth, mined"),
        Ordering("Proposed, mined", "Proposed + domain attention, mined"),
        Ordering("Proposed, mined", "Separate models, mined"),
        Ordering("Proposed, mined", "Data pooling, mined"),
        Ordering("Proposed, mined", "Single dataset, mined"),
        Ordering("Proposed", "Single dataset"),
    ),
)
"""Table V. The paper compares the first four without mining to its own with it; here every strategy is run both ways.
Figures that Table V lacks are those of Table II where it has them, else missing."""

TABLES = {"II": TABLE_II, "III": TABLE_III, "IV": TABLE_IV, "V": TABLE_V}
"""Number of a table to its rows."""
