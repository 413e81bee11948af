"""Training samples from simulated cases: cases on the network's grid, and augmented nine-slice crops of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import lnsdk.phantom
from lnsdk import ops
from lnsdk.ops.slices import Ranges, grid_shape
from lnsdk.phantom import LesionTruth
from lnsdk.pipelines.grid import cover
from lnsdk.threads import available_cores
from lnsdk.trainers.common import simulation
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.common.progress import TrainingProgress
from lnsdk.trainers.common.simulation import Case, CasePlan, make_case
from lnsdk.trainers.networks.lens import FULL_WINDOW
from lnsdk.volume import Volume

GRID_SPACING = (0.8, 0.8, 2.0)
"""mm along x, y, z (LENS VI-A)."""

GROUP = 9
"""Slices of a 2.5D sample: three images of three slices (LENS VI-B)."""

SCALES = (0.8, 1.2)
"""Range of random resizing (LENS VI-A)."""

SHIFT = 8
"""Largest random shift in pixels (LENS VI-A)."""

NOISE_HU = 12.0
"""Largest sigma of the noise that is added to half of the samples."""

VISIBLE_SHARE = 0.5
"""A lesion cut by the crop's border counts when at least this share of its box is left, else it is ignored."""


Plan = TypeVar("Plan")


@dataclass(frozen=True)
class GridCase:
    """A case on the network's grid, ready to be sampled.

    Attributes
    ----------
    name : str
        Of the case.
    expert : str
        Name of the scope that labelled it.
    grid : ndarray of float16, (z, y, x)
        Values 0..255, mapped from the file.
    labels : Labels
        What a training may know.
    truth : Truth or None
        Every lesion of a simulated case; None for a recorded one.
    patient, study, series : str
        Whom the volume shows, when, and which reconstruction of that it is (LENS V-B). Empty where unknown.
    fingerprint : str
        Of everything that the case was made from.
    """

    name: str
    expert: str
    grid: np.ndarray
    labels: Labels
    truth: Truth | None = None
    patient: str = ""
    study: str = ""
    series: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Sample:
    """One crop: slices (9, size, size) in 0..255, and the boxes (N, 4) of `Labels` on its centre slice."""

    slices: Tensor
    boxes: Tensor
    uncertain: Tensor
    ignored: Tensor


def prepare_cases(plans: Iterable[CasePlan], folder: Path) -> None:
    """Make every case that `folder` does not hold yet, or holds from another plan, on all cores, with a progress bar.

    Parameters
    ----------
    plans : iterable of CasePlan
        What to make.
    folder : Path
        Receives NAME.npy and NAME.json of every case.
    """
    make_all(_prepare_case, outdated(plans, folder), folder, "simulating cases")


def make_all(make: Callable[[Plan, Path], None], plans: Sequence[Plan], folder: Path, title: str) -> None:
    """Call `make(plan, folder)` for every plan on all cores, with a progress bar; the first error stops the others.

    Parameters
    ----------
    make : callable
        A function of a module: it is called in processes of their own.
    plans : sequence
        What can be pickled.
    folder : Path
        Passed on.
    title : str
        Of the progress bar.
    """
    workers = min(available_cores(), max(len(plans), 1))
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        TrainingProgress(title, len(plans), 0) as progress,
    ):
        try:
            for done in as_completed([pool.submit(make, plan, folder) for plan in plans]):
                done.result()
                progress.advance({})
        except BaseException:
            pool.shutdown(cancel_futures=True)  # said now, not when all the others are made
            raise


def outdated(plans: Iterable[CasePlan], folder: Path) -> list[CasePlan]:
    """Plans whose case `folder` does not hold, or holds from another plan."""
    return [plan for plan in plans if _stored_fingerprint(folder / f"{plan.id}.json") != fingerprint(plan)]


