"""The functions on the device against what torch and torchvision offer there and lnsdk on the CPU, the same answer.

Every call is timed until the device has done it. lnsdk writes into arrays that are there already, as a detector does.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.bundle import read_bundle
from lnsdk.ops import cuda as gpu
from lnsdk.ops.slices import grid_shape
from lnsdk.pipelines.proposals import decode_proposals
from lnsdk.pipelines.settings import read_settings

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU")]

SHAPE, SPACING, OUT_SPACING, WINDOW = (99, 512, 512), (0.564, 0.564, 3.0), (0.8, 0.8, 2.0), (-1024.0, 3071.0)
IOU_THRESHOLD, MIN_SCORE, STRIDE, PRE_NMS, POST_NMS = 0.7, 0.05, 4, 6000, 300
PATCH, STEP, MAP = 256, 64, (2048, 2048)
ON_CPU = "lnsdk on the CPU"


def _timed(benchmark: Any, call: Callable[[], Any]) -> Any:
    def until_done() -> Any:
        result = call()
        torch.cuda.synchronize()
        return result

    until_done()  # compiles
    return benchmark(until_done)


def _volume() -> NDArray[np.int16]:
    """Smooth HU with noise, as a CT's."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    smooth = 600 * np.sin(z / 9) * np.sin(y / 40) * np.sin(x / 50) - 300
    return (smooth + np.random.default_rng(0).normal(0, 20, SHAPE)).astype(np.int16)


def _sample_places() -> torch.Tensor:
    """What grid_sample calls the grid: x, y, z of each output sample, -1 and 1 at the first and last voxel."""
    shape = grid_shape(SHAPE, SPACING, OUT_SPACING)
    axes = [
        torch.arange(count, dtype=torch.float64) * (new / old) * 2 / (voxels - 1) - 1
        for count, new, old, voxels in zip(shape, OUT_SPACING[::-1], SPACING[::-1], SHAPE, strict=True)
    ]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y, z], dim=-1)[None].float().cuda()


@pytest.mark.parametrize("library", ["lnsdk", "torch grid_sample", ON_CPU])
def test_resample_window(benchmark: Any, library: str) -> None:
    benchmark.group = "on the device: resample and window, 99 x 512 x 512"
    voxels = torch.from_numpy(_volume()).cuda()
    low, high = WINDOW
    if library == "lnsdk":
        out = torch.empty(grid_shape(SHAPE, SPACING, OUT_SPACING), device="cuda")
        grid = (
            _timed(benchmark, lambda: gpu.resample_window(voxels, SPACING, OUT_SPACING, WINDOW, out=out)).cpu().numpy()
        )
        np.testing.assert_array_equal(grid, ops.resample_window(_volume(), SPACING, OUT_SPACING, WINDOW))
        return
    if library == ON_CPU:
        host, on_host = _volume(), np.empty(grid_shape(SHAPE, SPACING, OUT_SPACING), np.float32)
        benchmark(lambda: ops.resample_window(host, SPACING, OUT_SPACING, WINDOW, out=on_host))
        return
    places = _sample_places()

    def sample() -> torch.Tensor:
        hu = torch.nn.functional.grid_sample(voxels[None, None].float(), places, align_corners=True)
        return (hu[0, 0].clamp(low, high) - low) * (255 / (high - low))

    grid = _timed(benchmark, sample).cpu().numpy()
    np.testing.assert_allclose(grid, ops.resample_window(_volume(), SPACING, OUT_SPACING, WINDOW), atol=0.05)


@pytest.mark.parametrize("library", ["lnsdk", "torch indexing", ON_CPU])
def test_group_slices(benchmark: Any, library: str) -> None:
    benchmark.group = "on the device: group 32 centres, 368 x 368"
    grid = torch.randint(0, 256, (64, 368, 368), device="cuda").half()
    centers = list(range(32))
    index = (torch.tensor(centers)[:, None] + torch.arange(-4, 5)).clamp(0, 63).reshape(32, 3, 3).cuda()
    out = torch.empty(32, 3, 3, 368, 368, dtype=torch.float16, device="cuda")
    if library == "lnsdk":
        groups = _timed(benchmark, lambda: gpu.group_slices(grid, centers, out=out))
    elif library == ON_CPU:
        host, on_host = grid.cpu().numpy(), np.empty(tuple(out.shape), np.float16)
        groups = torch.from_numpy(benchmark(lambda: ops.group_slices(host, centers, out=on_host))).cuda()
    else:
        groups = _timed(benchmark, lambda: grid[index])
    assert torch.equal(groups, grid[index])


def _boxes(count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes around 40 places, as a detector's proposals crowd around what it finds, with scores to match."""
    random = np.random.default_rng(0)
    place = random.integers(0, 40, count)
    centers = random.random((40, 2))[place] * 368 + random.normal(0, 3, (count, 2))
    sizes = 8 + 40 * random.random((40, 1))[place] * random.uniform(0.7, 1.4, (count, 2))
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)
    return boxes.astype(np.float32), random.random(count, np.float32)


