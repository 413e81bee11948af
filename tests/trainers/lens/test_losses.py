"""Losses of eqs. 1 to 3, against numbers worked out by hand."""

import math

import pytest
import torch

from lnsdk.trainers.lens.losses import center_loss, head_loss, size_loss, total_loss


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_center_loss_is_equation_1_over_the_positives() -> None:
    logits = torch.tensor([[[logit(0.8), logit(0.3)], [logit(0.9), logit(0.6)]]], dtype=torch.float64)
    targets = torch.tensor([[[1.0, 0.0], [-1.0, 1.0]]])
    expected = -0.5 * (0.2**2 * math.log(0.8) + 0.4**2 * math.log(0.6) + 0.3**2 * math.log(0.7)) / 2
    assert center_loss(logits, targets).item() == pytest.approx(expected, rel=1e-9)


def test_batch_without_lesions_is_divided_by_its_slices() -> None:
    logits = torch.full((4, 8, 8), logit(0.3), dtype=torch.float64)
    expected = -0.5 * 64 * 0.3**2 * math.log(0.7)
    assert center_loss(logits, torch.zeros(4, 8, 8)).item() == pytest.approx(expected, rel=1e-9)


def test_center_loss_ignores_ignored_pixels() -> None:
    logits = torch.tensor([[[0.3, 2.0]]], requires_grad=True)
    center_loss(logits, torch.tensor([[[0.0, -1.0]]])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 1] == 0
    assert logits.grad[0, 0, 0] != 0


def test_size_loss_is_the_mean_over_center_pixels() -> None:
    distances = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1).repeat(1, 1, 1, 2)
    targets = torch.zeros_like(distances)
    targets[..., 1] = 100.0
    assert size_loss(distances, targets, torch.tensor([[[1.0, 0.0]]])).item() == pytest.approx(10.0)
    assert size_loss(distances, targets, torch.tensor([[[0.0, -1.0]]])).item() == 0.0


def test_head_loss_counts_boxes_of_lesions_only() -> None:
    """Offsets are compared without their weights 10, 10, 5, 5, with beta 1."""
    logits = torch.tensor([0.0, 0.0])
    offsets = torch.tensor([[30.0, 0.0, 0.0, 0.5], [9.0, 9.0, 9.0, 9.0]])
    labels = torch.tensor([1.0, 0.0])
    class_loss, box_loss = head_loss(logits, offsets, labels, torch.zeros(2, 4))
    assert class_loss.item() == pytest.approx(math.log(2))
    assert box_loss.item() == pytest.approx((3.0 - 0.5 + 0.1**2 / 2) / 2, rel=1e-5)


def test_head_loss_without_samples_is_zero_and_differentiable() -> None:
    logits = torch.zeros(0, requires_grad=True)
    class_loss, box_loss = head_loss(logits, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 4))
    (class_loss + box_loss).backward()
    assert class_loss.item() == 0
    assert box_loss.item() == 0


def test_total_loss_weighs_as_equation_3() -> None:
    one = torch.tensor(1.0)
    assert total_loss(one, one, one, one).item() == pytest.approx(1 + 0.1 + 1 + 10)
