"""A stream: slices come one after the other, the network looks at what is there, the rest is done when all came."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnsdk.errors import InputError
from lnsdk.io.arriving import Arrivals
from lnsdk.io.files import PathLike
from lnsdk.io.stack import SAME_POSITION_MM
from lnsdk.ops.body import body_extent
from lnsdk.pipelines.features import Centers
from lnsdk.pipelines.grid import Grid, Range, crop_around, first_place, lay_grid, make_grid
from lnsdk.pipelines.incremental import IncrementalDetection
from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.pipelines.settings import Settings
from lnsdk.pipelines.timing import STAGES, Stopwatch
from lnsdk.results import Detections
from lnsdk.threads import limited_to
from lnsdk.volume import Geometry, Volume, to_lps_axes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Array = NDArray[np.float32]

NEIGHBOURS = 1.1
"""Slices are neighbours up to this many times the smallest distance seen so far."""

SETTLE = 8
"""Slices that have come before any is looked at where the crop is the body's; a wider one begins the looking anew."""

ALIKE = 1e-3
"""Largest difference of direction and relative difference of spacing between slices that lie above each other."""

SLICES = 2
"""Axis along which slices are stacked (x = 0, y = 1, z = 2) where the grid's slices lie between them."""

DRIFT_PIXELS = 0.5
"""Largest displacement of such slices within their plane."""


@dataclass(frozen=True)
class StreamParts:
    """What a stream needs of its detector.

    Attributes
    ----------
    settings : Settings
        Of the bundle.
    crop : str
        ``"body"`` or ``"none"``.
    batch : int
        Most images, and most centres, at once.
    threads : int or None
        Threads of the kernels; None is every core.
    run_image, detect, conclude : callable
        The ``image`` graph; from centres, the size of the crop and a stopwatch to the boxes of each; from the volume,
        its grid and the boxes of every slice to the result.
    """

    settings: Settings
    crop: str
    batch: int
    threads: int | None
    run_image: Callable[[Array, Stopwatch], dict[str, Array]]
    detect: Callable[[Centers, tuple[int, int], Stopwatch], list[SliceBoxes]]
    conclude: Callable[[Volume, Grid | None, Sequence[SliceBoxes], Stopwatch], Detections]


class Stream:
    """Slices of one volume as they arrive; made by `lnsdk.Detector.stream`.

    `add` returns as soon as a slice is decoded; the network runs in a thread of the stream's own. A stream is for one
    volume and for one caller at a time.
    """

    def __init__(self, parts: StreamParts, geometry: Geometry | None) -> None:
        self._source = _ArraySource(geometry) if geometry is not None else _DicomSource()
        self._ahead = _Ahead(parts)
        self._parts = parts
        self._pending: deque[Arrived] = deque()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lnsdk-stream")
        self._work: list[Future[None]] = []
        self._watch = Stopwatch(*STAGES)
        self._came = self._looked_at = 0
        self._ended = False

    @property
    def waiting(self) -> int:
        """Slices that have come and that the network has not caught up with: growing, when it is too slow for them."""
        return self._came - self._looked_at

    def add(self, item: PathLike | Dataset | tuple[int, ArrayLike]) -> None:
        """Take a slice.

        Parameters
        ----------
        item : path, pydicom Dataset or (int, array_like)
            A DICOM file or dataset; or, for a stream with a geometry, a slice's index and its HU, int16 (y, x).

        Raises
        ------
        InputError
            When the slice cannot be read or does not belong to the geometry; it is then left out.
        ValueError
            After `result`.
        """
        if self._ended:
            raise ValueError("this stream has given its result; begin another one with detector.stream()")
        with self._watch("read"):
            arrived = self._source.add(item)
        if arrived:
            self._came += len(arrived)
            self._pending.extend(arrived)
            self._work.append(self._worker.submit(self._look))

    def result(self) -> Detections:
        """Wait for what is being computed, compute the rest, and give the result.

        Returns
        -------
        Detections
            What the detector gives for the whole volume, on a CPU exactly. ``timings["total"]`` is the time that this
            call took, the other stages add up what was done since the first slice.

        Raises
        ------
        InputError
            When the slices make no volume, as `lnsdk.read` would say.
        """
        if self._ended:
            raise ValueError("this stream has given its result; begin another one with detector.stream()")
        self._ended = True
        with limited_to(self._parts.threads), self._watch("total"):
            self._worker.shutdown(wait=True)
            for future in self._work:
                future.result()
            with self._watch("read"):
                volume = self._source.volume()
            with self._watch("resample"):
                grid = make_grid(volume, self._parts.settings, self._parts.crop)
            found = [] if grid is None else self._ahead.finish(grid, self._watch)
            detections = self._parts.conclude(volume, grid, found, self._watch)
        return replace(detections, timings=dict(self._watch.stages))

    def _look(self) -> None:
        """Take everything that has come by now; later calls for the same slices find nothing left."""
        with limited_to(self._parts.threads):
            while self._pending:
                self._ahead.take(self._pending.popleft(), self._watch)
                self._looked_at += 1


