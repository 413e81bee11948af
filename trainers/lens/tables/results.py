"""What a row gave with one seed, as it is kept in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnsdk.errors import InputError
from lnsdk.metrics import Froc

DIGITS = 5
"""Decimals that a result keeps."""


@dataclass(frozen=True)
class RowResult:
    """A row with one seed.

    Attributes
    ----------
    row : str
        Name of the row.
    seed : int
        Of weights, sampling and augmentation.
    test : str
        Digest of the test volumes and their lesions: only results of one test set can be compared.
    settings : mapping of str to mapping
        Name of a recipe to the settings that decided its weights.
    volumes, lesions : int
        Size of the test set.
    false_positives, sensitivity : tuple of float
        Points of the curve, per volume.
    mean_sensitivity : float
        Mean over these points.
    draws : tuple of float
        Mean sensitivity in every bootstrap draw of the test patients; draw k of every row holds the same patients.
    by_type : mapping of str to float
        Mean sensitivity by lesion type.
    milliseconds_per_slice : float
        Network, proposals and head at inference.
    parameters : int
        Of all networks of the row.
    counts : mapping of str to int
        Of the universal set's labels, as Table IV lists them.
    """

    row: str
    seed: int
    test: str
    settings: Mapping[str, Any]
    volumes: int
    lesions: int
    false_positives: tuple[float, ...]
    sensitivity: tuple[float, ...]
    mean_sensitivity: float
    draws: tuple[float, ...]
    by_type: Mapping[str, float]
    milliseconds_per_slice: float
    parameters: int
    counts: Mapping[str, int]


def rounded(values: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    """Numbers with the decimals that a result keeps."""
    return tuple(round(float(value), DIGITS) for value in values)


def curve_fields(curve: Froc) -> dict[str, Any]:
    """The fields of a result that a curve gives."""
    return {
        "volumes": curve.volumes,
        "lesions": curve.lesions,
        "false_positives": rounded(curve.false_positives),
        "sensitivity": rounded(curve.sensitivity),
        "mean_sensitivity": round(curve.mean_sensitivity, DIGITS),
        "draws": rounded(curve.mean_draws),
    }


def result_path(folder: Path, row: str, seed: int) -> Path:
    """File of a row's result."""
    return folder / f"{row}.seed{seed}.json"


def write_result(folder: Path, result: RowResult) -> None:
    """Write a result; an interruption leaves none or a whole one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = result_path(folder, result.row, result.seed)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(result)) + "\n")
    partial.replace(path)


def read_result(path: Path) -> RowResult:
    """Read a result.

    Raises
    ------
    InputError
        ``table-result`` when the file holds something else.
    """
    try:
        content = json.loads(path.read_text())
        for name in ("false_positives", "sensitivity", "draws"):
            content[name] = tuple(content[name])
        return RowResult(**content)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("table-result", f"{path} is no result of a row ({error}); delete it to run the row") from error
