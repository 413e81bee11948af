"""Files of boxes by volume: those of the public LENS evaluator, and lnsdk's own, which say what their numbers mean.

The LENS evaluator reads ``{volume: [[x1, y1, z1, x2, y2, z2(, score)]]}`` in inclusive voxel indices: its sizes are
``x2 - x1 + 1``. lnsdk's own files name their convention: ``{"boxes": "continuous", "volumes": {volume: [box]}}``,
where a box is such a row or, for what is known of a lesion besides,
``{"box": [x1, y1, z1, x2, y2, z2], "type": "lung nodule", "diameter_mm": 5.0}`` (or ``"score"`` for a detection).
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk.errors import InputError
from lnsdk.metrics.json_files import read_json, short
from lnsdk.metrics.result_folders import read_results

Convention = Literal["inclusive", "continuous"]
Content = TypeVar("Content")

UNKNOWN_TYPE: Final = ""
"""Type of a lesion whose type the file does not say."""

INCLUSIVE_TO_CONTINUOUS: Final = np.array([-0.5, -0.5, -0.5, 0.5, 0.5, 0.5])
"""A box over the voxels i to j, both included, runs from i - 0.5 to j + 0.5."""

_CORNERS: Final = 6
_LAYOUT: Final = "x1, y1, z1, x2, y2, z2"


class DetectedBoxes(NamedTuple):
    """What was detected in one volume.

    Attributes
    ----------
    boxes : ndarray, (N, 6)
        x1, y1, z1, x2, y2, z2 in continuous voxel indices, the centre of the first voxel at 0.
    scores : ndarray, (N,)
        Higher is more certain.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]


class KnownBoxes(NamedTuple):
    """The lesions of one volume.

    Attributes
    ----------
    boxes : ndarray, (M, 6)
        x1, y1, z1, x2, y2, z2 in continuous voxel indices, the centre of the first voxel at 0.
    types : tuple of str
        Type of each, `UNKNOWN_TYPE` where the file does not say.
    diameters_mm : ndarray, (M,)
        Diameter of each, NaN where the file does not say.
    """

    boxes: NDArray[np.float64]
    types: tuple[str, ...]
    diameters_mm: NDArray[np.float64]


def read_detected_boxes(path: str | Path, convention: Convention | None = None) -> dict[str, DetectedBoxes]:
    """Read detections.

    Parameters
    ----------
    path : str or Path
        JSON file of the LENS evaluator or of lnsdk, every box with a score; or a folder of results,
        ``VOLUME/detections.json`` as `lnsdk.Detections.to_json` writes them.
    convention : {"inclusive", "continuous"}, optional
        What the numbers of a file that does not say so are: inclusive when left out.

    Returns
    -------
    dict of str to DetectedBoxes
        By name of the volume, in the order of the file. A volume may have none.

    Raises
    ------
    InputError
        ``missing-path``, ``bad-boxes`` when the file is not of that form (the message names the first row that is
        not), ``other-convention`` when the file says another than `convention`.
    """

    def detected(rows: NDArray[np.float64], entries: Sequence[Mapping[str, Any]]) -> DetectedBoxes:
        return DetectedBoxes(rows, np.array([entry["score"] for entry in entries], np.float64))

    file = Path(path)
    document = read_results(file) if file.is_dir() else read_json(file)
    return _collect(document, file, convention, _detected_entry, detected)


def read_known_boxes(path: str | Path, convention: Convention | None = None) -> dict[str, KnownBoxes]:
    """Read the lesions that are there.

    Parameters
    ----------
    path : str or Path
        JSON file of the LENS evaluator or of lnsdk; a box has no score, and may have a type and a diameter.
    convention : {"inclusive", "continuous"}, optional
        What the numbers of a file that does not say so are: inclusive when left out.

    Returns
    -------
    dict of str to KnownBoxes
        By name of the volume, in the order of the file. A volume may have none.

    Raises
    ------
    InputError
        As for `read_detected_boxes`.
    """

    def known(rows: NDArray[np.float64], entries: Sequence[Mapping[str, Any]]) -> KnownBoxes:
        types = tuple(entry.get("type", UNKNOWN_TYPE) for entry in entries)
        diameters = [entry.get("diameter_mm", math.nan) for entry in entries]
        return KnownBoxes(rows, types, np.array(diameters, np.float64))

    return _collect(read_json(Path(path)), Path(path), convention, _known_entry, known)


