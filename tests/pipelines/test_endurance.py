"""What happens to a detector that runs for days, and to one that many threads use; with the embedded model."""

import gc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lnsdk import Detections, Detector, Volume
from lnsdk.phantom import chest_phantom

pytestmark = pytest.mark.slow

SLICES = 16
CALLS, SETTLED = 1000, 100
GROWTH_BYTES = 5_000_000
THREADS = 8


@pytest.fixture(scope="module")
def volumes() -> list[Volume]:
    """Four small CTs of different sizes."""
    sizes = ((160, 2.2), (176, 2.0), (144, 2.4), (128, 2.6))
    return [
        chest_phantom(seed, slices=SLICES, spacing=(pixel, pixel, 2.0), size=size).volume
        for seed, (size, pixel) in enumerate(sizes, start=3_300_000)
    ]


def resident_bytes() -> int:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_memory_stays(volumes: Sequence[Volume], backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    detector = Detector(backend=backend, threshold=0.0)
    settled = 0
    for call in range(CALLS):
        detector(volumes[0])
        if call == SETTLED:
            gc.collect()
            settled = resident_bytes()
    gc.collect()
    growth = resident_bytes() - settled
    with capsys.disabled():
        print(f"\n{backend}: {growth / 1e6:+.2f} MB from call {SETTLED} to {CALLS}", end="")
    assert growth < GROWTH_BYTES


def content(result: Detections) -> list[tuple[object, ...]]:
    return [(lesion.box, lesion.score, tuple(lesion.expert_scores.items())) for lesion in result.lesions]


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("shared", [True, False], ids=["one detector", "one each"])
def test_threads_get_the_serial_answers(volumes: Sequence[Volume], backend: str, shared: bool) -> None:
    detector = Detector(backend=backend, threshold=0.0)
    expected = [content(detector(volume)) for volume in volumes]
    assert any(expected)
    detectors = [detector] * THREADS if shared else [Detector(backend=backend, threshold=0.0) for _ in range(THREADS)]
    calls = np.random.default_rng(0).integers(0, len(volumes), 200).tolist()

    def work(thread: int) -> list[tuple[int, list[tuple[object, ...]]]]:
        return [(which, content(detectors[thread](volumes[which]))) for which in calls[thread::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        found = [pair for part in pool.map(work, range(THREADS)) for pair in part]
    assert len(found) == len(calls)
    assert all(answer == expected[which] for which, answer in found)
