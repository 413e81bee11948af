"""LiTS, the Liver Tumor Segmentation Benchmark: CTs and segmentations of liver and tumours as NIfTI files.

Bilic et al., The Liver Tumor Segmentation Benchmark (LiTS). The files of the training batches are volume-N.nii and
segmentation-N.nii, labels 0 background, 1 liver, 2 tumour.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from lnsdk.errors import InputError
from lnsdk.io.files import DiskFile
from lnsdk.io.nifti import RAS_TO_LPS, nifti_header
from lnsdk.trainers.datasets.masks import LabelledVolume, by_name, pair
from lnsdk.trainers.datasets.recording import DataSet, Recording, named, random_split, require_folder

TUMOUR: Final = 2
"""Label of the tumours."""

FILE_NAME: Final = re.compile(r"^(?:volume|segmentation)-(\d+)\.nii(?:\.gz)?$")


def read_lits(root: str | Path, *, seed: int = 0, allow_missing: bool = False) -> DataSet:
    """Find the CTs of LiTS and the segmentations of their tumours.

    Each connected part of the tumour label (26 neighbours) is one lesion. Orientation, which differs between the
    files, is taken from their headers. CTs whose header holds the identity matrix are left out: it stands where the
    voxel size should be (volumes 28 to 47 as they were released). LiTS does not say which CTs show one patient; each
    counts as a patient of its own.

    Parameters
    ----------
    root : str or Path
        Folder that holds volume-N.nii and segmentation-N.nii, plain or .gz, itself or in sub-folders.
    seed : int
        Of the random split, 80 % for training and 20 % for validation (LENS VI-A).
    allow_missing : bool
        Leave out, and report, a CT without segmentation and a segmentation without CT.

    Returns
    -------
    DataSet
        Recordings of the expert "liver".

    Raises
    ------
    InputError
        ``missing-path`` when there is no such folder or file, or one of a pair is missing; ``duplicate-file`` when
        a number occurs twice; ``bad-nifti`` when a header cannot be read.
    """
    folder = require_folder(root, "root", "volume-N.nii and segmentation-N.nii")
    volumes, segmentations = _files(folder, "volume"), _files(folder, "segmentation")
    if not volumes:
        raise InputError("missing-path", f"no volume-N.nii or volume-N.nii.gz below {folder}: give the folder of LiTS")
    names, left_out = pair(volumes, segmentations, allow_missing)
    unplaced = {name for name in names if _identity(volumes[name])}
    if unplaced:
        left_out.append(
            f"{len(unplaced)} CTs whose header holds the identity matrix instead of a voxel size ({named(unplaced)}): "
            "write the voxel size into CT and segmentation to use them"
        )
    used = [name for name in names if name not in unplaced]
    splits = random_split(used, seed)
    return DataSet(
        tuple(
            Recording(
                name,
                "liver",
                LabelledVolume(volumes[name], segmentations[name], TUMOUR, "liver_tumour"),
                patient=name,
                split=splits[name],
            )
            for name in used
        ),
        tuple(left_out),
    )


def _files(root: Path, kind: str) -> dict[str, Path]:
    """Files of a kind by the name of their recording."""
    matches = [(FILE_NAME.match(path.name), path) for path in sorted(root.rglob(f"{kind}-*"))]
    return by_name((f"lits-{match[1]}", path) for match, path in matches if match)


def _identity(path: Path) -> bool:
    """Whether a file's own affine is the identity."""
    affine = RAS_TO_LPS @ nifti_header(DiskFile(path.name, path)).affine
    return bool(np.array_equal(affine, np.eye(4)))
