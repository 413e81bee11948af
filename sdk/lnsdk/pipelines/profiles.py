"""The shapes that a detector's graphs meet, for engines that are built for a range of shapes."""

from collections.abc import Mapping

from lnsdk.backends.base import Profile, Shape, Signature
from lnsdk.pipelines.settings import FPR, Settings

USUAL_SIDE, LARGEST_SIDE = 512, 1024
"""Rows and columns of the grid that engines are made fastest for (the paper's largest, LENS VI-A), and the most that
they take: 819 mm at 0.8 mm, more than a scanner's field of view."""


def input_profiles(graphs: Mapping[str, Signature], settings: Settings) -> dict[str, Profile]:
    """Return smallest, usual and largest shape of every input of every graph.

    Parameters
    ----------
    graphs : mapping of str to Signature
        A detector's.
    settings : Settings
        Of the same detector: largest batch, proposals, strides.
    """
    return {
        graph: {name: _shapes(graph, name, shape, settings) for name, shape in signature.inputs.items()}
        for graph, signature in graphs.items()
    }


def _shapes(
    graph: str, name: str, shape: Shape, settings: Settings
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The first axis is the batch; what else is dynamic are proposals, or rows and columns at the input's stride."""
    smallest, usual, largest = (
        [1 if name == "rois" else side // _stride(graph, name, settings)] * (len(shape) - 1)
        for side in (settings.multiple, USUAL_SIDE, LARGEST_SIDE)
    )
    if name == "rois":
        usual = largest = [settings.post_nms] * (len(shape) - 1)
    batches = (1, settings.max_batch, settings.max_batch)
    small, middle, large = (
        (batch, *(size if fixed is None else fixed for size, fixed in zip(sizes, shape[1:], strict=True)))
        for batch, sizes in zip(batches, (smallest, usual, largest), strict=True)
    )
    return small, middle, large


def _stride(graph: str, name: str, settings: Settings) -> int:
    """Grid pixels per pixel of an input."""
    if graph in ("image", FPR):
        return 1
    return settings.stride if name.startswith(("shallow", "features")) else settings.multiple
