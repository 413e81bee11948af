"""Streams: slices in any order give what the whole volume gives, and what does not belong is refused."""

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest

from lnsdk import Detections, Detector, InputError, Volume
from lnsdk.pipelines.detector import NO_BODY
from lnsdk.pipelines.timing import STAGES
from tests.io.samples import ct_slice, save
from tests.pipelines.test_detector import ORIENTATIONS, reoriented
from tests.toy_bundle import FPR, phantom, write_toy_bundle

SHAPE, SPACING, CENTER = (24, 150, 170), (0.9, 0.9, 2.5), (90.3, 75.6, 12.2)


def volume(distance: float = 2.5, z: float = 7.3, slices: int = 24) -> Volume:
    spacing = (0.9, 0.9, distance)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-70, -60, z)
    center = (CENTER[0], CENTER[1], slices / 2)
    return Volume(phantom((slices, *SHAPE[1:]), spacing, center), affine)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("stream") / "toy", fpr=FPR)


def streamed(detector: Detector, source: Volume, order: list[int]) -> Detections:
    stream = detector.stream(source.geometry)
    for index in order:
        stream.add((index, source.voxels[index]))
    return stream.result()


def orders(count: int) -> dict[str, list[int]]:
    rng = np.random.default_rng(3)
    return {
        "up": list(range(count)),
        "down": list(range(count))[::-1],
        "shuffled": rng.permutation(count).tolist(),
        "every other": [*range(0, count, 2), *range(1, count, 2)],
    }


@pytest.mark.parametrize("order", ["up", "down", "shuffled", "every other"])
@pytest.mark.parametrize("crop", ["none", "body"])
@pytest.mark.parametrize("distance", [2.5, 1.25, 2.0, 5.0])
def test_any_order_gives_what_the_whole_gives(toy: Path, crop: str, order: str, distance: float) -> None:
    detector, source = Detector(toy, threshold=0, crop=crop), volume(distance)
    expected = detector(source)
    assert len(expected.lesions) >= 1
    found = streamed(detector, source, orders(len(source.voxels))[order])
    assert found.lesions == expected.lesions
    assert found.warnings == expected.warnings
    assert tuple(found.timings) == STAGES


