"""Truncated DenseNet: the convolutional stem and three dense blocks that LENS uses as its backbone.

Source: Huang et al., "Densely Connected Convolutional Networks" (reference [46] of the LENS paper); truncated after
the third block as in the network that LENS builds on (LENS IV-A, its reference [25]).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from lnsdk.trainers.networks.imagenet import read_imagenet


class DenseLayer(nn.Module):
    """Bottleneck of a dense block: BN-ReLU-1x1 conv, BN-ReLU-3x3 conv."""

    def __init__(self, inputs: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, bottleneck * growth, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.conv2 = nn.Conv2d(bottleneck * growth, growth, kernel_size=3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the `growth` new channels, (N, growth, H, W)."""
        x = self.conv1(self.relu(self.norm1(x)))
        out: Tensor = self.conv2(self.relu(self.norm2(x)))
        return out


class DenseBlock(nn.Module):
    """`layers` dense layers; each sees the block's input and every earlier layer's output."""

    def __init__(self, inputs: int, layers: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inputs + i * growth, growth, bottleneck) for i in range(layers))
        self.outputs = inputs + layers * growth

    def forward(self, x: Tensor) -> Tensor:
        """Return the input with all new channels behind it, (N, outputs, H, W)."""
        for layer in self.layers:
            x = torch.cat((x, layer(x)), dim=1)
        return x


class Transition(nn.Module):
    """BN-ReLU-1x1 conv to half the channels, then 2x2 average pooling."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.outputs = inputs // 2
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, self.outputs, kernel_size=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, inputs // 2, H / 2, W / 2)."""
        out: Tensor = self.pool(self.conv(self.relu(self.norm(x))))
        return out


class TruncatedDenseNet(nn.Module):
    """Stem, three dense blocks and the two transitions between them; nothing after the third block.

    Parameters
    ----------
    inputs : int
        Channels of the image.
    stem : int
        Channels after the first convolution (64 in DenseNet-121).
    stem_kernel : int
        Size of the first, stride-2 convolution (7 in DenseNet-121).
    blocks : tuple of int
        Layers of each block (6, 12, 24 in DenseNet-121).
    growth : int
        Channels that each layer adds (32 in DenseNet-121).
    bottleneck : int
        Width of the 1x1 convolution in units of `growth` (4 in DenseNet-121).

    Notes
    -----
    Attribute names follow torchvision's `densenet121().features`, so that its ImageNet weights map one to one.
    """

    def __init__(
        self, inputs: int, stem: int, stem_kernel: int, blocks: tuple[int, int, int], growth: int, bottleneck: int
    ) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, stem, stem_kernel, stride=2, padding=stem_kernel // 2, bias=False)
        self.norm0 = nn.BatchNorm2d(stem)
        self.relu0 = nn.ReLU(inplace=True)
        self.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
        self.denseblock1 = DenseBlock(stem, blocks[0], growth, bottleneck)
        self.transition1 = Transition(self.denseblock1.outputs)
        self.denseblock2 = DenseBlock(self.transition1.outputs, blocks[1], growth, bottleneck)
        self.transition2 = Transition(self.denseblock2.outputs)
        self.denseblock3 = DenseBlock(self.transition2.outputs, blocks[2], growth, bottleneck)

    def until_fusion(self, x: Tensor, adapt1: nn.Module, adapt2: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Return block 1 (stride 4), block 2 (stride 8) and transition 2 (stride 16) of images (N, inputs, H, W).

        `adapt1` and `adapt2` follow the blocks; `nn.Identity` leaves them as they are.
        """
        x = self.pool0(self.relu0(self.norm0(self.conv0(x))))
        block1 = adapt1(self.denseblock1(x))
        block2 = adapt2(self.denseblock2(self.transition1(block1)))
        return block1, block2, self.transition2(block2)


def load_imagenet(backbone: TruncatedDenseNet, path: Path) -> None:
    """Fill a DenseNet-121 backbone with torchvision's ImageNet weights.

    Parameters
    ----------
    backbone : TruncatedDenseNet
        With the sizes of DenseNet-121 and three input channels.
    path : Path
        `.safetensors`, or a torch file with the state dictionary of `torchvision.models.densenet121`.

    Raises
    ------
    InputError
        ``imagenet`` when the file cannot be read, lacks a weight or holds one of another size.
    """
    own = {key: value for key, value in backbone.state_dict().items() if not key.endswith("num_batches_tracked")}
    weights = read_imagenet(path, "DenseNet-121", {_torchvision_key(key): value.shape for key, value in own.items()})
    backbone.load_state_dict({key: weights[_torchvision_key(key)] for key in own}, strict=False)


def _torchvision_key(key: str) -> str:
    """`denseblock1.layers.0.norm1.weight` -> `features.denseblock1.denselayer1.norm1.weight`."""
    return "features." + re.sub(r"layers\.(\d+)", lambda match: f"denselayer{int(match[1]) + 1}", key)
