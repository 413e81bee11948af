"""The way that stays on the GPU finds the boxes of the host's; in the simulator torch works on the CPU beside it."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from numba import cuda
from numba.core import config
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

from lnsdk import Detector, Volume
from lnsdk.export.bundle import write_graphs, write_metadata
from lnsdk.pipelines.gpu import Cuda, Device, GpuDetection, Graphs
from lnsdk.pipelines.gpu.device import Step
from lnsdk.pipelines.grid import Grid, make_grid
from lnsdk.pipelines.proposals import SliceBoxes, concatenate_slices
from lnsdk.pipelines.timing import STAGES, Stopwatch
from lnsdk.trainers.lens.bundle import detector_description, detector_section
from lnsdk.trainers.lens.graphs import lens_graphs
from lnsdk.trainers.lens.settings import runtime_of
from lnsdk.trainers.networks.lens import Lens
from tests.trainers.lens.tiny import TINY, spread_scores

pytestmark = pytest.mark.gpu

BATCH, PROPOSALS = 4, 12


class Simulated:
    """The device of the simulator: torch's tensors lie in the host's memory, and nothing is recorded."""

    name = "cpu"

    def for_kernels(self, tensor: torch.Tensor) -> Any:
        return FakeCUDAArray(tensor.numpy())

    def stream(self) -> int:
        return 0

    def memory(self) -> None:
        pass

    def record(self, step: Step, example: Sequence[Any], memory: None) -> Step:
        """Outputs lie in the same memory every time, as those of a recorded step do."""
        kept = step(*example)

        def again(*inputs: Any) -> tuple[Any, ...]:
            for old, new in zip(kept, step(*inputs), strict=True):
                old.copy_(new)
            return kept

        return again

    def clock(self, watch: Stopwatch) -> "HostClock":
        return HostClock(watch)


class HostClock:
    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        with self._watch(stage):
            yield

    def stop(self) -> None:
        pass


@pytest.fixture(scope="module")
def place() -> Device:
    if not config.ENABLE_CUDASIM and not cuda.is_available():
        pytest.skip("numba finds no NVIDIA GPU that it can compile for")
    return Simulated() if config.ENABLE_CUDASIM else Cuda()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpu") / "bundle"
    folder.mkdir()
    network = spread_scores(Lens(4, TINY).eval())
    graphs = lens_graphs(network)
    write_graphs(folder, graphs)
    section = detector_section("tiny", runtime_of(network.shape), None)
    few = {"pre_nms": 30, "post_nms": PROPOSALS}
    section["proposals"] = {**section["proposals"], **few}  # type: ignore[dict-item]
    write_metadata(folder, detector_description(), {**section, "max_batch": BATCH}, graphs)
    return folder


@pytest.fixture(scope="module")
def host(bundle: Path) -> Detector:
    return Detector(bundle, backend="torchscript", device="cpu", threshold=0.0, crop="none")


@pytest.fixture(scope="module")
def on_gpu(bundle: Path, place: Device) -> GpuDetection:
    device = "cpu" if place.name == "cpu" else "cuda"
    detector = Detector(bundle, backend="torchscript", device=device, threshold=0.0, crop="none")
    graphs = Graphs(detector._image, detector._fuse, detector._head)  # type: ignore[arg-type]
    return GpuDetection(graphs, detector._settings, detector._experts, place)


def volume(slices: int, size: int = 36) -> Volume:
    """A cube of noise as smooth as tissue."""
    noise = np.random.default_rng(slices).normal(0, 1, (slices, size // 4 + 1, size // 4 + 1))
    smooth = np.kron(noise, np.ones((1, 4, 4)))[:, :size, :size]
    return Volume((300 * smooth).astype(np.int16), np.diag([0.8, 0.8, 2.0, 1.0]))


def grid_of(host: Detector, source: Volume) -> Grid:
    grid = make_grid(source, host._settings, "none")
    assert grid is not None
    return grid


def by_host(host: Detector, grid: Grid) -> SliceBoxes:
    return host._detect(grid, Stopwatch(*STAGES), None)


def agree(found: SliceBoxes, expected: SliceBoxes) -> None:
    assert np.array_equal(found.slices, expected.slices)
    assert np.allclose(found.boxes, expected.boxes, atol=1e-3)
    assert np.allclose(found.scores, expected.scores, atol=1e-5)
    assert np.allclose(found.expert_scores, expected.expert_scores, atol=1e-5)


@pytest.mark.parametrize("slices", [1, 4, 11])
def test_the_boxes_of_the_host(host: Detector, on_gpu: GpuDetection, slices: int) -> None:
    grid = grid_of(host, volume(slices))
    watch = Stopwatch(*STAGES)
    seen: list[tuple[int, int]] = []
    found = on_gpu(grid, watch, lambda done, total: seen.append((done, total)))
    assert len(found) == grid.count
    agree(concatenate_slices(found, 4), by_host(host, grid))
    assert sum(len(each.boxes) for each in found) > grid.count
    assert seen[-1] == (grid.count, grid.count)
    assert all(watch.stages[stage] > 0 for stage in ("resample", "image", "fuse", "decode", "head"))


def test_sizes_follow_each_other(
    host: Detector, place: Device, on_gpu: GpuDetection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time that a size comes, it is recorded; only the last one is kept here."""
    monkeypatch.setattr("lnsdk.pipelines.gpu.detection.SIZES", 1)
    detection, recorded = GpuDetection(on_gpu._graphs, host._settings, host._experts, place), []
    for size in (18, 36, 18, 18, 36):
        grid = grid_of(host, volume(2, size))
        agree(concatenate_slices(detection(grid, Stopwatch(*STAGES)), 4), by_host(host, grid))
        recorded.append([width for _, width in detection._recorded])
    assert recorded == [[], [], [32], [32], [48]]


