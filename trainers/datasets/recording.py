"""A recorded volume of a published data set and what its annotators drew: what every reader gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk.errors import InputError
from lnsdk.volume import Volume

Expert: TypeAlias = Literal["universal", "lung", "liver", "lymph_node"]
"""The dataset experts of LENS: of DeepLesion, LUNA16, LiTS and NIH-LN (Table I)."""

Split: TypeAlias = Literal["train", "validation", "test"]

Location: TypeAlias = tuple[float, float, float]
"""Place of a lesion relative to the body, x, y, z in 0..1, as DeepLesion gives it."""

VALIDATION_SHARE: Final = 0.2
"""Share of LUNA16, LiTS and NIH-LN that is used for validation (LENS VI-A)."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotated lesions of a volume, slice by slice, in continuous voxel indices of the volume.

    Attributes
    ----------
    boxes : ndarray of float64, (K, 5)
        z (a whole number), x1, y1, x2, y2.
    lesion : ndarray of int64, (K,)
        Which lesion a row of `boxes` belongs to: an index into `types`.
    types : tuple of str
        Type of every lesion, empty where unknown.
    locations : tuple of (float, float, float) or None
        Normalised place of every lesion, None where unknown.
    whole : bool
        Whether the rows cover all slices of a lesion; otherwise they are its key slices and nobody said how far it
        reaches.
    """

    boxes: NDArray[np.float64]
    lesion: NDArray[np.int64]
    types: tuple[str, ...]
    locations: tuple[Location | None, ...]
    whole: bool

    @staticmethod
    def of(
        boxes: ArrayLike,
        lesion: ArrayLike,
        types: Sequence[str],
        *,
        whole: bool,
        locations: Sequence[Location | None] | None = None,
    ) -> Annotations:
        """Annotations from anything that has the rows; locations are unknown where not given."""
        return Annotations(
            np.asarray(boxes, np.float64).reshape(-1, 5),
            np.asarray(lesion, np.int64).reshape(-1),
            tuple(types),
            (None,) * len(types) if locations is None else tuple(locations),
            whole,
        )

    def within(self, shape: tuple[int, int, int], name: str) -> Annotations:
        """The same with every box clipped to the volume.

        Parameters
        ----------
        shape : tuple of int
            Of the volume, (z, y, x).
        name : str
            Of the volume, for the error.

        Raises
        ------
        InputError
            ``bad-box`` when a box is empty, or its centre lies outside the volume.
        """
        depth, height, width = shape
        z, low, high = self.boxes[:, 0], self.boxes[:, 1:3], self.boxes[:, 3:5]
        center = (low + high) / 2
        bad = ~((low < high).all(axis=1) & (z >= 0) & (z <= depth - 1))
        bad |= ~((center >= -0.5) & (center <= (width - 0.5, height - 0.5))).all(axis=1)
        if bad.any():
            row = self.boxes[bad][0].tolist()
            raise InputError(
                "bad-box",
                f"{name}: a lesion's box on slice {row[0]:g}, x1, y1, x2, y2 = {row[1:]}, is empty or outside the "
                f"volume of {width} x {height} x {depth} voxels: check that image and annotation belong together",
            )
        limits = np.array([width - 0.5, height - 0.5])
        clipped = [z[:, None], low.clip(-0.5, limits), high.clip(-0.5, limits)]
        return replace(self, boxes=np.concatenate(clipped, axis=1))


class Source(Protocol):
    """Where a volume and its annotations lie; its ``repr`` tells all that the tables say of them."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read."""

    def load(self) -> tuple[Volume, Annotations]:
        """Read the volume, its axes along LPS, and the annotations in its voxels."""


@dataclass(frozen=True)
class Recording:
    """One volume of a published data set, read when it is asked for.

    Attributes
    ----------
    name : str
        Unique among all data sets; a file name.
    expert : {"universal", "lung", "liver", "lymph_node"}
        Which dataset expert it teaches.
    source : Source
        Where it lies.
    patient, study, series : str
        Whom it shows, when, and which reconstruction of that it is. Empty where the data set does not say.
    split : {"train", "validation", "test"} or None
        What it is used for.
    """

    name: str
    expert: Expert
    source: Source
    patient: str = ""
    study: str = ""
    series: str = ""
    split: Split | None = None

    def load(self) -> tuple[Volume, Annotations]:
        """Read the volume and its annotations.

        Returns
        -------
        volume, annotations
            The volume with its axes along the patient's left, back and head as closely as they run, and the boxes in
            its voxels, clipped to it.

        Raises
        ------
        InputError
            When a file cannot be read or the annotations do not fit the volume.
        """
        volume, annotations = self.source.load()
        return volume, annotations.within(volume.shape, self.name)


@dataclass(frozen=True)
class DataSet:
    """What a reader found.

    Attributes
    ----------
    recordings : tuple of Recording
        In the order of their names.
    left_out : tuple of str
        What was left out and why, one sentence each.
    """

    recordings: tuple[Recording, ...]
    left_out: tuple[str, ...] = ()


def random_split(patients: Iterable[str], seed: int) -> dict[str, Split]:
    """Assign 80 % of the patients to training and 20 % to validation (LENS VI-A).

    The patients with the lowest digests of seed and name are for validation, so that a patient hardly ever changes
    sides when others are added.

    Parameters
    ----------
    patients : iterable of str
        May repeat.
    seed : int
        Another seed gives another split.
    """
    ranked = sorted(set(patients), key=lambda patient: hashlib.sha256(f"{seed}:{patient}".encode()).digest())
    count = round(VALIDATION_SHARE * len(ranked))
    return {patient: "validation" if rank < count else "train" for rank, patient in enumerate(ranked)}


def require_folder(path: str | Path, argument: str, contents: str) -> Path:
    """Return the folder of a data set as a path.

    Parameters
    ----------
    path : str or Path
        As given.
    argument, contents : str
        Name of the argument, and what the folder must hold, for the error.

    Raises
    ------
    InputError
        ``missing-path`` when it is no folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError("missing-path", f"{argument} must be the folder that holds {contents}; {folder} is no folder")
    return folder


def named(names: Iterable[str], most: int = 5) -> str:
    """List the first names, and count the others: for messages."""
    ordered = sorted(names)
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + rest
