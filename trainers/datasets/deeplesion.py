"""DeepLesion: sub-volumes as 16-bit PNG slices, and DL_info.csv with a box on each key slice.

Yan et al., DeepLesion: automated mining of large-scale lesion annotations and universal lesion detection with deep
learning (2018). Its own tool that writes the slices as NIfTI fixes what the files do not say: columns run to the
patient's left, rows to the back, slices from head to feet. The code of its authors takes 1 off the pixel coordinates of
DL_info.csv, which count from 1.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lnsdk.errors import InputError
from lnsdk.trainers.datasets.recording import (
    Annotations,
    DataSet,
    Location,
    Recording,
    Split,
    named,
    require_folder,
)
from lnsdk.volume import Volume, to_lps_axes

IMAGES: Final = "Images_png"
TABLE: Final = "DL_info.csv"

HU_OFFSET: Final = 32768
"""Stored value less HU (DeepLesion's FAQ)."""

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
class SubVolume:
    """Consecutive slices of a series, and the lesions marked in them.

    Attributes
    ----------
    folder : Path
        Holds SLICE.png.
    slices : tuple of int
        First and last slice.
    spacing : tuple of float
        x, y, z in mm.
    marks : tuple of Mark
        The lesions.
    whole : bool
        Whether the marks cover all slices of their lesions.
    """

    folder: Path
    slices: Range
    spacing: Spacing
    marks: tuple[Mark, ...]
    whole: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """The slices, in the order of their numbers."""
        first, last = self.slices
        return tuple(self.folder / f"{number:03d}.png" for number in range(first, last + 1))

    def load(self) -> tuple[Volume, Annotations]:
        """Read the slices.

        Raises
        ------
        InputError
            ``missing-slice``, ``unreadable-image`` or ``mixed-sizes``, with the slice.
        """
        x, y, z = self.spacing
        volume, axis_map = to_lps_axes(Volume(_voxels(self.files), np.diag([x, y, -z, 1.0])))
        rows = [(i, number, mark.box) for i, mark in enumerate(self.marks) for number in _numbers(mark.slices)]
        boxes = [
            (x1, y1, number - self.slices[0], x2, y2, number - self.slices[0]) for _, number, (x1, y1, x2, y2) in rows
        ]
        turned = axis_map.boxes_from_source(np.array(boxes, np.float64).reshape(-1, 6)).astype(np.float64)
        annotations = Annotations.of(
            turned[:, [2, 0, 1, 3, 4]],
            [i for i, _, _ in rows],
            [mark.type for mark in self.marks],
            whole=self.whole,
            locations=[mark.location for mark in self.marks],
        )
        return volume, annotations


@dataclass(frozen=True)
class _Row:
    """A row of DL_info.csv."""

    folder: str
    ids: tuple[str, str, str]
    key_slice: int
    mark: Mark
    noisy: bool
    around: Range
    spacing: Spacing
    split: Split


def read_deeplesion(root: str | Path, *, allow_missing: bool = False) -> DataSet:
    """Find the sub-volumes of DeepLesion and the boxes on their key slices.

    A sub-volume is a run of consecutive slices in the folder of its series. Marks that the table calls possibly noisy
    are left out, and with them the sub-volumes that have no other.

    Parameters
    ----------
    root : str or Path
        Folder that holds DL_info.csv and Images_png.
    allow_missing : bool
        Leave out, and report, marks whose series is not there at all, as where only some archives were unpacked. A
        series that lacks slices of its own is refused all the same.

    Returns
    -------
    DataSet
        Recordings of the expert "universal", with the official split.

    Raises
    ------
    InputError
        ``missing-path`` when a folder, the table or the folder of a series is missing; ``missing-slice`` when a key
        slice, or one of those around it that the table announces, is not there; ``bad-csv`` when the table lacks a
        column, has no rows, or contradicts itself.
    """
    folder = require_folder(root, "root", f"{TABLE} and {IMAGES}")
    images = require_folder(folder / IMAGES, "root", f"{TABLE} and {IMAGES}")
    rows = list(_rows(folder / TABLE))
    rows, left_out = _present(rows, images, allow_missing)
    noisy = sum(row.noisy for row in rows)
    if noisy:
        left_out.append(f"{noisy} marks that {TABLE} calls possibly noisy")
    by_series: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        if not row.noisy:
            by_series[row.folder].append(row)
    recordings = [each for name in sorted(by_series) for each in _series_recordings(images / name, by_series[name])]
    return DataSet(tuple(recordings), tuple(left_out))


def read_deeplesion_3d(
    root: str | Path, boxes: str | Path, *, split: Split = "test", allow_missing: bool = False
) -> DataSet:
    """Find the sub-volumes of DeepLesion whose lesions were all annotated with 3D boxes (LENS VI-A).

    Parameters
    ----------
    root : str or Path
        Folder that holds DL_info.csv, for the spacing, and Images_png.
    boxes : str or Path
        JSON file ``{"PATIENT_STUDY_SERIES_FIRST-LAST": [[x1, y1, z1, x2, y2, z2], ...]}``: first and last voxel of each
        lesion; x and y count from 0, z is the number of the slice's file.
    split : {"train", "validation", "test"}
        What these sub-volumes are used for: the paper uses 200 for validation and 800 for testing.
    allow_missing : bool
        Leave out, and report, sub-volumes whose series is not there.

    Returns
    -------
    DataSet
        Recordings of the expert "universal"; lesions are whole and of unknown type.

    Raises
    ------
    InputError
        As `read_deeplesion`, and ``bad-boxes`` when the file with the boxes cannot be read, holds nothing, or has a
        box that leaves its sub-volume.
    """
    folder = require_folder(root, "root", f"{TABLE} and {IMAGES}")
    images = require_folder(folder / IMAGES, "root", f"{TABLE} and {IMAGES}")
    spacings = {row.folder: row.spacing for row in _rows(folder / TABLE)}
    recordings = []
    missing = []
    for name, marks in sorted(_read_boxes(Path(boxes)).items()):
        series, slices = _sub_volume(name)
        if series not in spacings:
            raise InputError("bad-boxes", f"{name}: {TABLE} has no row of this series, and so no spacing for it")
        if not (images / series).is_dir():
            missing.append(name)
            continue
        patient, study, number = series.split("_")
        source = SubVolume(images / series, slices, spacings[series], marks, whole=True)
        recordings.append(
            Recording(f"deeplesion3d-{name}", "universal", source, patient, f"{patient}_{study}", number, split)
        )
    if missing and not allow_missing:
        raise InputError(
            "missing-path", f"no images of {named(missing)} below {images}: unpack them, or allow missing files"
        )
    left_out = (f"{len(missing)} sub-volumes without images ({named(missing)})",) if missing else ()
    return DataSet(tuple(recordings), left_out)


def _series_recordings(folder: Path, rows: Sequence[_Row]) -> Iterator[Recording]:
    """The recordings of a series: one for each run of consecutive slices that has a mark."""
    runs = _runs(folder)
    marked: dict[Range, list[_Row]] = defaultdict(list)
    for row in rows:
        marked[_run_of(row, runs, folder)].append(row)
    for slices, own in sorted(marked.items()):
        spacing, split = _agreed(own)
        patient, study, series = own[0].ids
        yield Recording(
            f"deeplesion-{folder.name}_{slices[0]:03d}-{slices[1]:03d}",
            "universal",
            SubVolume(folder, slices, spacing, tuple(row.mark for row in own), whole=False),
            patient,
            f"{patient}_{study}",
            series,
            split,
        )


def _runs(folder: Path) -> list[Range]:
    """First and last slice of each run of consecutive slices in a folder."""
    numbers = sorted(int(path.stem) for path in folder.glob("*.png") if path.stem.isdigit())
    breaks = [i for i, (before, after) in enumerate(itertools.pairwise(numbers), start=1) if after != before + 1]
    bounds = itertools.pairwise([0, *breaks, len(numbers)])
    return [(numbers[start], numbers[stop - 1]) for start, stop in bounds if stop > start]


def _run_of(row: _Row, runs: Sequence[Range], folder: Path) -> Range:
    """The run that holds a row's key slice and the slices around it."""
    first, last = min(row.around[0], row.key_slice), max(row.around[1], row.key_slice)
    for run in runs:
        if run[0] <= first and last <= run[1]:
            return run
    there = {number for run in runs for number in _numbers(run)}
    missing = [number for number in range(first, last + 1) if number not in there]
    raise InputError(
        "missing-slice",
        f"{folder.name} has no slice {named(f'{number:03d}.png' for number in missing)}, which {TABLE} announces "
        f"around key slice {row.key_slice:03d}.png: unpack the archives of DeepLesion again",
    )


def _agreed(rows: Sequence[_Row]) -> tuple[Spacing, Split]:
    """Spacing and split of a sub-volume, the same in all its rows."""
    said = Counter((row.spacing, row.split) for row in rows)
    if len(said) > 1:
        raise InputError(
            "bad-csv", f"{TABLE}: the rows of {rows[0].folder} differ in Spacing_mm_px_ or Train_Val_Test: {list(said)}"
        )
    return next(iter(said))


def _present(rows: list[_Row], images: Path, allow_missing: bool) -> tuple[list[_Row], list[str]]:
    """Rows whose series has a folder, and a sentence about the others."""
    missing = {name for name in {row.folder for row in rows} if not (images / name).is_dir()}
    if not missing:
        return rows, []
    count = sum(row.folder in missing for row in rows)
    said = f"{count} marks of {len(missing)} series without images ({named(missing)})"
    if not allow_missing:
        raise InputError("missing-path", f"{said} below {images}: unpack the other archives, or allow missing files")
    return [row for row in rows if row.folder not in missing], [said]


def _voxels(files: Sequence[Path]) -> NDArray[np.int16]:
    """HU of the slices, (z, y, x)."""
    slices = [_slice(path) for path in files]
    for path, pixels in zip(files, slices, strict=True):
        if pixels.shape != slices[0].shape:
            raise InputError(
                "mixed-sizes",
                f"{path.parent.name}/{path.name} has {pixels.shape} pixels (y, x), {files[0].name} {slices[0].shape}",
            )
    return np.stack(slices)


def _slice(path: Path) -> NDArray[np.int16]:
    """HU of one slice."""
    name = f"{path.parent.name}/{path.name}"
    try:
        with Image.open(path) as image:
            mode, stored = image.mode, np.asarray(image)
    except FileNotFoundError as error:
        raise InputError("missing-slice", f"{name} is not there: unpack the archives of DeepLesion again") from error
    except OSError as error:
        raise InputError("unreadable-image", f"{name} is damaged: unpack the archives of DeepLesion again") from error
    if stored.ndim != 2 or not mode.startswith("I"):
        raise InputError("unreadable-image", f"{name} must be a grey PNG of 16 bits, its mode is {mode}")
    return (stored.astype(np.int32) - HU_OFFSET).astype(np.int16)


def _numbers(slices: Range) -> range:
    return range(slices[0], slices[1] + 1)


def _rows(path: Path) -> Iterator[_Row]:
    """The rows of DL_info.csv."""
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


def _row(fields: Mapping[str, str | None]) -> _Row:
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
    return _Row(
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


def _read_boxes(path: Path) -> dict[str, tuple[Mark, ...]]:
    """Lesions of each fully annotated sub-volume."""
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
    _, (first, last) = _sub_volume(name)
    if not first <= z1 <= z2 <= last or not (z1.is_integer() and z2.is_integer()):
        raise InputError("bad-boxes", f"{name}: z1 and z2 of a box must be slices {first} to {last}, found {row}")
    return Mark((x1 - 0.5, y1 - 0.5, x2 + 0.5, y2 + 0.5), (int(z1), int(z2)))


def _sub_volume(name: str) -> tuple[str, Range]:
    """Folder of the series, and first and last slice, of a sub-volume's name."""
    match = SUB_VOLUME.match(name)
    if match is None:
        raise InputError("bad-boxes", f"sub-volumes must be named like 000001_01_01_103-115, found {name!r}")
    return match[1], (int(match[2]), int(match[3]))
