"""LUNA16, the LUng Nodule Analysis challenge: CTs as MetaImage files and the nodules as points with a diameter.

Setio et al., Validation, comparison, and combination of algorithms for automatic detection of pulmonary nodules in
computed tomography images: the LUNA16 challenge (2017). Coordinates in annotations.csv are world coordinates in mm,
those of the MetaImage headers, which are LPS.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

import lnsdk
from lnsdk.errors import InputError
from lnsdk.metrics.luna16 import read_luna16_findings
from lnsdk.trainers.datasets.recording import (
    Annotations,
    DataSet,
    Recording,
    named,
    random_split,
    require_folder,
)
from lnsdk.volume import Geometry, Volume, to_lps_axes

Nodule: TypeAlias = tuple[float, float, float, float]
"""x, y, z of the centre, LPS in mm, and the diameter in mm."""

TABLE_PLACES: Final = ("annotations.csv", "CSVFILES/annotations.csv")
"""Where the table lies in the folder of the data set: downloaded alone, or with the other tables."""


@dataclass(frozen=True)
class NoduleScan:
    """A CT of LUNA16 and its nodules.

    Attributes
    ----------
    header : Path
        The .mhd file; its .raw lies beside it.
    nodules : tuple of (float, float, float, float)
        x, y, z, LPS in mm, and diameter in mm of each.
    """

    header: Path
    nodules: tuple[Nodule, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Header and voxels."""
        return tuple(sorted(self.header.parent.glob(f"{self.header.stem}.*")))

    def load(self) -> tuple[Volume, Annotations]:
        """Read the CT, and turn the nodules into boxes on its slices.

        Raises
        ------
        InputError
            ``bad-box`` when a nodule's centre lies outside the CT, or why that cannot be read.
        """
        volume, _ = to_lps_axes(lnsdk.read(self.header))
        boxes = [sphere_boxes(volume.geometry, nodule) for nodule in self.nodules]
        lesion = np.repeat(np.arange(len(boxes)), [len(rows) for rows in boxes])
        rows = np.concatenate([np.zeros((0, 5)), *boxes])
        return volume, Annotations.of(rows, lesion, ("lung_nodule",) * len(boxes), whole=True)


def sphere_boxes(geometry: Geometry, nodule: Nodule) -> NDArray[np.float64]:
    """Box of a sphere's cross-section on every slice that cuts it.

    Parameters
    ----------
    geometry : Geometry
        Of a volume whose axes run along LPS.
    nodule : tuple of float
        x, y, z of the centre, LPS in mm, and the diameter in mm.

    Returns
    -------
    ndarray, (K, 5)
        z, x1, y1, x2, y2 in continuous voxel indices. A box is at least a voxel wide, and a nodule between two slices
        has one on the nearer of them.

    Raises
    ------
    InputError
        ``bad-box`` when the centre lies outside the volume.
    """
    center, radius = geometry.lps_to_voxels([nodule[:3]])[0], nodule[3] / 2
    size = np.array(geometry.shape[::-1])
    if not ((center >= -0.5) & (center <= size - 0.5)).all():
        raise InputError(
            "bad-box",
            f"a nodule at {nodule[:3]} mm lies at voxel {center.round(1).tolist()}, outside the CT of "
            f"{' x '.join(map(str, size))} voxels: check that annotations.csv and the CT belong together",
        )
    spacing = np.asarray(geometry.spacing)
    slices = np.arange(geometry.shape[0])
    distance = np.abs(slices - center[2]) * spacing[2]
    cut = (distance < radius) | (distance == distance.min())
    chord = np.sqrt(np.maximum(radius**2 - distance[cut] ** 2, 0.0))
    half = np.maximum(chord[:, None] / spacing[:2], 0.5)
    return np.concatenate([slices[cut, None], center[:2] - half, center[:2] + half], axis=1)


def read_luna16(root: str | Path, *, seed: int = 0, allow_missing: bool = False) -> DataSet:
    """Find the CTs of LUNA16 and their nodules.

    A nodule is a sphere. CTs that the table does not name have no nodule and are recordings as well. The files do not
    say which CTs show one patient; each counts as a patient of its own. The findings of annotations_excluded.csv are
    not read.

    Parameters
    ----------
    root : str or Path
        Folder that holds subset0 to subset9 with SERIES.mhd and SERIES.raw, and annotations.csv, itself or in CSVFILES.
    seed : int
        Of the random split, 80 % for training and 20 % for validation (LENS VI-A).
    allow_missing : bool
        Leave out, and report, nodules of series without a CT, as where only some subsets were downloaded.

    Returns
    -------
    DataSet
        Recordings of the expert "lung".

    Raises
    ------
    InputError
        ``missing-path`` when there is no such folder, table or CT, or a series of the table has none; ``bad-csv`` when
        the table lacks a column or a row cannot be read; ``duplicate-file`` when a CT lies in two subsets.
    """
    folder = require_folder(root, "root", "subset0 to subset9 and annotations.csv")
    headers = _headers(folder)
    nodules = _nodules(folder)
    left_out = _without_ct(nodules, headers, allow_missing)
    splits = random_split(headers, seed)
    return DataSet(
        tuple(
            Recording(
                f"luna16-{series}",
                "lung",
                NoduleScan(headers[series], tuple(nodules.get(series, ()))),
                patient=series,
                series=series,
                split=splits[series],
            )
            for series in sorted(headers)
        ),
        left_out,
    )


def _headers(root: Path) -> dict[str, Path]:
    """Headers of the CTs by their series UID; elsewhere the data set has lung masks of the same names."""
    headers: dict[str, Path] = {}
    for path in sorted(root.glob("subset*/**/*.mhd")):
        if path.stem in headers:
            raise InputError("duplicate-file", f"{path.name} lies in two subsets below {root}: remove one")
        headers[path.stem] = path
    if not headers:
        raise InputError("missing-path", f"no subset*/SERIES.mhd below {root}: unpack subset0.zip to subset9.zip there")
    return headers


def _nodules(root: Path) -> dict[str, list[Nodule]]:
    """Nodules of each series that has some."""
    table = next((root / place for place in TABLE_PLACES if (root / place).exists()), root / TABLE_PLACES[0])
    findings = read_luna16_findings(table)
    rows = np.column_stack([findings.positions_mm, findings.diameters_mm]).reshape(-1, 4)
    if len(rows) == 0:
        raise InputError("bad-csv", f"{table.name} has no rows: download annotations.csv again")
    bad = ~(np.isfinite(rows).all(axis=1) & (rows[:, 3] > 0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            "bad-csv", f"{table.name}, row {row + 1}: expected a position and a diameter above 0 mm, found {rows[row]}"
        )
    nodules: dict[str, list[Nodule]] = defaultdict(list)
    for series, (x, y, z, diameter) in zip(findings.series, rows.tolist(), strict=True):
        nodules[series].append((x, y, z, diameter))
    return nodules


def _without_ct(nodules: dict[str, list[Nodule]], headers: dict[str, Path], allow_missing: bool) -> tuple[str, ...]:
    """Say how many nodules have no CT, or refuse that."""
    alone = nodules.keys() - headers.keys()
    if not alone:
        return ()
    count = sum(len(nodules[series]) for series in alone)
    said = f"{count} nodules of {len(alone)} series without a CT ({named(alone)})"
    if not allow_missing:
        raise InputError("missing-path", f"{said}: unpack the other subsets, or allow missing files")
    return (said,)
