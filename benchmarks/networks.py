"""Sizes of the LENS presets: parameters and multiply-adds by part, one training step, and the parity of the export.

Run as ``python -m benchmarks.networks -o DIR``; writes DIR/networks.md.
"""

from __future__ import annotations

import resource
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lnsdk.bundle import read_bundle
from lnsdk.export.bundle import write_graphs, write_metadata
from lnsdk.export.graph import ExportGraph
from lnsdk.export.parity import check_graph
from lnsdk.pipelines.false_positives import pooling_weights
from lnsdk.trainers.lens.fpr.settings import boxes_of
from lnsdk.trainers.lens.gate import BACKENDS
from lnsdk.trainers.lens.graphs import fpr_graph, lens_graphs
from lnsdk.trainers.lens.losses import total_loss
from lnsdk.trainers.lens.settings import edge, paper
from lnsdk.trainers.lens.train import Batch, BatchLoss
from lnsdk.trainers.networks.fpr import EDGE as FPR_EDGE
from lnsdk.trainers.networks.fpr import PAPER as FPR_PAPER
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork, FprShape
from lnsdk.trainers.networks.lens import EDGE, PAPER, Lens, LensShape

EXPERTS = 4
SIDE = 512
"""Rows and columns of a slice."""


class Part(NamedTuple):
    """A part of a network: parameters, and multiply-adds of what it does for one centre slice or one patch."""

    name: str
    parameters: int
    multiply_adds: float


def lens_parts(shape: LensShape, rois: int) -> list[Part]:
    """Parts of the detector for a slice of `SIDE` pixels and so many proposals."""
    network = Lens(EXPERTS, shape).eval()
    head = network.head
    assert head is not None
    image = torch.rand(1, 3, SIDE, SIDE)
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0]]).expand(1, rois, 4)
    with torch.no_grad():
        features = network.image_features(image)
        fused = network.fuse(features, features, features)
        costs = [
            _multiply_adds(lambda: network.until_fusion(image)),
            _multiply_adds(lambda: network.deep(features.mid)),
            _multiply_adds(lambda: network.image_features(image)),
            _multiply_adds(lambda: network.fuse(features, features, features)),
            _multiply_adds(lambda: network.propose(fused)),
            _multiply_adds(lambda: head(fused, boxes)),
        ]
    until, deep, whole_image, fuse, propose, regions = costs
    backbone = network.backbone
    laterals = (network.lateral1, network.lateral2, network.lateral3)
    return [
        Part("stem, blocks 1 and 2, transitions (once per image)", _parameters(backbone, backbone.denseblock3), until),
        Part("block 3 and its lateral (as neighbour and as centre)", _parameters(backbone.denseblock3), 2 * deep),
        Part(
            "3D fusion, other laterals, pyramid",
            _parameters(network.fusion) + sum(map(_parameters, laterals)) + _parameters(network.merge),
            whole_image - until - deep + fuse - deep,
        ),
        Part(f"proposal networks of {EXPERTS} experts", _parameters(network.proposals), propose),
        Part(f"detection head, {rois} regions", _parameters(head), regions),
    ]


def fpr_parts(shape: FprShape) -> list[Part]:
    """False-positive reduction of one patch."""
    network = FalsePositiveNetwork(shape).eval()
    settings = shape.settings(boxes_of(shape), threshold=0.0)
    weights = pooling_weights(np.array([[10.0, 10.0, 4.0, 20.0, 20.0, 8.0]], np.float32), settings)
    inputs = {"patch": torch.rand(1, *settings.patch), **{name: torch.from_numpy(w) for name, w in weights.items()}}
    with torch.no_grad():
        cost = _multiply_adds(lambda: network(**inputs))
    return [Part("false-positive reduction, one patch", _parameters(network), cost)]


