"""Domain adaptation of Table V: channel attention that adapts itself to the data set an image seems to come from.

Source: Wang et al., "Towards Universal Object Detection by Domain Attention" (CVPR 2019; reference [23] of the LENS
paper): the universal bank of squeeze-and-excitation (SE) adapters and the domain attention over it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION = 16
"""Channels over hidden units of an SE adapter (Hu et al., "Squeeze-and-Excitation Networks"; as in reference [23])."""


class DomainAttention(nn.Module):
    """A bank of SE adapters, mixed by what the image itself looks like: no data set has to be named.

    Parameters
    ----------
    channels : int
        Channels of the features.
    domains : int
        Adapters in the bank: one per data set.
    reduction : int
        Channels over hidden units of an adapter.

    Raises
    ------
    ValueError
        When one of them is not positive.
    """

    def __init__(self, channels: int, domains: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("domains", domains), ("reduction", reduction)):
            if value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        hidden = max(1, channels // reduction)
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))
            for _ in range(domains)
        )
        self.attention = nn.Linear(channels, domains)

    def forward(self, x: Tensor) -> Tensor:
        """Rescale every channel of features (N, C, H, W): sigmoid of the adapters' mean, weighted by the attention."""
        pooled = x.mean(dim=(2, 3))
        bank = torch.stack([adapter(pooled) for adapter in self.adapters], dim=2)
        weights = self.attention(pooled).softmax(dim=1)
        scale: Tensor = (bank @ weights.unsqueeze(2)).sigmoid()
        return x * scale.unsqueeze(3)
