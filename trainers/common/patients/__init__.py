"""Simulated patients with several studies and series, labelled as radiologists leave labels (LENS, section V).

A patient is one anatomy, a phantom's or a real CT's. Its lesions come back in later studies, larger or smaller, some
new and some gone; every study is reconstructed as one or two series. In the universal set a few lesions of a study are
labelled, on one slice of one series; the single-type sets label all of their type; `Truth` knows every lesion by name.
"""

from __future__ import annotations

from lnsdk.trainers.common.patients.make import make_patient
from lnsdk.trainers.common.patients.plan import PatientPlan, PatientSetPlan, plan_patients
from lnsdk.trainers.common.patients.prepare import generate, prepare_patients
from lnsdk.trainers.common.patients.summary import SetSummary, summarize

__all__ = [
    "PatientPlan",
    "PatientSetPlan",
    "SetSummary",
    "generate",
    "make_patient",
    "plan_patients",
    "prepare_patients",
    "summarize",
]
