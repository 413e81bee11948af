"""The picture of a curve: where its line and band are, and that it can be drawn of anything."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lnsdk import BackendUnavailable
from lnsdk.metrics import Froc, froc
from lnsdk.report.curve import Line, Panel, draw_curves, fraction, require_matplotlib

UNIT = [0.0, 0, 0, 1, 1, 1]
ELSEWHERE = [5.0, 5, 5, 6, 6, 6]
BLUE = np.array([31, 119, 180])
"""The first line's colour in matplotlib."""


def curve(score: float, bootstraps: int = 0, **settings: Any) -> Froc:
    """Two volumes with a lesion each; one is found, at this score, and the other volume has a false one at 0.5."""
    predictions = [([UNIT], [score]), ([ELSEWHERE], [0.5])]
    return froc(predictions, [[UNIT], [UNIT]], bootstraps=bootstraps, **settings)


def picture(folder: Path, lines: list[Line], title: str = "title") -> NDArray[np.int64]:
    draw_curves(folder / "curve.png", [Panel("panel", lines)], title, hit="3D IoBB of at least 0.3")
    with Image.open(folder / "curve.png") as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)


def inside(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """What lies between the axes' frame: the outermost dark rows and columns that run over most of the picture."""
    dark = (pixels < 60).all(axis=2)
    rows = np.flatnonzero(dark.mean(axis=1) > 0.6)
    columns = np.flatnonzero(dark.mean(axis=0) > 0.6)
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def heights(pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Height of the line at each eighth of the axis, as sensitivity: NaN where there is none."""
    axes = inside(pixels)
    is_line = (np.abs(axes - BLUE).sum(axis=2) < 30)[:, np.linspace(5, axes.shape[1] - 5, 8).astype(int)]
    rows = np.arange(len(axes))[:, None]
    count = is_line.sum(axis=0)
    middle = np.divide((is_line * rows).sum(axis=0), count, out=np.full(8, np.nan), where=count > 0)
    return np.asarray(1 - middle / (len(axes) - 1))


def test_the_line_is_where_the_curve_is(tmp_path: Path) -> None:
    found_first = heights(picture(tmp_path, [Line("a", curve(0.9), main=True)]))
    np.testing.assert_allclose(found_first, 0.5, atol=0.01)
    # the false positive comes first: nothing is found left of 1/2 per volume, a third of the way along the axis
    found_last = heights(picture(tmp_path, [Line("a", curve(0.1), main=True)]))
    np.testing.assert_allclose(found_last[3:], 0.5, atol=0.01)
    assert not (found_last[:2] > 0.1).any()


def test_the_band_is_drawn_with_bootstraps_only(tmp_path: Path) -> None:
    def shaded(bootstraps: int) -> float:
        axes = inside(picture(tmp_path, [Line("a", curve(0.9, bootstraps), main=True)]))
        faint = 0.85 * 255 + 0.15 * BLUE
        return float((np.abs(axes - faint).sum(axis=2) < 8).mean())

    assert shaded(0) == 0
    assert shaded(200) > 0.5  # of two volumes of which one is found, resamples find none, half or all


def test_a_panel_for_each(tmp_path: Path) -> None:
    panels = [Panel(name, [Line(name, curve(0.9))]) for name in ("by type", "by size")]
    draw_curves(tmp_path / "two.png", panels, "two", hit="hit", dpi=50)
    draw_curves(tmp_path / "one.png", panels[:1], "one", hit="hit", dpi=50)
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.width == pytest.approx(2 * one.width, abs=1)


@pytest.mark.parametrize("false_positives", [(0,), (0, 1), (1,), (0.01, 100), (1, 2, 3, 4)])
def test_any_false_positives_can_be_drawn(tmp_path: Path, false_positives: tuple[float, ...]) -> None:
    picture(tmp_path, [Line("a", curve(0.9, 5, false_positives=false_positives), main=True)])


def test_a_silent_detector_and_names_that_are_no_formulas(tmp_path: Path) -> None:
    silent = froc([([], [])], [[UNIT]], bootstraps=5)
    picture(tmp_path, [Line(r"$\nothing{$", silent, main=True)], r"$\frac{$.json")


def test_fractions() -> None:
    assert [fraction(value) for value in (0.125, 0.25, 1, 1.5, 8)] == ["1/8", "1/4", "1", "3/2", "8"]
    assert [fraction(value) for value in (0.01, 0.33, 2.37)] == ["0.01", "0.33", "2.37"]


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'lnsdk\[train\]'"):
        require_matplotlib()
