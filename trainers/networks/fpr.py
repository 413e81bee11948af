"""3D false-positive reduction: an inflated ResNet-18 that classifies a patch around a 3D box (LENS IV-D, VI-B).

Source: Yan et al., "Learning from Multiple Datasets with Heterogeneous and Partial Labels for Universal Lesion
Detection in CT", section IV-D and figure 2; ResNet-18 is its reference [53], inflation its references [54] and [58].

Filters of blocks 1 to 3 are 1x3x3. Such a filter sees one slice, so these blocks are written as 2D layers over the
slices of all patches: the same numbers, by operators that every engine runs fast. Only block 4 has 3D filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lnsdk.pipelines.settings import FalsePositiveSettings
from lnsdk.trainers.networks.imagenet import read_imagenet
from lnsdk.trainers.networks.lens import FULL_WINDOW, Windows

STRIDES = (4, 8, 16)
"""Patch pixels per feature pixel of blocks 1 to 3: feature pixel i is centred at patch pixel stride x i."""

PATCH_MULTIPLE = 32
"""Rows and columns of a patch are a multiple of this, the stride of block 4."""


@dataclass(frozen=True)
class FprShape:
    """Sizes of the network; the defaults are the paper's where it states one.

    Attributes
    ----------
    patch : tuple of int
        Size (z, y, x) of the input in samples of 2 x 0.8 x 0.8 mm. The paper does not state it; 24 x 96 x 96 is a
        block of 48 x 77 x 77 mm, which leaves room around all but the largest lesions.
    stem_kernel : int
        Side of the stem's filters (7 in ResNet-18).
    widths : tuple of int
        Channels of blocks 1 to 4 (64, 128, 256, 512 in ResNet-18); the stem has as many as block 1.
    layers : int
        Basic blocks of each of the four (2 in ResNet-18).
    bins : tuple of int
        Parts (z, y, x) of a box in which the features of blocks 1 to 3 are averaged. The paper does not state it.
    windows : tuple of (float, float)
        HU windows into which the input is split, as in `lnsdk.trainers.networks.lens.LensShape`.
    """

    patch: tuple[int, int, int] = (24, 96, 96)
    stem_kernel: int = 7
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    layers: int = 2
    bins: tuple[int, int, int] = (3, 3, 3)
    windows: tuple[tuple[float, float], ...] = (FULL_WINDOW,)

    def __post_init__(self) -> None:
        if self.patch[0] < 1 or any(size < PATCH_MULTIPLE or size % PATCH_MULTIPLE for size in self.patch[1:]):
            raise ValueError(f"patch must have rows and columns in multiples of {PATCH_MULTIPLE}, got {self.patch}")

    def settings(self, boxes: int, threshold: float) -> FalsePositiveSettings:
        """What the runtime does around this network, with what the shape does not decide."""
        return FalsePositiveSettings(self.patch, self.bins, STRIDES, boxes, threshold)


PAPER = FprShape()
"""ResNet-18's sizes."""

EDGE = FprShape(
    patch=(16, 64, 64),
    stem_kernel=3,
    widths=(16, 32, 48, 64),
    windows=(FULL_WINDOW, (-1000.0, 200.0), (-160.0, 240.0)),
)
"""The same structure, thin enough for 50 boxes of a volume on two CPU cores: 0.5 M parameters and 0.12 billion
multiply-adds per patch of 32 x 51 x 51 mm; windows as those of the edge detector."""


