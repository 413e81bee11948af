"""Domain attention: against the formula, looped, and inside the network."""

import numpy as np
import pytest
import torch

from lnsdk.trainers.networks.adaptation import DomainAttention
from lnsdk.trainers.networks.lens import ImageFeatures, Lens
from tests.trainers.lens.tiny import TINY


def test_channels_are_rescaled_by_the_adapters_in_proportion_to_the_attention() -> None:
    torch.manual_seed(0)
    module = DomainAttention(6, 3, reduction=2)
    x = torch.randn(2, 6, 4, 5)
    weights = {name: value.detach().numpy() for name, value in module.named_parameters()}
    with torch.no_grad():
        found = module(x).numpy()
    for n in range(2):
        pooled = x[n].numpy().mean(axis=(1, 2))
        attention = np.exp(weights["attention.weight"] @ pooled + weights["attention.bias"])
        mixed = np.zeros(6)
        for d in range(3):
            first, second = f"adapters.{d}.0", f"adapters.{d}.2"
            hidden = np.maximum(weights[f"{first}.weight"] @ pooled + weights[f"{first}.bias"], 0)
            adapter = weights[f"{second}.weight"] @ hidden + weights[f"{second}.bias"]
            mixed += attention[d] / attention.sum() * adapter
        expected = x[n].numpy() / (1 + np.exp(-mixed))[:, None, None]
        np.testing.assert_allclose(found[n], expected, rtol=1e-5, atol=1e-6)


def test_few_channels_keep_a_hidden_unit() -> None:
    assert DomainAttention(4, 2)(torch.ones(1, 4, 3, 3)).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("wrong", [(0, 2, 16), (4, 0, 16), (4, 2, 0)])
def test_sizes_must_be_positive(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be positive, got 0"):
        DomainAttention(*wrong)


def test_network_without_it_has_no_more_weights() -> None:
    plain, adapted = Lens(2, TINY), Lens(2, TINY, domain_attention=True)
    more = set(adapted.state_dict()) - set(plain.state_dict())
    assert set(plain.state_dict()) <= set(adapted.state_dict())
    assert {name.split(".")[1] for name in more} == {"0", "1", "2"}
    assert all(name.startswith("adaptation.") for name in more)


def test_every_place_matters_and_learns() -> None:
    torch.manual_seed(0)
    network = Lens(2, TINY, domain_attention=True)
    network.forward_training(255 * torch.rand(1, 9, 32, 32)).square().sum().backward()
    for name, parameter in network.adaptation.named_parameters():
        if "attention" in name or name.endswith("2.bias"):  # the one hidden unit of so small an adapter may be off
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_reuse_of_an_image_gives_what_recomputing_gives() -> None:
    torch.manual_seed(0)
    network = Lens(2, TINY, domain_attention=True).eval()
    slices = 255 * torch.rand(9, 32, 48)
    with torch.no_grad():
        features = network.image_features(slices.unflatten(0, (3, 3)))
        reused = network.fuse(*(ImageFeatures(*(part[i : i + 1] for part in features)) for i in range(3)))
        recomputed = network.forward_training(slices[None])
    torch.testing.assert_close(reused, recomputed, rtol=1e-4, atol=1e-4)
