"""The tables of DeepLesion: DL_info.csv, and the 3D boxes of the fully annotated sub-volumes.

The code of the data set's authors takes 1 off the pixel coordinates of DL_info.csv, which count from 1.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from lnsdk.errors import InputError
from lnsdk.trainers.datasets.recording import Location, Split

TABLE: Final = "DL_info.csv"

FIRST_PIXEL: Final = 1.0
"""Coordinate of the first pixel's centre in DL_info.csv (its authors' code: "start from 1")."""

TYPES: Final = {
    -1: "",
    1: "bone",
    2: "abdomen",
    3: "mediastinum",
    4: "liver",
    5: "lung",
    6: "kidney",
    7: "soft_tissue",
    8: "pelvis",
}
"""Coarse_lesion_type; -1, unknown, stands for all lesions of the training set."""

SPLITS: Final[Mapping[int, Split]] = {1: "train", 2: "validation", 3: "test"}
"""Train_Val_Test."""

COLUMNS: Final = (
    "File_name",
    "Bounding_boxes",
    "Normalized_lesion_location",
    "Coarse_lesion_type",
    "Possibly_noisy",
    "Slice_range",
    "Spacing_mm_px_",
    "Train_Val_Test",
)
"""What is read of DL_info.csv."""

FILE_NAME: Final = re.compile(r"^((\d+)_(\d+)_(\d+))_(\d+)\.png$")
"""Folder of the series (patient, study, series) and slice, in the column File_name."""

SUB_VOLUME: Final = re.compile(r"^(\d+_\d+_\d+)_(\d+)-(\d+)$")
"""Folder of the series, first and last slice, as the names of the fully annotated sub-volumes have them."""

Spacing: TypeAlias = tuple[float, float, float]
Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Mark:
    """A lesion: on its key slice, or on every slice that it reaches.

    Attributes
    ----------
    box : tuple of float
        x1, y1, x2, y2 in continuous pixels, the centre of the first at 0.
    slices : tuple of int
        First and last slice, numbered as the files.
    type : str
        Empty where unknown.
    location : tuple of (float, float, float) or None
        Normalised place in the body, where known.
    """

    box: tuple[float, float, float, float]
    slices: Range
    type: str = ""
    location: Location | None = None


@dataclass(frozen=True)
class Row:
    """A row of DL_info.csv.

    Attributes
    ----------
    folder : str
        Of the series: patient, study and series joined by underscores.
    ids : tuple of str
        Patient, study, series.
    key_slice : int
        Number of the slice that the mark lies on.
    mark : Mark
        The lesion.
    noisy : bool
        Whether the data set calls the mark possibly noisy.
    around : tuple of int
        First and last slice that the data set gives around the key slice.
    spacing : tuple of float
        x, y, z in mm.
    split : {"train", "validation", "test"}
        The official one.
    """

    folder: str
    ids: tuple[str, str, str]
    key_slice: int
    mark: Mark
    noisy: bool
    around: Range
    spacing: Spacing
    split: Split


def read_table(path: Path) -> Iterator[Row]:
    """Read the rows of DL_info.csv.

    Raises
    ------
    InputError
        ``missing-path`` when it cannot be read; ``bad-csv`` when it lacks a column, has no rows, or one that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError("missing-path", f"cannot read {path}: {error.strerror or error}") from error
    table = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise InputError("bad-csv", f"{path.name} lacks the column {', '.join(missing)}; it has {table.fieldnames}")
    number = 0
    for number, fields in enumerate(table, start=1):
        try:
            yield _row(fields)
        except ValueError as error:
            raise InputError("bad-csv", f"{path.name}, row {number}: {error}") from error
    if number == 0:
        raise InputError("bad-csv", f"{path.name} has no rows: download it again")


def _row(fields: Mapping[str, str | None]) -> Row:
    match = FILE_NAME.match(fields["File_name"] or "")
    if match is None:
        raise ValueError(f"File_name must be like 000001_01_01_109.png, found {fields['File_name']!r}")
    key_slice = int(match[5])
    x1, y1, x2, y2 = (value - FIRST_PIXEL for value in _floats(fields, "Bounding_boxes", 4))
    u, v, w = _floats(fields, "Normalized_lesion_location", 3)
    first, last = _floats(fields, "Slice_range", 2)
    x, y, z = _floats(fields, "Spacing_mm_px_", 3)
    if not (x > 0 and y > 0 and z != 0):
        raise ValueError(f"Spacing_mm_px_ must be x, y and z in mm, found {(x, y, z)}")
    return Row(
        folder=match[1],
        ids=(match[2], match[3], match[4]),
        key_slice=key_slice,
        mark=Mark(
            (x1, y1, x2, y2), (key_slice, key_slice), TYPES[_code(fields, "Coarse_lesion_type", TYPES)], (u, v, w)
        ),
        noisy=_code(fields, "Possibly_noisy", (0, 1)) == 1,
        around=(int(first), int(last)),
        spacing=(x, y, z),
        split=SPLITS[_code(fields, "Train_Val_Test", SPLITS)],
    )


def _floats(fields: Mapping[str, str | None], column: str, count: int) -> list[float]:
    """The numbers of a field, separated by commas."""
    try:
        values = [float(text) for text in (fields[column] or "").split(",")]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"{column} must be {count} numbers, found {fields[column]!r}")
    return values


def _code(fields: Mapping[str, str | None], column: str, known: Collection[int]) -> int:
    """The whole number of a field, one of those known."""
    text = fields[column] or ""
    values = [code for code in known if str(code) == text.strip()]
    if not values:
        raise ValueError(f"{column} must be one of {', '.join(map(str, known))}, found {text!r}")
    return values[0]


def read_boxes(path: Path) -> dict[str, tuple[Mark, ...]]:
    """Read the lesions of each fully annotated sub-volume from a JSON file.

    Raises
    ------
    InputError
        ``missing-path`` when it cannot be read; ``bad-boxes`` when it holds something else.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("missing-path", f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError("bad-boxes", f"{path.name} is no JSON file: {error}") from error
    if not isinstance(record, dict) or not record:
        raise InputError("bad-boxes", f"{path.name} must map names of sub-volumes to lists of boxes")
    return {name: tuple(_whole_mark(name, row) for row in rows) for name, rows in record.items()}


def _whole_mark(name: str, row: Any) -> Mark:
    """A lesion from its first and last voxel, which are widened by half a voxel to its box."""
    try:
        x1, y1, z1, x2, y2, z2 = (float(value) for value in row)
    except (TypeError, ValueError):
        raise InputError("bad-boxes", f"{name}: a box must be x1, y1, z1, x2, y2, z2, found {row}") from None
    _, (first, last) = sub_volume(name)
    if not first <= z1 <= z2 <= last or not (z1.is_integer() and z2.is_integer()):
        raise InputError("bad-boxes", f"{name}: z1 and z2 of a box must be slices {first} to {last}, found {row}")
    return Mark((x1 - 0.5, y1 - 0.5, x2 + 0.5, y2 + 0.5), (int(z1), int(z2)))


def sub_volume(name: str) -> tuple[str, Range]:
    """Folder of the series, and first and last slice, of a sub-volume's name; InputError ``bad-boxes`` for another."""
    match = SUB_VOLUME.match(name)
    if match is None:
        raise InputError("bad-boxes", f"sub-volumes must be named like 000001_01_01_103-115, found {name!r}")
    return match[1], (int(match[2]), int(match[3]))
