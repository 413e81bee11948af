"""Regions for the detection head: decoding, matching and sampling of proposals."""

import numpy as np
import pytest
import torch

from lnsdk.pipelines import proposals as runtime
from lnsdk.pipelines.settings import Settings
from lnsdk.trainers.lens.proposals.base import Candidates
from lnsdk.trainers.lens.rois import PROPOSAL_IOU, one_stage_detections, sample_head, select_proposals
from lnsdk.trainers.networks.boxes import DELTA_WEIGHTS, STRIDE, boxes_of_distances

NONE = torch.zeros(0, 4)


def decoded(centerness: torch.Tensor, distances: torch.Tensor) -> list[Candidates]:
    """Candidates of every expert from maps (N, E, h, w) and (N, E, 4, h, w)."""
    return [
        Candidates(centerness[:, i].sigmoid().flatten(1), boxes_of_distances(distances[:, i]))
        for i in range(centerness.shape[1])
    ]


def test_decoding_pools_the_experts_and_clips() -> None:
    centerness = torch.full((1, 2, 8, 8), -10.0)
    distances = torch.ones(1, 2, 4, 8, 8)
    centerness[0, 1, 3, 4] = 5.0
    distances[0, 1, :, 3, 4] = torch.tensor([1.0, 2.0, 3.0, 100.0])
    (boxes,) = select_proposals(decoded(centerness, distances), 1, 10, (32, 32))
    np.testing.assert_allclose(boxes.numpy(), [[12.0, 4.0, 28.0, 31.5]])


def test_duplicates_of_two_experts_are_suppressed() -> None:
    centerness = torch.full((1, 2, 4, 4), -10.0)
    centerness[0, :, 2, 2] = torch.tensor([3.0, 2.0])
    (boxes,) = select_proposals(decoded(centerness, torch.ones(1, 2, 4, 4, 4)), 2, 10, (16, 16))
    assert len(boxes) == 1


def test_samples_hold_the_lesions_with_their_offsets() -> None:
    lesion = torch.tensor([[10.0, 10.0, 20.0, 20.0]])
    proposals = torch.tensor([[11.0, 10.0, 20.0, 20.0], [50.0, 50.0, 60.0, 60.0], [80.0, 80.0, 90.0, 90.0]])
    ignored = torch.tensor([[78.0, 78.0, 92.0, 92.0]])
    samples = sample_head([proposals], [lesion], [NONE], [ignored], 8, np.random.default_rng(0))
    labels = samples.labels[0]
    assert (labels == 1).sum() == 2
    assert (labels == 0).sum() == 1
    assert (labels == -1).sum() == 5
    positive = labels == 1
    offsets = samples.offsets[0][positive]
    moved = runtime.apply_deltas(samples.rois[0][positive].numpy(), offsets[:, None].numpy(), DELTA_WEIGHTS)
    np.testing.assert_allclose(moved[:, 0], lesion.expand(2, 4), rtol=1e-6)
    torch.testing.assert_close(samples.rois[0][labels == 0], proposals[1:2])


def test_at_most_a_quarter_are_lesions() -> None:
    lesion = torch.tensor([[10.0, 10.0, 20.0, 20.0]])
    near = lesion + torch.linspace(-1, 1, 30).unsqueeze(1)
    samples = sample_head([near], [lesion], [NONE], [NONE], 16, np.random.default_rng(0))
    assert (samples.labels == 1).sum() == 4


def test_no_lesion_and_no_proposal() -> None:
    samples = sample_head([NONE], [NONE], [NONE], [NONE], 4, np.random.default_rng(0))
    assert (samples.labels == -1).all()
    assert samples.rois.shape == (1, 4, 4)


def runtime_settings(before: int, after: int) -> Settings:
    return Settings(
        experts=("a", "b"),
        spacing=(0.8, 0.8, 2.0),
        multiple=16,
        stride=STRIDE,
        window=(-1024, 3071),
        max_batch=1,
        pre_nms=before,
        post_nms=after,
        proposal_iou=PROPOSAL_IOU,
        proposal_min_score=0.0,
        detection_iou=0.5,
        detection_min_score=0.0,
        per_slice=50,
        stack_iou=0.5,
        delta_weights=DELTA_WEIGHTS,
        threshold=0.5,
    )


@pytest.mark.parametrize("seed", range(5))
def test_training_decodes_as_the_runtime_does(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    centerness = torch.randn(1, 2, 16, 16, generator=generator)
    distances = 6 * torch.rand(1, 2, 4, 16, 16, generator=generator)
    (ours,) = select_proposals(decoded(centerness, distances), 200, 50, (64, 64))
    theirs = runtime.decode_proposals(
        centerness[0].sigmoid().numpy(), distances[0].numpy() * STRIDE, runtime_settings(200, 50)
    )
    assert len(ours) > 20
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)


def test_one_stage_detections_are_what_the_head_would_give() -> None:
    """Two experts, the best two boxes of each: the runtime takes them as regions that stay where they are."""
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [20.0, 20.0, 90.0, 30.0], [70.0, 70.0, 80.0, 80.0]])
    first = Candidates(torch.tensor([[0.3, 0.9, 0.8]]), boxes[None])
    second = Candidates(torch.tensor([[0.7, 0.1, 0.2]]), boxes[None])
    (found,) = one_stage_detections([first, second], 2, (48, 64))
    # the third box lies outside of the slice and is left out; the second is clipped to it
    torch.testing.assert_close(found.rois, torch.tensor([[20.0, 20.0, 63.5, 30.0], [0.0, 0.0, 8.0, 8.0]]))
    torch.testing.assert_close(found.scores, torch.tensor([[0.9, 0.0], [0.0, 0.7]]))
    kept, scores, of_experts = runtime.select_boxes(
        found.rois.numpy(), found.scores.numpy(), found.offsets.numpy(), np.arange(2), (48, 64), runtime_settings(9, 9)
    )
    np.testing.assert_allclose(kept, found.rois.numpy())
    np.testing.assert_allclose(scores, [0.9, 0.7])
    np.testing.assert_allclose(of_experts, found.scores.numpy())


def test_one_stage_experts_do_not_suppress_each_other() -> None:
    box = torch.tensor([[[4.0, 4.0, 20.0, 20.0]]]).expand(2, 1, 4)
    found = one_stage_detections([Candidates(torch.full((2, 1), p), box) for p in (0.9, 0.2)], 5, (32, 32))
    assert [each.rois.shape for each in found] == [(2, 4), (2, 4)]
    torch.testing.assert_close(found[1].scores, torch.tensor([[0.9, 0.0], [0.0, 0.2]]))
    assert not found[0].offsets.any()
    assert found[0].offsets.shape == (2, 2, 4)
