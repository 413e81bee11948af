"""Cases on the network's grid: made from simulated volumes, stored, and read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

import lnsdk.phantom
from lnsdk.errors import InputError
from lnsdk.phantom import LesionTruth
from lnsdk.trainers.common.grid import GridFrame, sections
from lnsdk.trainers.common.labels import Labels, Truth

Part = Literal["train", "validation", "matching", "test"]
"""What the cases of a set are for: `matching` holds all series of the validation patients, for choosing the threshold
of the embedding."""

SET = "set.json"
"""Names of the cases of every part, in the folder of the cases."""


@dataclass(frozen=True)
class GridCase:
    """A case on the network's grid, ready to be sampled.

    Attributes
    ----------
    name : str
        Of the case.
    expert : str
        Name of the scope that labelled it.
    source : ndarray of float16, (z, y, x), or Path
        Values 0..255, or the file that holds them: read it through `grid`.
    labels : Labels
        What a training may know.
    truth : Truth or None
        Every lesion of a simulated case; None for a recorded one.
    patient, study, series : str
        Whom the volume shows, when, and which reconstruction of that it is (LENS V-B). Empty where unknown.
    fingerprint : str
        Of everything that the case was made from.
    """

    name: str
    expert: str
    source: np.ndarray | Path
    labels: Labels
    truth: Truth | None = None
    patient: str = ""
    study: str = ""
    series: str = ""
    fingerprint: str = ""

    @property
    def grid(self) -> np.ndarray:
        """The values; those in a file are mapped anew by every call, so that many cases keep no files open."""
        if isinstance(self.source, Path):
            mapped: np.ndarray = np.load(self.source, mmap_mode="r")
            return mapped
        return self.source


@cache
def code_digest() -> str:
    """Digest of the code that makes cases: phantoms, lesions, the simulation and this module."""
    own = Path(__file__).parent
    modules = [own / "simulation.py", own / "grid.py", Path(__file__)]
    files = [*sorted(Path(lnsdk.phantom.__file__).parent.glob("*.py")), *modules]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def stored_fingerprint(path: Path) -> str | None:
    """What the case in a file was made from; None without a whole one."""
    if not (path.exists() and path.with_suffix(".npy").exists()):
        return None
    stored = json.loads(path.read_text()).get("fingerprint")
    return None if stored is None else str(stored)


def grid_truth(
    lesions: Sequence[LesionTruth], identities: Sequence[str], labelled: Sequence[bool], frame: GridFrame
) -> Truth:
    """What is known of the lesions of a volume, on the grid.

    Parameters
    ----------
    lesions : sequence of LesionTruth
        Boxes in the volume's voxels.
    identities : sequence of str
        Their names.
    labelled : sequence of bool
        Whether they carry a label.
    frame : GridFrame
        Of the volume.
    """
    rows = [_lesion_on_grid(lesion, frame) for lesion in lesions]
    return Truth.of(
        frame.boxes(np.asarray([lesion.box for lesion in lesions], np.float64).reshape(-1, 6)),
        [lesion.type for lesion in lesions],
        [lesion.diameter_mm for lesion in lesions],
        identities,
        labelled,
        np.concatenate([np.zeros((0, 5)), *rows]),
        np.repeat(np.arange(len(lesions)), [len(own) for own in rows]),
    )


def labels_of(truth: Truth, rows: np.ndarray, ignored: np.ndarray) -> Labels:
    """Labels that hold the chosen rows of a truth, and of its lesions only those that have one."""
    lesions, owners = np.unique(truth.owners[rows], return_inverse=True)
    return Labels.of(truth.rows[rows], owners, [truth.types[lesion] for lesion in lesions], ignored=ignored)


def store(case: GridCase, folder: Path) -> None:
    """Write a case as NAME.npy and NAME.json; a description without its grid is never left behind."""
    record = {
        "expert": case.expert,
        "labels": case.labels.record(),
        "truth": None if case.truth is None else case.truth.record(),
        "patient": case.patient,
        "study": case.study,
        "series": case.series,
        "fingerprint": case.fingerprint,
    }
    path = folder / f"{case.name}.json"
    path.unlink(missing_ok=True)  # an interruption from here on leaves no description of another grid
    partial = folder / f"{case.name}.partial"
    with partial.open("wb") as file:
        np.save(file, case.grid)
    partial.replace(path.with_suffix(".npy"))
    partial.write_text(json.dumps(record))
    partial.replace(path)


def read_grid_cases(folder: Path, names: Iterable[str]) -> list[GridCase]:
    """The named cases under `folder`, in the order of their names."""
    cases = []
    for path in sorted(folder / f"{name}.json" for name in names):
        record = json.loads(path.read_text())
        cases.append(
            GridCase(
                path.stem,
                record["expert"],
                path.with_suffix(".npy"),
                Labels.of(**record["labels"]),
                None if record["truth"] is None else Truth.of(**record["truth"]),
                record["patient"],
                record["study"],
                record["series"],
                record["fingerprint"],
            )
        )
    return cases


def _lesion_on_grid(truth: LesionTruth, frame: GridFrame) -> np.ndarray:
    """Cross-sections of a lesion on the grid slices that its box covers: rows z, x1, y1, x2, y2."""
    z = np.arange(frame.depth)
    at = (z + frame.origin[2]) / frame.scale[2]
    inside = (at >= truth.box[2]) & (at <= truth.box[5])
    return sections(z[inside], truth.slices, truth.slice_boxes, frame)


@dataclass(frozen=True)
class Origin:
    """Where the cases of a set come from.

    Attributes
    ----------
    simulated : bool
        Whether their lesions are simulated.
    real_cts : tuple of str
        Names of the real CTs that simulated lesions were put into for training.
    """

    simulated: bool
    real_cts: tuple[str, ...] = ()


def write_set(folder: Path, parts: Mapping[Part, Sequence[str]], origin: Origin) -> None:
    """Say which of the cases in `folder` make up a set, what they are for, and where they come from."""
    partial = folder / f"{SET}.partial"
    partial.write_text(json.dumps({**parts, "origin": asdict(origin)}))
    partial.replace(folder / SET)


def read_set(folder: Path, part: Part) -> list[GridCase]:
    """Read the cases of one part of a set.

    Raises
    ------
    InputError
        ``case-set`` when `folder` holds no whole set.
    """
    return read_grid_cases(folder, _set(folder)[part])


def read_origin(folder: Path) -> Origin:
    """Where the cases of a set come from.

    Raises
    ------
    InputError
        ``case-set`` as `read_set`.
    """
    origin = _set(folder)["origin"]
    return Origin(origin["simulated"], tuple(origin["real_cts"]))


def _set(folder: Path) -> dict[str, Any]:
    path = folder / SET
    if not path.exists():
        raise InputError("case-set", f"{folder} must hold a set of cases, but has no {SET}: make it (again)")
    content: dict[str, Any] = json.loads(path.read_text())
    return content
