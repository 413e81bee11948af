"""The real CT volumes that simulated lesions are placed in: who may use each, and which places in them to leave alone.

Every volume was viewed slice by slice, in a lung and in a soft-tissue window, before anything was trained. Nobody
labelled their lesions, and several hold some (`backgrounds.json` lists them). Such a place must neither teach a network
that a lesion is background nor count against it in a test.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from lnsdk.errors import InputError

Role = Literal["train", "validation", "test"]
"""What a patient's volumes may be used for. All volumes of a patient have one role."""

CATALOGUE: Final = Path(__file__).with_name("backgrounds.json")
"""The reviewed volumes, kept beside this module."""


@dataclass(frozen=True, eq=False)
class Background:
    """One reviewed volume.

    Boxes are float32 (N, 6): x1, y1, z1, x2, y2, z2 in continuous voxel indices of the volume as `lnsdk.read` returns
    it, the centre of the first voxel at 0.

    Attributes
    ----------
    id : str
        Name of the volume, unique in the catalogue.
    path : Path
        Series folder or file.
    patient : str
        Label of the patient; splits are made by it.
    role : {"train", "validation", "test"}
        What the volume may be used for.
    suspicious : ndarray, (N, 6)
        Places that look like lesions, generously sized: ignored in training, no hit and no false positive in a test.
    notes : tuple of str
        What was seen in each suspicious box.
    liver : ndarray, (N, 6)
        Boxes inside the liver, where liver lesions may be placed. Empty when the volume shows no liver.
    """

    id: str
    path: Path
    patient: str
    role: Role
    suspicious: npt.NDArray[np.float32]
    notes: tuple[str, ...]
    liver: npt.NDArray[np.float32]


def load_backgrounds(
    data_root: str | Path, *, role: Role | None = None, catalogue: Path = CATALOGUE
) -> tuple[Background, ...]:
    """Read the reviewed volumes.

    Parameters
    ----------
    data_root : str or Path
        Folder that the paths in the catalogue are relative to: the one that holds `ct/`.
    role : {"train", "validation", "test"}, optional
        Only the volumes of this role; all of them by default.
    catalogue : Path
        JSON file with the volumes.

    Returns
    -------
    tuple of Background
        In the order of the catalogue. The volumes themselves are not opened.

    Raises
    ------
    ValueError
        When `role` is unknown, or when the catalogue contradicts itself (an id twice, a patient with two roles, an
        empty box).
    InputError
        ``data-root`` when a volume is not at its place below `data_root`.
    """
    if role is not None and role not in get_args(Role):
        raise ValueError(f"role must be one of {', '.join(get_args(Role))}, got {role!r}")
    entries = json.loads(catalogue.read_text(encoding="utf-8"))["backgrounds"]
    backgrounds = tuple(_background(entry, Path(data_root)) for entry in entries)
    _check_split(backgrounds)
    chosen = tuple(background for background in backgrounds if role is None or background.role == role)
    for background in chosen:
        if not background.path.exists():
            raise InputError(
                "data-root",
                f"data_root must hold the volume {background.id}, but {background.path} does not exist; "
                "pass the folder that holds ct/",
            )
    return chosen


def _background(entry: dict[str, Any], data_root: Path) -> Background:
    name, role, suspicious = entry["id"], entry["role"], entry["suspicious"]
    if role not in get_args(Role):
        raise ValueError(f"background {name}: role must be one of {', '.join(get_args(Role))}, got {role!r}")
    return Background(
        id=name,
        path=data_root / str(entry["path"]),
        patient=str(entry["patient"]),
        role=role,
        suspicious=_boxes(name, [place["box"] for place in suspicious]),
        notes=tuple(str(place["note"]) for place in suspicious),
        liver=_boxes(name, entry["liver"]),
    )


def _boxes(name: str, rows: list[list[float]]) -> npt.NDArray[np.float32]:
    boxes = np.array(rows, dtype=np.float32).reshape(len(rows), 6)
    if not (boxes[:, :3] < boxes[:, 3:]).all():
        raise ValueError(f"background {name}: every box must have x1 < x2, y1 < y2 and z1 < z2, got {boxes.tolist()}")
    return boxes


def _check_split(backgrounds: tuple[Background, ...]) -> None:
    roles: dict[str, str] = {}
    names: set[str] = set()
    for background in backgrounds:
        if background.id in names:
            raise ValueError(f"background {background.id} is listed twice")
        names.add(background.id)
        first = roles.setdefault(background.patient, background.role)
        if first != background.role:
            raise ValueError(
                f"patient {background.patient} is listed as {first} and as {background.role}; "
                "all volumes of a patient must have one role"
            )
