"""Looking at the slices of a grid while more of them arrive, and at the rest when their number is known.

Slices are named by their place along the patient, a whole number that does not depend on which slices are there. What
is computed early is what the whole grid would give: an image needs its slice and the two beside it, a centre the images
at it and `REACH` before and after it, and nothing that the ends of the grid decide is computed before they are known.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lnsdk.pipelines.features import REACH, Centers
from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.pipelines.settings import CHANNELS

Array = NDArray[np.float32]
Features = dict[str, Array]

BESIDE = CHANNELS // 2
"""Slices on either side of an image's own."""


class IncrementalDetection:
    """Boxes of a grid whose slices arrive in any order.

    Parameters
    ----------
    run_image : callable
        From images (N, 3, y, x) to features by name, each with N rows.
    detect : callable
        From centres to the boxes of each, in the same order.
    batch : int
        Most images, and most centres, at once.
    """

    def __init__(
        self, run_image: Callable[[Array], Features], detect: Callable[[Centers], Sequence[SliceBoxes]], batch: int
    ) -> None:
        self._run_image = run_image
        self._detect = detect
        self._batch = batch
        self._slices: dict[int, Array] = {}
        self._digests: dict[int, bytes] = {}
        self._features: dict[int, Features] = {}
        self._boxes: dict[int, SliceBoxes] = {}

    @property
    def done(self) -> int:
        """Number of slices whose boxes are known."""
        return len(self._boxes)

    def add(self, slices: Mapping[int, Array]) -> None:
        """Take slices (y, x) by their places, and compute what they make possible; one that came before is replaced."""
        for place, content in slices.items():
            digest = _digest(content)
            if self._digests.get(place, digest) != digest:
                self._forget(place)
            self._digests[place] = digest
        self._slices |= slices
        near = sorted({place + step for place in slices for step in range(-BESIDE, BESIDE + 1)})
        images = [place for place in near if self._ready(place) and place not in self._features]
        self._compute_images(images, lambda place: self._slices[place])
        around = sorted({image + step for image in images for step in (-REACH, 0, REACH)})
        self._compute_boxes([place for place in around if place not in self._boxes and self._has_images(place)])
        self._drop_what_is_done()

    def finish(self, slices: Callable[[int, int], Array], first: int, count: int) -> list[SliceBoxes]:
        """Compute what is left.

        Parameters
        ----------
        slices : callable
            ``slices(start, stop)`` gives slices of the whole grid by their index from 0.
        first : int
            Place of the grid's first slice.
        count : int
            Number of its slices.

        Returns
        -------
        list of SliceBoxes
            Of every slice, by its index. Whatever was computed from a slice that is another one now is computed again.
        """
        places = range(first, first + count)
        for place in self._digests.keys() - places:
            self._forget(place)
        for start in range(0, count, self._batch):
            for offset, content in enumerate(slices(start, min(start + self._batch, count))):
                place = first + start + offset
                if self._digests.get(place) not in (None, _digest(content)):
                    self._forget(place)
        missing = [place for place in places if place not in self._boxes]
        for run in _runs(missing, self._batch):
            needed = {_within(place + step, places, 1) for place in run for step in (-REACH, 0, REACH)}
            self._compute_images(
                sorted(needed - self._features.keys()),
                lambda place: slices(index := _within(place, places) - first, index + 1)[0],
            )
            self._compute_boxes(run, lambda image: _within(image, places, 1))
            self._features = {image: rows for image, rows in self._features.items() if image >= run[-1] - REACH}
        return [_at(self._boxes[place], place - first) for place in places]

    def _ready(self, image: int) -> bool:
        return all(image + step in self._slices for step in range(-BESIDE, BESIDE + 1))

    def _has_images(self, center: int) -> bool:
        return all(center + step in self._features for step in (-REACH, 0, REACH))

    def _compute_images(self, images: Sequence[int], slice_at: Callable[[int], Array]) -> None:
        for start in range(0, len(images), self._batch):
            part = images[start : start + self._batch]
            stacked = np.stack(
                [np.stack([slice_at(place + step) for step in range(-BESIDE, BESIDE + 1)]) for place in part]
            )
            features = self._run_image(stacked)
            for row, place in enumerate(part):
                self._features[place] = {name: values[row : row + 1] for name, values in features.items()}

    def _compute_boxes(self, centers: Iterable[int], image_of: Callable[[int], int] = int) -> None:
        for run in _runs(centers, self._batch):
            previous, own, following = (
                _rows([self._features[image_of(place + step)] for place in run]) for step in (-REACH, 0, REACH)
            )
            found = self._detect(Centers(run[0], previous, own, following))
            self._boxes |= zip(run, found, strict=True)

    def _drop_what_is_done(self) -> None:
        """Keep only features that a centre still waits for, and slices that an image still waits for."""
        waiting = {
            image for image in self._features if any(image + step not in self._boxes for step in (-REACH, 0, REACH))
        }
        known = waiting | self._boxes.keys()
        self._features = {image: self._features[image] for image in waiting}
        self._slices = {
            place: content
            for place, content in self._slices.items()
            if any(place + step not in known for step in range(-BESIDE, BESIDE + 1))
        }

    def _forget(self, place: int) -> None:
        """Drop what was computed from a slice."""
        for image in range(place - BESIDE, place + BESIDE + 1):
            self._features.pop(image, None)
            for step in (-REACH, 0, REACH):
                self._boxes.pop(image + step, None)


def _digest(content: Array) -> bytes:
    return hashlib.blake2b(content.tobytes(), digest_size=16).digest()


def _within(place: int, places: range, beyond: int = 0) -> int:
    """The nearest place that is at most `beyond` outside of some places."""
    return min(max(place, places[0] - beyond), places[-1] + beyond)


def _runs(places: Iterable[int], longest: int) -> list[list[int]]:
    """Consecutive places together, at most so many."""
    runs: list[list[int]] = []
    for place in places:
        if not runs or place != runs[-1][-1] + 1 or len(runs[-1]) == longest:
            runs.append([])
        runs[-1].append(place)
    return runs


def _rows(features: Sequence[Features]) -> Features:
    return {name: np.concatenate([each[name] for each in features]) for name in features[0]}


def _at(boxes: SliceBoxes, index: int) -> SliceBoxes:
    """The same boxes, said to be of another slice."""
    return replace(boxes, slices=np.full(len(boxes.slices), index, np.int64))
