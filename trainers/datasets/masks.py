"""Lesions drawn as a label volume beside a CT: the two grids compared, and labels turned into slice boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

import lnsdk
from lnsdk.errors import InputError
from lnsdk.trainers.datasets.recording import Annotations, named
from lnsdk.volume import Geometry, Volume, to_lps_axes

SAME_PLACE_VOXELS: Final = 0.5
"""Two grids are the same when no corner of one lies further than this from that of the other."""


@dataclass(frozen=True)
class LabelledVolume:
    """A CT and the label volume of its lesions.

    Attributes
    ----------
    volume : Path
        A file or the folder of a DICOM series.
    labels : Path
        Label volume on the same grid, in any axis order.
    lesion_label : int or None
        The label of all lesions, of which each connected part is one (26 neighbours); None when every label but 0 is
        a lesion of its own.
    lesion_type : str
        Type of the lesions.
    """

    volume: Path
    labels: Path
    lesion_label: int | None
    lesion_type: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Label volume and CT."""
        inside = sorted(path for path in self.volume.rglob("*") if path.is_file()) if self.volume.is_dir() else []
        return (self.labels, *(inside or [self.volume]))

    def load(self) -> tuple[Volume, Annotations]:
        """Read both.

        Raises
        ------
        InputError
            ``grid-mismatch`` when the two do not cover the same voxels of the same patient, or why one cannot be read.
        """
        volume, _ = to_lps_axes(lnsdk.read(self.volume))
        labels, _ = to_lps_axes(lnsdk.read(self.labels))
        require_same_grid(volume.geometry, labels.geometry, self.labels.name)
        lesions = labels.voxels if self.lesion_label is None else connected(labels.voxels == self.lesion_label)
        boxes, lesion, found = slice_boxes(lesions)
        return volume, Annotations.of(boxes, lesion, (self.lesion_type,) * found, whole=True)


def by_name(found: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Map names to their files or folders.

    Raises
    ------
    InputError
        ``duplicate-file`` when a name has two.
    """
    listed = list(found)
    paths = dict(listed)
    if twice := {name for name, path in listed if paths[name] != path}:
        raise InputError("duplicate-file", f"found more than once: {named(twice)}; remove all but one of each")
    return paths


def pair(volumes: Mapping[str, Path], labels: Mapping[str, Path], allow_missing: bool) -> tuple[list[str], list[str]]:
    """Find the names that have both a CT and a label volume.

    Parameters
    ----------
    volumes, labels : mapping of str to Path
        By name.
    allow_missing : bool
        Leave out what lacks its other half.

    Returns
    -------
    names, left_out : list of str
        The complete ones, sorted; and a sentence each about CTs without labels and labels without CT.

    Raises
    ------
    InputError
        ``missing-path`` when something lacks its other half, unless that is allowed.
    """
    alone = {"CTs without labels": volumes.keys() - labels.keys(), "labels without CT": labels.keys() - volumes.keys()}
    left_out = [f"{len(names)} {kind} ({named(names)})" for kind, names in alone.items() if names]
    if left_out and not allow_missing:
        raise InputError("missing-path", f"{'; '.join(left_out)}: complete the data set, or allow missing files")
    return sorted(volumes.keys() & labels.keys()), left_out


def require_same_grid(volume: Geometry, labels: Geometry, name: str) -> None:
    """Refuse labels that lie elsewhere than the volume.

    Parameters
    ----------
    volume, labels : Geometry
        Both with their axes along LPS: files of one volume may hold it in another axis order.
    name : str
        Of the label file, for the error.

    Raises
    ------
    InputError
        ``grid-mismatch`` when the shapes differ or a corner lies more than half a voxel apart.
    """
    if volume.shape != labels.shape:
        raise InputError(
            "grid-mismatch",
            f"{name} has {labels.shape} voxels (z, y, x) and its CT {volume.shape}: give the labels of this very CT",
        )
    last = np.array(volume.shape[::-1]) - 1.0
    corners = np.array(np.meshgrid(*([0.0, end] for end in last))).reshape(3, -1).T
    apart = np.abs(volume.lps_to_voxels(labels.voxels_to_lps(corners)) - corners).max()
    if apart > SAME_PLACE_VOXELS:
        raise InputError(
            "grid-mismatch",
            f"{name} lies up to {apart:.1f} voxels from where its CT does: one of the two has a wrong orientation, "
            "spacing or origin in its header; correct it",
        )


def connected(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the connected parts of a mask (z, y, x) from 1; voxels that share a corner are connected."""
    # SimpleITK ships annotations for some of its functions only; a module from `import_module` is not checked.
    itk = import_module("SimpleITK")
    parts = itk.ConnectedComponent(itk.GetImageFromArray(mask.astype(np.uint8)), True)
    return np.asarray(itk.GetArrayFromImage(parts), np.int32)


def slice_boxes(labels: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Box of every label on every slice.

    Parameters
    ----------
    labels : ndarray of int, (z, y, x)
        0 is background.

    Returns
    -------
    boxes : ndarray of float64, (K, 5)
        z, x1, y1, x2, y2 in continuous voxel indices; voxels i to j make a box from i - 0.5 to j + 0.5.
    lesion : ndarray of int64, (K,)
        Rank, from 0, of the row's label among all labels; ascending, and z ascends within it.
    found : int
        Number of labels.
    """
    z, y, x = np.nonzero(labels)
    values, rank = np.unique(labels[z, y, x], return_inverse=True)
    order = np.lexsort((z, rank))
    z, y, x, rank = (each[order] for each in (z, y, x, rank))
    changes = np.flatnonzero((np.diff(rank) != 0) | (np.diff(z) != 0)) + 1
    starts = np.concatenate((np.zeros(min(len(z), 1), np.int64), changes))
    if len(starts) == 0:
        return np.zeros((0, 5)), np.zeros(0, np.int64), 0
    low = [np.minimum.reduceat(each, starts) - 0.5 for each in (x, y)]
    high = [np.maximum.reduceat(each, starts) + 0.5 for each in (x, y)]
    return np.stack([z[starts], *low, *high], axis=1), rank[starts].astype(np.int64), len(values)
