"""Slices as they arrive: each is decoded when it comes, and all are read as one series when the last one is there."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from lnsdk.errors import InputError
from lnsdk.io.dicom import read_dicom
from lnsdk.io.files import DiskFile, MemoryFile, PathLike, Source
from lnsdk.io.objects import DicomObject, read_object
from lnsdk.io.pixels import Findings, check_quantity, hounsfield
from lnsdk.io.series import Slice
from lnsdk.volume import Volume

HU = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class ArrivedSlice:
    """A slice that came, decoded.

    Attributes
    ----------
    part
        Where it lies, and what it belongs to.
    hu
        int16 (rows, columns).
    """

    part: Slice
    hu: HU

    def alone(self) -> Volume | None:
        """The slice as a volume of its own, 1 mm thick along the slice normal; None where it does not say its place."""
        from highdicom.spatial import create_affine_matrix_from_attributes

        plane = self.part.plane
        if plane.position is None or plane.orientation is None or plane.pixel_spacing is None:
            return None
        try:
            affine = create_affine_matrix_from_attributes(
                plane.position.tolist(), plane.orientation.tolist(), plane.pixel_spacing, 1.0
            )
            return Volume(self.hu[None], affine, series_uid=self.part.parent.series_uid)
        except ValueError:  # places that `Arrivals.volume` will refuse
            return None


class Arrivals:
    """DICOM objects that arrive one after the other, in any order."""

    def __init__(self) -> None:
        self._objects: list[DicomObject] = []
        self._decoded: dict[tuple[int, int], tuple[HU, Findings]] = {}

    def add(self, item: PathLike | Dataset) -> list[ArrivedSlice]:
        """Take an object.

        Parameters
        ----------
        item
            A DICOM file, or a dataset with its pixels.

        Returns
        -------
        The CT slices in it; none for what `volume` will set aside.

        Raises
        ------
        InputError
            When it is no DICOM, damaged or holds no HU; it is then left out, as if it had not come.
        """
        found = read_object(self._source(item))
        if found is None:
            raise InputError("not-dicom", f"{self._source(item).name} is no DICOM file: add the slices of a CT series")
        slices = [Slice(found, index) for index in range(len(found.planes))] if found.kind == "CT image" else []
        check_quantity(slices)
        decoded = [(part, *_decode(part)) for part in slices]
        self._objects.append(found)
        self._decoded |= {(id(found), part.index): (hu, findings) for part, hu, findings in decoded}
        return [ArrivedSlice(part, hu) for part, hu, _ in decoded]

    def volume(self) -> Volume:
        """Read everything that came, as `lnsdk.read` would; nothing is decoded again.

        Raises
        ------
        InputError
            As for `lnsdk.read`; ``no-volume`` when nothing came.
        """
        if not self._objects:
            raise InputError("no-volume", "no slice has arrived: add the slices of a CT series first")
        return read_dicom(self._objects, decode=self._give)

    def _source(self, item: PathLike | Dataset) -> Source:
        if isinstance(item, Dataset):
            content = io.BytesIO()
            item.save_as(content, enforce_file_format=True)
            return MemoryFile(f"dataset {len(self._objects) + 1}", content.getvalue())
        path = Path(os.fspath(item))
        if not path.is_file():
            raise InputError("missing-path", f"there is no file at {path.name}: add files, one slice or object each")
        return DiskFile(path.name, path)

    def _give(self, slices: Sequence[Slice], findings: Findings) -> Iterator[tuple[int, HU]]:
        """What was decoded when it came: `lnsdk.io.pixels.hounsfield` without decoding."""
        for index, part in enumerate(slices):
            hu, own = self._decoded[id(part.parent), part.index]
            findings.clipped += own.clipped
            findings.padding_inside += own.padding_inside
            yield index, hu


def _decode(part: Slice) -> tuple[HU, Findings]:
    findings = Findings()
    ((_, hu),) = hounsfield([part], findings)
    return hu, findings
