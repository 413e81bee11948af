"""An exported graph must give what the torch module gives, on real inputs and every batch size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lnsdk.backends import BACKENDS, Graph, Session
from lnsdk.export.graph import ExportGraph
from lnsdk.verification.lesions import ParityError

TOLERANCE = 1e-4
"""Largest difference of an output, relative to the largest magnitude in it (at least 1): float32 sums in another
order stay two orders below."""


@dataclass(frozen=True)
class GraphParity:
    """How far a backend's output is from torch's.

    Attributes
    ----------
    graph, backend, output : str
        Which.
    batch : int
        Rows of the inputs.
    difference : float
        Largest absolute difference over the largest magnitude of the reference (at least 1).
    """

    graph: str
    backend: str
    output: str
    batch: int
    difference: float


def compare_graph(graph: ExportGraph, session: Session, backend: str, inputs: Sequence[Tensor]) -> list[GraphParity]:
    """Run one set of inputs through torch and through an engine.

    Raises
    ------
    ParityError
        When an output differs by more than `TOLERANCE` or is not finite.
    """
    with torch.no_grad():
        reference = graph.module(*inputs)
    arrays = {name: value.numpy() for name, value in zip(graph.signature.inputs, inputs, strict=True)}
    outputs = session.run(arrays)
    rows = []
    for name, expected in zip(graph.signature.outputs, reference, strict=True):
        difference = _relative_difference(expected.numpy(), outputs[name])
        if not difference <= TOLERANCE:
            raise ParityError(
                f"graph {graph.name!r} in {backend} differs from torch: output {name!r}, batch {len(inputs[0])}, "
                f"relative difference {difference:.2g}, allowed {TOLERANCE:.2g}"
            )
        rows.append(GraphParity(graph.name, backend, name, len(inputs[0]), difference))
    return rows


def check_graph(
    graph: ExportGraph, read: Graph, backends: Iterable[str], batches: Iterable[Sequence[Tensor]]
) -> list[GraphParity]:
    """Compare a graph in every backend on every set of inputs; see `compare_graph`."""
    sessions = {name: BACKENDS[name].open(read, "cpu", "fp32", None) for name in backends}
    return [
        row
        for inputs in batches
        for name, session in sessions.items()
        for row in compare_graph(graph, session, name, inputs)
    ]


def _relative_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """NaN when either is not finite, so that no comparison with a bound can pass."""
    if expected.shape != found.shape:
        return float("nan")
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return float(np.abs(expected - found).max(initial=0.0)) / scale
