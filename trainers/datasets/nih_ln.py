"""NIH-LN, the "CT Lymph Nodes" collection of The Cancer Imaging Archive: DICOM series and a mask of nodes for each.

Roth et al., A new 2.5D representation for lymph node detection using random sets of deep convolutional neural network
observations (MICCAI 2014). Cases MED_LYMPH_001.. are mediastinal, ABD_LYMPH_001.. abdominal. In a mask every node has
its own value.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from lnsdk.errors import InputError
from lnsdk.trainers.datasets.masks import LabelledVolume, by_name, pair
from lnsdk.trainers.datasets.recording import DataSet, Recording, random_split, require_folder

MASKS: Final = "MED_ABD_LYMPH_MASKS"
"""Folder of the masks, as its zip unpacks."""

CASE_FOLDER: Final = re.compile(r"^(?:MED|ABD)_LYMPH_\d{3}$")
MASK_NAME: Final = re.compile(r"^((?:MED|ABD)_LYMPH_\d{3})_mask\.nii(?:\.gz)?$")


def read_nih_ln(root: str | Path, *, seed: int = 0, allow_missing: bool = False) -> DataSet:
    """Find the CTs of NIH-LN and the masks of their lymph nodes.

    CT and mask are brought together by their world coordinates; a mask that does not lie on its CT is refused when
    the recording is loaded. The positions and sizes in MED_ABD_LYMPH_ANNOTATIONS are not read.

    Parameters
    ----------
    root : str or Path
        Folder that holds MED_ABD_LYMPH_MASKS with CASE_mask.nii.gz, and the folder of DICOM files of each case,
        itself or in a folder such as "CT Lymph Nodes".
    seed : int
        Of the random split, 80 % for training and 20 % for validation (LENS VI-A).
    allow_missing : bool
        Leave out, and report, a CT without mask and a mask without CT.

    Returns
    -------
    DataSet
        Recordings of the expert "lymph_node".

    Raises
    ------
    InputError
        ``missing-path`` when there is no such folder, or one of a pair is missing; ``duplicate-file`` when a case
        lies in two places.
    """
    folder = require_folder(root, "root", f"{MASKS} and the DICOM series")
    masks = _masks(require_folder(folder / MASKS, "root", f"{MASKS} and the DICOM series"))
    series = _series(folder)
    if not (masks and series):
        found = f"found {len(series)} DICOM folders and {len(masks)} masks"
        raise InputError("missing-path", f"root must hold MED_LYMPH_001.. or ABD_LYMPH_001.. and {MASKS}; {found}")
    cases, left_out = pair(series, masks, allow_missing)
    splits = random_split(cases, seed)
    return DataSet(
        tuple(
            Recording(
                f"nih_ln-{case}",
                "lymph_node",
                LabelledVolume(series[case], masks[case], None, "lymph_node"),
                patient=case,
                split=splits[case],
            )
            for case in cases
        ),
        tuple(left_out),
    )


def _masks(folder: Path) -> dict[str, Path]:
    """Masks by their case."""
    matches = [(MASK_NAME.match(path.name), path) for path in sorted(folder.rglob("*_mask.nii*"))]
    return by_name((match[1], path) for match, path in matches if match)


def _series(root: Path) -> dict[str, Path]:
    """Folders of the DICOM series by their case, at most two levels down, beside the folders of the annotations."""
    tops = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith("MED_ABD_LYMPH_")]
    inside = [path for top in tops for path in sorted(top.iterdir()) if path.is_dir()]
    return by_name((path.name, path) for path in (*tops, *inside) if CASE_FOLDER.match(path.name))