def test_a_stream_says_how_far_behind_it_is(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Lock()
    run_image = Detector._run_image

    def wait_and_run(*given: Any) -> Any:
        with held:
            return run_image(*given)

    detector, source = Detector(toy, crop="none"), volume()
    monkeypatch.setattr(Detector, "_run_image", wait_and_run)
    stream = detector.stream(source.geometry)
    assert stream.waiting == 0
    with held:
        for item in enumerate(source.voxels):
            stream.add(item)
        behind = stream.waiting
        assert len(source.voxels) - 4 <= behind <= len(source.voxels)
        stream.add((0, source.voxels[0]))
        assert stream.waiting == behind
    stream.result()
    assert stream.waiting == 0


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS[::5])
def test_slices_may_lie_along_any_axis(toy: Path, axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    detector, source = Detector(toy, threshold=0, crop="none"), reoriented(volume(slices=40), axes, signs)
    expected = detector(source)
    assert streamed(detector, source, list(range(len(source.voxels)))).lesions == expected.lesions


@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
def test_dicom_slices(toy: Path, tmp_path: Path, order: str) -> None:
    voxels = volume().voxels
    datasets = [ct_slice(hu, index) for index, hu in enumerate(voxels)]
    files = save(tmp_path, datasets, [f"{index:03d}" for index in range(len(datasets))])
    detector = Detector(toy, threshold=0, crop="none")
    expected = detector(files)
    assert len(expected.lesions) >= 1
    for items in (datasets, sorted(files.iterdir())):
        stream = detector.stream()
        for index in orders(len(datasets))[order]:
            stream.add(items[index])
        found = stream.result()
        assert found.lesions == expected.lesions
        assert found.volume.sop_instance_uids == expected.volume.sop_instance_uids


def test_most_is_done_before_the_last_slice(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    detector, source = Detector(toy, crop="none"), volume(2.0, 0.0, 60)
    image = detector._image.run

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        looked.append(len(inputs["image"]))
        return image(inputs)

    monkeypatch.setattr(detector._image, "run", run)
    stream = detector.stream(source.geometry)
    for index in range(60):
        stream.add((index, source.voxels[index]))
    for future in stream._work:
        future.result()
    before = sum(looked)
    stream.result()
    assert before == 58
    assert sum(looked) - before <= 4 + 2 * 3


def test_a_body_that_widens_is_seen_whole(toy: Path) -> None:
    """The first slices show a thin cylinder, the later ones all of the body."""
    source = volume(slices=40)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    voxels = source.voxels.copy()
    voxels[:12][:, np.hypot(y - 75, x - 85) > 20] = -1000
    detector = Detector(toy, threshold=0, crop="body")
    wide = Volume(np.pad(voxels, ((0, 0), (100, 100), (100, 100)), constant_values=-1000), source.affine)
    expected = detector(wide)
    assert len(expected.lesions) >= 1
    for order in orders(40).values():
        assert streamed(detector, wide, order).lesions == expected.lesions


def test_few_slices_and_none(toy: Path) -> None:
    detector = Detector(toy, threshold=0)
    for count in (1, 2, 3):
        source = volume(slices=count)
        assert streamed(detector, source, list(range(count))).lesions == detector(source).lesions
    air = Volume(np.full((5, 40, 50), -1000, np.int16), np.eye(4))
    found = streamed(detector, air, list(range(5)))
    assert (found.lesions, found.warnings) == ((), (NO_BODY,))
    with pytest.raises(InputError, match="no slice has arrived"):
        detector.stream().result()


def test_slices_that_do_not_fit_are_refused(toy: Path) -> None:
    source = volume()
    stream = Detector(toy).stream(source.geometry)
    for item, error, words in (
        ((24, source.voxels[0]), InputError, "none of the geometry's slices, 0 to 23"),
        ((-1, source.voxels[0]), InputError, "none of the geometry's slices"),
        ((0, source.voxels[0, :5]), InputError, "must have shape"),
        ((0, source.voxels[0].astype(float)), TypeError, "HU as int16"),
        ("slice.dcm", TypeError, "takes \\(index, array\\)"),
    ):
        with pytest.raises(error, match=words):
            stream.add(item)
    stream.add((0, source.voxels[0]))
    stream.add((0, source.voxels[0]))
    with pytest.raises(InputError, match="came before with other values"):
        stream.add((0, source.voxels[0] + 1))
    with pytest.raises(InputError, match="23 of 24 slices did not come: 1, 2, 3, "):
        stream.result()
    for call in (stream.result, lambda: stream.add((1, source.voxels[1]))):
        with pytest.raises(ValueError, match="begin another one"):
            call()
    with pytest.raises(TypeError, match="needs a geometry"):
        Detector(toy).stream().add((0, source.voxels[0]))


def test_slices_that_came_again_are_told_of(toy: Path) -> None:
    detector, source = Detector(toy), volume()
    found = streamed(detector, source, [*range(24), 3, 3])
    assert found.warnings == ("slices that came again were dropped: 2",)


def test_a_series_with_a_gap_gets_the_verdict_of_reading(toy: Path) -> None:
    datasets = [ct_slice(hu, index) for index, hu in enumerate(volume().voxels)]
    stream = Detector(toy).stream()
    for dataset in datasets[:8] + datasets[11:]:
        stream.add(dataset)
    with pytest.raises(InputError) as refused:
        stream.result()
    assert refused.value.reason == "missing-slice"


def test_a_stream_with_another_series_gets_the_verdict_of_reading(toy: Path) -> None:
    voxels = volume().voxels
    stream = Detector(toy).stream()
    for index, hu in enumerate(voxels):
        stream.add(ct_slice(hu, index))
        stream.add(ct_slice(hu, index, SeriesInstanceUID="1.2.3.4", SOPInstanceUID=f"1.2.3.4.{index}"))
    with pytest.raises(InputError) as refused:
        stream.result()
    assert refused.value.reason == "several-volumes"
