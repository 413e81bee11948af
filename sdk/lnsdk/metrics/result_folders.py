"""A folder of results, ``VOLUME/detections.json``, as a document of boxes by volume."""

from pathlib import Path
from typing import Any, Final

from lnsdk.errors import InputError
from lnsdk.metrics.json_files import read_json, short

RESULT: Final = "detections.json"
"""File that `lnsdk detect` writes into the folder of a volume."""


def read_results(folder: Path) -> dict[str, Any]:
    """Read the results of several volumes.

    Parameters
    ----------
    folder : Path
        Holds a folder for every volume, named like it, with its `RESULT`.

    Returns
    -------
    dict
        A document as `lnsdk.metrics.write_boxes` writes it; its boxes are not checked yet.

    Raises
    ------
    InputError
        ``missing-path`` when there is no result, ``bad-boxes`` when one holds no lesions and scores.
    """
    files = sorted(folder.glob(f"*/{RESULT}"))
    if not files:
        raise InputError("missing-path", f"{folder} holds no VOLUME/{RESULT}: `lnsdk detect CT -o {folder}/VOLUME`")
    return {"boxes": "continuous", "volumes": {file.parent.name: _lesions(file) for file in files}}


def _lesions(file: Path) -> list[dict[str, Any]]:
    """Box and score of every lesion."""
    document = read_json(file)
    lesions = document.get("lesions") if isinstance(document, dict) else None
    if not isinstance(lesions, list):
        raise InputError(
            "bad-boxes", f'{file} is no result of lnsdk: it has no list "lesions", found {short(document)}'
        )
    wanted = ("box", "score")
    for row, lesion in enumerate(lesions):
        if not isinstance(lesion, dict) or not lesion.keys() >= set(wanted):
            raise InputError(
                "bad-boxes", f"{file}, lesion {row + 1}: expected a box and a score, found {short(lesion)}"
            )
    return [{name: lesion[name] for name in wanted} for lesion in lesions]
