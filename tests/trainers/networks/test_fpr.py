"""The network of false-positive reduction: sizes, costs, inflated filters, pooling, and its exported graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

from lnsdk.backends import Graph
from lnsdk.errors import InputError
from lnsdk.export.onnx import export_onnx
from lnsdk.export.parity import check_graph
from lnsdk.export.torchscript import export_torchscript
from lnsdk.pipelines.false_positives import pooling_weights
from lnsdk.trainers.lens.graphs import fpr_graph
from lnsdk.trainers.networks.fpr import (
    EDGE,
    PAPER,
    STRIDES,
    BasicBlock,
    FalsePositiveNetwork,
    FprShape,
    load_imagenet,
    pool,
)
from lnsdk.trainers.networks.lens import FULL_WINDOW
from lnsdk.verification import ParityError
from tests.trainers.lens.fpr.tiny import TINY

PARAMETERS, MULTIPLY_ADDS = 1e6, 0.15e9
"""Most that the edge sizes may have, and cost per patch."""

EXPORTED_BYTES = 5.5e6
"""Most that the graph of the edge sizes may take in both formats, beside the detector's graphs in 12 MB."""

TENSORRT_OPERATORS = {
    "Add", "Clip", "Concat", "Conv", "Div", "Gemm", "MatMul", "MaxPool", "Mul", "ReduceMean", "Relu", "Reshape",
    "Sigmoid", "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators that the graph may use: all are in the list of TensorRT's ONNX parser, for 5-D tensors too."""


def f32(values: object) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def inputs(shape: FprShape, boxes: list[list[float]]) -> dict[str, torch.Tensor]:
    weights = pooling_weights(f32(boxes), shape.settings(50, 0.5))
    patch = 255 * torch.rand(len(boxes), *shape.patch, generator=torch.Generator().manual_seed(0))
    return {"patch": patch, **{name: torch.from_numpy(value) for name, value in weights.items()}}


def test_edge_is_small_and_cheap() -> None:
    network = FalsePositiveNetwork(EDGE).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(**inputs(EDGE, [[20, 20, 5, 40, 40, 10]]))
    multiply_adds = counter.get_total_flops() / 2
    print(f"edge: {parameters(network):,} parameters, {multiply_adds:,.0f} multiply-adds")
    assert parameters(network) <= PARAMETERS
    assert 0.05e9 < multiply_adds <= MULTIPLY_ADDS


def test_paper_is_resnet18() -> None:
    """ResNet-18 without its classifier; block 4's 3x3 filters are three deep."""
    network = FalsePositiveNetwork(PAPER)
    body = parameters(network) - parameters(network.classify)
    reference = resnet18(weights=None)
    flat = parameters(reference) - parameters(reference.fc)
    inflated = 2 * (256 * 512 + 3 * 512 * 512) * 9
    assert body == flat + inflated - 2 * 64 * 49  # one input channel instead of three
    kernels = {name: module.kernel_size for name, module in network.named_modules() if hasattr(module, "kernel_size")}
    assert kernels["conv1"] == (7, 7)
    assert {kernels[f"layer{i}.{j}.conv{k}"] for i in (1, 2, 3) for j in (0, 1) for k in (1, 2)} == {(3, 3)}
    assert {kernels[f"layer4.{j}.conv{k}"] for j in (0, 1) for k in (1, 2)} == {(3, 3, 3)}
    assert PAPER.windows == (FULL_WINDOW,)


def test_flat_filters_are_1x3x3_filters() -> None:
    torch.manual_seed(0)
    block = BasicBlock(2, 4, 6, 2).eval()
    volume = torch.rand(1, 4, 5, 8, 8)
    conv = torch.nn.Conv3d(4, 6, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False)
    conv.weight.data = block.conv1.weight.data.unsqueeze(2)
    slices = block.conv1(volume[0].transpose(0, 1))
    torch.testing.assert_close(slices, conv(volume)[0].transpose(0, 1))


def test_imagenet_weights_are_inflated(tmp_path: Path) -> None:
    """Slices that repeat give what the 2D network gives, away from the patch's ends along z."""
    torch.manual_seed(0)
    shape = FprShape(patch=(12, 32, 32))
    network, reference = FalsePositiveNetwork(shape).eval(), resnet18(weights=None).eval()
    for name, value in reference.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(0.5 + torch.rand_like(value))
    torch.save(reference.state_dict(), tmp_path / "resnet18.pth")
    load_imagenet(network, tmp_path / "resnet18.pth")
    image = 255 * torch.rand(1, 1, 32, 32)
    x = network.windows(image).expand(-1, 3, -1, -1)
    with torch.no_grad():
        levels = network.features(image.expand(1, 12, 32, 32))
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
        for layer, level in zip((reference.layer1, reference.layer2, reference.layer3), levels, strict=True):
            x = layer(x)
            torch.testing.assert_close(level[0], x.expand(12, -1, -1, -1), rtol=1e-4, atol=1e-4)
        deep = network.layer4(levels[2].transpose(1, 2))
        torch.testing.assert_close(deep[0, :, 3], reference.layer4(x)[0], rtol=1e-3, atol=1e-3)
        assert deep.shape == (1, 512, 6, 1, 1)


@pytest.mark.parametrize("damage", ["missing", "size", "file"])
def test_other_weights_are_refused(tmp_path: Path, damage: str) -> None:
    weights = resnet18(weights=None).state_dict()
    if damage == "missing":
        del weights["layer4.1.conv2.weight"]
    if damage == "size":
        weights["conv1.weight"] = weights["conv1.weight"][:, :1]
    path = tmp_path / "resnet18.pth"
    torch.save(weights, path)
    if damage == "file":
        path.write_bytes(b"nothing")
    message = {
        "missing": "got nothing",
        "size": r"expected conv1.weight of shape \(64, 3, 7, 7\)",
        "file": "cannot read",
    }
    with pytest.raises(InputError, match=message[damage]) as refused:
        load_imagenet(FalsePositiveNetwork(PAPER), path)
    assert refused.value.reason == "imagenet"


def test_pooling_gives_exact_means() -> None:
    """Boxes on the borders of samples: bins are plain means, of each patch's own box."""
    shape = FprShape(patch=(4, 32, 32), bins=(2, 1, 2))
    features = torch.arange(2 * 4 * 3 * 8 * 8.0).reshape(2, 4, 3, 8, 8)
    boxes = [[2, 6, -0.5, 18, 14, 3.5], [6, 2, 0.5, 14, 22, 2.5]]  # samples x 1..4, y 2..3; x 2..3, y 1..5
    w = inputs(shape, boxes)
    pooled = pool(features, w["z"], w["y1"], w["x1"])
    assert pooled.shape == (2, 2, 3, 1, 2)
    first, second = features
    torch.testing.assert_close(pooled[0, 0, :, 0, 0], first[:2, :, 2:4, 1:3].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(pooled[0, 1, :, 0, 1], first[2:, :, 2:4, 3:5].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(pooled[1, 0, :, 0, 0], second[1:2, :, 1:6, 2:3].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(pooled[1, 1, :, 0, 1], second[2:3, :, 1:6, 3:4].mean(dim=(0, 2, 3)))


def test_levels_lie_where_their_strides_say() -> None:
    """A bright pixel at (y, x) of the patch excites feature (y, x) / stride most, at all three levels."""
    torch.manual_seed(0)
    network = FalsePositiveNetwork(FprShape(patch=(2, 64, 64), widths=(4, 4, 4, 4), layers=1)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.05)
    patch = torch.full((1, 2, 64, 64), 127.5)  # the middle of the window
    patch[:, :, 32, 16] = 255
    with torch.no_grad():
        levels = network.features(patch)
    for stride, level in zip(STRIDES, levels, strict=True):
        y, x = divmod(int(level[0, 0, 0].argmax()), level.shape[4])
        assert (y * stride, x * stride) == (32, 16)


def test_the_box_decides() -> None:
    torch.manual_seed(0)
    network = FalsePositiveNetwork(TINY).eval()
    here, there = inputs(TINY, [[4, 4, 1, 12, 12, 4]]), inputs(TINY, [[18, 18, 4, 30, 28, 7]])
    with torch.no_grad():
        assert not torch.allclose(network(**here), network(**there))


@pytest.mark.parametrize("patch", [(0, 32, 32), (8, 48, 32), (8, 32, 0)])
def test_a_patch_that_does_not_divide_is_refused(patch: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        FprShape(patch=patch)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("edge")
    graph = fpr_graph(FalsePositiveNetwork(EDGE))
    export_onnx(graph, folder)
    export_torchscript(graph, folder)
    return folder


def test_exported_graph_gives_the_same_in_every_batch(exported: Path) -> None:
    torch.manual_seed(0)
    graph = fpr_graph(FalsePositiveNetwork(EDGE))
    stored = Graph("fpr", graph.signature, lambda suffix: (exported / f"fpr{suffix}").read_bytes())
    batches = [graph.make_inputs(batch, 0, 0) for batch in (1, 2, 7, 8)]
    rows = check_graph(graph, stored, ("onnx", "torchscript"), batches)
    assert [row.batch for row in rows] == [1, 1, 2, 2, 7, 7, 8, 8]
    torch.manual_seed(1)
    with pytest.raises(ParityError, match="output 'scores'"):
        check_graph(fpr_graph(FalsePositiveNetwork(EDGE)), stored, ("onnx", "torchscript"), batches[:1])


def test_exported_graph_suits_tensorrt(exported: Path) -> None:
    model = onnx.load(exported / "fpr.onnx")
    assert {node.op_type for node in model.graph.node} <= TENSORRT_OPERATORS
    assert sum(path.stat().st_size for path in exported.iterdir()) < EXPORTED_BYTES