def fingerprint(plan: CasePlan) -> str:
    """Digest of everything that decides a case: its plan, the data's place in the catalogue, and the code.

    The code is that of the phantoms and lesions, of the simulation and of this module.
    """
    background = plan.background
    boxes = [] if background is None else [background.suspicious.tolist(), background.liver.tolist()]
    parts = [
        *asdict(plan.scope).values(),
        plan.seed,
        plan.lesions,
        None if background is None else background.id,
        plan.phantom_seed,
        boxes,
        GRID_SPACING,
        code_digest(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@cache
def code_digest() -> str:
    """Digest of the code that makes cases: phantoms, lesions, the simulation and this module."""
    files = [*sorted(Path(lnsdk.phantom.__file__).parent.glob("*.py")), Path(simulation.__file__), Path(__file__)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _stored_fingerprint(path: Path) -> str | None:
    """What the case in a file was made from; None without a whole one."""
    if not (path.exists() and path.with_suffix(".npy").exists()):
        return None
    stored = json.loads(path.read_text()).get("fingerprint")
    return None if stored is None else str(stored)


def _prepare_case(plan: CasePlan, folder: Path) -> None:
    write_grid_case(make_case(plan), folder)


def write_grid_case(case: Case, folder: Path) -> None:
    """Resample a case as the runtime does and store it under `folder` as NAME.npy and NAME.json."""
    plan, frame = case.plan, grid_frame(case.volume)
    names = [f"{plan.id}-lesion-{i}" for i in range(len(case.lesions))]
    truth = grid_truth(case.lesions, names, case.labelled, frame)
    labels = labels_of(truth, np.flatnonzero(truth.labelled[truth.owners]), frame.boxes(case.ignored))
    folder.mkdir(parents=True, exist_ok=True)
    store(
        GridCase(plan.id, plan.scope.name, read_grid(case.volume, frame), labels, truth, fingerprint=fingerprint(plan)),
        folder,
    )


@dataclass(frozen=True, eq=False)
class GridFrame:
    """Where the network's grid lies in a volume.

    Attributes
    ----------
    scale : ndarray, (3,)
        Grid pixels per voxel along x, y, z.
    ranges : ((z0, z1), (y0, y1), (x0, x1))
        Part of the whole grid that is kept.
    """

    scale: np.ndarray
    ranges: Ranges

    @property
    def origin(self) -> np.ndarray:
        """First pixel that is kept, x, y, z."""
        return np.asarray([start for start, _ in self.ranges[::-1]], np.float32)

    @property
    def depth(self) -> int:
        """Number of slices."""
        return self.ranges[0][1] - self.ranges[0][0]

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 6) of the volume's voxels in grid pixels."""
        return np.asarray(boxes * np.tile(self.scale, 2) - np.tile(self.origin, 2))


def grid_frame(volume: Volume) -> GridFrame:
    """The grid that the runtime would use: the whole length of a volume, in plane its body."""
    _, rows, columns = ops.body_box(volume.voxels, volume.spacing)
    count, height, width = grid_shape(volume.shape, volume.spacing, GRID_SPACING)
    x, y, _ = (own / grid for own, grid in zip(volume.spacing, GRID_SPACING, strict=True))
    ranges = (0, count), cover(rows, y, height), cover(columns, x, width)
    return GridFrame(np.asarray(volume.spacing) / GRID_SPACING, ranges)


def read_grid(volume: Volume, frame: GridFrame) -> np.ndarray:
    """The volume on the grid: float16 (z, y, x), 0..255."""
    grid = ops.resample_window(volume.voxels, volume.spacing, GRID_SPACING, window=FULL_WINDOW, crop=frame.ranges)
    return grid.astype(np.float16)


def grid_truth(
    lesions: Sequence[LesionTruth], identities: Sequence[str], labelled: Sequence[bool], frame: GridFrame
) -> Truth:
    """What is known of the lesions of a volume, on the grid.

    Parameters
    ----------
    lesions : sequence of LesionTruth
        Boxes in the volume's voxels.
    identities : sequence of str
        Their names.
    labelled : sequence of bool
        Whether they carry a label.
    frame : GridFrame
        Of the volume.
    """
    rows = [_lesion_on_grid(lesion, frame) for lesion in lesions]
    return Truth.of(
        frame.boxes(np.asarray([lesion.box for lesion in lesions], np.float64).reshape(-1, 6)),
        [lesion.type for lesion in lesions],
        [lesion.diameter_mm for lesion in lesions],
        identities,
        labelled,
        np.concatenate([np.zeros((0, 5)), *rows]),
        np.repeat(np.arange(len(lesions)), [len(own) for own in rows]),
    )


def labels_of(truth: Truth, rows: np.ndarray, ignored: np.ndarray) -> Labels:
    """Labels that hold the chosen rows of a truth, and of its lesions only those that have one."""
    lesions, owners = np.unique(truth.owners[rows], return_inverse=True)
    return Labels.of(truth.rows[rows], owners, [truth.types[lesion] for lesion in lesions], ignored=ignored)


def store(case: GridCase, folder: Path) -> None:
    """Write a case as NAME.npy and NAME.json; a description without its grid is never left behind."""
    record = {
        "expert": case.expert,
        "labels": case.labels.record(),
        "truth": None if case.truth is None else case.truth.record(),
        "patient": case.patient,
        "study": case.study,
        "series": case.series,
        "fingerprint": case.fingerprint,
    }
    path = folder / f"{case.name}.json"
    path.unlink(missing_ok=True)  # an interruption from here on leaves no description of another grid
    partial = folder / f"{case.name}.partial"
    with partial.open("wb") as file:
        np.save(file, case.grid)
    partial.replace(path.with_suffix(".npy"))
    partial.write_text(json.dumps(record))
    partial.replace(path)


def read_grid_cases(folder: Path, names: Iterable[str]) -> list[GridCase]:
    """The named cases under `folder`, in the order of their names."""
    cases = []
    for path in sorted(folder / f"{name}.json" for name in names):
        record = json.loads(path.read_text())
        cases.append(
            GridCase(
                path.stem,
                record["expert"],
                np.load(path.with_suffix(".npy"), mmap_mode="r"),
                Labels.of(**record["labels"]),
                None if record["truth"] is None else Truth.of(**record["truth"]),
                record["patient"],
                record["study"],
                record["series"],
                record["fingerprint"],
            )
        )
    return cases


def draw_sample(cases: Sequence[GridCase], rng: np.random.Generator, size: int, positive: bool) -> Sample:
    """Draw a random augmented crop.

    Parameters
    ----------
    cases : sequence of GridCase
        Cases of one dataset.
    rng : Generator
        Decides everything.
    size : int
        Side of the crop in pixels, a multiple of 16.
    positive : bool
        Around a labelled lesion (each type equally likely, then each lesion of it), or anywhere.

    Returns
    -------
    Sample
    """
    case, z, center = _labelled_place(cases, rng) if positive else _any_place(cases, rng)
    side = round(size / rng.uniform(*SCALES))
    reach = side // 2 - SHIFT if positive else 0
    offset = rng.integers(-reach, reach + 1, 2) if reach > 0 else np.zeros(2, np.int64)
    corner = np.round(center).astype(np.int64) + offset - side // 2
    corner = _over_grid(corner, case.grid.shape, side) + rng.integers(-SHIFT, SHIFT + 1, 2)
    window = _read_window(case.grid, z, corner, side)
    return _augment(window, _window_boxes(case.labels, z, corner, side), size, rng)


def _lesion_on_grid(truth: LesionTruth, frame: GridFrame) -> np.ndarray:
    """Cross-sections of a lesion on the grid slices: rows z, x1, y1, x2, y2; interpolated between native slices."""
    z = np.arange(frame.depth)
    at = (z + frame.origin[2]) / frame.scale[2]
    inside = (at >= truth.box[2]) & (at <= truth.box[5])
    columns = [np.interp(at[inside], truth.slices, truth.slice_boxes[:, c]) for c in range(4)]
    boxes = np.stack(columns, axis=1) * np.tile(frame.scale[:2], 2) - np.tile(frame.origin[:2], 2)
    return np.concatenate((z[inside, None], boxes), axis=1)


def _labelled_place(cases: Sequence[GridCase], rng: np.random.Generator) -> tuple[GridCase, int, np.ndarray]:
    """A labelled lesion, one of its slices, and its centre there (x, y)."""
    lesions = [(case, lesion) for case in cases for lesion in np.unique(case.labels.lesion)]
    types = np.array([case.labels.types[lesion] for case, lesion in lesions])
    case, lesion = lesions[rng.choice(np.flatnonzero(types == rng.choice(np.unique(types))))]
    row = case.labels.boxes[rng.choice(np.flatnonzero(case.labels.lesion == lesion))]
    return case, int(row[0]), (row[1:3] + row[3:5]) / 2


def _any_place(cases: Sequence[GridCase], rng: np.random.Generator) -> tuple[GridCase, int, np.ndarray]:
    """A place anywhere in a case."""
    case = cases[int(rng.integers(len(cases)))]
    depth, height, width = case.grid.shape
    return case, int(rng.integers(depth)), rng.uniform((0, 0), (width, height))


def _over_grid(corner: np.ndarray, shape: Sequence[int], side: int) -> np.ndarray:
    """Move a window's corner (x, y) so that as much of it as possible lies on the grid."""
    last = np.asarray([shape[2] - side, shape[1] - side])
    return np.asarray(np.clip(corner, np.minimum(last, 0), np.maximum(last, 0)))


def _read_window(grid: np.ndarray, z: int, corner: np.ndarray, side: int) -> np.ndarray:
    """Nine slices around z, edge slices repeated, zero (air) outside in plane: float32 (9, side, side)."""
    window = np.zeros((GROUP, side, side), np.float32)
    x0, y0 = int(corner[0]), int(corner[1])
    _, height, width = grid.shape
    low_y, high_y, low_x, high_x = max(y0, 0), min(y0 + side, height), max(x0, 0), min(x0 + side, width)
    if low_y < high_y and low_x < high_x:
        indices = np.clip(np.arange(z - GROUP // 2, z + GROUP // 2 + 1), 0, len(grid) - 1)
        window[:, low_y - y0 : high_y - y0, low_x - x0 : high_x - x0] = grid[indices, low_y:high_y, low_x:high_x]
    return window


class WindowBoxes(NamedTuple):
    """Boxes of one slice in a window's pixels: labelled (K, 4), uncertain (U, 4) and ignored (J, 4)."""

    labelled: np.ndarray
    uncertain: np.ndarray
    ignored: np.ndarray


def _window_boxes(labels: Labels, z: int, corner: np.ndarray, side: int) -> WindowBoxes:
    """What the labels say of slice z within a window."""
    shift = np.tile(corner, 2).astype(np.float32)
    boxes, uncertain = (rows[rows[:, 0] == z, 1:] - shift for rows in (labels.boxes, labels.uncertain))
    spots = labels.ignored[(labels.ignored[:, 2] <= z) & (labels.ignored[:, 5] >= z)][:, [0, 1, 3, 4]] - shift
    clipped = np.clip(boxes, -0.5, side - 0.5)
    share = _areas(clipped) / np.maximum(_areas(boxes), 1e-6)
    spots = np.clip(spots, -0.5, side - 0.5)
    uncertain = np.clip(uncertain, -0.5, side - 0.5)
    cut = clipped[(share > 0) & (share < VISIBLE_SHARE)]
    ignored = np.concatenate((spots[_areas(spots) > 0], cut))
    return WindowBoxes(clipped[share >= VISIBLE_SHARE], uncertain[_areas(uncertain) > 0], ignored)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _augment(window: np.ndarray, boxes: WindowBoxes, size: int, rng: np.random.Generator) -> Sample:
    """Resize to `size`, flip along x and z by chance, add noise to half of the samples."""
    side = window.shape[-1]
    slices = interpolate(torch.from_numpy(window)[None], size=(size, size), mode="bilinear", align_corners=False)[0]
    factor = size / side
    scaled = [(b + 0.5) * factor - 0.5 for b in boxes]
    if rng.random() < 0.5:
        slices = slices.flip(2)
        scaled = [np.stack((size - 1 - b[:, 2], b[:, 1], size - 1 - b[:, 0], b[:, 3]), 1) for b in scaled]
    if rng.random() < 0.5:
        slices = slices.flip(0)
    if rng.random() < 0.5:
        sigma = rng.uniform(0.0, NOISE_HU) * 255.0 / 4095.0
        noise = torch.from_numpy(rng.standard_normal(slices.shape, np.float32))
        slices = (slices + sigma * noise).clamp(0.0, 255.0)
    return Sample(slices.contiguous(), *(torch.from_numpy(b.astype(np.float32)) for b in scaled))
