"""Upper abdomen of the phantom: diaphragm, liver, spleen, kidneys, stomach, gut and their vessels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.build import Build
from lnsdk.phantom.canvas import THETA, Canvas, rotation
from lnsdk.phantom.organs import Organ
from lnsdk.phantom.thorax import dome_radii
from lnsdk.phantom.trees import grow_tree

F64 = npt.NDArray[np.float64]

DIAPHRAGM_MM = 2.5


def paint_abdomen(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint the diaphragm and everything under it."""
    if canvas.heights[0] > 25.0 * build.tall:
        return
    _paint_diaphragm(canvas, build)
    _paint_retroperitoneum(canvas, build, rng)
    _paint_liver(canvas, build, rng)
    _paint_spleen_and_stomach(canvas, build, rng)
    _paint_bowel(canvas, build, rng)


def _paint_diaphragm(canvas: Canvas, build: Build) -> None:
    covered = []
    for side in (-1, 1):
        centers, radii = dome_radii(build, canvas.heights, side)
        radii = np.where(canvas.heights[:, None] > -96 * build.tall, radii, 0.0)
        canvas.outline(centers, radii, build.hu["muscle"], Organ.MUSCLE)
        covered.append((centers, radii))
    for centers, radii in covered:
        canvas.outline(centers, radii - DIAPHRAGM_MM, build.hu["fat"], Organ.FAT)


def _liver_outline(build: Build, z: F64, fullness: float) -> tuple[F64, F64]:
    """Centres and outlines of the right lobe: under the dome, then tapering to its lower tip."""
    h = z / build.tall
    centers, radii = dome_radii(build, z, -1)
    radii = np.where(radii > 0, radii - DIAPHRAGM_MM - 1.0, 0.0)
    base, tip = -78.0, -78.0 - 105.0 * fullness
    down = np.clip((base - h) / (base - tip), 0.0, 1.0)
    scale = np.sqrt(np.maximum(1.0 - down**2.0, 0.0))
    shrunk = radii * scale[:, None]
    centers = centers + np.stack([-18.0 * build.wide * (1 - scale), 4.0 * (1 - scale)], axis=1)
    wavy = 1.0 + 0.03 * np.sin(3 * THETA[None] + h[:, None] / 25.0) * (down > 0)[:, None]
    return centers, np.where(scale[:, None] > 0.05, shrunk * wavy, 0.0)