def test_nan_is_not_an_answer(host: Detector, place: Device, on_gpu: GpuDetection) -> None:
    class Broken:
        def __init__(self, session: Any) -> None:
            self.graph, self._session = session.graph, session

        def forward(self, inputs: Any) -> tuple[Any, ...]:
            return tuple(output * torch.nan for output in self._session.forward(inputs))

    sound = on_gpu._graphs
    for broken in (
        Graphs(sound.image, Broken(sound.fuse), sound.head),  # type: ignore[arg-type]
        Graphs(sound.image, sound.fuse, Broken(sound.head)),  # type: ignore[arg-type]
    ):
        detection = GpuDetection(broken, host._settings, host._experts, place)
        with pytest.raises(RuntimeError, match="gave NaN or infinity"):
            detection(grid_of(host, volume(2)), Stopwatch(*STAGES))


def test_a_recording_keeps_what_it_writes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for torch.cuda: the recorded kernels hold the address of the step's scratch memory."""
    scratch = torch.zeros(3)
    alive = weakref.ref(scratch)

    def step(values: torch.Tensor, into: torch.Tensor = scratch) -> tuple[torch.Tensor, ...]:
        into[:] = 2 * values
        return (into,)

    monkeypatch.setattr("lnsdk.pipelines.gpu.device._torch", lambda: SimpleNamespace(cuda=FakeCuda()))
    monkeypatch.setattr("numba.cuda.defer_cleanup", nullcontext, raising=False)
    recorded = Cuda().record(step, [torch.ones(3)], None)
    del step, scratch
    gc.collect()
    assert alive() is not None
    (output,) = recorded(torch.full((3,), 4.0))
    assert output is alive()


class FakeCuda:
    """As much of torch.cuda as a recording asks for; its graphs replay nothing."""

    def __getattr__(self, name: str) -> Any:
        return MagicMock()

    def stream(self, stream: Any) -> Any:
        return nullcontext()

    def graph(self, graph: Any, pool: Any, capture_error_mode: str) -> Any:
        assert capture_error_mode == "thread_local"
        return nullcontext()