def training_step(preset: Callable[..., object]) -> tuple[float, float, float]:
    """Seconds forward and backward of one group of 9 x `SIDE` x `SIDE`, and the peak memory of this process in GB.

    The step before it, in which the engine prepares its convolutions, is not timed.
    """
    settings = preset(from_scratch=True, bfloat16=False, crop=SIDE, batch=1)
    torch.manual_seed(0)
    loss = BatchLoss(Lens(EXPERTS, settings.shape), settings)  # type: ignore[attr-defined,arg-type]
    none = torch.zeros(0, 4)
    box = torch.tensor([[100.0, 100.0, 130.0, 120.0]])
    batch = Batch(0, 255 * torch.rand(1, 9, SIDE, SIDE), [box], [none], [none])
    total_loss(*loss(batch, np.random.default_rng(0))).backward()
    loss.zero_grad()
    start = time.perf_counter()
    losses = total_loss(*loss(batch, np.random.default_rng(0)))
    forward = time.perf_counter() - start
    start = time.perf_counter()
    losses.backward()
    backward = time.perf_counter() - start
    gradients = [p.grad for p in loss.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    return forward, backward, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def export_parity(graphs: tuple[ExportGraph, ...]) -> list[str]:
    """Largest difference of every graph in every backend from torch, over batches of 1 and 2, as table rows."""
    rows = []
    with TemporaryDirectory() as folder:
        path = Path(folder)
        write_graphs(path, graphs)
        write_metadata(path, {"version": "0"}, {"task": "detector", "name": "networks"}, graphs)
        bundle = read_bundle(path)
        for graph in graphs:
            inputs = [graph.make_inputs(batch, 128, 160) for batch in (1, 2)]
            found = check_graph(graph, bundle.graph(graph.name), BACKENDS, inputs)
            for backend in BACKENDS:
                worst = max(row.difference for row in found if row.backend == backend)
                rows.append(f"| {graph.name} | {backend} | {worst:.1e} |")
    return rows


def report() -> str:
    """The whole of it in Markdown."""
    lines = [f"# LENS presets\n\nOne centre slice of {SIDE} x {SIDE}; image features are reused by its neighbours.\n"]
    for name, shape, fpr, rois, preset in (  # the smaller first: peak memory never falls
        ("edge", EDGE, FPR_EDGE, 100, edge),
        ("paper", PAPER, FPR_PAPER, 300, paper),
    ):
        parts = lens_parts(shape, rois)
        lines += [f"## {name}\n", "| part | parameters | multiply-adds |", "|---|--:|--:|"]
        lines += [f"| {p.name} | {p.parameters:,} | {p.multiply_adds / 1e9:.3f} G |" for p in parts]
        total = Part("detector", sum(p.parameters for p in parts), sum(p.multiply_adds for p in parts))
        lines += [
            f"| **{p.name}** | {p.parameters:,} | {p.multiply_adds / 1e9:.3f} G |" for p in (total, *fpr_parts(fpr))
        ]
        forward, backward, memory = training_step(preset)
        lines.append(
            f"\nOne training step on 9 x {SIDE} x {SIDE} in float32, {torch.get_num_threads()} CPU threads, torch "
            f"{torch.__version__}: forward {forward:.1f} s, backward {backward:.1f} s, {memory:.1f} GB at the peak of "
            "the process; every gradient finite.\n"
        )
        torch.manual_seed(0)
        graphs = (*lens_graphs(Lens(EXPERTS, shape)), fpr_graph(FalsePositiveNetwork(fpr)))
        lines += ["| graph | backend | largest difference from torch |", "|---|---|--:|", *export_parity(graphs), ""]
    return "\n".join(lines)


def _multiply_adds(run: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 2


def _parameters(module: nn.Module, without: nn.Module | None = None) -> int:
    count = sum(p.numel() for p in module.parameters())
    return count if without is None else count - _parameters(without)


def main() -> None:
    """Write the report."""
    parser = ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of networks.md; made when missing")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "networks.md").write_text(report())


if __name__ == "__main__":
    main()
