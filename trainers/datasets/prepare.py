"""From recorded volumes to cases on the network's grid, and to volumes that a detector is evaluated on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from lnsdk.trainers.common import cases, grid
from lnsdk.trainers.common.cases import SET, GridCase, Origin, store, stored_fingerprint, write_set
from lnsdk.trainers.common.grid import GRID_SPACING, GridFrame, grid_frame, read_grid, sections
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.common.parallel import in_parallel
from lnsdk.trainers.datasets.recording import Annotations, Recording, Split


class GridRows(NamedTuple):
    """Annotations on the grid.

    Attributes
    ----------
    boxes : ndarray, (K, 5)
        z, x1, y1, x2, y2 in grid pixels.
    lesion : ndarray of int64, (K,)
        The lesion of each row.
    outside : int
        Number of rows that lie beside the body, where the grid is cropped, and are left out.
    """

    boxes: NDArray[np.float64]
    lesion: NDArray[np.int64]
    outside: int


def prepare_recordings(recordings: Sequence[Recording], folder: str | Path) -> tuple[str, ...]:
    """Bring every recording onto the grid that `folder` does not hold yet, on all cores, with a progress bar.

    A case is made again when its files, its annotations or the code that makes it have changed.

    Parameters
    ----------
    recordings : sequence of Recording
        Of one or more data sets.
    folder : str or Path
        Receives NAME.npy and NAME.json of every recording, as `lnsdk.trainers.common.cases.read_grid_cases` takes
        them.

    Returns
    -------
    tuple of str
        What of the cases made now was left out and why, one sentence each.

    Raises
    ------
    ValueError
        When two recordings have one name.
    InputError
        When a recording cannot be read; the cases made before stay.
    """
    twice = [name for name, count in Counter(recording.name for recording in recordings).items() if count > 1]
    if twice:
        raise ValueError(f"recordings must have different names, {twice[0]} occurs twice")
    missing = outdated(recordings, Path(folder))
    said = in_parallel("preparing recordings", partial(write_recording, folder=Path(folder)), missing)
    return tuple(sentence for sentence in said if sentence)


def prepare_set(recordings: Sequence[Recording], folder: Path) -> tuple[str, ...]:
    """Bring recordings onto the grid and say in `folder` which are for training, validation and testing.

    Parameters
    ----------
    recordings : sequence of Recording
        Of one or more data sets; one without a split is trained on.
    folder : Path
        As for `prepare_recordings`; receives set.json too, for `lnsdk.trainers.common.cases.read_set`. Its part for
        choosing delta is empty: no data set says which of its lesions are the same.

    Returns
    -------
    tuple of str
        What was left out.
    """
    (folder / SET).unlink(missing_ok=True)
    left_out = prepare_recordings(recordings, folder)
    by_split = {part: [each.name for each in recordings if (each.split or "train") == part] for part in get_args(Split)}
    write_set(folder, {**by_split, "matching": []}, Origin(simulated=False))
    return left_out


def outdated(recordings: Sequence[Recording], folder: Path) -> list[Recording]:
    """Recordings whose case `folder` does not hold, or holds as made from something else."""
    return [each for each in recordings if stored_fingerprint(folder / f"{each.name}.json") != fingerprint(each)]


def fingerprint(recording: Recording) -> str:
    """Digest of everything that decides a case: what the tables say, the files' sizes and times, and the code."""
    files = [(path.name, *_stamp(path)) for path in recording.source.files]
    parts = [repr(recording), files, GRID_SPACING, _sources()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write_recording(recording: Recording, folder: Path) -> str:
    """Resample a recording as the runtime does and store it under `folder` as NAME.npy and NAME.json.

    Returns
    -------
    str
        What was left out; empty when nothing was.
    """
    volume, annotations = recording.load()
    frame = grid_frame(volume)
    rows = grid_rows(annotations, frame)
    folder.mkdir(parents=True, exist_ok=True)
    store(
        GridCase(
            recording.name,
            recording.expert,
            read_grid(volume, frame),
            Labels.of(rows.boxes, rows.lesion, annotations.types),
            grid_truth(rows, annotations, recording.name) if annotations.whole else None,
            patient=recording.patient,
            study=recording.study,
            series=recording.series,
            fingerprint=fingerprint(recording),
        ),
        folder,
    )
    return f"{recording.name}: {rows.outside} boxes beside the body" if rows.outside else ""


def grid_rows(annotations: Annotations, frame: GridFrame) -> GridRows:
    """Bring annotations onto the grid.

    A whole lesion has a box on every grid slice inside it, interpolated between the slices of the volume, or on the
    nearest one where it lies between two; a key slice's box goes to the nearest grid slice only.

    Parameters
    ----------
    annotations : Annotations
        In voxels.
    frame : GridFrame
        Of the volume.
    """
    boxes = [np.zeros((0, 5))]
    owners = [np.zeros(0, np.int64)]
    for lesion in np.unique(annotations.lesion):
        own = annotations.boxes[annotations.lesion == lesion]
        parts = [own] if annotations.whole else np.split(own, len(own))
        boxes += [_on_grid(part[np.argsort(part[:, 0])], frame, annotations.whole) for part in parts]
        owners += [np.full(len(rows), lesion) for rows in boxes[-len(parts) :]]
    rows, lesions = np.concatenate(boxes), np.concatenate(owners)
    _, height, width = (stop - start for start, stop in frame.ranges)
    inside = (rows[:, 1:3] < (width - 0.5, height - 0.5)).all(axis=1) & (rows[:, 3:5] > -0.5).all(axis=1)
    return GridRows(rows[inside], lesions[inside], int(np.count_nonzero(~inside)))


def grid_truth(rows: GridRows, annotations: Annotations, name: str) -> Truth:
    """Every lesion of a fully annotated volume on the grid; those beside the body are left out."""
    lesions, owners = np.unique(rows.lesion, return_inverse=True)
    boxes, diameters = np.zeros((len(lesions), 6)), np.zeros(len(lesions))
    for index in range(len(lesions)):
        own = rows.boxes[owners == index]
        boxes[index, :3] = [*own[:, 1:3].min(axis=0), own[:, 0].min() - 0.5]
        boxes[index, 3:] = [*own[:, 3:5].max(axis=0), own[:, 0].max() + 0.5]
        diameters[index] = ((own[:, 3:5] - own[:, 1:3]) * GRID_SPACING[:2]).max()
    return Truth.of(
        boxes,
        [annotations.types[lesion] for lesion in lesions],
        diameters,
        [f"{name}-lesion-{lesion}" for lesion in lesions],
        np.ones(len(lesions), bool),
        rows.boxes,
        owners,
    )


def _on_grid(own: NDArray[np.float64], frame: GridFrame, whole: bool) -> NDArray[np.float64]:
    """Rows of one lesion on the grid slices that show it."""
    last = frame.depth - 1
    low, high = (own[[0, -1], 0] + (-0.5, 0.5)) * frame.scale[2] - frame.origin[2]
    z = np.arange(max(int(np.ceil(low)), 0), min(int(np.floor(high)), last) + 1)
    if not whole or len(z) == 0:
        middle = own[[0, -1], 0].mean() * frame.scale[2] - frame.origin[2]
        z = np.array([np.clip(round(middle), 0, last)])
    return np.asarray(sections(z, own[:, 0], own[:, 1:], frame))


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@cache
def _sources() -> str:
    """Digest of the code that makes cases of recordings."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(cases.__file__), Path(grid.__file__)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
