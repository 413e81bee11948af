"""A whole CT, from DICOM folder to lesions: what reusing features gains, how near the processor's limit, and a peer.

The peer is MONAI's 3D RetinaNet as its LUNA16 tutorial builds it; its weights are random, on which no time depends.

Run as ``python -m benchmarks.whole_volume CT -o DIR``; writes DIR/whole_volume.md and whole_volume.json.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lnsdk
from benchmarks.arithmetic import SIDES, Counting, matrix_rate, multiply_adds
from lnsdk import Detector, Volume
from lnsdk.bench.machine import describe, facts
from lnsdk.pipelines.features import REACH, Centers, centers, images
from lnsdk.pipelines.grid import Grid, make_grid
from lnsdk.pipelines.proposals import concatenate_slices
from lnsdk.pipelines.timing import STAGES, Stopwatch
from lnsdk.threads import available_cores, limited_to
from lnsdk.trainers.networks.lens import EDGE, Lens

NETWORK = ("image", "fuse", "head")
"""Stages that the network's graphs take."""

WINDOW, OVERLAP = (192, 192, 80), 0.25
"""Of the RetinaNet: samples (x, y, z) that the tutorial trains on, and the part of them that two windows share."""

SPACING = (0.703125, 0.703125, 1.25)
"""Of its samples (x, y, z), mm."""

WINDOWS = 2
"""Windows that are timed, after one that is not."""

REPEATS = 3


@dataclass(frozen=True)
class Measured:
    """What was measured; times in seconds, the fastest of `REPEATS`.

    Attributes
    ----------
    slices : tuple of int
        Of the CT, (z, y, x).
    grid : tuple of int
        The network's input of all slices, (z, y, x), padding and all.
    whole : float
        DICOM folder to lesions.
    stages : dict of str to float
        Milliseconds of the fastest call.
    reused, repeated : float
        The network's stages, with every image looked at once, and with every centre's three images looked at for it.
    multiply_adds : float
        Of the network for the whole CT, features reused.
    matrix_rate : float
        Multiply-adds a second of a product of float32 matrices.
    window : float
        One window of the RetinaNet.
    windows : int
        Windows that the CT takes.
    """

    slices: tuple[int, ...]
    grid: tuple[int, int, int]
    whole: float
    stages: dict[str, float]
    reused: float
    repeated: float
    multiply_adds: float
    matrix_rate: float
    window: float
    windows: int

    @property
    def peer(self) -> float:
        """Seconds of the RetinaNet for the CT's windows; reading, cutting and joining them not counted."""
        return self.window * self.windows


def measure(path: Path, detector: Detector, threads: int) -> Measured:
    """Measure everything in one process, one thing after the other, each with so many threads."""
    torch.set_num_threads(threads)
    rate = matrix_rate()
    volume = lnsdk.read(path)
    detector(path)
    whole, stages = min((timed(lambda: detector(path).timings) for _ in range(REPEATS)), key=lambda found: found[0])
    grid = make_grid(volume, detector._settings, "body")
    assert grid is not None
    reused = min(network_seconds(detector, grid, _each_once) for _ in range(REPEATS))
    repeated = min(network_seconds(detector, grid, _each_for_every_centre) for _ in range(REPEATS))
    window = retinanet_window_seconds()
    return Measured(
        slices=volume.shape,
        grid=(grid.count, grid.height, grid.width),
        whole=whole,
        stages=dict(stages),
        reused=reused,
        repeated=repeated,
        multiply_adds=network_multiply_adds(detector, grid),
        matrix_rate=max(rate, matrix_rate()),
        window=window,
        windows=len(list(windows_of(volume))),
    )


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its answer."""
    start = time.perf_counter()
    answer = run()
    return time.perf_counter() - start, answer


def network_seconds(
    detector: Detector, grid: Grid, walk: Callable[[Detector, Grid, Stopwatch], Iterator[Centers]]
) -> float:
    """Seconds of the network's graphs for all slices of a grid; the boxes are the detector's."""
    watch = Stopwatch(*STAGES)
    with limited_to(detector._threads):
        parts = []
        for batch in walk(detector, grid, watch):
            parts += detector._detect_batch(batch, (grid.height, grid.width), watch)
    concatenate_slices(parts, len(detector.experts))
    return sum(watch.stages[stage] for stage in NETWORK) / 1000


def _each_once(detector: Detector, grid: Grid, watch: Stopwatch) -> Iterator[Centers]:
    return centers(grid.slices, grid.count, lambda batch: detector._run_image(batch, watch), detector._batch)


def _each_for_every_centre(detector: Detector, grid: Grid, watch: Stopwatch) -> Iterator[Centers]:
    for start in range(0, grid.count, detector._batch):
        stop = min(start + detector._batch, grid.count)
        features = [
            detector._run_image(images(grid.slices, grid.count, start + step, stop + step), watch)
            for step in (-REACH, 0, REACH)
        ]
        yield Centers(start, *features)


def network_multiply_adds(detector: Detector, grid: Grid) -> float:
    """Multiply-adds of the network for all slices, with the regions that there were."""
    head = Counting(detector._head)
    detector._head = head  # type: ignore[assignment]
    network_seconds(detector, grid, _each_once)
    detector._head = head._head
    slices, regions = multiply_adds(Lens(len(detector.experts), EDGE).eval(), grid.height, grid.width)
    return slices * grid.count + regions * head.regions


def windows_of(volume: Volume) -> Iterator[tuple[int, ...]]:
    """First samples of the windows that cover a CT."""
    extent = np.array(volume.spacing) * volume.shape[::-1]
    size = np.ceil(extent / SPACING).astype(int)
    steps = [int(window * (1 - OVERLAP)) for window in WINDOW]
    counts = [
        1 + max(0, -(-(int(length) - window) // step)) for length, window, step in zip(size, WINDOW, steps, strict=True)
    ]
    yield from product(*(range(0, count * step, step) for count, step in zip(counts, steps, strict=True)))


def retinanet_window_seconds() -> float:
    """Seconds of one window, the fastest of `WINDOWS`, as MONAI's tutorial sets its network up."""
    from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
    from monai.networks.nets.resnet import resnet50

    torch.manual_seed(0)
    backbone = resnet50(spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7])
    extractor = resnet_fpn_feature_extractor(
        backbone=backbone,
        spatial_dims=3,
        pretrained_backbone=False,
        trainable_backbone_layers=None,
        returned_layers=[1, 2],
    )
    network = RetinaNet(
        spatial_dims=3,
        num_classes=1,
        num_anchors=3,
        feature_extractor=extractor,
        size_divisible=[16, 16, 8],
    ).eval()
    window = torch.rand(1, 1, *WINDOW)
    with torch.inference_mode():
        network(window)
        return min(timed(lambda: network(window))[0] for _ in range(WINDOWS))


