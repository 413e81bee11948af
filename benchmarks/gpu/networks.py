"""The LENS presets on a device, in TorchScript with random weights: time a slice, share of the matrix rate, first call.

Run as ``python -m benchmarks.gpu.networks -o DIR``; writes DIR/networks.md and networks.json. Weights decide how many
proposals there are, which is stated, and what is left to the host; the network's times depend on nothing else of them.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.arithmetic import Counting, matrix_rate, multiply_adds
from lnsdk import Detector, Volume
from lnsdk.backends import BACKENDS
from lnsdk.bench.machine import describe, facts
from lnsdk.export.bundle import write_graphs, write_metadata
from lnsdk.phantom import chest_phantom
from lnsdk.pipelines.grid import make_grid
from lnsdk.trainers.lens.bundle import detector_description, detector_section
from lnsdk.trainers.lens.graphs import fpr_graph, lens_graphs
from lnsdk.trainers.lens.settings import runtime_of
from lnsdk.trainers.networks.fpr import EDGE as FPR_EDGE
from lnsdk.trainers.networks.fpr import PAPER as FPR_PAPER
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork
from lnsdk.trainers.networks.lens import EDGE, PAPER, Lens

EXPERTS = 4

PRESETS = {"edge": (EDGE, FPR_EDGE), "paper": (PAPER, FPR_PAPER)}

NETWORK = ("image", "fuse", "decode", "head")

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}

PUBLISHED_MS, TARGET_MS = 54.0, 2.0
"""A slice of the paper's network on a Quadro RTX 6000 (LENS VI-B); what the ``paper`` preset is to reach in fp16."""


@dataclass(frozen=True)
class Timing:
    """A preset in a precision.

    Attributes
    ----------
    preset, precision : str
        Which.
    load, first, second, other, warm : float
        Seconds until the detector is ready, of its first call, of the second (in which a GPU's work is recorded), of
        the first with another size, and of the fastest of the calls after the second, volume to lesions.
    slices : int
        Of the grid.
    height, width : int
        Of the network's input.
    network : float
        Milliseconds a slice, of the fastest call.
    regions : float
        A slice.
    fraction : float
        Of the device's matrix rate in this precision.
    """

    preset: str
    precision: str
    load: float
    first: float
    second: float
    other: float
    warm: float
    slices: int
    height: int
    width: int
    network: float
    regions: float
    fraction: float

    @property
    def whole(self) -> float:
        """Milliseconds a slice, volume to lesions."""
        return 1000 * self.warm / self.slices


def measure(volume: Volume, device: str, repeats: int) -> Iterator[Timing]:
    """Time every preset in every precision that torch has on the device, each in a process of its own."""
    for preset, (shape, fpr) in PRESETS.items():
        torch.manual_seed(0)
        with TemporaryDirectory() as scratch:
            folder = Path(scratch)
            graphs = (*lens_graphs(Lens(EXPERTS, shape).eval()), fpr_graph(FalsePositiveNetwork(fpr).eval()))
            write_graphs(folder, graphs)
            section = detector_section(preset, runtime_of(shape), fpr)
            write_metadata(folder, detector_description(), section, graphs)
            for precision in BACKENDS["torchscript"].precisions(device):
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    yield process.submit(_time, preset, folder, volume, device, precision, repeats).result()


def _time(preset: str, bundle: Path, volume: Volume, device: str, precision: str, repeats: int) -> Timing:
    start = time.perf_counter()
    detector = Detector(bundle, "torchscript", device, precision, crop="none")
    load = time.perf_counter() - start
    if device == "cuda" and detector._on_gpu is None:
        raise RuntimeError("numba cannot compile for this GPU, so slices would go to it and back: install libnvvm")
    seconds, stages = [], []
    for _ in range(2 + repeats):
        start = time.perf_counter()
        stages.append(detector(volume).timings)
        seconds.append(time.perf_counter() - start)
    first, second, *warm = seconds
    fastest = stages[2 + warm.index(min(warm))]
    smaller = Volume(volume.voxels[:, : volume.shape[1] * 3 // 4], volume.affine)
    start = time.perf_counter()
    detector(smaller)
    other = time.perf_counter() - start
    grid = make_grid(volume, detector._settings, "none")
    assert grid is not None
    milliseconds = sum(fastest[stage] for stage in NETWORK) / grid.count
    regions = _regions(detector, volume, grid.count) / grid.count
    each_slice, each_region = multiply_adds(Lens(EXPERTS, PRESETS[preset][0]).eval(), grid.height, grid.width)
    rate = (each_slice + regions * each_region) / milliseconds * 1000
    return Timing(
        preset=preset,
        precision=precision,
        load=load,
        first=first,
        second=second,
        other=other,
        warm=min(warm),
        slices=grid.count,
        height=grid.height,
        width=grid.width,
        network=milliseconds,
        regions=regions,
        fraction=rate / matrix_rate(device, DTYPES[precision]),
    )


def _regions(detector: Detector, volume: Volume, slices: int) -> int:
    """Regions that the head is given for a volume; what is recorded always has as many as the settings allow."""
    if detector._on_gpu is not None:
        return detector._settings.post_nms * slices
    counting = Counting(detector._head)
    detector._head = counting  # type: ignore[assignment]
    detector(volume)
    detector._head = counting._head
    return counting.regions


def to_markdown(found: Sequence[Timing], device: str, size: str) -> str:
    """The table."""
    lines = [
        f"# LENS presets in TorchScript on {device}\n\n{describe(facts())} torch {torch.__version__}. Random weights; "
        f"a simulated chest of {size}; no crop. *network*: image, fuse, decode and head; *whole*: volume in memory to "
        "lesions, false-positive reduction included; *of the peak*: multiply-adds a second against a product of large "
        "matrices in the same precision, in the same run.\n",
        "| preset | precision | grid | regions a slice | network, ms a slice | of the peak | whole, ms a slice | "
        "load, s | first call, s | second, s | first of another size, s |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {t.preset} | {t.precision} | {t.slices} x {t.height} x {t.width} | {t.regions:.0f} | {t.network:.2f} | "
        f"{t.fraction:.1%} | {t.whole:.2f} | {t.load:.1f} | {t.first:.2f} | "
        f"{t.second:.2f} | {t.other:.2f} |"
        for t in found
    ]
    lines.append(
        f"\nPublished: {PUBLISHED_MS:g} ms a slice for the paper's network on a Quadro RTX 6000. To reach: "
        f"{TARGET_MS:g} ms for the paper preset in fp16 on an H200."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the report."""
    parser = ArgumentParser(prog="python -m benchmarks.gpu.networks", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the report; made when missing")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu is a dry run")
    parser.add_argument("--slices", type=int, default=100, help="of the CT, 3 mm apart (default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="its rows and columns of 0.8 mm (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="warm calls (default: %(default)s)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    pixel = 0.8 * 512 / options.size
    volume = chest_phantom(0, slices=options.slices, spacing=(pixel, pixel, 3.0), size=options.size).volume
    affine = volume.affine.copy()
    affine[:, :2] *= 0.8 / pixel
    found = list(measure(Volume(volume.voxels, affine), options.device, options.repeats))
    size = f"{options.slices} slices of {options.size} x {options.size}"
    text = to_markdown(found, options.device, size)
    (options.output / "networks.md").write_text(text)
    document = {"machine": facts(), "torch": torch.__version__, "timings": [asdict(timing) for timing in found]}
    (options.output / "networks.json").write_text(json.dumps(document, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
