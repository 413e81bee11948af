"""Generating a set of simulated patients on all cores; what is up to date is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from lnsdk.trainers.common.cases import SET, Origin, Part, code_digest, read_grid_cases, store, write_set
from lnsdk.trainers.common.grid import GRID_SPACING
from lnsdk.trainers.common.parallel import in_parallel
from lnsdk.trainers.common.patients.grid import grid_cases
from lnsdk.trainers.common.patients.picture import draw_patient, most_telling
from lnsdk.trainers.common.patients.plan import PatientPlan, PatientSetPlan, PhantomPlan, plan_patients
from lnsdk.trainers.common.patients.summary import SetSummary, summarize

MANIFESTS = "patients"
"""Folder of the patients' records under that of the cases; a record is written when all cases of its patient are."""


def generate(plan: PatientSetPlan, folder: Path) -> SetSummary:
    """Generate a set of simulated patients, with a progress bar.

    Parameters
    ----------
    plan : PatientSetPlan
        What to generate.
    folder : Path
        Receives NAME.npy and NAME.json of every case, patients/PATIENT.json, set.json, summary.md and, where a patient
        has labelled and unlabelled lesions, patient.png. Patients that are there and up to date are kept.

    Returns
    -------
    SetSummary
        What the set holds.

    Raises
    ------
    InputError
        When a real CT cannot be read.
    """
    patients = plan_patients(plan)
    if not all(is_current(patient, folder) for patient in patients):
        (folder / SET).unlink(missing_ok=True)
        prepare_patients(patients, folder)
    cases = {patient.id: read_grid_cases(folder, stored_cases(patient, folder)) for patient in patients}
    summary = summarize([case for own in cases.values() for case in own])
    (folder / "summary.md").write_text(summary.markdown())
    shown = most_telling([cases[patient.id] for patient in patients if patient.routine])
    if shown is not None:
        draw_patient(shown).save(folder / "patient.png")
    write_set(folder, _parts(patients, folder), Origin(True, _real_cts(plan)))
    return summary


def prepare_patients(patients: Sequence[PatientPlan], folder: Path) -> None:
    """Make every patient that `folder` does not hold whole, or holds from another plan, on all cores."""
    missing = [patient for patient in patients if not is_current(patient, folder)]
    (folder / MANIFESTS).mkdir(parents=True, exist_ok=True)
    in_parallel("simulating patients", partial(prepare_patient, folder=folder), missing)


def prepare_patient(plan: PatientPlan, folder: Path) -> None:
    """Make the cases of a patient and, when all are there, the record that says so."""
    path = _manifest(plan, folder)
    for name in stored_cases(plan, folder) if path.exists() else ():
        (folder / f"{name}.json").unlink(missing_ok=True)
        (folder / f"{name}.npy").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, names = fingerprint(plan), []
    for case in grid_cases(plan):
        store(replace(case, fingerprint=digest), folder)
        names.append(case.name)
    _write(path, {"fingerprint": digest, "cases": names})


def is_current(plan: PatientPlan, folder: Path) -> bool:
    """Whether `folder` holds all cases of a patient, made from this plan by this code."""
    path = _manifest(plan, folder)
    if not path.exists() or json.loads(path.read_text())["fingerprint"] != fingerprint(plan):
        return False
    names = stored_cases(plan, folder)
    return all((folder / f"{name}{suffix}").exists() for name in names for suffix in (".npy", ".json"))


def stored_cases(plan: PatientPlan, folder: Path) -> list[str]:
    """Names of the cases of a patient that `folder` holds whole, the earliest study first."""
    return [str(name) for name in json.loads(_manifest(plan, folder).read_text())["cases"]]


def fingerprint(plan: PatientPlan) -> str:
    """Digest of everything that decides a patient: the plan, the data's place in the catalogue, and the code."""
    anatomy = plan.anatomy
    if isinstance(anatomy, PhantomPlan):
        body: list[Any] = [asdict(anatomy)]
    else:
        body = [anatomy.id, anatomy.suspicious.tolist(), anatomy.liver.tolist()]
    studies = [asdict(study) for study in plan.studies]
    parts = [plan.id, asdict(plan.scope), plan.seed, plan.lesions, studies, body, plan.reach_mm]
    return hashlib.sha256(json.dumps([*parts, GRID_SPACING, code_digest(), _own_code()]).encode()).hexdigest()


@cache
def _own_code() -> str:
    """Digest of this package."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _parts(patients: Sequence[PatientPlan], folder: Path) -> dict[Part, list[str]]:
    stored = [(patient.role, stored_cases(patient, folder)) for patient in patients]
    return {
        "train": [name for role, names in stored if role == "train" for name in names],
        "validation": [names[0] for role, names in stored if role == "validation"],
        "matching": [name for role, names in stored if role == "validation" for name in names],
        "test": [names[0] for role, names in stored if role == "test"],
    }


def _real_cts(plan: PatientSetPlan) -> tuple[str, ...]:
    return tuple(background.id for background in plan.backgrounds if background.role == "train")


def _manifest(plan: PatientPlan, folder: Path) -> Path:
    return folder / MANIFESTS / f"{plan.id}.json"


def _write(path: Path, record: object) -> None:
    """Write JSON that is whole or not there."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.replace(path)
