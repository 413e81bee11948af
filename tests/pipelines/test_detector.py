import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from lnsdk import Detections, Detector, InputError, Volume, load
from lnsdk.pipelines.detector import NO_BODY
from lnsdk.pipelines.timing import STAGES
from tests.toy_bundle import phantom, write_toy_bundle

Triple = tuple[float, float, float]

ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def ball(shape: tuple[int, int, int], spacing: Triple, center: Triple, origin: Triple = (0, 0, 0)) -> Volume:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    uids = tuple(f"1.2.3.{index}" for index in range(shape[0]))
    frames = tuple(range(1, shape[0] + 1))
    voxels = phantom(shape, spacing, center)
    return Volume(voxels, affine, series_uid="1.2.3", sop_instance_uids=uids, frame_numbers=frames)


def reoriented(volume: Volume, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same patient in other axes: new axis i (x, y, z) is old axis order[i], reversed where signs[i] is -1."""
    voxels = volume.voxels.transpose([2 - order[2], 2 - order[1], 2 - order[0]])
    voxels = voxels[:: signs[2], :: signs[1], :: signs[0]]
    move = np.eye(4)
    move[:3, :3] = 0
    for new, old in enumerate(order):
        move[old, new] = signs[new]
        if signs[new] < 0:
            move[old, 3] = volume.shape[2 - old] - 1
    return Volume(np.ascontiguousarray(voxels), volume.affine @ move)


@pytest.fixture(scope="module")
def detector(toy: Path) -> Detector:
    return Detector(toy)


@pytest.mark.parametrize("crop", ["body", "none"])
@pytest.mark.parametrize(
    ("shape", "spacing", "center"),
    [
        ((40, 256, 256), (0.7, 0.7, 2.5), (130.3, 110.7, 20.4)),
        ((60, 200, 220), (1.2, 0.9, 1.0), (100.3, 110.7, 30.0)),
        ((33, 180, 161), (0.8, 0.8, 2.0), (60.0, 90.5, 11.0)),
        ((16, 90, 100), (2.0, 2.1, 5.0), (50.2, 44.9, 8.0)),
    ],
)
def test_a_ball_is_found_where_it_is(
    toy: Path, crop: str, shape: tuple[int, int, int], spacing: Triple, center: Triple
) -> None:
    volume = ball(shape, spacing, center, origin=(-100.5, 33.25, 1000.0))
    best = Detector(toy, crop=crop)(volume).lesions[0]
    low, high = np.array(best.box[:3]), np.array(best.box[3:])
    assert np.abs((low + high) / 2 - center).max() < 0.5
    assert np.abs(high[:2] - low[:2] - 20 / np.array(spacing[:2])).max() < 4 / min(spacing[:2])
    # 20 mm, to within a slice at each end: the ball's small caps overlap too little to be stacked.
    assert abs((high[2] - low[2]) * spacing[2] - 20) <= 2 * max(2.0, spacing[2])
    assert np.allclose(best.center_mm, volume.voxels_to_lps([(low + high) / 2])[0], atol=1e-3)
    assert np.allclose(best.box_mm[:3], volume.voxels_to_lps([low])[0], atol=1e-3)
    assert np.allclose(best.box_mm[3:], volume.voxels_to_lps([high])[0], atol=1e-3)
    assert best.diameter_mm == pytest.approx(max((high - low)[:2] * spacing[:2]), abs=1e-3)
    assert abs(best.key_slice - center[2]) <= 1
    assert best.key_slice_uid == f"1.2.3.{best.key_slice}"
    assert best.key_slice_frame == best.key_slice + 1


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_gives_the_same_lesions(
    detector: Detector, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    straight = ball((30, 120, 130), (1.1, 0.9, 2.5), (70.3, 55.6, 14.2), origin=(10.0, -20.0, 30.0))
    turned = reoriented(straight, order, signs)
    expected, found = detector(straight).lesions, detector(turned).lesions
    assert len(found) == len(expected)
    for a, b in zip(expected, found, strict=True):
        assert np.allclose(a.box_mm, b.box_mm, atol=1e-3)
        assert np.allclose(a.center_mm, b.center_mm, atol=1e-3)
        assert a.score == b.score
        assert a.diameter_mm == pytest.approx(b.diameter_mm)
        corners = turned.voxels_to_lps(np.array(b.box).reshape(2, 3))
        assert np.allclose(corners.min(axis=0), b.box_mm[:3], atol=1e-3)
    x, y, z = turned.lps_to_voxels([found[0].center_mm])[0].round().astype(int)
    assert turned.voxels[z, y, x] == 300
    assert 0 <= found[0].key_slice < turned.shape[0]
    assert found[0].box[2] - 1 < found[0].key_slice < found[0].box[5] + 1


def test_an_oblique_volume_keeps_its_center(detector: Detector) -> None:
    volume = ball((30, 120, 130), (1.1, 0.9, 2.5), (70.3, 55.6, 14.2))
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ volume.affine[:3, :3]
    best = detector(Volume(volume.voxels, affine)).lesions[0]
    assert np.allclose(best.center_mm, affine[:3] @ [70.3, 55.6, 14.2, 1], atol=1.3)
    assert best.box_mm[3] - best.box_mm[0] > best.diameter_mm


def test_one_slice(detector: Detector) -> None:
    best = detector(ball((1, 120, 130), (1.0, 1.0, 5.0), (70.3, 55.6, 0.0))).lesions[0]
    assert best.box[:2] == pytest.approx((60.3, 45.6), abs=0.5)
    assert (best.box[2], best.box[5]) == pytest.approx((-0.2, 0.2))
    assert best.key_slice == 0


@pytest.mark.parametrize("crop", ["body", "none"])
@pytest.mark.parametrize("spread", [0, 60])
def test_air_holds_no_lesion(toy: Path, crop: str, spread: float) -> None:
    air = np.random.default_rng(0).normal(-1000, spread, (5, 40, 50)).astype(np.int16)
    air[2, 20, 20] = 300
    result = Detector(toy, crop=crop, threshold=0)(Volume(air, np.eye(4)))
    assert result.lesions == ()
    assert result.warnings == (NO_BODY,)


def test_no_proposal_gives_an_empty_result(toy: Path) -> None:
    result = Detector(toy, threshold=0)(Volume(phantom((9, 80, 90), (1, 1, 2), None), np.diag([1, 1, 2, 1])))
    assert result.lesions == ()
    assert result.warnings == ()


def test_no_surviving_box_gives_an_empty_result(tmp_path: Path) -> None:
    detections = {"iou": 0.5, "per_slice": 50, "min_score": 1.0, "stack_iou": 0.5}
    detector = Detector(write_toy_bundle(tmp_path / "toy", detections=detections), threshold=0)
    assert detector(ball((9, 80, 90), (1, 1, 2), (40, 40, 4))).lesions == ()


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 64])
def test_batches_do_not_matter(tmp_path: Path, detector: Detector, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnsdk.pipelines.detector.CPU_BATCH", 64)
    volume = ball((17, 90, 100), (1.0, 1.0, 2.0), (50.2, 44.9, 8.0))
    other = Detector(write_toy_bundle(tmp_path / "toy", max_batch=batch), threshold=0)
    expected = [lesion.box for lesion in detector(volume).lesions]
    assert [lesion.box for lesion in other(volume).lesions][: len(expected)] == expected


def test_crop_gives_the_same_lesions_as_all_of_the_volume(toy: Path) -> None:
    volume = ball((20, 200, 220), (0.9, 0.9, 2.0), (100.3, 110.7, 9.0))
    cropped, whole = (Detector(toy, crop=crop)(volume).lesions for crop in ("body", "none"))
    assert len(cropped) == len(whole) > 0
    for a, b in zip(cropped, whole, strict=True):
        assert np.allclose(a.box, b.box, atol=0.05)


def test_a_ball_at_the_edge_stays_inside_the_volume(toy: Path) -> None:
    voxels = np.maximum(phantom((9, 80, 90), (1, 1, 2), (87, 40, 8)), 0)
    result = Detector(toy, threshold=0)(Volume(voxels, np.diag([1, 1, 2, 1])))
    boxes = np.array([lesion.box for lesion in result.lesions])
    assert len(boxes)
    assert (boxes >= -0.5).all()
    assert (boxes[:, 3:] <= np.array([89.5, 79.5, 8.5])).all()
    assert (boxes[:, 3:] > boxes[:, :3]).all()


def test_threshold_and_order(toy: Path) -> None:
    volume = ball((17, 90, 100), (1.0, 1.0, 2.0), (50.2, 44.9, 8.0))
    everything = [lesion.score for lesion in Detector(toy, threshold=0)(volume).lesions]
    assert everything == sorted(everything, reverse=True)
    limit = everything[len(everything) // 2]
    assert [lesion.score for lesion in Detector(toy, threshold=limit)(volume).lesions] == [
        score for score in everything if score >= limit
    ]


def test_experts_are_a_choice(toy: Path) -> None:
    volume = ball((17, 90, 100), (1.0, 1.0, 2.0), (50.2, 44.9, 8.0))
    both = Detector(toy, threshold=0)(volume).lesions[0]
    lung = Detector(toy, experts=["lung"], threshold=0)(volume)
    assert lung.provenance.experts == ("lung",)
    assert lung.lesions[0].expert_scores == {"lung": both.expert_scores["lung"]}
    assert lung.lesions[0].score == both.expert_scores["lung"] == both.score / 2


def test_timings_are_complete(detector: Detector) -> None:
    timings = detector(ball((17, 90, 100), (1.0, 1.0, 2.0), (50.2, 44.9, 8.0))).timings
    assert tuple(timings) == STAGES
    assert sum(value for stage, value in timings.items() if stage != "total") <= timings["total"]


def test_progress_ends_with_all_slices(detector: Detector) -> None:
    seen: list[tuple[int, int]] = []
    detector(ball((17, 90, 100), (1.0, 1.0, 2.0), (50, 45, 8)), progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (17, 17)
    assert seen == sorted(seen)


def test_many_threads_get_the_same_answer(detector: Detector) -> None:
    volumes = [ball((17, 90, 100), (1.0, 1.0, 2.0), (40.0 + index, 45.0, 8.0)) for index in range(8)]
    alone = [detector(volume).lesions for volume in volumes]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda volume: detector(volume).lesions, volumes)) == alone


def test_a_forked_process_can_detect(toy: Path) -> None:
    script = f"""
import os, signal
import numpy as np
from lnsdk import Detector, Volume
detector = Detector({str(toy)!r}, threads=2)
volume = Volume(np.zeros((9, 64, 64), np.int16), np.eye(4))
detector(volume)
child = os.fork()
if child == 0:
    signal.alarm(30)
    os._exit(0 if detector(volume).lesions == () else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False).returncode == 0


def test_load_gives_the_pipeline_of_the_task(toy: Path) -> None:
    assert isinstance(load(toy), Detector)


def test_load_reads_a_bundle_once(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        pytest.fail("read and verified twice")

    monkeypatch.setattr("lnsdk.pipelines.detector.read_bundle", refuse)
    assert load(toy).provenance.model == "toy"


def test_load_refuses_an_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="task 'weather'") as caught:
        load(write_toy_bundle(tmp_path / "toy", task="weather"))
    assert caught.value.reason == "bundle-task"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": "head"}, "crop must be body or none, got 'head'"),
        ({"precision": "fp64"}, "precision must be auto, fp32, bf16, fp16, int8, got 'fp64'"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"threshold": 1.5}, "threshold must be from 0 to 1, got 1.5"),
        ({"backend": "abacus"}, "backend must be auto, onnx, openvino, .*, tensorrt or tensorrt-lean, got 'abacus'"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda, got 'tpu'"),
        ({"device": "tpu", "backend": "torchscript"}, "device must be auto, cpu or cuda, got 'tpu'"),
        ({"experts": ["spleen"]}, "experts must be among universal, lung; got 'spleen'"),
        ({"experts": []}, "experts must be among universal, lung; got none"),
    ],
)
def test_wrong_arguments_are_named(toy: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detector(toy, **arguments)  # type: ignore[arg-type]


def test_series_needs_a_path(detector: Detector) -> None:
    with pytest.raises(ValueError, match="series chooses among the series of a path"):
        detector(ball((1, 20, 20), (1, 1, 1), (10, 10, 0)), series="1.2.3")


def test_a_result_knows_its_origin(detector: Detector, toy: Path) -> None:
    result: Detections = detector(ball((1, 20, 20), (1, 1, 1), (10, 10, 0)))
    origin = result.provenance
    assert (origin.model, origin.backend, origin.device, origin.precision) == ("toy", "onnx", "cpu", "fp32")
    assert origin.threshold == 0.5
    assert set(origin.versions) == {"lnsdk", "python", "numpy", "numba", "onnxruntime"}
