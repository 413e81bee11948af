"""Draws free-response ROC curves as a PNG; needs matplotlib, which the `train` extra brings."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lnsdk.errors import BackendUnavailable
from lnsdk.metrics.froc import FALSE_POSITIVES, Froc, interpolate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID_POINTS = 400
"""Points at which a curve is drawn, evenly along the logarithmic axis."""

LARGEST_DENOMINATOR = 64
"""Of the fractions that stand for false positives below 1."""

MARGIN = 0.01
"""Of the axis of sensitivity beyond 0 and 1, so that lines at its ends are seen."""

PANEL_INCHES = (5.6, 4.8)
DOTS_PER_INCH = 110


class Line(NamedTuple):
    """One curve of a picture.

    Attributes
    ----------
    label : str
        Its name; lesions and mean sensitivity are added.
    curve : Froc
        What is drawn.
    main : bool
        Whether it is drawn thick, with the interval as a band.
    """

    label: str
    curve: Froc
    main: bool = False


class Panel(NamedTuple):
    """Curves that share axes: their title and its lines."""

    title: str
    lines: Sequence[Line]


def require_matplotlib() -> None:
    """Make sure that curves can be drawn, to be asked before anything long is computed.

    Raises
    ------
    BackendUnavailable
        When matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(
            f"picture of the curve: {error}; install it with `pip install 'lnsdk[train]'`"
        ) from error


def draw_curves(
    path: Path, panels: Sequence[Panel], title: str, *, hit: str, volume: str = "volume", dpi: int = DOTS_PER_INCH
) -> None:
    """Draw sensitivity over false positives, 1/8 to 8 or as far as asked for, on a logarithmic axis.

    Parameters
    ----------
    path : Path
        The PNG to write.
    panels : sequence of Panel
        Side by side; the axes of all of them run over the false positives of the first line.
    title : str
        Above all panels.
    hit : str
        What a hit is, such as ``"3D IoBB of at least 0.3"``.
    volume : str
        What false positives are counted by, in the singular.
    dpi : int
        Dots per inch; a panel is 5.6 by 4.8 inches.

    Raises
    ------
    BackendUnavailable
        When matplotlib is not installed.
    OSError
        When the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(panels), height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, parse_math=False)
    points = panels[0].lines[0].curve.false_positives
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(columns, panels, strict=True):
        _draw_panel(axes, panel, points, volume)
    columns[0].set_ylabel(f"sensitivity ({hit})")
    figure.savefig(path, dpi=dpi)


def fraction(value: float) -> str:
    """A number of false positives in words: 1/8 for 0.125, and 0.33 for 0.33, which is no such fraction."""
    exact = Fraction(value)
    return str(exact) if exact.denominator <= LARGEST_DENOMINATOR else f"{value:g}"


def _draw_panel(axes: "Axes", panel: Panel, points: NDArray[np.float64], volume: str) -> None:
    ends = _ends(points)
    for line in panel.lines:
        _draw_line(axes, line, np.geomspace(*ends, GRID_POINTS))
    ticks = [value for value in points if value > 0]
    axes.set_xscale("log", base=2)
    axes.set_xlim(*ends)
    axes.set_xticks(ticks)
    axes.set_xticklabels([fraction(value) for value in ticks])
    axes.minorticks_off()
    axes.set_ylim(-MARGIN, 1 + MARGIN)
    axes.set_title(panel.title, fontsize=10, parse_math=False)
    axes.set_xlabel(f"false positives per {volume}")
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize=8, loc="best").get_texts():
        text.set_parse_math(False)  # a dollar sign in a name is one


def _ends(points: NDArray[np.float64]) -> tuple[float, float]:
    """Where the axis begins and ends: at the outermost points, or at 1/8 and 8 where these leave no room."""
    positive = points[points > 0]
    first, last = positive.min(initial=FALSE_POSITIVES[-1]), positive.max(initial=FALSE_POSITIVES[0])
    return (float(first), float(last)) if first < last else (FALSE_POSITIVES[0], FALSE_POSITIVES[-1])


def _draw_line(axes: "Axes", line: Line, grid: NDArray[np.float64]) -> None:
    curve = line.curve
    label = f"{line.label} ({curve.lesions}): {curve.mean_sensitivity:.3f}"
    sensitivity = interpolate(grid, curve.curve_false_positives, curve.curve_sensitivity)
    (drawn,) = axes.plot(grid, sensitivity, label=label, linewidth=2 if line.main else 1.2)
    if line.main:
        axes.fill_between(curve.false_positives, *curve.interval.T, color=drawn.get_color(), alpha=0.15, linewidth=0)