@dataclass(frozen=True, eq=False)
class Arrived:
    """A slice that may be looked at before the others have come.

    Attributes
    ----------
    volume : Volume
        Of this slice alone.
    reach_mm : float
        Its neighbours are no further away than this; infinite where nothing says so.
    """

    volume: Volume
    reach_mm: float


class _DicomSource:
    """Slices that say where they lie."""

    def __init__(self) -> None:
        self._arrivals = Arrivals()
        self.volume = self._arrivals.volume

    def add(self, item: object) -> list[Arrived]:
        if isinstance(item, tuple):
            raise TypeError("a slice as (index, array) needs a geometry: detector.stream(geometry)")
        found = []
        for each in self._arrivals.add(item):  # type: ignore[arg-type]
            alone, thickness = each.alone(), each.part.plane.thickness
            if alone is not None:
                found.append(Arrived(alone, thickness if thickness is not None and thickness > 0 else np.inf))
        return found


class _ArraySource:
    """Slices by their index in a known geometry."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._voxels = np.empty(geometry.shape, np.int16)
        self._came = np.zeros(geometry.shape[0], bool)
        self._repeated = 0

    def add(self, item: object) -> list[Arrived]:
        if not isinstance(item, tuple) or len(item) != 2:
            raise TypeError(f"a stream with a geometry takes (index, array), got {type(item).__name__}")
        index, hu = int(item[0]), np.asarray(item[1])
        count, *shape = self._geometry.shape
        if not 0 <= index < count:
            raise InputError("slice-index", f"index {item[0]} is none of the geometry's slices, 0 to {count - 1}")
        if hu.dtype != np.int16:
            raise TypeError(f"a slice must be HU as int16, got {hu.dtype}: round and convert it first")
        if hu.shape != tuple(shape):
            raise InputError("matrix-size", f"slice {index} must have shape {tuple(shape)}, got {hu.shape}")
        if self._came[index]:
            if not np.array_equal(self._voxels[index], hu):
                raise InputError("duplicate-position", f"slice {index} came before with other values: send it once")
            self._repeated += 1
            return []
        self._voxels[index], self._came[index] = hu, True
        affine = self._geometry.affine.copy()
        affine[:3, 3] += index * affine[:3, 2]
        return [Arrived(Volume(self._voxels[index : index + 1], affine), self._geometry.spacing[2])]

    def volume(self) -> Volume:
        missing = np.flatnonzero(~self._came)
        if len(missing):
            named = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
            raise InputError("missing-slice", f"{len(missing)} of {len(self._came)} slices did not come: {named}")
        warnings = (f"slices that came again were dropped: {self._repeated}",) if self._repeated else ()
        return Volume(self._voxels, self._geometry.affine, warnings)


class _Ahead:
    """Lays the slices that came onto the grid, and has the network look at it."""

    def __init__(self, parts: StreamParts) -> None:
        self._parts = parts
        self._distances: list[float] = []
        self._slices: list[Volume] = []
        self._closest = np.inf
        self._crop: tuple[Range, Range] | None = None
        self._body: tuple[Range, Range] | None = None
        self._detection: IncrementalDetection | None = None
        self._watch = Stopwatch(*STAGES)

    def take(self, arrived: Arrived, watch: Stopwatch) -> None:
        """Look at what a slice makes possible; one that does not lie above the others is left to the verdict on all."""
        self._watch = watch
        volume, axis_map = to_lps_axes(arrived.volume)
        if axis_map.axis_of_slices != SLICES or (self._slices and not _above(self._slices[0], volume)):
            return
        distance = float(volume.affine[:3, 3] @ _normal(volume))
        index = bisect_left(self._distances, distance)
        near = self._distances[max(index - 1, 0) : index + 1]
        gaps = [abs(distance - other) for other in near]
        if any(gap <= SAME_POSITION_MM for gap in gaps):
            return
        self._distances.insert(index, distance)
        self._slices.insert(index, volume)
        self._closest = min([self._closest, arrived.reach_mm, *gaps])
        if self._settled(volume):
            self._look(range(max(index - 1, 0), min(index + 1, len(self._slices) - 1)))

    def finish(self, grid: Grid, watch: Stopwatch) -> list[SliceBoxes]:
        """Boxes of every slice of the grid."""
        self._watch = watch
        if self._detection is None or self._crop != (grid.rows, grid.columns):
            self._detection = self._begin(grid.height, grid.width)

        def slices(start: int, stop: int) -> Array:
            with watch("resample"):
                return grid.slices(start, stop)

        return self._detection.finish(slices, grid.place, grid.count)

    def _settled(self, volume: Volume) -> bool:
        """Whether the crop stays as it is with one more slice; if not, the looking begins anew."""
        if self._parts.crop == "body":
            own = body_extent(volume.voxels, volume.spacing)
            self._body = own if self._body is None else _united(self._body, own)
            if self._body is None or len(self._slices) < SETTLE:
                return False
        crop = crop_around(self._body, volume, self._parts.settings)
        if crop == self._crop:
            return True
        self._crop, self._detection = crop, None
        self._look(range(len(self._slices) - 1))
        return False

    def _look(self, pairs: range) -> None:
        """Give the network the grid slices between pairs of neighbours: each with the one after it."""
        places: dict[int, Array] = {}
        for lower in pairs:
            gap = self._distances[lower + 1] - self._distances[lower]
            if gap <= NEIGHBOURS * self._closest:
                places |= self._between(self._slices[lower], self._slices[lower + 1], gap)
        if places:
            if self._detection is None:
                self._detection = self._begin(*next(iter(places.values())).shape)
            self._detection.add(places)

    def _between(self, lower: Volume, upper: Volume, gap: float) -> dict[int, Array]:
        """Grid slices between two neighbours, by their places."""
        assert self._crop is not None
        affine = lower.affine.copy()
        affine[:3, 2] = _normal(lower) * gap
        pair = Volume(np.concatenate([lower.voxels, upper.voxels]), affine)
        if first_place(pair, self._parts.settings.spacing[2]) is None:
            return {}
        reoriented, axis_map = to_lps_axes(pair)
        with self._watch("resample"):
            grid = lay_grid(pair, reoriented, axis_map, self._parts.settings, *self._crop)
            return dict(enumerate(grid.slices(0, grid.count), start=grid.place))

    def _begin(self, height: int, width: int) -> IncrementalDetection:
        return IncrementalDetection(
            lambda images: self._parts.run_image(images, self._watch),
            lambda centers: self._parts.detect(centers, (height, width), self._watch),
            self._parts.batch,
        )


def _normal(volume: Volume) -> NDArray[np.float64]:
    """Direction of a volume's slices."""
    return np.asarray(volume.affine[:3, 2] / volume.spacing[2])


def _above(first: Volume, other: Volume) -> bool:
    """Whether two slices lie above each other: same size, directions, pixels and series, no displacement."""
    if first.voxels.shape != other.voxels.shape or first.series_uid != other.series_uid:
        return False
    offset = other.affine[:3, 3] - first.affine[:3, 3]
    drift = offset - (offset @ _normal(first)) * _normal(first)
    return bool(
        np.allclose(first.spacing[:2], other.spacing[:2], rtol=ALIKE, atol=0)
        and np.abs(first.affine[:3, :2] / first.spacing[:2] - other.affine[:3, :2] / other.spacing[:2]).max() <= ALIKE
        and np.linalg.norm(drift) <= DRIFT_PIXELS * min(first.spacing[:2])
    )


def _united(extent: tuple[Range, Range], other: tuple[Range, Range] | None) -> tuple[Range, Range]:
    """The smallest rows and columns that hold those of both."""
    if other is None:
        return extent
    rows, columns = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(extent, other, strict=True))
    return rows, columns
