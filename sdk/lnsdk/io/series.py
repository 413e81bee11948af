"""Series: which objects belong to one CT volume, which are set aside, and which volume is meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from lnsdk.errors import InputError
from lnsdk.io.objects import DicomObject, PixelFormat, Plane

T = TypeVar("T")

LAST: Final = 2**31
"""Sorts objects without a number behind those with one (IS values are smaller, PS3.5 6.2)."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of a series: a single-frame object, or one frame of a multi-frame object.

    Parameters
    ----------
    parent
        The object.
    index
        The frame's number in it, from 0.
    """

    parent: DicomObject
    index: int

    @property
    def plane(self) -> Plane:
        """Where it lies and how its values become HU."""
        return self.parent.planes[self.index]

    @property
    def pixels(self) -> PixelFormat:
        """How its pixels are stored.

        Raises
        ------
        InputError
            ``no-pixel-data``.
        """
        if self.parent.pixels is None:
            raise InputError(
                "no-pixel-data",
                f"the slice with {self.label} has no pixel data: export the series again with its images",
            )
        return self.parent.pixels

    @property
    def position(self) -> npt.NDArray[np.float64]:
        """float64 (3,): centre of the first pixel, LPS in mm. Raises InputError ``no-position`` when unknown."""
        return self._known(self.plane.position, "Image Position (Patient)")

    @property
    def orientation(self) -> npt.NDArray[np.float64]:
        """float64 (6,): direction cosines along a row and a column. Raises InputError ``no-position`` when unknown."""
        return self._known(self.plane.orientation, "Image Orientation (Patient)")

    @property
    def pixel_spacing(self) -> tuple[float, ...]:
        """Distance between rows, then columns, in mm. Raises InputError ``no-position`` when unknown."""
        return self._known(self.plane.pixel_spacing, "Pixel Spacing")

    def _known(self, value: T | None, name: str) -> T:
        if value is None:
            raise InputError("no-position", f"the slice with {self.label} has no {name}: export the original series")
        return value

    @property
    def label(self) -> str:
        """The slice in words that hold nothing personal: instance number, frame, and z of its first pixel."""
        number = self.parent.instance_number
        words = "no instance number" if number is None else f"instance number {number}"
        if len(self.parent.planes) > 1:
            words += f", frame {self.index + 1}"
        position = self.plane.position
        return words if position is None else f"{words} at z = {position[2]:.2f} mm"

    @property
    def order(self) -> tuple[int, str, int]:
        """Sorts slices independently of file names."""
        number = self.parent.instance_number
        return (LAST if number is None else number, self.parent.sop_instance_uid, self.index)


@dataclass(frozen=True, eq=False)
class Series:
    """The CT slices that share a Series Instance UID, in no particular order of position."""

    uid: str
    number: int | None
    description: str
    slices: tuple[Slice, ...]

    @property
    def summary(self) -> str:
        """The series in words: description, slices, spacing, number and UID."""
        name = f"'{self.description}'" if self.description else "no description"
        number = "" if self.number is None else f", series number {self.number}"
        return f"{name}, {len(self.slices)} slices{_spacing_words(self.slices)}{number}, UID {self.uid or 'none'}"


def find_series(objects: Sequence[DicomObject], series: str | int | None) -> tuple[Series, list[str]]:
    """Find the one CT volume that is meant.

    Parameters
    ----------
    objects
        Everything that was found.
    series
        Series Instance UID, or the volume's number (from 1) in the list that the error for several volumes shows.

    Returns
    -------
    series, warnings
        The volume's slices, and what was set aside.

    Raises
    ------
    InputError
        ``several-volumes``, ``no-such-series``, ``only-localizers``, ``not-ct``, ``no-position`` or ``no-volume``.
    """
    slices = [item for item in objects if item.kind == "CT image"]
    groups = _group(slices)
    placed = [group for group in groups if any(part.plane.position is not None for part in group.slices)]
    if not placed:
        raise _no_volume(objects, groups)
    kinds = Counter(item.kind for item in objects if item.kind != "CT image")
    kinds["CT image without position"] = sum(len(group.slices) for group in groups if group not in placed)
    return _choose(placed, series, objects), _set_aside(kinds)


def choose_number(series: str | int, count: int) -> int | None:
    """Return the index, from 0, when `series` is a number in a list of `count`; None when it is no such number."""
    text = str(series)
    if text.isascii() and text.isdigit() and 1 <= int(text) <= count:
        return int(text) - 1
    return None


def several_volumes(summaries: Sequence[str]) -> InputError:
    """Return the error that lists the volumes found and says how to choose one."""
    listed = "; ".join(f"{number}) {summary}" for number, summary in enumerate(summaries, start=1))
    return InputError(
        "several-volumes",
        f"{len(summaries)} volumes found, choose one by number or UID with series= or --series: {listed}",
    )


def no_such_series(series: str | int, summaries: Sequence[str]) -> InputError:
    """Return the error for a choice that matches no volume."""
    listed = "; ".join(f"{number}) {summary}" for number, summary in enumerate(summaries, start=1))
    return InputError("no-such-series", f"no volume matches series {str(series)!r}, there are: {listed}")


def counted(kinds: Iterable[tuple[str, int]]) -> str:
    """Return "SR (1), localizer (2)" in a fixed order; kinds of which there are none are left out."""
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds) if count)


def _group(objects: Iterable[DicomObject]) -> list[Series]:
    groups: dict[str, list[DicomObject]] = {}
    for item in objects:
        groups.setdefault(item.series_uid, []).append(item)
    found = [_series(uid, members) for uid, members in groups.items()]
    return sorted(found, key=lambda group: (LAST if group.number is None else group.number, group.uid))


def _series(uid: str, members: list[DicomObject]) -> Series:
    slices = sorted((Slice(item, i) for item in members for i in range(len(item.planes))), key=lambda part: part.order)
    first = slices[0].parent
    return Series(uid, first.series_number, first.description, tuple(slices))


def _choose(groups: list[Series], series: str | int | None, objects: Sequence[DicomObject]) -> Series:
    summaries = [group.summary for group in groups]
    if series is None:
        if len(groups) > 1:
            raise several_volumes(summaries)
        return groups[0]
    by_uid = [group for group in groups if group.uid and group.uid == str(series)]
    number = choose_number(series, len(groups))
    if by_uid:
        return by_uid[0]
    if number is not None:
        return groups[number]
    others = [item.kind for item in objects if item.series_uid and item.series_uid == str(series)]
    if others:
        raise InputError("not-ct", f"series {series} holds {counted(Counter(others).items())}: choose a CT series")
    raise no_such_series(series, summaries)


def _no_volume(objects: Sequence[DicomObject], groups: list[Series]) -> InputError:
    kinds = Counter(item.kind for item in objects)
    found = counted(kinds.items())
    if groups:
        return InputError(
            "no-position",
            f"none of the {kinds['CT image']} CT images says where it lies (ImagePositionPatient): "
            "export the original series",
        )
    if set(kinds) == {"localizer"}:
        return InputError("only-localizers", f"found only {found}: give the series of axial slices")
    if any(kind.endswith(" image") for kind in kinds):
        return InputError("not-ct", f"found no CT but {found}: lnsdk reads CT, give a CT series")
    return InputError("no-volume", f"found no CT slices but {found}: give the series that these belong to")


def _set_aside(kinds: Counter[str]) -> list[str]:
    words = counted(kinds.items())
    return [f"set aside what is no slice of the volume: {words}"] if words else []


def _spacing_words(slices: Sequence[Slice]) -> str:
    planes = [part.plane for part in slices if part.plane.position is not None]
    first = planes[0] if planes else None
    if first is None or first.pixel_spacing is None or first.orientation is None:
        return ""
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    distances = np.unique([float(np.dot(plane.position, normal)) for plane in planes if plane.position is not None])
    row, column = first.pixel_spacing
    along = f" x {np.median(np.diff(distances)):.2f}" if len(distances) > 1 else ""
    return f" of {column:.2f} x {row:.2f}{along} mm"
