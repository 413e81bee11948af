"""What the exporters must know of a network graph: its module, its tensors, and how to make inputs of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lnsdk.backends import Signature

MakeInputs = Callable[[int, int, int], tuple[Tensor, ...]]
"""From batch, height and width of the grid to inputs in the graph's order."""


@dataclass(frozen=True)
class ExportGraph:
    """A graph to export.

    Attributes
    ----------
    name : str
        File name without its ending.
    module : nn.Module
        In evaluation mode, on the CPU.
    signature : Signature
        Names and shapes of inputs and outputs, None for a dynamic size.
    dynamic : mapping of str to mapping of int to Dim
        The dynamic dimensions of every input, as `torch.export.Dim`.
    make_inputs : callable
        Makes inputs that the network could meet.
    """

    name: str
    module: nn.Module
    signature: Signature
    dynamic: Mapping[str, Mapping[int, Any]]
    make_inputs: MakeInputs
