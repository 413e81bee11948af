"""What is known of a volume's lesions on the network's grid: the labels that teach, and the truth that measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = ""
"""Type of a lesion of which only the box is known."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of one volume, slice by slice, in continuous grid pixels (centre of the first pixel at 0).

    Attributes
    ----------
    boxes : ndarray of float32, (K, 5)
        Boxes that are lesions: z (a whole number), x1, y1, x2, y2.
    lesion : ndarray of int64, (K,)
        Which lesion a row of `boxes` belongs to: an index into `types`.
    types : tuple of str
        Type of every lesion, `UNKNOWN` where nobody said.
    uncertain : ndarray of float32, (U, 5)
        Boxes that may be lesions (LENS V-C), as `boxes`: their ignored region leaves the centerness loss, proposals
        that match them leave the head's loss.
    ignored : ndarray of float32, (J, 6)
        Places where nothing is known, x1, y1, z1, x2, y2, z2, generously sized: nothing in them counts.
    slices : ndarray of int64, (S,), or None
        Slices that samples without a lesion may be centred on; None allows every slice. Slices without a
        label may hold lesions that nobody marked, and stay out until mining has looked at them (LENS VI-D).
    """

    boxes: NDArray[np.float32]
    lesion: NDArray[np.int64]
    types: tuple[str, ...]
    uncertain: NDArray[np.float32]
    ignored: NDArray[np.float32]
    slices: NDArray[np.int64] | None = None

    @staticmethod
    def of(
        boxes: object = (),
        lesion: object = (),
        types: Sequence[str] = (),
        uncertain: object = (),
        ignored: object = (),
        slices: object = None,
    ) -> Labels:
        """Labels from anything that has the rows; what is left out is empty."""
        return Labels(
            np.asarray(boxes, np.float32).reshape(-1, 5),
            np.asarray(lesion, np.int64).reshape(-1),
            tuple(types),
            np.asarray(uncertain, np.float32).reshape(-1, 5),
            np.asarray(ignored, np.float32).reshape(-1, 6),
            None if slices is None else np.asarray(slices, np.int64).reshape(-1),
        )

    def record(self) -> dict[str, Any]:
        """The labels as JSON holds them; `Labels.of` takes it back."""
        return {
            "boxes": self.boxes.tolist(),
            "lesion": self.lesion.tolist(),
            "types": list(self.types),
            "uncertain": self.uncertain.tolist(),
            "ignored": self.ignored.tolist(),
            "slices": None if self.slices is None else self.slices.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Truth:
    """Every lesion of a simulated volume, labelled or not: measures mining and tests, and is never trained on.

    Attributes
    ----------
    boxes : ndarray of float32, (M, 6)
        x1, y1, z1, x2, y2, z2 in grid pixels, covering the lesion.
    types : tuple of str
        Their types.
    diameters : ndarray of float32, (M,)
        In mm.
    identities : tuple of str
        Name of each lesion; the same lesion in another study or series of its patient has the same name.
    labelled : ndarray of bool, (M,)
        Whether the lesion carries a label in this volume.
    rows : ndarray of float32, (K, 5)
        Cross-sections of all lesions, as `Labels.boxes`.
    owners : ndarray of int64, (K,)
        Which lesion a row of `rows` belongs to.
    """

    boxes: NDArray[np.float32]
    types: tuple[str, ...]
    diameters: NDArray[np.float32]
    identities: tuple[str, ...]
    labelled: NDArray[np.bool_]
    rows: NDArray[np.float32]
    owners: NDArray[np.int64]

    @staticmethod
    def of(
        boxes: object = (),
        types: Sequence[str] = (),
        diameters: object = (),
        identities: Sequence[str] = (),
        labelled: object = (),
        rows: object = (),
        owners: object = (),
    ) -> Truth:
        """Truth from anything that has the rows; what is left out is empty."""
        return Truth(
            np.asarray(boxes, np.float32).reshape(-1, 6),
            tuple(types),
            np.asarray(diameters, np.float32).reshape(-1),
            tuple(identities),
            np.asarray(labelled, bool).reshape(-1),
            np.asarray(rows, np.float32).reshape(-1, 5),
            np.asarray(owners, np.int64).reshape(-1),
        )

    def record(self) -> dict[str, Any]:
        """The truth as JSON holds it; `Truth.of` takes it back."""
        return {
            "boxes": self.boxes.tolist(),
            "types": list(self.types),
            "diameters": self.diameters.tolist(),
            "identities": list(self.identities),
            "labelled": self.labelled.tolist(),
            "rows": self.rows.tolist(),
            "owners": self.owners.tolist(),
        }
