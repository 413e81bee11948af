"""The exported graphs of LENS: flat, named float32 tensors in and out, everything dynamic outside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim

from lnsdk.backends import Signature
from lnsdk.backends.base import Shape
from lnsdk.errors import InputError
from lnsdk.export.graph import ExportGraph
from lnsdk.pipelines.false_positives import pooling_weights
from lnsdk.pipelines.settings import FPR
from lnsdk.trainers.networks.boxes import STRIDE
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork
from lnsdk.trainers.networks.lens import ImageFeatures, Lens, RoiHead


class ImageGraph(nn.Module):
    """`image`: one image of three slices to the features that its neighbours reuse."""

    def __init__(self, network: Lens) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mid, shallow, deep."""
        features = self.network.image_features(image)
        return features.mid, features.shallow, features.deep


class FuseGraph(nn.Module):
    """`fuse`: three images' features to the centre's feature map and every expert's proposals."""

    def __init__(self, network: Lens) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        mid_prev: Tensor,
        mid: Tensor,
        mid_next: Tensor,
        shallow_prev: Tensor,
        shallow: Tensor,
        shallow_next: Tensor,
        deep_prev: Tensor,
        deep: Tensor,
        deep_next: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, centerness as probabilities and distances in grid pixels."""
        features = self.network.fuse(
            ImageFeatures(mid_prev, shallow_prev, deep_prev),
            ImageFeatures(mid, shallow, deep),
            ImageFeatures(mid_next, shallow_next, deep_next),
        )
        proposals = self.network.propose(features)
        return features, proposals.centerness.sigmoid(), proposals.distances * STRIDE


class HeadGraph(nn.Module):
    """`head`: features and boxes of slices to every expert's score and box offsets."""

    def __init__(self, head: RoiHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores as probabilities and offsets."""
        logits, offsets = self.head(features, rois)
        return logits.sigmoid(), offsets


class FprGraph(nn.Module):
    """`fpr`: patches and the pooling weights of their boxes to scores."""

    def __init__(self, network: FalsePositiveNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, patch: Tensor, z: Tensor, y1: Tensor, x1: Tensor, y2: Tensor, x2: Tensor, y3: Tensor, x3: Tensor
    ) -> tuple[Tensor]:
        """Return scores as probabilities."""
        return (self.network(patch, z, y1, x1, y2, x2, y3, x3).sigmoid(),)


def lens_graphs(network: Lens) -> tuple[ExportGraph, ExportGraph, ExportGraph]:
    """The three graphs of a network: image, fuse, head.

    Raises
    ------
    InputError
        ``proposal`` when the network has other proposals than LENS's own: the runtime decodes no others.
    """
    head = network.head
    if network.proposal != "afp" or head is None:
        raise InputError(
            "proposal",
            f"only networks with proposal='afp' are exported, got {network.proposal!r}: the runtime decodes no other "
            "proposals; evaluate this network from its checkpoint",
        )
    network = network.eval()
    experts = len(network.proposals)
    mid, pyramid = network.fusion.out_channels, network.shape.pyramid
    batch, height, width, rois = Dim("batch"), Dim("height", min=2), Dim("width", min=2), Dim("rois")
    coarse = {0: batch, 2: height, 3: width}
    fine = {0: batch, 2: 4 * height, 3: 4 * width}

    parts: dict[str, Shape] = {
        "mid": (None, mid, None, None),
        "shallow": (None, pyramid, None, None),
        "deep": (None, pyramid, None, None),
    }
    maps: dict[str, Shape] = {
        "features": (None, pyramid, None, None),
        "centerness": (None, experts, None, None),
        "distances": (None, experts, 4, None, None),
    }
    images = {f"{name}{place}": shape for name, shape in parts.items() for place in ("_prev", "", "_next")}
    boxes: dict[str, Shape] = {"features": maps["features"], "rois": (None, None, 4)}
    scores: dict[str, Shape] = {"scores": (None, None, experts), "offsets": (None, None, experts, 4)}

    def image_inputs(n: int, h: int, w: int) -> tuple[Tensor, ...]:
        return (255.0 * torch.rand(n, 3, h, w),)

    def fuse_inputs(n: int, h: int, w: int) -> tuple[Tensor, ...]:
        fused = [torch.randn(n, mid, h // 16, w // 16) for _ in range(3)]
        shallow = [torch.randn(n, pyramid, h // 4, w // 4) for _ in range(3)]
        deep = [torch.randn(n, pyramid, h // 16, w // 16) for _ in range(3)]
        return (*fused, *shallow, *deep)

    def head_inputs(n: int, h: int, w: int) -> tuple[Tensor, ...]:
        corner = torch.rand(n, 5, 2) * torch.tensor([w, h]) / 2
        return torch.randn(n, pyramid, h // 4, w // 4), torch.cat((corner, corner + 8 + 20 * torch.rand(n, 5, 2)), 2)

    return (
        ExportGraph(
            "image",
            ImageGraph(network).eval(),
            Signature({"image": (None, 3, None, None)}, parts),
            {"image": {0: batch, 2: 16 * height, 3: 16 * width}},
            image_inputs,
        ),
        ExportGraph(
            "fuse",
            FuseGraph(network).eval(),
            Signature(images, maps),
            {name: fine if name.startswith("shallow") else coarse for name in images},
            fuse_inputs,
        ),
        ExportGraph(
            "head",
            HeadGraph(head).eval(),
            Signature(boxes, scores),
            {"features": fine, "rois": {0: batch, 1: rois}},
            head_inputs,
        ),
    )


def fpr_graph(network: FalsePositiveNetwork) -> ExportGraph:
    """The graph of false-positive reduction. Of its sizes only the batch is dynamic: patches have one size."""
    network = network.eval()
    settings = network.shape.settings(boxes=1, threshold=0.0)
    depth, height, width = settings.patch
    signature = settings.signature

    def inputs(n: int, _height: int, _width: int) -> tuple[Tensor, ...]:
        low = torch.rand(n, 3) * torch.tensor([width, height, depth]) / 2
        boxes = torch.cat((low, low + 1 + low * torch.rand(n, 3)), dim=1)
        weights = pooling_weights(boxes.numpy(), settings)
        return 255.0 * torch.rand(n, *settings.patch), *map(torch.from_numpy, weights.values())

    batch = Dim("batch")
    return ExportGraph(
        FPR, FprGraph(network).eval(), signature, {name: {0: batch} for name in signature.inputs}, inputs
    )
