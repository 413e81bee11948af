"""A graph to TorchScript, for runtimes that read only that."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from lnsdk.export.graph import ExportGraph


def export_torchscript(graph: ExportGraph, folder: Path) -> Path:
    """Write `folder`/NAME.ts, traced and frozen; sizes stay dynamic (the parity gate checks it).

    Tracing freezes torch's settings into every convolution; TensorFloat-32, which it allows by itself, is not among
    them: on a GPU float32 is float32.

    Parameters
    ----------
    graph : ExportGraph
        What to export.
    folder : Path
        Exists.

    Returns
    -------
    Path
        The file.
    """
    path = folder / f"{graph.name}.ts"
    with warnings.catch_warnings(), torch.no_grad():
        # torch.jit is deprecated, and kept here on purpose: it stays an artefact that other runtimes need
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=FutureWarning)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            traced = torch.jit.trace(graph.module, graph.make_inputs(2, 64, 96), check_trace=False)
        torch.jit.freeze(traced).save(path)
    return path
