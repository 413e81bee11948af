"""What every proposal network has to do, whichever it is: gradients, finite losses, boxes that fit, ignored places."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lnsdk.trainers.lens.proposals.base import Method, Outputs, ProposalNetwork
from lnsdk.trainers.networks.lens import PROPOSAL_NETWORKS

SIDE = 16
NONE = torch.zeros(0, 4)
WHOLE = torch.tensor([[-0.5, -0.5, 63.5, 63.5]])
LESIONS = torch.tensor([[17.0, 18.0, 37.0, 36.0], [20.0, 20.0, 31.0, 30.0]])

methods = pytest.mark.parametrize("method", PROPOSAL_NETWORKS)


def make(method: Method) -> ProposalNetwork:
    torch.manual_seed(0)
    return PROPOSAL_NETWORKS[method](6, 5)


def raw(network: ProposalNetwork, slices: int = 2) -> Outputs:
    """Outputs in float64 for random features: none of them lies where a loss has a kink."""
    features = torch.randn(slices, 6, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return tuple(part.double() for part in network(features))


def losses(
    network: ProposalNetwork,
    outputs: Outputs,
    boxes: list[Tensor],
    uncertain: list[Tensor] | None = None,
    ignored: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    nothing = [NONE] * len(boxes)
    return network.loss(outputs, boxes, uncertain or nothing, ignored or nothing, np.random.default_rng(0))


@methods
def test_gradients_are_those_of_finite_differences(method: Method) -> None:
    network = make(method)
    outputs = tuple(part.requires_grad_() for part in raw(network))
    uncertain = [torch.tensor([[40.0, 40.0, 60.0, 60.0]]), NONE]

    def of(*parts: Tensor) -> tuple[Tensor, Tensor]:
        return losses(network, parts, [LESIONS, NONE], uncertain)

    assert torch.autograd.gradcheck(of, outputs, fast_mode=True)


@methods
@pytest.mark.parametrize(
    "boxes",
    [
        [NONE, NONE],
        [WHOLE, NONE],
        [torch.tensor([[-0.5, -0.5, 3.0, 4.0], [60.0, 61.0, 63.5, 63.5]]), WHOLE],
        [LESIONS, LESIONS],
    ],
    ids=["no box", "the whole crop", "at the border", "overlapping"],
)
def test_losses_are_finite_and_so_are_their_gradients(method: Method, boxes: list[Tensor]) -> None:
    network = make(method)
    features = torch.randn(2, 6, SIDE, SIDE)
    classification, box = losses(network, network(features), boxes)
    (classification + box).backward()
    assert torch.isfinite(classification)
    assert classification > 0
    assert torch.isfinite(box)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert box.item() > 0 or not sum(map(len, boxes))


def gradient(network: ProposalNetwork, **places: list[Tensor]) -> Tensor:
    """Where in the map the classification loss of one slice asks for something: (channels, h, w)."""
    scores, *others = raw(network, 1)
    scores.requires_grad_()
    nothing = {"boxes": [NONE], "uncertain": [NONE], "ignored": [NONE]}
    classification, _ = losses(network, (scores, *others), **(nothing | places))
    classification.backward()
    assert scores.grad is not None
    return scores.grad[0]


@methods
def test_nothing_is_asked_of_a_crop_that_is_ignored(method: Method) -> None:
    network = make(method)
    assert gradient(network).abs().sum() > 0
    # the default's largest anchors reach beyond the crop: a place that covers a third of each is generous enough
    place = torch.tensor([[-80.0, -80.0, 144.0, 144.0]])
    assert gradient(network, ignored=[place]).abs().sum() == 0


@methods
def test_an_uncertain_box_is_no_background(method: Method) -> None:
    network = make(method)
    uncertain = torch.tensor([[16.0, 16.0, 48.0, 48.0]])
    with_it, without = gradient(network, uncertain=[uncertain]), gradient(network)
    if method == "rpn":  # samples: the anchor that is the box itself (size 32, ratio 1) can't be among them
        assert with_it[7, 8, 8] == 0
    else:
        assert (with_it[:, 7:10, 7:10] == 0).all()
        assert (without[:, 7:10, 7:10] > 0).all()
        assert (with_it[:, 12:, 12:] > 0).all()


@methods
def test_a_lesion_under_an_uncertain_box_stays_one(method: Method) -> None:
    network = make(method)
    lesion = torch.tensor([[26.0, 26.0, 38.0, 38.0]])
    asked = gradient(network, boxes=[lesion], uncertain=[torch.tensor([[8.0, 8.0, 56.0, 56.0]])])
    rows, columns = np.nonzero((asked < 0).any(dim=0).numpy())
    assert len(rows) > 0
    assert set(rows) | set(columns) <= {7, 8, 9}


@methods
def test_outputs_that_follow_the_gradient_become_the_lesion(method: Method) -> None:
    """What the losses ask for is what decoding reads: in the right unit, order and place."""
    network = make(method)
    outputs = tuple(part.float().clamp(-2.0, 2.0).requires_grad_() for part in raw(network, 1))
    lesion = torch.tensor([[21.0, 22.0, 39.0, 46.0]])
    optimizer = torch.optim.Adam(outputs, lr=0.05)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.05 if step < 200 else 0.005
        classification, box = losses(network, outputs, [lesion])
        optimizer.zero_grad()
        (classification + network.BOX_WEIGHT * box).backward()
        optimizer.step()
    with torch.no_grad():
        scores, boxes = network.decode(outputs)
    assert scores[0].max() > 0.5
    torch.testing.assert_close(boxes[0, scores[0].argmax()], lesion[0], rtol=0, atol=0.5)


@methods
def test_a_box_for_every_place_with_a_probability(method: Method) -> None:
    network = make(method)
    with torch.no_grad():
        scores, boxes = network.decode(network(torch.randn(3, 6, 5, 7)))
    count = 5 * 7 * (15 if method == "rpn" else 1)
    assert scores.shape == (3, count)
    assert boxes.shape == (3, count, 4)
    assert ((scores > 0) & (scores < 1)).all()
    assert (boxes[..., 2:] > boxes[..., :2]).all()


PERFECT: dict[Method, Callable[[], Outputs]] = {
    # pixel (row 1, column 2) lies at x = 8, y = 4; the box runs from x 4 to 16 and from y 2 to 10
    "afp": lambda: (at_pixel([5.0]), at_pixel([1.0, 0.5, 2.0, 1.5])),
    "fcos": lambda: (at_pixel([5.0]), at_pixel([5.0]), at_pixel([1.0, 0.5, 2.0, 1.5])),
    "centernet": lambda: (at_pixel([5.0]), at_pixel([0.5, 0.5]), at_pixel([3.0, 2.0])),
}


def at_pixel(values: list[float]) -> Tensor:
    maps = torch.full((1, len(values), 3, 4), -9.0)
    maps[0, :, 1, 2] = torch.tensor(values)
    return maps


@pytest.mark.parametrize("method", PERFECT)
def test_decoding_of_a_pixel(method: Method) -> None:
    scores, boxes = make(method).decode(PERFECT[method]())
    assert scores.argmax() == 1 * 4 + 2
    torch.testing.assert_close(boxes[0, 6], torch.tensor([4.0, 2.0, 16.0, 10.0]))
