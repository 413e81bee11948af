"""NMS against torchvision, OpenCV and MONAI, and IoU against torchvision."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision
from monai.data.box_utils import non_max_suppression
from numpy.typing import NDArray

from benchmarks import limits
from benchmarks.boxes import proposals
from benchmarks.measuring import Case, Measure, Peer
from lnsdk import ops

IOU_THRESHOLD = 0.5

OPENCV_DIFFERS = (
    "Here and below, index for index torchvision's answer; OpenCV's boxes, given as x, y, width and height that were "
    "converted beforehand, are at least 99 % the same."
)

TORCHVISION_TARGETS = {300: 1, 1000: 3, 6000: 10, 16_384: 40, 65_536: 100}


@pytest.mark.parametrize("count", TORCHVISION_TARGETS)
@pytest.mark.parametrize("variant", ["clustered", "tied scores", "uniform"])
def test_nms(measure: Measure, variant: str, count: int) -> None:
    boxes, scores = proposals(count, uniform=variant == "uniform")
    if "tied" in variant:
        scores = scores.round(2)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    values: Any = scores  # OpenCV's types want lists; it takes arrays
    corners_and_sides: Any = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    answers = measure(
        Case(
            name=f"nms, {variant}",
            size=f"{count} boxes",
            count=count,
            unit="box",
            ours=lambda: ops.nms(boxes, scores, IOU_THRESHOLD),
            peers=[
                Peer(
                    "torchvision",
                    lambda: torchvision.ops.nms(*tensors, IOU_THRESHOLD),
                    at_least=TORCHVISION_TARGETS[count],
                ),
                Peer("OpenCV", lambda: cv2.dnn.NMSBoxes(corners_and_sides, values, 0.0, IOU_THRESHOLD), at_least=1),
            ],
            note=OPENCV_DIFFERS if (variant, count) == ("clustered", 300) else "",
        )
    )
    np.testing.assert_array_equal(answers["ours"], answers["torchvision"].numpy())
    assert _agreement(answers["ours"], answers["OpenCV"]) >= 0.99


def _agreement(kept: NDArray[np.int64], others: Any) -> float:
    """Shared boxes over all; OpenCV computes from widths and heights, and so rounds otherwise at the threshold."""
    return len(np.intersect1d(kept, others)) / len(np.union1d(kept, others))


def test_batched_nms(measure: Measure) -> None:
    count, groups = 16_384, 80
    boxes, scores = proposals(count)
    owners = np.random.default_rng(1).integers(0, groups, count)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(owners)
    answers = measure(
        Case(
            name="batched_nms, clustered",
            size=f"{count} boxes in {groups} groups",
            count=count,
            unit="box",
            ours=lambda: ops.batched_nms(boxes, scores, owners, IOU_THRESHOLD),
            peers=[Peer("torchvision", lambda: torchvision.ops.batched_nms(*tensors, IOU_THRESHOLD))],
        )
    )
    ours, theirs = answers["ours"], answers["torchvision"].numpy()
    np.testing.assert_array_equal(scores[ours], scores[theirs])
    np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))  # torchvision leaves the order of ties open here


CROWDING = (
    "All sizes fill the same cube, so that a box has ever more neighbours; MONAI compares all pairs "
    "and is left out beyond 10,000."
)


@pytest.mark.parametrize("count", [1000, 3000, 10_000, 30_000, 100_000])
def test_nms_3d(measure: Measure, count: int) -> None:
    boxes, scores = proposals(count, axes=3)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    monai = Peer("MONAI", lambda: non_max_suppression(*tensors, IOU_THRESHOLD), at_least=100)
    answers = measure(
        Case(
            name="nms_3d, clustered",
            size=f"{count} boxes",
            count=count,
            unit="box",
            ours=lambda: ops.nms_3d(boxes, scores, IOU_THRESHOLD),
            peers=[monai] if count <= 10_000 else [],
            note=CROWDING if count == 100_000 else "",
        )
    )
    if "MONAI" in answers:
        np.testing.assert_array_equal(answers["ours"], answers["MONAI"].numpy())
    else:
        _assert_suppressed(boxes, scores, answers["ours"])


def _assert_suppressed(boxes: NDArray[np.float32], scores: NDArray[np.float32], kept: NDArray[np.int64]) -> None:
    """Of a sample of boxes, exactly those that a better kept box overlaps were left out."""
    sample = np.random.default_rng(0).choice(len(boxes), 200, replace=False)
    better = scores[kept][None] > scores[sample][:, None]
    suppressed = ((ops.iou(boxes[sample], boxes[kept]) > IOU_THRESHOLD) & better).any(axis=1)
    np.testing.assert_array_equal(suppressed, ~np.isin(sample, kept))


def test_iou(measure: Measure) -> None:
    count = 4096
    boxes, _ = proposals(2 * count, uniform=True)
    first, second = boxes[:count], boxes[count:]
    out = np.zeros((count, count), np.float32)
    answers = measure(
        Case(
            name="iou",
            size=f"{count} x {count} boxes",
            count=count * count,
            unit="pair",
            ours=lambda: ops.iou(first, second, out=out),
            fresh=lambda: ops.iou(first, second),
            peers=[
                Peer(
                    "torchvision",
                    lambda: torchvision.ops.box_iou(torch.from_numpy(first), torch.from_numpy(second)),
                    at_least=15,
                )
            ],
            limit=limits.filled(out, at_most=3),
        )
    )
    np.testing.assert_array_equal(answers["ours"], answers["torchvision"].numpy())
