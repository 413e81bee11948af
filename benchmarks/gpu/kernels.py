"""The kernels for a GPU against those for the CPU, on data and into memory that are already where each works.

Run as ``python -m benchmarks.gpu.kernels -o DIR``; writes DIR/kernels.md and kernels.json. The first call of each
compiles it and is timed by itself.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.boxes import proposals
from lnsdk import ops
from lnsdk.bench.machine import describe, facts
from lnsdk.bundle import read_bundle
from lnsdk.pipelines.proposals import decode_proposals
from lnsdk.pipelines.settings import read_settings

REPEATS = 20


@dataclass(frozen=True)
class Timing:
    """A kernel on both: milliseconds, the fastest of `REPEATS`; and what its first call on the GPU took."""

    kernel: str
    size: str
    gpu: float
    cpu: float
    first: float
    equal: bool


@dataclass(frozen=True)
class Case:
    """A kernel: on the CPU, on the GPU, and how the GPU's answer comes to the host."""

    kernel: str
    size: str
    cpu: Callable[[], Any]
    gpu: Callable[[], Any]
    to_host: Callable[[Any], Any]


def cases() -> list[Case]:
    """Kernels at the sizes that a CT, and a slide, have."""
    from numba import cuda

    from lnsdk.ops import cuda as gpu

    gpu.require_gpu()
    random = np.random.default_rng(0)
    depth, side = 100, 512
    voxels = random.integers(-1000, 1500, (depth, side, side), dtype=np.int16)
    spacing, target = (0.7, 0.7, 3.0), (0.8, 0.8, 2.0)
    count, windows = 16384, 1250
    boxes, scores = proposals(count)
    votes, patch, stride = random.random((windows, windows), np.float32), 64, 8
    shape = ((windows - 1) * stride + patch,) * 2
    on_gpu = [cuda.to_device(array) for array in (voxels, boxes, scores, votes)]
    grid = ops.resample_window(voxels, spacing, target)
    centers = np.arange(0, len(grid), max(1, len(grid) // 16))[:16]
    grid_on_gpu = cuda.to_device(grid)
    groups = ops.group_slices(grid, centers[::-1]).copy()
    heat = ops.vote_heatmap(votes, patch, stride, shape)
    groups_on_gpu, heat_on_gpu = cuda.device_array_like(groups), cuda.device_array_like(heat)
    settings = read_settings(read_bundle())
    centerness = random.random((len(settings.experts), 128, 128), np.float32) ** 8
    distances = random.uniform(4, 30, (len(centerness), 4, 128, 128)).astype(np.float32)
    maps = [cuda.to_device(array) for array in (centerness, distances)]
    limits: dict[str, Any] = {
        "stride": settings.stride,
        "min_score": settings.proposal_min_score,
        "iou_threshold": settings.proposal_iou,
        "pre_nms": settings.pre_nms,
        "post_nms": settings.post_nms,
    }
    proposals_on_gpu = gpu.Proposals(
        cuda.device_array((settings.post_nms, 4), np.float32), cuda.device_array(1, np.int32)
    )
    workspace = gpu.Workspace()
    return [
        Case(
            "resample_window",
            f"{depth} x {side} x {side}",
            lambda: ops.resample_window(voxels, spacing, target, out=grid),
            lambda: gpu.resample_window(on_gpu[0], spacing, target, out=grid_on_gpu),
            lambda found: found.copy_to_host(),
        ),
        Case(
            "group_slices",
            f"{len(centers)} centres of {grid.shape[1]} x {grid.shape[2]}",
            lambda: ops.group_slices(grid, centers, out=groups),
            lambda: gpu.group_slices(grid_on_gpu, centers, out=groups_on_gpu),
            lambda found: found.copy_to_host(),
        ),
        Case(
            "nms",
            f"{count} boxes in crowds",
            lambda: ops.nms(boxes, scores, 0.5),
            lambda: gpu.nms(on_gpu[1], on_gpu[2], 0.5, workspace=workspace),
            lambda found: found.indices.copy_to_host()[: int(found.count.copy_to_host()[0])],
        ),
        Case(
            "vote_heatmap",
            f"{shape[0]} x {shape[1]} pixels",
            lambda: ops.vote_heatmap(votes, patch, stride, shape, out=heat),
            lambda: gpu.vote_heatmap(on_gpu[3], patch, stride, shape, out=heat_on_gpu),
            lambda found: found.copy_to_host(),
        ),
        Case(
            "decode_proposals",
            f"{len(centerness)} experts, {centerness.shape[1]} x {centerness.shape[2]}",
            lambda: decode_proposals(centerness, distances, settings),
            lambda: gpu.decode_proposals(*maps, **limits, out=proposals_on_gpu, workspace=workspace),
            lambda found: found.boxes.copy_to_host()[: int(found.count.copy_to_host()[0])],
        ),
    ]


def measure(case: Case, synchronize: Callable[[], None]) -> Timing:
    """Time a kernel on both."""

    def on_gpu() -> Any:
        found = case.gpu()
        synchronize()
        return found

    first, found = _seconds(on_gpu)
    equal = bool(np.array_equal(case.to_host(found), case.cpu()))
    gpu = min(_seconds(on_gpu)[0] for _ in range(REPEATS))
    cpu = min(_seconds(case.cpu)[0] for _ in range(REPEATS))
    return Timing(case.kernel, case.size, 1000 * gpu, 1000 * cpu, first, equal)


def to_markdown(found: Sequence[Timing]) -> str:
    """The table."""
    lines = [
        f"# Kernels on the GPU\n\n{describe(facts())}\n",
        "| kernel | size | GPU, ms | CPU, ms | CPU / GPU | first call on the GPU, s | equal, bit for bit |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    lines += [
        f"| {t.kernel} | {t.size} | {t.gpu:.3f} | {t.cpu:.3f} | {t.cpu / t.gpu:.1f} | {t.first:.2f} | "
        f"{'yes' if t.equal else 'NO'} |"
        for t in found
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the report."""
    parser = ArgumentParser(prog="python -m benchmarks.gpu.kernels", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the report; made when missing")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    from numba import cuda

    found = [measure(case, cuda.synchronize) for case in cases()]
    text = to_markdown(found)
    (options.output / "kernels.md").write_text(text)
    document = {"machine": facts(), "timings": [asdict(timing) for timing in found]}
    (options.output / "kernels.json").write_text(json.dumps(document, indent=1) + "\n")
    print(text)


def _seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = run()
    return time.perf_counter() - start, answer


if __name__ == "__main__":
    main()