def to_markdown(found: Measured, model: str) -> str:
    """The figures, and how they were come by."""
    depth, height, width = found.grid
    fraction = found.multiply_adds / found.reused / found.matrix_rate
    sizes = " x ".join(map(str, WINDOW))
    stages = ", ".join(f"{name} {ms:.0f}" for name, ms in found.stages.items() if name != "total" and ms >= 0.5)
    return f"""\
# A whole CT

{describe(facts())} {model}; {available_cores()} cores for everything below, one after the other in one process; the
fastest of {REPEATS}.

| | seconds |
|---|--:|
| DICOM folder of {found.slices[0]} slices to lesions, warm detector | {found.whole:.2f} |
| the network's stages, every image looked at once | {found.reused:.2f} |
| the same graphs, every centre's three images looked at for it | {found.repeated:.2f} |
| MONAI's 3D RetinaNet, {found.windows} windows of {sizes} at {found.window:.2f} s | {found.peer:.0f} |

- Stages, ms: {stages}.
- Reusing features makes the network {found.repeated / found.reused:.2f} times faster.
- The network does {found.multiply_adds / 1e9:.0f} billion multiply-adds for {depth} grid slices of {height} x {width},
  {found.multiply_adds / found.reused / 1e9:.0f} billion a second: {fraction:.0%} of the {found.matrix_rate / 1e9:.0f}
  billion of a product of float32 matrices of {SIDES["cpu"]} x {SIDES["cpu"]} by torch {torch.__version__}.
- The RetinaNet takes {found.peer / found.whole:.0f} times as long: {WINDOWS} windows timed after a first one, random
  weights, windows of the size that its LUNA16 tutorial trains on with {OVERLAP:.0%} overlap at
  {" x ".join(map(str, SPACING))} mm; reading the CT, cutting windows and joining their boxes not counted for it.
"""


def main() -> None:
    """Measure and write the report."""
    parser = ArgumentParser(prog="python -m benchmarks.whole_volume", description=__doc__)
    parser.add_argument("ct", type=Path, help="DICOM folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the report; made when missing")
    parser.add_argument("--backend", default="auto", help="engine (default: %(default)s)")
    parser.add_argument("--precision", default="fp32", help="what it computes in (default: %(default)s)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    detector = Detector(backend=options.backend, precision=options.precision)
    found = measure(options.ct, detector, available_cores())
    used = detector.provenance
    text = to_markdown(found, f"Model {used.model} {used.model_version}, {used.backend} {used.precision}")
    document = {"machine": facts(), "provenance": asdict(used), "measured": asdict(found)}
    (options.output / "whole_volume.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.output / "whole_volume.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
