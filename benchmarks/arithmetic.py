"""How much the network computes, and how fast a processor could at best: multiply-adds, and the rate of a product."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lnsdk.trainers.networks.lens import Lens

SIDES = {"cpu": 2048, "cuda": 8192}
"""Rows of the square matrices whose product gives a device's peak."""

PRODUCTS = 10


def matrix_rate(device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Multiply-adds a second of the fastest of some products of matrices by torch; float32 is not TensorFloat-32."""
    side = SIDES[device]
    left, right, out = (torch.rand(side, side, device=device).to(dtype) for _ in range(3))
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return float(side**3 / min(seconds))


def multiply_adds(network: Lens, height: int, width: int) -> tuple[float, float]:
    """Multiply-adds for a slice of the grid, its image looked at once, and for a region of the head."""
    image = torch.rand(1, 3, height, width)
    with torch.no_grad(), FlopCounterMode(display=False) as slices:
        features = network.image_features(image)
        fused = network.fuse(features, features, features)
        network.propose(fused)
    assert network.head is not None
    with torch.no_grad(), FlopCounterMode(display=False) as regions:
        network.head(fused, torch.tensor([[[8.0, 8.0, 48.0, 48.0]]]))
    return slices.get_total_flops() / 2, regions.get_total_flops() / 2


class Counting:
    """A detector's head that counts the regions it is given, padding and all."""

    def __init__(self, head: Any) -> None:
        self._head = head
        self.regions = 0

    def run(self, inputs: Any) -> Any:
        """Run the head."""
        batch, count, _ = inputs["rois"].shape
        self.regions += batch * count
        return self._head.run(inputs)
