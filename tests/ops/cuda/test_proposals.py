"""Decoding of proposals on the device: the boxes of the pipeline on the CPU."""

from typing import Any

import numpy as np
import pytest
from numba import cuda
from numpy.typing import NDArray

from lnsdk.ops import cuda as gpu
from lnsdk.pipelines import proposals
from lnsdk.pipelines.settings import Settings

pytestmark = pytest.mark.gpu

Floats = NDArray[np.float32]


def _settings(pre_nms: int, post_nms: int, iou_threshold: float, min_score: float) -> Settings:
    return Settings(
        experts=("a", "b"),
        spacing=(0.8, 0.8, 2.0),
        multiple=4,
        stride=4,
        window=(-1024, 3071),
        max_batch=1,
        pre_nms=pre_nms,
        post_nms=post_nms,
        proposal_iou=iou_threshold,
        proposal_min_score=min_score,
        detection_iou=0.5,
        detection_min_score=0.0,
        per_slice=1,
        stack_iou=0.5,
        delta_weights=(1, 1, 1, 1),
        threshold=0.0,
    )


def _maps(experts: int = 2, height: int = 5, width: int = 7, seed: int = 0) -> tuple[Floats, Floats]:
    """Scores with many ties; boxes that reach beyond the grid, and some without area."""
    random = np.random.default_rng(seed)
    centerness = np.round(random.random((experts, height, width), np.float32), 1)
    return centerness, random.uniform(-3, 14, (experts, 4, height, width)).astype(np.float32)


def _decode(centerness: Floats, distances: Floats, settings: Settings, **options: Any) -> gpu.Proposals:
    return gpu.decode_proposals(
        cuda.to_device(centerness),
        cuda.to_device(distances),
        stride=settings.stride,
        min_score=settings.proposal_min_score,
        iou_threshold=settings.proposal_iou,
        pre_nms=settings.pre_nms,
        post_nms=settings.post_nms,
        **options,
    )


def _assert_found(found: gpu.Proposals, expected: Floats) -> None:
    """The boxes, then zeros."""
    boxes, count = found.boxes.copy_to_host(), found.count.copy_to_host()
    assert (boxes.dtype, count.dtype) == (np.float32, np.int32)
    assert count.tolist() == [len(expected)]
    np.testing.assert_array_equal(boxes[: count[0]].view(np.uint32), expected.view(np.uint32))
    assert not boxes[count[0] :].any()


@pytest.mark.parametrize("iou_threshold", [0.3, 0.9])
@pytest.mark.parametrize("limits", [(6000, 75), (25, 75), (17, 5), (1, 1)])
@pytest.mark.parametrize("min_score", [0.1, 0.5])
def test_proposals(min_score: float, limits: tuple[int, int], iou_threshold: float) -> None:
    """A score of exactly 0.5 is not above 0.5; one of float32(0.1) is not above 0.1, which is compared as float32."""
    maps, settings = _maps(), _settings(*limits, iou_threshold, min_score)
    _assert_found(_decode(*maps, settings), proposals.decode_proposals(*maps, settings))


@pytest.mark.parametrize("pre_nms", [1, 30, 69, 70])
def test_the_lower_index_wins_among_equal_scores(pre_nms: int) -> None:
    centerness, distances = _maps()
    centerness[:] = 0.5
    settings = _settings(pre_nms, 75, 0.9, 0.1)
    _assert_found(_decode(centerness, distances, settings), proposals.decode_proposals(centerness, distances, settings))


def test_nothing_is_proposed_where_nothing_is_above_the_minimum() -> None:
    centerness, distances = _maps()
    settings = _settings(100, 10, 0.5, 1.0)
    found = _decode(centerness, distances, settings)
    assert found.boxes.shape == (10, 4)
    _assert_found(found, np.zeros((0, 4), np.float32))
    empty = _decode(centerness[:, :0], distances[:, :, :0], settings)
    _assert_found(empty, np.zeros((0, 4), np.float32))


def test_infinite_distances_and_nan() -> None:
    """A pixel with a score of NaN is none; a box with NaN has no area."""
    centerness, distances = _maps()
    centerness[0, 2, 3] = np.nan
    distances[0, 0, 1, :] = np.inf
    distances[1, 3, 2, :] = np.inf
    distances[1, 1, 4, :] = -np.inf
    distances[0, 2, 3, :] = np.nan
    settings = _settings(60, 75, 0.7, 0.0)
    _assert_found(_decode(centerness, distances, settings), proposals.decode_proposals(centerness, distances, settings))


def test_proposals_write_into_out_and_share_a_workspace() -> None:
    workspace, stream = gpu.Workspace(), cuda.stream()
    out = gpu.Proposals(cuda.device_array((20, 4), np.float32), cuda.device_array(1, np.int32))
    for seed, size in enumerate((3, 9, 5)):
        maps, settings = _maps(2, size, size, seed), _settings(50, 20, 0.5, 0.2)
        assert _decode(*maps, settings, out=out, workspace=workspace, stream=stream) is out
        stream.synchronize()
        _assert_found(out, proposals.decode_proposals(*maps, settings))


def test_wrong_arguments_are_refused() -> None:
    centerness, distances = _maps()
    with pytest.raises(ValueError, match=r"centerness must have shape \(any, any, any\), got \(5, 7\)"):
        _decode(centerness[0], distances, _settings(10, 10, 0.5, 0.1))
    with pytest.raises(ValueError, match=r"distances must have shape \(2, 4, 5, 7\), got \(1, 4, 5, 7\)"):
        _decode(centerness, distances[:1], _settings(10, 10, 0.5, 0.1))
    with pytest.raises(TypeError, match="distances must be float32, got float16"):
        _decode(centerness, distances.astype(np.float16), _settings(10, 10, 0.5, 0.1))
    with pytest.raises(ValueError, match=r"iou_threshold must lie in 0\.\.1, got 2"):
        _decode(centerness, distances, _settings(10, 10, 2, 0.1))
    with pytest.raises(ValueError, match="post_nms must be above 0"):
        _decode(centerness, distances, _settings(10, 0, 0.5, 0.1))
    with pytest.raises(ValueError, match="pre_nms must be at most 65536"):
        _decode(centerness, distances, _settings(70_000, 10, 0.5, 0.1))
