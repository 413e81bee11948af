"""How large the experiments of the tables are."""

from __future__ import annotations

from dataclasses import dataclass

from lnsdk.trainers.common.patients import PatientSetPlan
from lnsdk.trainers.lens.embedding import EmbeddingSettings
from lnsdk.trainers.lens.settings import LensSettings


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
    """

    patients: PatientSetPlan
    training: LensSettings
    embedding: EmbeddingSettings