def write_boxes(path: str | Path, volumes: Mapping[str, DetectedBoxes] | Mapping[str, KnownBoxes]) -> None:
    """Write detections or lesions as a file of lnsdk's own, which says that its boxes are continuous.

    Parameters
    ----------
    path : str or Path
        JSON file; replaced when it exists.
    volumes : mapping of str to DetectedBoxes or KnownBoxes
        By name of the volume. What is not known of a lesion is left out.

    Raises
    ------
    ValueError
        When boxes are not finite, end before they begin or have another shape, or when lengths do not fit.
    OSError
        When the file cannot be written.
    """
    document = {
        "boxes": "continuous",
        "volumes": {name: _entries(name, content) for name, content in volumes.items()},
    }
    Path(path).write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")


class _Place(NamedTuple):
    """Where in a file something stands, for messages."""

    file: Path
    volume: str
    row: int

    def refuse(self, problem: str) -> InputError:
        return InputError("bad-boxes", f"{self.file}, volume {self.volume!r}, box {self.row + 1}: {problem}")


def _collect(
    document: Any,
    file: Path,
    convention: Convention | None,
    entry_of: Callable[[object, _Place], Mapping[str, Any]],
    content_of: Callable[[NDArray[np.float64], Sequence[Mapping[str, Any]]], Content],
) -> dict[str, Content]:
    """Volumes of a document in continuous coordinates; `entry_of` checks a box, `content_of` collects a volume's."""
    if convention is not None and convention not in get_args(Convention):
        raise ValueError(f"convention must be 'inclusive' or 'continuous', got {convention!r}")
    volumes, holds = _volumes(document, file, convention)
    contents = {}
    for name, listed in volumes.items():
        if not isinstance(listed, list):
            raise InputError(
                "bad-boxes", f"{file}, volume {name!r}: expected a list of boxes [[{_LAYOUT}]], found {short(listed)}"
            )
        entries = [entry_of(item, _Place(file, name, row)) for row, item in enumerate(listed)]
        rows = np.array([entry["box"] for entry in entries], np.float64).reshape(-1, _CORNERS)
        flat = np.flatnonzero((rows[:, :3] == rows[:, 3:]).any(axis=1))
        if holds == "continuous" and len(flat):
            raise _Place(file, name, int(flat[0])).refuse(
                "the box has no volume; a continuous box over the voxels i to j runs from i - 0.5 to j + 0.5. "
                f"Are these inclusive indices? {short(rows[flat[0]].tolist())}"
            )
        contents[name] = content_of(rows + INCLUSIVE_TO_CONTINUOUS if holds == "inclusive" else rows, entries)
    return contents


def _volumes(document: Any, file: Path, convention: Convention | None) -> tuple[dict[str, Any], Convention]:
    """The boxes of every volume as they stand in the file or folder, and what their numbers are."""
    if not isinstance(document, dict):
        raise InputError(
            "bad-boxes",
            f"{file} must hold an object that names volumes, {{volume: [[{_LAYOUT}]]}}, found {short(document)}",
        )
    if not isinstance(document.get("volumes"), dict):
        return document, convention or "inclusive"
    said: Any = document.get("boxes")
    if said not in get_args(Convention):
        raise InputError(
            "bad-boxes", f'{file} must say "boxes": "inclusive" or "continuous" beside "volumes", found {short(said)}'
        )
    if convention not in (None, said):
        raise InputError(
            "other-convention", f"{file} says that its boxes are {said}, and {convention} was asked for; ask for {said}"
        )
    return document["volumes"], said


def _detected_entry(item: object, place: _Place) -> Mapping[str, Any]:
    if isinstance(item, list):
        if len(item) == _CORNERS:
            raise place.refuse(f"a detection needs a score, [{_LAYOUT}, score], found {short(item)}")
        item = {"box": _numbers(item, f"{_LAYOUT}, score", _CORNERS + 1, place)[:_CORNERS], "score": item[-1]}
    entry = _object(item, {"box", "score"}, place)
    if "score" not in entry:
        raise place.refuse('a detection needs a "score"')
    if not _is_number(entry["score"]):
        raise place.refuse(f"the score must be a finite number, found {short(entry['score'])}")
    return entry


