"""DeepLesion: sub-volumes as 16-bit PNG slices, and DL_info.csv with a box on each key slice.

Yan et al., DeepLesion: automated mining of large-scale lesion annotations and universal lesion detection with deep
learning (2018). Its own tool that writes the slices as NIfTI fixes what the files do not say: columns run to the
patient's left, rows to the back, slices from head to feet.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lnsdk.errors import InputError
from lnsdk.trainers.datasets.deeplesion_tables import (
    TABLE,
    Mark,
    Range,
    Row,
    Spacing,
    read_boxes,
    read_table,
    sub_volume,
)
from lnsdk.trainers.datasets.recording import Annotations, DataSet, Recording, Split, named, require_folder
from lnsdk.volume import Volume, to_lps_axes

IMAGES: Final = "Images_png"

HU_OFFSET: Final = 32768
"""Stored value less HU (DeepLesion's FAQ)."""


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
    rows = list(read_table(folder / TABLE))
    rows, left_out = _present(rows, images, allow_missing)
    by_series: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if not row.noisy:
            by_series[row.folder].append(row)
    noisy = [row for row in rows if row.noisy]
    if noisy:
        alone = {row.folder for row in noisy} - by_series.keys()
        left_out.append(
            f"{len(noisy)} marks that {TABLE} calls possibly noisy, and {len(alone)} series without any other"
        )
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
    spacings = {row.folder: row.spacing for row in read_table(folder / TABLE)}
    recordings = []
    missing = []
    for name, marks in sorted(read_boxes(Path(boxes)).items()):
        series, slices = sub_volume(name)
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


def _series_recordings(folder: Path, rows: Sequence[Row]) -> Iterator[Recording]:
    """The recordings of a series: one for each run of consecutive slices that has a mark."""
    runs = _runs(folder)
    marked: dict[Range, list[Row]] = defaultdict(list)
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


def _run_of(row: Row, runs: Sequence[Range], folder: Path) -> Range:
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


def _agreed(rows: Sequence[Row]) -> tuple[Spacing, Split]:
    """Spacing and split of a sub-volume, the same in all its rows."""
    said = Counter((row.spacing, row.split) for row in rows)
    if len(said) > 1:
        raise InputError(
            "bad-csv", f"{TABLE}: the rows of {rows[0].folder} differ in Spacing_mm_px_ or Train_Val_Test: {list(said)}"
        )
    return next(iter(said))


def _present(rows: list[Row], images: Path, allow_missing: bool) -> tuple[list[Row], list[str]]:
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
