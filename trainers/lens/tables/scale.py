"""How large the experiments of the tables are."""

from __future__ import annotations

from dataclasses import dataclass

from lnsdk.trainers.common.patients import PatientSetPlan
from lnsdk.trainers.lens.embedding.train import EmbeddingSettings
from lnsdk.trainers.lens.fpr.settings import FprSettings
from lnsdk.trainers.lens.fpr.settings import edge as reduction_edge
from lnsdk.trainers.lens.organs import OrganSettings
from lnsdk.trainers.lens.settings import LensSettings, edge
from lnsdk.trainers.networks.lens import FULL_WINDOW, LensShape

THIN = LensShape(
    stem=16,
    stem_kernel=3,
    blocks=(2, 4, 6),
    growth=8,
    bottleneck=2,
    pyramid=24,
    proposal=16,
    roi_hidden=64,
    windows=(FULL_WINDOW, (-1000.0, 200.0), (-160.0, 240.0)),
)
"""The topology of the edge preset with fewer channels: within minutes on a CPU it learns more than the edge preset
itself, which does fewer steps in the same time."""


@dataclass(frozen=True)
class Scale:
    """Size of an experiment.

    Attributes
    ----------
    patients : PatientSetPlan
        The simulated set.
    training : LensSettings
        Every row's training; seed and method are the row's.
    embedding : EmbeddingSettings
        Of the lesion embedding.
    reduction : FprSettings
        Of false-positive reduction.
    organs : OrganSettings
        Of the pretraining that every network starts from.
    """

    patients: PatientSetPlan
    training: LensSettings
    embedding: EmbeddingSettings
    reduction: FprSettings
    organs: OrganSettings


SCALES = {
    "edge": Scale(
        PatientSetPlan(patients=32, single=12, validation=16, test=48, lesions=10, reach_mm=30.0),
        edge(
            shape=THIN,
            steps=3500,
            batch=4,
            crop=128,
            learning_rate=2e-3,
            milestones=(0.7, 0.9),
            warmup=100,
            balance_types=False,
        ),
        EmbeddingSettings(),
        reduction_edge(epochs=18, cuts=(12, 15)),
        OrganSettings(),
    )
}
"""Name of a scale to its sizes."""