@pytest.mark.parametrize("count", [1000, 6000, 50_000])
@pytest.mark.parametrize("library", ["lnsdk", "torchvision", ON_CPU])
def test_nms(benchmark: Any, library: str, count: int) -> None:
    """A box in a thousand may differ: the overlaps of torchvision are rounded otherwise."""
    benchmark.group = f"on the device: nms, {count} boxes"
    boxes, scores = _boxes(count)
    tensors = torch.from_numpy(boxes).cuda(), torch.from_numpy(scores).cuda()
    expected = ops.nms(boxes, scores, IOU_THRESHOLD)
    if library == "lnsdk":
        workspace = gpu.Workspace()
        out = gpu.Kept(torch.empty(count, dtype=torch.int64, device="cuda"), torch.empty(1, dtype=torch.int32).cuda())
        kept = _timed(benchmark, lambda: gpu.nms(*tensors, IOU_THRESHOLD, out=out, workspace=workspace))
        np.testing.assert_array_equal(kept.indices[: kept.count.item()].cpu().numpy(), expected)
    elif library == ON_CPU:
        benchmark(lambda: ops.nms(boxes, scores, IOU_THRESHOLD))
    else:
        kept = _timed(benchmark, lambda: torchvision.ops.nms(*tensors, IOU_THRESHOLD)).cpu().numpy()
        assert len(set(kept) ^ set(expected)) <= len(expected) / 1000


def _decode_with_torch(centerness: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    height, width = centerness.shape[1:]
    scores = centerness.flatten()
    best = torch.nonzero(scores > MIN_SCORE)[:, 0]
    best = best[scores[best].argsort(descending=True, stable=True)[:PRE_NMS]]
    left, top, right, bottom = distances.permute(1, 0, 2, 3).reshape(4, -1)[:, best]
    x, y = best % width * STRIDE, best // width % height * STRIDE
    boxes = torch.stack([x - left, y - top, x + right, y + bottom], dim=1)
    upper = torch.tensor([width, height, width, height], device="cuda") * STRIDE - 0.5
    boxes = torch.minimum(boxes.clamp(min=-0.5), upper)
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, ranked = boxes[solid], scores[best][solid]
    return boxes[torchvision.ops.nms(boxes, ranked, IOU_THRESHOLD)[:POST_NMS]]


@pytest.mark.parametrize("library", ["lnsdk", "torch and torchvision", ON_CPU])
def test_decode_proposals(benchmark: Any, library: str) -> None:
    benchmark.group = "on the device: proposals of one slice, 4 experts x 128 x 128"
    torch.manual_seed(0)
    centerness = torch.rand(4, 128, 128, device="cuda")
    distances = torch.rand(4, 4, 128, 128, device="cuda") * 60
    if library == "lnsdk":
        workspace = gpu.Workspace()
        out = gpu.Proposals(torch.empty(POST_NMS, 4, device="cuda"), torch.empty(1, dtype=torch.int32, device="cuda"))
        found = _timed(
            benchmark,
            lambda: gpu.decode_proposals(
                centerness,
                distances,
                stride=STRIDE,
                min_score=MIN_SCORE,
                iou_threshold=IOU_THRESHOLD,
                pre_nms=PRE_NMS,
                post_nms=POST_NMS,
                out=out,
                workspace=workspace,
            ),
        )
        boxes = found.boxes[: found.count.item()]
    elif library == ON_CPU:
        limits = {"pre_nms": PRE_NMS, "post_nms": POST_NMS, "stride": STRIDE}
        thresholds = {"proposal_min_score": MIN_SCORE, "proposal_iou": IOU_THRESHOLD}
        settings = replace(read_settings(read_bundle()), **limits, **thresholds)  # type: ignore[arg-type]
        maps = centerness.cpu().numpy(), distances.cpu().numpy()
        boxes = torch.from_numpy(benchmark(lambda: decode_proposals(*maps, settings))).cuda()
    else:
        boxes = _timed(benchmark, lambda: _decode_with_torch(centerness, distances))
    assert torch.equal(boxes[0], _decode_with_torch(centerness, distances)[0])
    assert len(boxes) == POST_NMS


def _fold(votes: torch.Tensor) -> torch.Tensor:
    columns = votes.reshape(1, 1, -1).expand(1, PATCH * PATCH, -1)
    folded = torch.nn.functional.fold(columns, MAP, PATCH, stride=STEP)
    return folded[0, 0] * (STEP / PATCH) ** 2


@pytest.mark.parametrize("library", ["lnsdk", "torch fold", ON_CPU])
def test_vote_heatmap(benchmark: Any, library: str) -> None:
    count = (MAP[0] - PATCH) // STEP + 1
    benchmark.group = f"on the device: vote heat map, {MAP[0]} x {MAP[1]}, {count} x {count} windows"
    host = np.random.default_rng(0).random((count, count), np.float32)
    votes = torch.from_numpy(host).cuda()
    if library == "lnsdk":
        out = torch.empty(MAP, device="cuda")
        heatmap = _timed(benchmark, lambda: gpu.vote_heatmap(votes, PATCH, STEP, MAP, out=out))
        np.testing.assert_array_equal(heatmap.cpu().numpy(), ops.vote_heatmap(host, PATCH, STEP, MAP))
    elif library == ON_CPU:
        on_host = np.empty(MAP, np.float32)
        benchmark(lambda: ops.vote_heatmap(host, PATCH, STEP, MAP, out=on_host))
    else:
        heatmap = _timed(benchmark, lambda: _fold(votes))
        np.testing.assert_allclose(heatmap.cpu().numpy(), ops.vote_heatmap(host, PATCH, STEP, MAP), rtol=1e-4)
