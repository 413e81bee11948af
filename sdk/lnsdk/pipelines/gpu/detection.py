"""The boxes of all slices of a grid, computed on a GPU; only proposals and their scores come back.

The same steps as on the host (`lnsdk.pipelines.features`, `lnsdk.pipelines.proposals`): the volume is resampled where
the network reads it, an image's features serve its three centres, and maps become proposals where they lie. Work on a
batch is queued while the host selects the boxes of the batch before. A size of the input that comes for the second time
is recorded as CUDA graphs: that takes as long as some batches, which a size that never comes again would not repay.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnsdk.backends.torchscript import TorchScriptSession
from lnsdk.ops import cuda
from lnsdk.pipelines.features import REACH
from lnsdk.pipelines.gpu.device import Device, Step, Tensor
from lnsdk.pipelines.grid import Grid
from lnsdk.pipelines.proposals import SliceBoxes, select_boxes
from lnsdk.pipelines.settings import CHANNELS, Settings
from lnsdk.pipelines.timing import Stopwatch

Progress = Callable[[int, int], None]

SIZES = 4
"""Sizes of the input whose recorded steps are kept, those used last."""


@dataclass(frozen=True)
class Graphs:
    """The detector's graphs, in torch on the device."""

    image: TorchScriptSession
    fuse: TorchScriptSession
    head: TorchScriptSession


@dataclass(frozen=True)
class _Steps:
    """What is done to every batch of one size."""

    image: Step
    fuse: Step
    decode: Step
    head: Step