def _paint_liver(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    hu, w, d, t = build.hu, build.wide, build.deep, build.tall
    fullness = float(rng.uniform(0.75, 1.25))
    centers, radii = _liver_outline(build, canvas.heights, fullness)
    left_lobe = float(rng.uniform(0.8, 1.25))
    tilt = rotation(roll=12.0, yaw=8.0)
    canvas.ellipsoid((8 * w, -42 * d, -52 * t), (66 * left_lobe * w, 34 * d, 42 * t), hu["liver"], Organ.LIVER, tilt, power=2.2, wobble=0.05, phase=fullness * 9)
    canvas.outline(centers, radii, hu["liver"], Organ.LIVER)
    canvas.tube(np.array([(-24, 0, 0, 13), (-24, 4, -50, 12), (-21, 8, -110, 11.5), (-19, 6, -180, 11), (-18, 8, -240, 11)]) * (w, d, t, 1), hu["hepatic"], Organ.VESSEL)
    grid = canvas.heights
    inside = _points_in(centers, radii, grid, rng, 700)
    if len(inside) > 50:
        portal = np.array([-34 * w, -4 * d, -82 * t])
        canvas.segments(grow_tree(portal, 6.0, inside[:300], rng, leaf_radius=0.5), hu["portal"], Organ.VESSEL)
        canvas.segments(grow_tree(np.array([-26 * w, 2 * d, -12 * t]), 5.0, inside[300:], rng, leaf_radius=0.5), hu["hepatic"], Organ.VESSEL)
    canvas.tube(np.array([(-34, -4, -84, 6), (-16, -8, -104, 7), (0, -14, -124, 7), (2, -20, -200, 5.5)]) * (w, d, t, 1), hu["portal"], Organ.VESSEL)
    if rng.random() < 0.85:
        canvas.ellipsoid((-48 * w, -40 * d, -112 * t), (14, 15, 30), 35.0, Organ.OTHER, rotation(pitch=25), grow := 2.0)
        canvas.ellipsoid((-48 * w, -40 * d, -112 * t), (12.5, 13.5, 28.5), 8.0, Organ.OTHER, rotation(pitch=25), grow)


def _points_in(centers: F64, radii: F64, z: F64, rng: np.random.Generator, count: int) -> F64:
    area = (np.maximum(radii, 0.0) ** 2).sum(axis=1)
    if area.sum() <= 0:
        return np.empty((0, 3))
    level = rng.choice(len(z), size=count, p=area / area.sum())
    angle = rng.integers(0, radii.shape[1], size=count)
    rho = np.maximum(radii[level, angle] - 4.0, 0.0) * np.sqrt(rng.random(count))
    return np.stack([centers[level, 0] + rho * np.cos(THETA[angle]), centers[level, 1] + rho * np.sin(THETA[angle]), z[level]], axis=1)


def _paint_spleen_and_stomach(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    hu, w, d, t = build.hu, build.wide, build.deep, build.tall
    size = float(rng.uniform(0.85, 1.2))
    phase = float(rng.uniform(0, 6))
    turn = rotation(yaw=-38.0, pitch=18.0)
    canvas.ellipsoid((86 * w, 38 * d, -66 * t), (27 * size, 44 * size, 46 * size), hu["spleen"], Organ.SPLEEN, turn, wobble=0.08, phase=phase)
    fill = float(rng.uniform(0.75, 1.1))
    content = float(rng.choice([12.0, 25.0, 60.0, 180.0], p=[0.5, 0.3, 0.1, 0.1]))
    level = float(rng.uniform(-30, 10)) * d
    parts = [((50 * w, 12 * d, -42 * t), (34, 38, 34)), ((48 * w, -26 * d, -78 * t), (32, 34, 48)), ((12 * w, -46 * d, -122 * t), (40, 18, 18))]
    for grow, value, organ in ((5.0, hu["fat"], Organ.FAT), (0.0, hu["gut"], Organ.OTHER)):
        for center, radii in parts:
            canvas.ellipsoid(center, [r * fill + grow for r in radii], value, organ, wobble=0.05, phase=phase)
    for center, radii in parts:
        canvas.ellipsoid(center, [r * fill - 4.0 for r in radii], content, Organ.OTHER, wobble=0.05, phase=phase)
    for center, radii in parts:
        canvas.ellipsoid(center, [r * fill - 4.0 for r in radii], -985.0, Organ.AIR, wobble=0.05, phase=phase, level=level)


def _paint_retroperitoneum(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Psoas, kidneys in their fat, adrenals and pancreas."""
    hu, w, d, t = build.hu, build.wide, build.deep, build.tall
    heights = np.array([-320.0, -240.0, -180.0, -120.0, -95.0])
    y, a, _ = build.spine(heights * t)
    for side in (-1, 1):
        canvas.column(
            [(float(h * t), side * float(p + o) * w, float(v + 2), r * build.muscular, r * 1.15 * build.muscular) for h, v, p, r, o in zip(heights, y, a, (24, 21, 16, 9, 4), (22, 17, 11, 6, 3), strict=True)],
            hu["muscle"],
            Organ.MUSCLE,
        )
        canvas.column(
            [(float(h) * t, side * 62 * w, v * d, 21 * build.muscular, 9 * build.muscular) for h, v in ((-320, 56), (-220, 52), (-130, 56), (-100, 62))], hu["muscle"], Organ.MUSCLE
        )
        center = np.array([side * 58 * w, 30 * d, (-152 if side < 0 else -138) * t])
        turn = rotation(yaw=side * 30, roll=-side * 10)
        size = float(rng.uniform(0.9, 1.1))
        canvas.ellipsoid(center, np.array([24.0, 27.0, 54.0]) * size, hu["kidney"], Organ.OTHER, turn, power=2.2)
        canvas.ellipsoid(center, np.array([15.0, 18.0, 42.0]) * size, hu["kidney"] * 0.8, Organ.OTHER, turn, wobble=0.15, phase=size * 7)
        hilum = center + turn @ np.array([-side * 12.0, -4.0, 0.0])
        canvas.ellipsoid(hilum, np.array([14.0, 8.0, 22.0]), hu["fat"], Organ.FAT, turn, wobble=0.12, phase=size * 5)
        canvas.tube([(*hilum, 3.5), (side * 15 * w, 6 * d, hilum[2] + 8, 4.0)], hu["veins"], Organ.VESSEL)
        canvas.tube([(*(hilum + (0, 4, 4)), 2.4), (side * 8 * w, 4 * d, hilum[2] + 12, 2.8)], hu["aorta"], Organ.VESSEL)
        adrenal = np.array([side * 32 * w, 22 * d, -92 * t])
        for tip in ((side * 14, 16, -10), (side * 2, 20, -10)):
            canvas.tube([(*adrenal, 2.8), (*(adrenal + tip), 2.0)], 40.0, Organ.OTHER, flatten=2.0)
    pancreas = np.array([(-26, -10, -132, 13), (-6, -16, -120, 10), (22, -18, -110, 9), (52, 4, -100, 9), (70, 22, -88, 8)]) * (w, d, t, 1.0)
    canvas.tube(pancreas, 0.5 * hu["liver"] + 18.0, Organ.OTHER)
    canvas.tube(np.array([(0, -4, -112, 4), (24, -8, -106, 4), (54, 14, -96, 4), (76, 28, -80, 3.5)]) * (w, d, t, 1), hu["portal"], Organ.VESSEL)


def _paint_bowel(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Colon with gas and stool, loops of small bowel, mesenteric vessels."""
    hu, w, d, t = build.hu, build.wide, build.deep, build.tall
    low = canvas.heights[0]
    if low > -100 * t:
        return
    targets = rng.uniform((-80, -62, -300), (85, 0, -130), size=(260, 3)) * (w, d, t)
    canvas.segments(grow_tree(np.array([2 * w, -8 * d, -125 * t]), 5.5, targets, rng, leaf_radius=0.6), 0.6 * hu["aorta"] + 0.4 * hu["portal"], Organ.VESSEL)
    for _ in range(int(rng.integers(9, 16))):
        start = rng.uniform((-65, -62, -300), (75, -5, -150))
        steps = np.cumsum(rng.normal(0, 1.0, (7, 3)) * (20, 12, 16), axis=0)
        path = np.clip(start + steps, (-85, -66, -320), (90, 5, -140)) * (w, d, t)
        radius = float(rng.uniform(8, 13))
        loop = np.concatenate([path, np.full((7, 1), radius)], axis=1)
        canvas.tube(loop, hu["gut"], Organ.OTHER)
        gas = rng.random() < 0.2
        canvas.tube(loop, -900.0 if gas else float(rng.uniform(5, 40)), Organ.AIR if gas else Organ.OTHER, grow=-2.5)
    colon = (
        [(-92, 18, -300, 24), (-94, 20, -240, 22), (-90, 16, -170, 20), (-82, -20, -150, 18)],
        [(-82, -30, -150, 18), (-40, -62, -165, 17), (10, -66, -170, 17), (60, -50, -140, 16), (92, -4, -105, 15)],
        [(94, 6, -105, 14), (100, 26, -150, 13), (98, 26, -220, 13), (94, 22, -300, 14)],
    )
    for rows in colon:
        path = np.array(rows) * (w, d, t, 1.0)
        line_count = 26
        z = np.linspace(0, len(path) - 1, line_count)
        dense = np.stack([np.interp(z, np.arange(len(path)), path[:, c]) for c in range(4)], axis=1)
        dense[:, 3] *= 1.0 + 0.16 * np.sin(np.arange(line_count) * 1.9)
        canvas.tube(dense, hu["gut"], Organ.OTHER)
        canvas.tube(dense, -60.0 if rng.random() < 0.5 else 25.0, Organ.OTHER, grow=-2.5)
        for _ in range(int(rng.integers(4, 14))):
            spot = dense[int(rng.integers(0, line_count))]
            canvas.ellipsoid(spot[:3] + rng.normal(0, 3, 3), rng.uniform(0.25, 0.75, 3) * spot[3], -960.0, Organ.AIR, wobble=0.15, phase=float(rng.uniform(0, 6)))