class BasicBlock(nn.Module):
    """Two convolutions and the shortcut around them; filters of side 3 along all of their axes.

    Parameters
    ----------
    dimensions : int
        2 (filters within a slice) or 3.
    inputs, outputs : int
        Channels.
    stride : int
        Of the first convolution, along all of its axes.

    Notes
    -----
    Attribute names follow torchvision's, so that its ImageNet weights map one to one.
    """

    def __init__(self, dimensions: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dimensions == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv1 = conv(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = norm(outputs)
        self.conv2 = conv(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(conv(inputs, outputs, 1, stride=stride, bias=False), norm(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, ...), each axis divided by the stride."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        result: Tensor = self.relu(out + self.downsample(x))
        return result


class FalsePositiveNetwork(nn.Module):
    """From a patch and the pooling weights of its box to the logit of a lesion (IV-D).

    Features of blocks 1 to 3 are averaged in the parts of the 3D box, those of block 4 over the whole patch; one fully
    connected layer reads all of them.

    Parameters
    ----------
    shape : FprShape
        Sizes.

    Notes
    -----
    Block 4 halves the slices as it halves rows and columns: its stride of 2 is inflated like its filters.
    """

    def __init__(self, shape: FprShape) -> None:
        super().__init__()
        self.shape = shape
        self.windows = Windows(shape.windows)
        one, two, three, four = shape.widths
        kernel = shape.stem_kernel
        self.conv1 = nn.Conv2d(self.windows.count, one, kernel, stride=2, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(one)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _block(2, one, one, shape.layers, stride=1)
        self.layer2 = _block(2, one, two, shape.layers, stride=2)
        self.layer3 = _block(2, two, three, shape.layers, stride=2)
        self.layer4 = _block(3, three, four, shape.layers, stride=2)
        bins = shape.bins[0] * shape.bins[1] * shape.bins[2]
        self.classify = nn.Linear((one + two + three) * bins + four, 1)

    def forward(
        self, patch: Tensor, z: Tensor, y1: Tensor, x1: Tensor, y2: Tensor, x2: Tensor, y3: Tensor, x3: Tensor
    ) -> Tensor:
        """Return logits (N, 1).

        Parameters
        ----------
        patch : Tensor, (N, depth, height, width)
            Grid values 0..255.
        z, y1, x1, y2, x2, y3, x3 : Tensor, (N, bins, samples)
            From `lnsdk.pipelines.false_positives.pooling_weights`.
        """
        one, two, three = self.features(patch)
        pooled = (pool(one, z, y1, x1), pool(two, z, y2, x2), pool(three, z, y3, x3))
        whole = self.layer4(three.transpose(1, 2)).mean(dim=(2, 3, 4))
        logits: Tensor = self.classify(torch.cat((*(part.flatten(1) for part in pooled), whole), dim=1))
        return logits

    def features(self, patch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps of blocks 1 to 3, each (N, depth, channels, h, w), of patches (N, depth, height, width)."""
        depth, height, width = self.shape.patch
        slices = patch.reshape(-1, 1, height, width)
        one = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(self.windows(slices))))))
        two = self.layer2(one)
        three = self.layer3(two)
        a, b, c = (level.reshape(-1, depth, *level.shape[1:]) for level in (one, two, three))
        return a, b, c


def pool(features: Tensor, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """RoI pooling of 3D boxes by three matrix products, one per axis.

    Parameters
    ----------
    features : Tensor, (N, depth, channels, h, w)
        Feature maps.
    z, y, x : Tensor, (N, bins, depth), (N, bins, h), (N, bins, w)
        Shares of the samples in each bin of the box.

    Returns
    -------
    Tensor, (N, bins z, channels, bins y, bins x)
    """
    _, depth, channels, height, width = features.shape
    along_z = z @ features.reshape(-1, depth, channels * height * width)
    along_x = along_z.reshape(-1, z.shape[1] * channels * height, width) @ x.transpose(1, 2)
    rows = along_x.reshape(-1, z.shape[1], channels, height, x.shape[1])
    return y[:, None, None] @ rows


def load_imagenet(network: FalsePositiveNetwork, path: Path) -> None:
    """Inflate torchvision's ImageNet weights of ResNet-18 into a network of its sizes (VI-B, reference [58]).

    Parameters
    ----------
    network : FalsePositiveNetwork
        With ResNet-18's sizes and one window.
    path : Path
        `.safetensors`, or a torch file with the state dictionary of `torchvision.models.resnet18`.

    Raises
    ------
    InputError
        ``imagenet`` when the file cannot be read, lacks a weight or holds one of another size.

    Notes
    -----
    The grid has one channel where ImageNet has three: three equal channels through the stem's filters are one channel
    through their sum. Block 4's filters repeat along z, divided by their number, so that a patch of equal slices gives
    what the 2D network gives.
    """
    own = {
        name: value
        for name, value in network.state_dict().items()
        if not (name.startswith("classify") or name.endswith("num_batches_tracked"))
    }
    weights = read_imagenet(path, "ResNet-18", {name: _shape_in_file(name, value) for name, value in own.items()})
    network.load_state_dict({name: _inflate(name, weights[name], value) for name, value in own.items()}, strict=False)


def _block(dimensions: int, inputs: int, outputs: int, layers: int, stride: int) -> nn.Sequential:
    """A ResNet block: basic blocks in a row, the first of which changes size and channels."""
    first = BasicBlock(dimensions, inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(dimensions, outputs, outputs, 1) for _ in range(layers - 1)))


def _shape_in_file(name: str, value: Tensor) -> tuple[int, ...]:
    """Shape of a weight in torchvision's network: three input channels, no filters along z."""
    if name == "conv1.weight":
        return value.shape[0], 3, *value.shape[2:]
    return (*value.shape[:2], *value.shape[3:]) if value.ndim == 5 else tuple(value.shape)


def _inflate(name: str, weight: Tensor, target: Tensor) -> Tensor:
    if name == "conv1.weight":
        return weight.sum(dim=1, keepdim=True)
    if target.ndim == 5:
        depth = target.shape[2]
        return weight.unsqueeze(2).expand(-1, -1, depth, -1, -1) / depth
    return weight