class GpuDetection:
    """Finds the boxes of a grid's slices on a GPU. Calls from several threads follow one another.

    Parameters
    ----------
    graphs : Graphs
        The network.
    settings : Settings
        Of the bundle.
    experts : ndarray of int64
        Indices of the experts that count.
    device : Device
        Where everything lies.
    """

    def __init__(self, graphs: Graphs, settings: Settings, experts: NDArray[np.int64], device: Device) -> None:
        self._torch: Any = import_module("torch")
        self._graphs = graphs
        self._settings = settings
        self._experts = experts
        self._device = device
        self._batch = settings.max_batch
        self._eager = _Steps(
            image=lambda *inputs: graphs.image.forward(inputs),
            fuse=self._fuse,
            decode=partial(self._decode, cuda.Workspace()),
            head=self._head,
        )
        self._recorded: OrderedDict[tuple[int, int], _Steps] = OrderedDict()
        self._seen: set[tuple[int, int]] = set()
        self._lock = Lock()

    def __call__(self, grid: Grid, watch: Stopwatch, progress: Progress | None = None) -> list[SliceBoxes]:
        """Return the boxes of every slice, ascending.

        Raises
        ------
        RuntimeError
            When the network gave NaN or infinity.
        """
        with self._lock, self._torch.inference_mode():
            clock = self._device.clock(watch)
            with clock("resample"):
                slices = self._resample(grid)
            steps = self._steps_for(slices)
            found: list[SliceBoxes] = []
            waiting: tuple[int, list[Tensor]] | None = None
            for start, inputs in self._centers(slices, steps, clock):
                queued = start, self._on_the_way(self._detect(steps, inputs, clock))
                if waiting is not None:
                    found += self._select(*waiting, grid, watch)
                waiting = queued
                if progress is not None:
                    progress(len(found), grid.count)
            assert waiting is not None
            found += self._select(*waiting, grid, watch)
            clock.stop()
        if progress is not None:
            progress(grid.count, grid.count)
        return found

    def _resample(self, grid: Grid) -> Tensor:
        """All slices of the grid (z, y, x), padded with air."""
        torch, device = self._torch, self._device
        voxels = torch.from_numpy(np.require(grid.volume.voxels, requirements=("C", "W"))).to(device.name)
        used = torch.empty(grid.shape, dtype=torch.float32, device=device.name)
        cuda.resample_window(
            device.for_kernels(voxels),
            grid.volume.spacing,
            grid.spacing,
            window=grid.window,
            crop=((0, grid.count), grid.rows, grid.columns),
            out=device.for_kernels(used),
            origin=grid.origin,
            stream=device.stream(),
        )
        _, height, width = grid.shape
        return torch.nn.functional.pad(used, (0, grid.width - width, 0, grid.height - height))

    def _centers(self, slices: Tensor, steps: _Steps, clock: Any) -> Iterator[tuple[int, list[Tensor]]]:
        """Batches of centres: the first one's slice, and the inputs of ``fuse``. The last batch repeats its last."""
        count = len(slices)
        beside = np.arange(-1, count + 1)[:, None] + np.arange(CHANNELS) - CHANNELS // 2
        channels = self._torch.from_numpy(np.clip(beside, 0, count - 1)).to(self._device.name)
        features: dict[int, tuple[Tensor, ...]] = {}
        names = list(self._graphs.image.graph.signature.outputs)
        for start in range(0, count, self._batch):
            rows = [min(start + row, count - 1) for row in range(self._batch)]
            wanted = sorted({_image_at(row + step, count) for row in rows for step in (-REACH, 0, REACH)})
            missing = [image for image in wanted if image not in features]
            for first in range(0, len(missing), self._batch):
                features |= self._look(slices, channels, missing[first : first + self._batch], steps, clock)
            features = {image: features[image] for image in wanted}
            inputs: dict[str, Tensor] = {}
            for suffix, step in (("_prev", -REACH), ("", 0), ("_next", REACH)):
                each = [features[_image_at(row + step, count)] for row in rows]
                stacked = map(self._torch.stack, zip(*each, strict=True))
                inputs |= {name + suffix: values for name, values in zip(names, stacked, strict=True)}
            yield start, [inputs[name] for name in self._graphs.fuse.graph.signature.inputs]

    def _look(
        self, slices: Tensor, channels: Tensor, images: list[int], steps: _Steps, clock: Any
    ) -> dict[int, tuple[Tensor, ...]]:
        """Features of images, each with its own memory; the slices of image i are row i + 1 of `channels`."""
        padded = images + images[-1:] * (self._batch - len(images))
        batch = slices[self._torch.stack([channels[image + 1] for image in padded])]
        with clock("image"):
            outputs = steps.image(batch)
        return {image: tuple(output[row].clone() for output in outputs) for row, image in enumerate(images)}

    def _detect(self, steps: _Steps, inputs: list[Tensor], clock: Any) -> tuple[Tensor, ...]:
        """Queue the work on a batch of centres: proposals, how many, scores, offsets, whether all was finite."""
        with clock("fuse"):
            features, centerness, distances = steps.fuse(*inputs)
        with clock("decode"):
            rois, counts, finite = steps.decode(centerness, distances)
        with clock("head"):
            scores, offsets = steps.head(features, rois)
        return rois, counts, scores, offsets, finite

    def _steps_for(self, slices: Tensor) -> _Steps:
        """The steps for slices of this size, recorded where the size came before."""
        size = (int(slices.shape[1]), int(slices.shape[2]))
        if size not in self._seen:
            self._seen.add(size)
            return self._eager
        if size not in self._recorded:
            self._recorded[size] = self._record(slices[:1].expand(self._batch, CHANNELS, *size))
            if len(self._recorded) > SIZES:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(size)
        return self._recorded[size]

    def _record(self, images: Tensor) -> _Steps:
        """Record every step with what the one before gives; its scratch memory, whose place is recorded, is its own."""
        memory, record = self._device.memory(), self._device.record
        image = record(self._eager.image, [images], memory)
        features = dict(zip(self._graphs.image.graph.signature.outputs, image(images), strict=True))
        inputs = [features[_unsuffixed(name)] for name in self._graphs.fuse.graph.signature.inputs]
        fuse = record(self._fuse, inputs, memory)
        fused, *maps = fuse(*inputs)
        decode = record(partial(self._decode, cuda.Workspace()), maps, memory)
        rois, *_ = decode(*maps)
        return _Steps(image, fuse, decode, record(self._head, [fused, rois], memory))

    def _fuse(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Features as the network gives them; centerness and distances as the kernels read them."""
        names = self._graphs.fuse.graph.signature.outputs
        found = dict(zip(names, self._graphs.fuse.forward(inputs), strict=True))
        maps = (found[name].float().contiguous() for name in ("centerness", "distances"))
        return found["features"], *maps

    def _decode(self, workspace: cuda.Workspace, centerness: Tensor, distances: Tensor) -> tuple[Tensor, ...]:
        """Proposals (N, R, 4) with empty boxes behind them, how many (N, 1), and whether the maps are finite."""
        torch, device, settings = self._torch, self._device, self._settings
        rois = torch.zeros((len(centerness), settings.post_nms, 4), device=device.name)
        counts = torch.zeros((len(centerness), 1), dtype=torch.int32, device=device.name)
        for row in range(len(centerness)):
            cuda.decode_proposals(
                device.for_kernels(centerness[row]),
                device.for_kernels(distances[row]),
                stride=settings.stride,
                min_score=settings.proposal_min_score,
                iou_threshold=settings.proposal_iou,
                pre_nms=settings.pre_nms,
                post_nms=settings.post_nms,
                out=cuda.Proposals(device.for_kernels(rois[row]), device.for_kernels(counts[row])),
                workspace=workspace,
                stream=device.stream(),
            )
        finite = torch.isfinite(centerness).all() & torch.isfinite(distances).all()
        return rois, counts, finite

    def _head(self, features: Tensor, rois: Tensor) -> tuple[Tensor, ...]:
        names = self._graphs.head.graph.signature.outputs
        inputs = {"features": features.float(), "rois": rois}
        ordered = [inputs[name] for name in self._graphs.head.graph.signature.inputs]
        found = dict(zip(names, self._graphs.head.forward(ordered), strict=True))
        return found["scores"].float(), found["offsets"].float()

    def _on_the_way(self, outputs: tuple[Tensor, ...]) -> list[Tensor]:
        """Copies of a batch's results that are on their way to the host, followed by what says that they are there."""
        torch = self._torch
        if self._device.name == "cpu":
            return [*(output.clone() for output in outputs), None]
        copies = [torch.empty(output.shape, dtype=output.dtype, pin_memory=True) for output in outputs]
        for copy, output in zip(copies, outputs, strict=True):
            copy.copy_(output, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return [*copies, arrived]

    def _select(self, start: int, arriving: list[Tensor], grid: Grid, watch: Stopwatch) -> list[SliceBoxes]:
        """Final boxes of a batch's slices, on the host, once its results are there."""
        *results, arrived = arriving
        if arrived is not None:
            arrived.synchronize()
        with watch("decode"):
            return self._boxes(start, results, grid)

    def _boxes(self, start: int, results: list[Tensor], grid: Grid) -> list[SliceBoxes]:
        rois, counts, scores, offsets, finite = results
        if not (finite and self._torch.isfinite(scores).all() and self._torch.isfinite(offsets).all()):
            raise RuntimeError(
                "the network gave NaN or infinity, so its answer cannot be trusted; export the bundle again or use "
                "another backend"
            )
        found = []
        for row in range(min(self._batch, grid.count - start)):
            count = int(counts[row])
            boxes = select_boxes(
                rois[row, :count].numpy(),
                scores[row, :count].numpy(),
                offsets[row, :count].numpy(),
                self._experts,
                (grid.height, grid.width),
                self._settings,
            )
            found.append(SliceBoxes(*boxes, np.full(len(boxes[0]), start + row, np.int64)))
        return found


def _image_at(image: int, count: int) -> int:
    """The image that stands for one beyond the first or last slice: all of those are alike."""
    return min(max(image, -1), count)


def _unsuffixed(name: str) -> str:
    return name.removesuffix("_prev").removesuffix("_next")
