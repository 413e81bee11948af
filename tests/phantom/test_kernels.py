"""The painters do the same compiled and as plain Python, and paint what geometry says."""

from collections.abc import Callable

import numpy as np
import pytest

from lnsdk.phantom import kernels
from lnsdk.phantom.canvas import Canvas, curve, smooth_steps, superellipse
from lnsdk.phantom.organs import Organ

SHAPE, SPACING, ORIGIN = (6, 24, 26), (1.1, 0.9, 2.0), (-14.0, -11.0, -5.0)


def _canvas() -> Canvas:
    return Canvas(SHAPE, SPACING, ORIGIN)


def _paint_outline(canvas: Canvas) -> None:
    z = np.arange(6.0)
    canvas.outline(np.stack([z - 2, 0 * z], axis=1), superellipse(9 - z, 3 + z), 40.0, Organ.LIVER)


def _paint_ellipsoid(canvas: Canvas) -> None:
    canvas.ellipsoid((0, 0, 0), (8, 5, 4), 40.0, Organ.LIVER, power=2.5, wobble=0.1, phase=1.0, level=2.0)


def _paint_tube(canvas: Canvas) -> None:
    canvas.tube([(-9, -6, -4, 2.0), (0, 0, 0, 0.4), (8, 6, 4, 1.5)], 40.0, Organ.VESSEL)


@pytest.mark.parametrize(
    ("paint", "name"),
    [(_paint_outline, "PAINT_OUTLINE"), (_paint_ellipsoid, "PAINT_ELLIPSOID"), (_paint_tube, "PAINT_TUBES")],
)
def test_painters_do_the_same_without_the_compiler(
    paint: Callable[[Canvas], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = _canvas()
    paint(compiled)
    monkeypatch.setattr(f"lnsdk.phantom.canvas.{name}", getattr(kernels, name).function)
    plain = _canvas()
    paint(plain)
    assert (compiled.organ != Organ.AIR).sum() > 20
    np.testing.assert_allclose(compiled.hu, plain.hu, atol=0.01)
    np.testing.assert_array_equal(compiled.organ, plain.organ)


def test_blur_and_finish_do_the_same_without_the_compiler() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(9, 11)).astype(np.float32)
    taps = np.array([0.25, 0.5, 0.25], dtype=np.float32)
    out, plain = np.empty((11, 9), np.float32), np.empty((11, 9), np.float32)
    kernels.BLUR_ROWS(image, taps, out)
    kernels.BLUR_ROWS.function(image, taps, plain)
    np.testing.assert_allclose(out, plain, atol=1e-6)
    padded = np.pad(image, ((0, 0), (1, 1)), mode="edge")
    np.testing.assert_allclose(out.T, 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:], atol=1e-6)

    organ = rng.integers(0, len(Organ), (9, 11)).astype(np.uint8)
    field = rng.normal(size=(5, 5, 5)).astype(np.float32)
    heights, pitches, slopes = (rng.uniform(1, 9, len(Organ)).astype(np.float32) for _ in range(3))
    results = []
    for finish in (kernels.FINISH_SLICE, kernels.FINISH_SLICE.function):
        voxels = np.empty((9, 11), np.int16)
        place = (np.array(SPACING), 7.5, 0.3, np.array([5.0, 4.0]))
        finish(100 * image, organ, image, field, heights, pitches, slopes, *place, voxels)
        results.append(voxels.astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1


def test_an_ellipsoid_fills_its_volume() -> None:
    canvas = Canvas((40, 60, 60), (0.5, 0.5, 1.0), (-15, -15, -20))
    canvas.ellipsoid((0.2, 0.1, 0.3), (9, 7, 12), 0.0, Organ.LIVER)
    filled = float((canvas.hu + 1000.0).sum()) / 1000.0 * 0.25
    assert filled == pytest.approx(4.0 / 3.0 * np.pi * 9 * 7 * 12, rel=0.02)


def test_a_tube_thinner_than_a_voxel_fills_its_share() -> None:
    canvas = Canvas((20, 20, 40), (1.0, 1.0, 1.0), (-20, -10, -10))
    canvas.tube([(-30, 0.0, 0.0, 0.25), (30, 0.0, 0.0, 0.25)], 0.0, Organ.VESSEL)
    per_mm = float((canvas.hu[:, :, 20] + 1000.0).sum()) / 1000.0
    assert 0.3 * np.pi * 0.25**2 < per_mm < 2.5 * np.pi * 0.25**2
    assert not (canvas.organ == Organ.VESSEL).any()


def test_painting_within_an_organ_leaves_the_rest_and_the_labels() -> None:
    canvas = _canvas()
    canvas.ellipsoid((0, 0, 0), (8, 8, 8), -100.0, Organ.FAT)
    before = canvas.organ.copy()
    canvas.segments(np.array([[-12.0, 0, 0, 1.5, 12.0, 0, 0, 1.5]]), 40.0, Organ.VESSEL, within=Organ.FAT)
    np.testing.assert_array_equal(canvas.organ, before)
    assert (canvas.hu > 0).any()
    assert canvas.hu[before == Organ.AIR].max() < -400.0


def test_curves_pass_their_points_and_steps_keep_their_ends() -> None:
    points = np.array([[0.0, 0, 0], [10, 5, 0], [20, 0, 5]])
    line = curve(points, step=1.0)
    for point in points:
        assert np.linalg.norm(line - point, axis=1).min() < 1e-9
    values = smooth_steps(np.array([-5.0, 0.0, 5.0, 10.0, 20.0]), [(0, 1.0), (10, 3.0)])
    assert values[[0, 1, 3, 4]] == pytest.approx([1.0, 1.0, 3.0, 3.0])
    assert 1.0 < values[2] < 3.0
