"""One slice of a CT turned the way radiologists look at it, in grey levels of a CT window.

Axial slices show the patient's left on the right and the back at the bottom; the others have the head up.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnsdk.results import Box
from lnsdk.volume import Volume

LETTERS = ("RL", "AP", "IS")
"""Names of the two ends of each patient axis (DICOM PS3.3 C.7.6.1.1.1), against LPS and along it."""

SCREENS = {0: ((0, 1, 0), (0, 0, -1)), 1: ((1, 0, 0), (0, 0, -1)), 2: ((1, 0, 0), (0, 1, 0))}
"""Patient directions (LPS) along the screen's right and down, for slices across left-right, front-back, head-feet."""


@dataclass(frozen=True)
class Window:
    """A CT window: the HU that become black and white."""

    name: str
    low: float
    high: float


SOFT_TISSUE = Window("soft tissue window", -160, 240)
LUNG = Window("lung window", -1350, 150)

LUNG_HU = -500
"""Below this a voxel is air or lung."""

LUNG_SHARE = 0.35
"""Share of a lesion's surroundings that must be lung for the lung window."""

SURROUNDINGS_MM = 8.0
"""How far the surroundings of a lesion reach beyond its box."""


@dataclass(frozen=True)
class View:
    """A slice as it is shown.

    Attributes
    ----------
    hu : ndarray of int16, shape (rows, columns)
        Voxels in screen order.
    pixel_mm : tuple of float
        Width and height of a pixel in mm.
    letters : tuple of str
        Patient directions at the screen's left, right, top and bottom.
    across, down : int
        The volume's axes (x = 0, y = 1) that run along the screen's columns and rows.
    mirrored, upturned : bool
        Whether they run against the screen's right and down.
    """

    hu: NDArray[np.int16]
    pixel_mm: tuple[float, float]
    letters: tuple[str, str, str, str]
    across: int
    down: int
    mirrored: bool
    upturned: bool

    def rectangle(self, box: Box) -> tuple[float, float, float, float]:
        """Return where a box of the volume lies on the view: left, top, right, bottom, pixel i from i to i + 1."""
        rows, columns = self.hu.shape
        left, right = _oriented(box[self.across], box[self.across + 3], columns, self.mirrored)
        top, bottom = _oriented(box[self.down], box[self.down + 3], rows, self.upturned)
        return left, top, right, bottom

    def window_for(self, box: Box) -> Window:
        """Choose the CT window that shows a lesion: the lung's when lung surrounds it."""
        left, top, right, bottom = self.rectangle(box)
        dx, dy = (SURROUNDINGS_MM / size for size in self.pixel_mm)
        x1, x2 = max(int(left - dx), 0), int(right + dx) + 1
        y1, y2 = max(int(top - dy), 0), int(bottom + dy) + 1
        around = self.hu[y1:y2, x1:x2]
        return LUNG if around.size and float(np.mean(around < LUNG_HU)) > LUNG_SHARE else SOFT_TISSUE

    def grey(self, window: Window) -> NDArray[np.uint8]:
        """Return the slice in grey levels."""
        share = (np.clip(self.hu, window.low, window.high) - window.low) / (window.high - window.low)
        return np.asarray(np.rint(share * 255), np.uint8)


def view_slice(volume: Volume, index: int) -> View:
    """Turn a slice to the screen.

    Parameters
    ----------
    volume : Volume
        In any orientation.
    index : int
        Along the volume's first array axis.
    """
    directions = volume.affine[:3, :3] / np.asarray(volume.spacing)
    across_patient = int(np.argmax(np.abs(directions[:, 2])))
    right, down = (np.array(direction) for direction in SCREENS[across_patient])
    across = int(np.argmax(np.abs(right @ directions[:, :2])))
    vertical = 1 - across
    mirrored = bool(right @ directions[:, across] < 0)
    upturned = bool(down @ directions[:, vertical] < 0)
    hu = volume.voxels[index] if across == 0 else volume.voxels[index].T
    hu = hu[:: -1 if upturned else 1, :: -1 if mirrored else 1]
    return View(
        hu=hu,
        pixel_mm=(volume.spacing[across], volume.spacing[vertical]),
        letters=(_letter(-right), _letter(right), _letter(-down), _letter(down)),
        across=across,
        down=vertical,
        mirrored=mirrored,
        upturned=upturned,
    )


def _oriented(low: float, high: float, count: int, reverse: bool) -> tuple[float, float]:
    low, high = low + 0.5, high + 0.5
    return (count - high, count - low) if reverse else (low, high)


def _letter(direction: NDArray[np.int64]) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return LETTERS[axis][int(direction[axis] > 0)]
