"""Detector: a CT in, lesions out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version as installed_version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lnsdk._version import __version__
from lnsdk.backends import AUTO, FILES, Session, choose
from lnsdk.bundle import Bundle, read_bundle
from lnsdk.errors import BackendUnavailable
from lnsdk.io import read
from lnsdk.pipelines.choice import automatic
from lnsdk.pipelines.false_positives import pooling_weights, reduce_false_positives
from lnsdk.pipelines.features import Centers, centers
from lnsdk.pipelines.grid import Grid, make_grid
from lnsdk.pipelines.lesions import lesions_in_patient
from lnsdk.pipelines.profiles import input_profiles
from lnsdk.pipelines.proposals import (
    SliceBoxes,
    Stacks,
    concatenate_slices,
    decode_proposals,
    pad_rois,
    select_boxes,
    stack_slices,
)
from lnsdk.pipelines.settings import FPR, GRAPHS, precision_of, read_settings
from lnsdk.pipelines.streaming import Stream, StreamParts
from lnsdk.pipelines.timing import STAGES, Stopwatch
from lnsdk.results import Detections, Lesion, Provenance
from lnsdk.signing import PublicKey, check_trusted
from lnsdk.threads import limited_to
from lnsdk.volume import Geometry, Volume

if TYPE_CHECKING:
    from lnsdk.pipelines.gpu import GpuDetection

Array = NDArray[np.float32]
Progress = Callable[[int, int], None]

CROPS = ("body", "none")
"""What of the volume is looked at."""

CPU_BATCH = 2
"""Slices that a CPU runs at once: with two cores, 2 took a quarter less time than 8, whose maps leave the caches."""

PACKAGES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "torchscript": "torch",
    "tensorrt": "tensorrt",
    "tensorrt-lean": "tensorrt_lean",
}
"""What a result calls the library of each engine, whose version it holds."""

NO_BODY = "the volume holds nothing but air, so nothing was looked at"
"""Warning of a result without lesions because there was nothing to look at."""


class Detector:
    """Finds lesions in CT volumes (LENS).

    Engines are loaded and kernels compiled here, never in a call; only TorchScript on a GPU records a size of slices
    that comes for the second time. A detector may be called from many threads at once.

    Parameters
    ----------
    bundle : str, Path or Bundle, optional
        Bundle folder or zip, or what `lnsdk.bundle.read_bundle` returned; None is the detector that is part of the
        package.
    backend : str
        ``"onnx"`` (CPU or CUDA), ``"openvino"`` (CPU), ``"torchscript"`` (CPU or CUDA), ``"tensorrt"`` or
        ``"tensorrt-lean"`` (CUDA; building an engine the first time takes minutes). ``"auto"`` is ``"torchscript"`` for
        device ``"cuda"``; else ``"onnx"``, or, where OpenVINO is installed too, the fastest that finds the same lesions
        here, which is measured once (see `lnsdk.pipelines.choice.automatic`). The environment variable LNSDK_BACKEND
        names another ``"auto"``.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    precision : str
        ``"fp32"``, or what else the engine computes in: ``"bf16"`` (OpenVINO on CPUs that have it), ``"int8"``
        (OpenVINO) and ``"fp16"`` (CUDA). The last two need a bundle that holds such graphs, but with TorchScript.
        ``"auto"`` is ``"fp32"``, or what the backend ``"auto"`` was measured to be fastest in.
    threads : int, optional
        CPU threads of the engine and the kernels; None is one per core that this process may use.
    crop : str
        ``"body"`` looks at the rows and columns that the body covers, ``"none"`` at all of them, as is right for parts
        cut out of a chest.
    experts : sequence of str, optional
        Experts whose boxes count; None is all of the bundle's.
    threshold : float, optional
        Keep lesions with at least this score; None is the bundle's operating point, 0 keeps everything.
    reduce_false_positives : bool
        Let the bundle's second network look at the best 3D boxes (50 of them in the edge model) and average its score
        with the detector's (LENS eq. 4); the others get half of the detector's. False gives the detector's own scores,
        for which bundles store another operating point. Without effect for a bundle that has no such network.
    trusted_keys : sequence of str, Path or bytes, optional
        Ed25519 public keys, as PEM files or 32 bytes: only a bundle that one of them signed is loaded. None accepts
        unsigned bundles.

    Raises
    ------
    ValueError
        If an argument is none of these.
    InputError
        If the bundle cannot be trusted or used.
    BackendUnavailable
        If the engine is not installed; the message says what to install.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle | None = None,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        crop: str = "body",
        experts: Sequence[str] | None = None,
        threshold: float | None = None,
        reduce_false_positives: bool = True,
        trusted_keys: Sequence[PublicKey] | None = None,
    ) -> None:
        if crop not in CROPS:
            raise ValueError(f"crop must be {' or '.join(CROPS)}, got {crop!r}")
        if precision != "auto" and precision not in FILES:
            raise ValueError(f"precision must be auto, {', '.join(FILES)}, got {precision!r}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be from 0 to 1, got {threshold}")
        loaded = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        if trusted_keys is not None:
            check_trusted(loaded, trusted_keys)
        self._settings = read_settings(loaded)
        self._crop = crop
        self._threads = threads
        self._fpr_settings = self._settings.fpr if reduce_false_positives else None
        operating_point = (self._fpr_settings or self._settings).threshold
        self._threshold = operating_point if threshold is None else threshold
        self._experts = _expert_indices(self._settings.experts, experts)
        if backend == "auto" and device in AUTO:
            backend, device, precision = automatic(loaded, device, precision, threads)
        precision = "fp32" if precision == "auto" else precision
        engine = choose(backend, device)
        place = engine.device(device)
        self._batch = min(self._settings.max_batch, CPU_BATCH) if place == "cpu" else self._settings.max_batch
        profiles = input_profiles(loaded.graphs, self._settings)

        def load(name: str) -> Session:
            graph = replace(loaded.graph(name), profile=profiles[name])
            return engine.open(graph, place, precision_of(name, precision), threads)

        self._image, self._fuse, self._head = map(load, GRAPHS)
        if self._fpr_settings is not None:
            self._fpr = load(FPR)
        self._on_gpu = self._gpu_detection() if (engine.name, place) == ("torchscript", "cuda") else None
        self._provenance = _provenance(
            loaded,
            engine.name,
            engine.version(),
            place,
            precision,
            self.experts,
            self._threshold,
            crop,
            self.reduces_false_positives,
        )
        self._warm_up()

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the experts whose boxes count."""
        return tuple(self._settings.experts[index] for index in self._experts)

    @property
    def reduces_false_positives(self) -> bool:
        """Whether scores are those of LENS eq. 4: the bundle has the network for it, and it was not switched off."""
        return self._fpr_settings is not None

    @property
    def provenance(self) -> Provenance:
        """Model, engine and settings, as every result holds them."""
        return self._provenance

    def __call__(
        self,
        volume: Volume | str | Path | Sequence[str | Path],
        series: str | None = None,
        progress: Progress | None = None,
    ) -> Detections:
        """Find the lesions of a volume.

        Parameters
        ----------
        volume : Volume, path or list of paths
            A path is read with `lnsdk.read`.
        series : str, optional
            Which series to take when the path holds several.
        progress : callable, optional
            Called with the number of slices done and of all slices, after each batch.

        Returns
        -------
        Detections
            Lesions with at least the detector's threshold, best first; their boxes are in the voxels of the volume as
            given and in LPS mm.

        Raises
        ------
        InputError
            If the path holds no volume that can be used.
        ValueError
            If `series` is given with a Volume.
        """
        watch = Stopwatch(*STAGES)
        with limited_to(self._threads), watch("total"):
            source = self._read(volume, series, watch)
            with watch("resample"):
                grid = make_grid(source, self._settings, self._crop)
            if grid is None:
                lesions: tuple[Lesion, ...] = ()
                warnings = (*source.warnings, NO_BODY)
            else:
                lesions = self._join(grid, self._detect(grid, watch, progress), watch)
                warnings = source.warnings
        return Detections(lesions, warnings, watch.stages, self._provenance, source)

    def stream(self, geometry: Geometry | None = None) -> Stream:
        """Begin a volume whose slices arrive one after the other, in any order.

        Parameters
        ----------
        geometry : Geometry, optional
            Size and place of the volume, for slices that come as arrays; None for DICOM slices, which say where they
            lie.

        Returns
        -------
        Stream
            ``stream.add(slice)`` takes a slice and computes in a thread of its own what is possible already;
            ``stream.result()`` waits for that, computes the rest, and gives what a call with the whole volume gives.
        """
        steps = (self._run_image, self._detect_batch, self._conclude)
        return Stream(StreamParts(self._settings, self._crop, self._batch, self._threads, *steps), geometry)

    def _run_image(self, images: Array, watch: Stopwatch) -> dict[str, Array]:
        with watch("image"):
            return self._image.run({"image": images})

    def _conclude(self, source: Volume, grid: Grid | None, found: Sequence[SliceBoxes], watch: Stopwatch) -> Detections:
        """From the boxes of all grid slices to a result; without a grid there was nothing but air."""
        if grid is None:
            return Detections((), (*source.warnings, NO_BODY), watch.stages, self._provenance, source)
        lesions = self._join(grid, concatenate_slices(found, len(self._experts)), watch)
        return Detections(lesions, source.warnings, watch.stages, self._provenance, source)

    def _join(self, grid: Grid, found: SliceBoxes, watch: Stopwatch) -> tuple[Lesion, ...]:
        """Stack the boxes of slices, look at the best once more, and bring them to the patient."""
        with watch("stack"):
            stacks = stack_slices(found, self._settings.stack_iou)
        with watch("fpr"):
            stacks = self._reduce(grid, stacks)
        with watch("stack"):
            return lesions_in_patient(grid, stacks.above(self._threshold), self.experts)

    def _read(self, volume: Volume | str | Path | Sequence[str | Path], series: str | None, watch: Stopwatch) -> Volume:
        if isinstance(volume, Volume):
            if series is not None:
                raise ValueError("series chooses among the series of a path; got it together with a Volume")
            return volume
        with watch("read"):
            return read(volume, series)

    def _detect(self, grid: Grid, watch: Stopwatch, progress: Progress | None) -> SliceBoxes:
        """Run all grid slices through the network, batch by batch."""
        if self._on_gpu is not None:
            return concatenate_slices(self._on_gpu(grid, watch, progress), len(self._experts))

        def slices(start: int, stop: int) -> Array:
            with watch("resample"):
                return grid.slices(start, stop)

        parts = []
        for batch in centers(slices, grid.count, lambda images: self._run_image(images, watch), self._batch):
            parts += self._detect_batch(batch, (grid.height, grid.width), watch)
            if progress is not None:
                progress(min(batch.start + self._batch, grid.count), grid.count)
        return concatenate_slices(parts, len(self._experts))

    def _detect_batch(self, batch: Centers, shape: tuple[int, int], watch: Stopwatch) -> list[SliceBoxes]:
        with watch("fuse"):
            fused = self._fuse.run(batch.fuse_inputs())
        with watch("decode"):
            proposals = [
                decode_proposals(centerness, distances, self._settings)
                for centerness, distances in zip(fused["centerness"], fused["distances"], strict=True)
            ]
        if not any(map(len, proposals)):
            return [concatenate_slices([], len(self._experts)) for _ in proposals]
        with watch("head"):
            found = self._head.run({"features": fused["features"], "rois": pad_rois(proposals)})
        with watch("decode"):
            return [
                self._slice_boxes(batch.start + index, rois, found["scores"][index], found["offsets"][index], shape)
                for index, rois in enumerate(proposals)
            ]

    def _slice_boxes(self, index: int, rois: Array, scores: Array, deltas: Array, shape: tuple[int, int]) -> SliceBoxes:
        count = len(rois)
        boxes = select_boxes(rois, scores[:count], deltas[:count], self._experts, shape, self._settings)
        return SliceBoxes(*boxes, np.full(len(boxes[0]), index, np.int64))

    def _reduce(self, grid: Grid, stacks: Stacks) -> Stacks:
        """Score 3D boxes with the second network, if there is one."""
        if self._fpr_settings is None:
            return stacks
        return reduce_false_positives(stacks, grid.block, grid.shape, self._fpr.run, self._fpr_settings, self._batch)

    def _gpu_detection(self) -> GpuDetection | None:
        """The way that stays on the GPU, or None with a warning where numba cannot compile for it."""
        from lnsdk.ops.cuda import require_gpu
        from lnsdk.pipelines.gpu import Cuda, GpuDetection, Graphs

        try:
            require_gpu()
        except BackendUnavailable as error:
            warnings.warn(f"slices go to the GPU and back for every graph: {error}", RuntimeWarning, stacklevel=3)
            return None
        graphs = Graphs(self._image, self._fuse, self._head)  # type: ignore[arg-type]
        return GpuDetection(graphs, self._settings, self._experts, Cuda())

    def _warm_up(self) -> None:
        """Let the engines allocate, so that the first call is as fast as the others, and see what they compute in."""
        size = self._settings.multiple
        images = np.zeros((1, 3, size, size), np.float32)
        features = self._image.run({"image": images})
        fused = self._fuse.run(Centers(0, features, features, features).fuse_inputs())
        self._head.run({"features": fused["features"], "rois": np.zeros((1, 1, 4), np.float32)})
        if self._fpr_settings is not None:
            box = np.zeros((1, 6), np.float32)
            patch = np.zeros((1, *self._fpr_settings.patch), np.float32)
            self._fpr.run({"patch": patch, **pooling_weights(box, self._fpr_settings)})
            self._fpr.check_precision()
        for session in (self._image, self._fuse, self._head):
            session.check_precision()
        if self._on_gpu is not None:
            water = Volume(np.zeros((2, size, size), np.int16), np.diag([*self._settings.spacing, 1.0]))
            grid = make_grid(water, self._settings, "none")
            assert grid is not None
            self._on_gpu(grid, Stopwatch(*STAGES))


def _expert_indices(known: tuple[str, ...], names: Sequence[str] | None) -> NDArray[np.int64]:
    if names is None:
        return np.arange(len(known))
    if isinstance(names, str):
        raise TypeError(f"experts must be a list of names, got the string {names!r}")
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        given = ", ".join(map(repr, unknown)) if unknown else "none"
        raise ValueError(f"experts must be among {', '.join(known)}; got {given}")
    return np.array(sorted({known.index(name) for name in names}), np.int64)


def _provenance(
    bundle: Bundle,
    backend: str,
    engine: str,
    device: str,
    precision: str,
    experts: tuple[str, ...],
    threshold: float,
    crop: str,
    reduced: bool,
) -> Provenance:
    package = PACKAGES[backend]
    versions = {
        "lnsdk": __version__,
        "python": python_version(),
        "numpy": installed_version("numpy"),
        "numba": installed_version("numba"),
        package: engine,
    }
    return Provenance(
        model=bundle.name,
        model_version=bundle.version,
        model_sha256=bundle.sha256,
        backend=backend,
        device=device,
        precision=precision,
        experts=experts,
        threshold=threshold,
        crop=crop,
        versions=versions,
        false_positive_reduction=reduced,
    )