def _known_entry(item: object, place: _Place) -> Mapping[str, Any]:
    if isinstance(item, list):
        if len(item) == _CORNERS + 1:
            raise place.refuse(
                f"a lesion has no score, [{_LAYOUT}], found {short(item)}; are detections and truth swapped?"
            )
        item = {"box": item}
    entry = _object(item, {"box", "type", "diameter_mm"}, place)
    kind = entry.get("type", "")
    if not isinstance(kind, str) or not kind.isprintable():
        raise place.refuse(f"the type must be a text that can be printed, found {short(kind)}")
    diameter = entry.get("diameter_mm", 0.0)
    if not _is_number(diameter) or diameter < 0:
        raise place.refuse(f"diameter_mm must be a finite number of at least 0, found {short(diameter)}")
    return entry


def _object(item: object, keys: set[str], place: _Place) -> dict[str, Any]:
    """A box as an object with these keys, the first of which it must have and whose corners are in order."""
    if not isinstance(item, dict) or "box" not in item:
        raise place.refuse(f'expected [{_LAYOUT}] or {{"box": [{_LAYOUT}], ...}}, found {short(item)}')
    unknown = sorted(item.keys() - keys)
    if unknown:
        raise place.refuse(f"unknown key {unknown[0]!r}; the keys are {', '.join(sorted(keys))}")
    corners = _numbers(item["box"], _LAYOUT, _CORNERS, place)
    if any(first > last for first, last in zip(corners[:3], corners[3:], strict=True)):
        raise place.refuse(f"the box ends before it begins, {_LAYOUT}: {short(corners)}")
    return item


def _numbers(values: object, layout: str, length: int, place: _Place) -> list[Any]:
    if not isinstance(values, list) or len(values) != length or not all(map(_is_number, values)):
        raise place.refuse(f"expected {length} finite numbers [{layout}], found {short(values)}")
    return values


def _is_number(value: object) -> bool:
    """Whether it is a JSON number that float64 holds; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _entries(name: str, content: DetectedBoxes | KnownBoxes) -> list[Any]:
    """The boxes of a volume as they are written."""
    corners = _checked(content.boxes, f"volumes[{name!r}].boxes").tolist()
    if isinstance(content, DetectedBoxes):
        scores = np.asarray(content.scores, np.float64)
        if scores.shape != (len(corners),) or not np.isfinite(scores).all():
            raise ValueError(
                f"volumes[{name!r}].scores must be one finite number per box ({len(corners)}), got {scores}"
            )
        return [[*box, score] for box, score in zip(corners, scores.tolist(), strict=True)]
    diameters = np.asarray(content.diameters_mm, np.float64)
    if not len(corners) == len(content.types) == len(diameters):
        raise ValueError(
            f"volumes[{name!r}] must have one type and one diameter per box ({len(corners)}), got "
            f"{len(content.types)} and {len(diameters)}"
        )
    if ((diameters < 0) | np.isinf(diameters)).any():
        raise ValueError(f"volumes[{name!r}].diameters_mm must be at least 0, or NaN where unknown, got {diameters}")
    entries: list[Any] = []
    for box, kind, diameter in zip(corners, content.types, diameters.tolist(), strict=True):
        said = {"type": kind} if kind != UNKNOWN_TYPE else {}
        entries.append({"box": box, **said} | ({} if math.isnan(diameter) else {"diameter_mm": diameter}))
    return entries


def _checked(values: ArrayLike, name: str) -> NDArray[np.float64]:
    boxes = np.asarray(values, np.float64)
    if boxes.size == 0:
        return boxes.reshape(0, _CORNERS)
    if boxes.ndim != 2 or boxes.shape[1] != _CORNERS:
        raise ValueError(f"{name} must have shape (N, {_CORNERS}), got {boxes.shape}")
    wrong = np.flatnonzero(~(np.isfinite(boxes).all(axis=1) & (boxes[:, :3] < boxes[:, 3:]).all(axis=1)))
    if len(wrong):
        raise ValueError(
            f"{name}[{wrong[0]}] must be finite and end after it begins, as {_LAYOUT}; got {boxes[wrong[0]].tolist()}"
        )
    return boxes
