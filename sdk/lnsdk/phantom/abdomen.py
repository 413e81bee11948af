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

COLON = (
    ((-92, 18, -300, 24), (-94, 20, -240, 22), (-90, 16, -170, 20), (-82, -20, -150, 18)),
    ((-82, -30, -150, 18), (-40, -62, -165, 17), (10, -66, -170, 17), (60, -50, -140, 16), (92, -4, -105, 15)),
    (
        (92, -4, -105, 15),
        (96, -10, -78, 14),
        (98, 8, -90, 14),
        (100, 26, -150, 13),
        (98, 26, -220, 13),
        (94, 22, -300, 14),
    ),
)
"""Ascending, transverse and descending colon: x, y, z, radius (mm) for a patient of scale 1."""

STOMACH = (((50, 12, -42), (34, 38, 34)), ((48, -26, -78), (32, 34, 48)), ((12, -46, -122), (40, 18, 18)))
"""Fundus, body and antrum: centre and half axes (mm)."""


def paint_abdomen(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint the diaphragm and everything under it."""
    if canvas.heights[0] > 25.0 * build.tall:
        return
    _paint_diaphragm(canvas, build)
    _paint_omentum(canvas, build, rng)
    _paint_retroperitoneum(canvas, build, rng)
    if canvas.heights[0] < -70.0 * build.tall:
        _paint_small_bowel(canvas, build, rng)
        _paint_colon(canvas, build, rng)
    _paint_liver(canvas, build, rng)
    _paint_spleen(canvas, build, rng)
    _paint_stomach(canvas, build, rng)


def _scale(build: Build) -> F64:
    return np.array([build.wide, build.deep, build.tall, 1.0])


def _paint_diaphragm(canvas: Canvas, build: Build) -> None:
    covered = []
    for side in (-1, 1):
        centers, radii = dome_radii(build, canvas.heights, side)
        radii = np.where(canvas.heights[:, None] > -96 * build.tall, radii, 0.0)
        canvas.outline(centers, radii, build.hu["muscle"], Organ.MUSCLE)
        covered.append((centers, radii))
    for centers, radii in covered:
        canvas.outline(centers, radii - DIAPHRAGM_MM, build.hu["fat"], Organ.FAT)


def _paint_omentum(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Small vessels in the fat under the left dome, of the omentum and of the mesentery."""
    scale = _scale(build)[:3]
    blood = 0.5 * build.hu["aorta"] + 0.5 * build.hu["portal"]
    for root, low, high, count, radius in (
        ((20, 0, -95), (10, -60, -120), (110, 60, -15), 160, 3.0),
        ((2, -8, -125), (-80, -62, -300), (85, 0, -130), 300, 5.5),
        ((0, 20, -110), (-85, 15, -280), (85, 55, -90), 160, 3.0),
    ):
        targets = rng.uniform(low, high, size=(count, 3)) * scale
        tree = grow_tree(np.array(root) * scale, radius, targets, rng, leaf_radius=0.45, wander=0.15)
        canvas.segments(tree, 0.7 * blood + 12.0, Organ.VESSEL)


def _liver_outline(build: Build, z: F64, fullness: float) -> tuple[F64, F64]:
    """Centres and outlines of the right lobe: under the dome, then tapering to its lower tip."""
    h = z / build.tall
    centers, radii = dome_radii(build, z, -1)
    radii = np.where(radii > 0, radii - DIAPHRAGM_MM - 1.0, 0.0)
    base, tip = -78.0, -78.0 - 105.0 * fullness
    down = np.clip((base - h) / (base - tip), 0.0, 1.0)
    scale = np.sqrt(np.maximum(1.0 - down**2.0, 0.0))
    centers = centers + np.stack([-18.0 * build.wide * (1 - scale), 4.0 * (1 - scale)], axis=1)
    wavy = 1.0 + 0.03 * np.sin(3 * THETA[None] + h[:, None] / 25.0) * (down > 0)[:, None]
    return centers, np.where(scale[:, None] > 0.05, radii * scale[:, None] * wavy, 0.0)


def _paint_liver(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    hu, scale = build.hu, _scale(build)
    fullness = float(rng.uniform(0.75, 1.25))
    centers, radii = _liver_outline(build, canvas.heights, fullness)
    lobe = np.array([66.0 * float(rng.uniform(0.8, 1.25)), 34.0, 42.0]) * scale[:3]
    turn = rotation(roll=12.0, yaw=8.0)
    canvas.ellipsoid(
        np.array([8, -42, -52]) * scale[:3],
        lobe,
        hu["liver"],
        Organ.LIVER,
        turn,
        power=2.2,
        wobble=0.05,
        phase=fullness * 9,
    )
    canvas.outline(centers, radii, hu["liver"], Organ.LIVER)
    _paint_fissure_fat(canvas, build, rng)
    cava = [(-24, 0, 0, 13), (-24, 4, -50, 12), (-21, 8, -110, 11.5), (-19, 6, -180, 11), (-18, 8, -240, 11)]
    canvas.tube(np.array(cava) * scale, hu["hepatic"], Organ.VESSEL)
    levels = np.arange(-190.0, 0.0, 4.0) * build.tall
    inside = _points_in(*_liver_outline(build, levels, fullness), levels, rng, 800)
    portal, hepatic = np.array([-34, -4, -82]) * scale[:3], np.array([-26, 2, -12]) * scale[:3]
    canvas.segments(grow_tree(portal, 6.5, inside[:350], rng, leaf_radius=0.5), hu["portal"], Organ.VESSEL)
    canvas.segments(grow_tree(hepatic, 6.0, inside[350:], rng, leaf_radius=0.5), hu["hepatic"], Organ.VESSEL)
    trunk = [(-34, -4, -84, 6), (-16, -8, -104, 7), (0, -14, -124, 7), (2, -20, -200, 5.5)]
    canvas.tube(np.array(trunk) * scale, hu["portal"], Organ.VESSEL)
    if rng.random() < 0.85:
        place, size = (
            np.array([-48, -40, -112]) * scale[:3],
            np.array([14.0, 15.0, 30.0]) * float(rng.uniform(0.6, 1.15)),
        )
        canvas.ellipsoid(place, size, 35.0, Organ.OTHER, rotation(pitch=25))
        canvas.ellipsoid(place, size - 1.5, float(rng.uniform(2, 18)), Organ.OTHER, rotation(pitch=25))


def _paint_fissure_fat(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Fat at the porta and in the fissure of the round ligament."""
    scale = _scale(build)[:3]
    fat, turn = build.hu["fat"], rotation(yaw=float(rng.uniform(-15, 15)))
    width = 2.0 + 4.0 * build.visceral
    canvas.ellipsoid(np.array([-8, -58, -78]) * scale, (width, 20, 24), fat, Organ.FAT, turn, wobble=0.1, phase=width)
    canvas.ellipsoid(
        np.array([-30, -14, -88]) * scale, (20, 6 + width, 9), fat, Organ.FAT, turn, wobble=0.15, phase=width
    )


def _points_in(centers: F64, radii: F64, z: F64, rng: np.random.Generator, count: int) -> F64:
    """Points (count, 3) inside an outlined solid."""
    area = (np.maximum(radii, 0.0) ** 2).sum(axis=1)
    level = rng.choice(len(z), size=count, p=area / area.sum())
    angle = rng.integers(0, radii.shape[1], size=count)
    rho = np.maximum(radii[level, angle] - 4.0, 0.0) * np.sqrt(rng.random(count))
    x = centers[level, 0] + rho * np.cos(THETA[angle])
    y = centers[level, 1] + rho * np.sin(THETA[angle])
    return np.stack([x, y, z[level]], axis=1)


def _paint_spleen(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    size = np.array([27.0, 44.0, 46.0]) * float(rng.uniform(0.85, 1.2))
    place = np.array([86, 38, -66]) * _scale(build)[:3]
    turn = rotation(yaw=-38.0, pitch=18.0)
    phase = float(rng.uniform(0, 6))
    canvas.ellipsoid(place, size, build.hu["spleen"], Organ.SPLEEN, turn, wobble=0.08, phase=phase)


def _paint_stomach(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Wall, content and, above its level, gas."""
    hu, scale = build.hu, _scale(build)[:3]
    fill = float(rng.uniform(0.7, 1.1))
    content = float(rng.choice([12.0, 25.0, 60.0, 180.0], p=[0.5, 0.3, 0.1, 0.1]))
    level = float(rng.uniform(-50, 10)) * build.deep
    phase = float(rng.uniform(0, 6))
    layers = ((5.0, hu["fat"], Organ.FAT), (0.0, hu["gut"], Organ.OTHER), (-4.0, content, Organ.OTHER))
    parts = [(np.array(center) * scale, np.array(radii) * fill) for center, radii in STOMACH]
    for grow, value, organ in layers:
        for place, radii in parts:
            canvas.ellipsoid(place, radii + grow, value, organ, wobble=0.05, phase=phase)
    for place, radii in parts:
        canvas.ellipsoid(place, radii - 4.0, -985.0, Organ.AIR, wobble=0.05, phase=phase, level=level)


def _paint_retroperitoneum(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Psoas, quadratus lumborum, kidneys, adrenals and pancreas."""
    hu, scale = build.hu, _scale(build)
    heights = np.array([-320.0, -240.0, -180.0, -120.0, -95.0])
    y, a, _ = build.spine(heights * build.tall)
    away, wide, deep = np.array([24, 21, 16, 9, 4]), np.array([22, 17, 11, 6, 3]), np.array([25, 20, 13, 7, 3.5])
    for side in (-1, 1):
        belly = [
            heights * build.tall,
            side * (a + away) * build.wide,
            y + 2,
            wide * build.muscular,
            deep * build.muscular,
        ]
        canvas.column(np.stack(belly, axis=1), hu["muscle"], Organ.MUSCLE)
        square = np.array([(h, side * 62, v, 21, 9) for h, v in ((-320, 56), (-220, 52), (-130, 56), (-100, 62))])
        square = square * (build.tall, build.wide, build.deep, build.muscular, build.muscular)
        canvas.column(square, hu["muscle"], Organ.MUSCLE)
        _paint_kidney(canvas, build, side, rng)
        adrenal = np.array([side * 32, 22, -92]) * scale[:3]
        for tip in ((side * 14, 16, -10), (side * 2, 20, -10)):
            canvas.tube([(*adrenal, 2.8), (*(adrenal + tip), 2.0)], 40.0, Organ.OTHER, flatten=2.0)
    pancreas = [(-26, -10, -132, 13), (-6, -16, -120, 10), (22, -18, -110, 9), (52, 4, -100, 9), (70, 22, -88, 8)]
    canvas.tube(np.array(pancreas) * scale, 0.5 * hu["liver"] + 18.0, Organ.OTHER)
    splenic = [(0, -4, -112, 4), (24, -8, -106, 4), (54, 14, -96, 4), (76, 28, -80, 3.5)]
    canvas.tube(np.array(splenic) * scale, hu["portal"], Organ.VESSEL)


def _paint_kidney(canvas: Canvas, build: Build, side: int, rng: np.random.Generator) -> None:
    hu, scale = build.hu, _scale(build)
    center = np.array([side * 58, 30, -152 if side < 0 else -138]) * scale[:3]
    turn = rotation(yaw=side * float(rng.uniform(20, 40)), roll=-side * 10)
    size = float(rng.uniform(0.9, 1.1))
    phase = 7.0 * size
    canvas.ellipsoid(center, np.array([24.0, 27.0, 54.0]) * size, hu["kidney"], Organ.OTHER, turn, power=2.2)
    inner = np.array([15.0, 18.0, 42.0]) * size
    canvas.ellipsoid(center, inner, hu["kidney"] * 0.8, Organ.OTHER, turn, wobble=0.15, phase=phase)
    hilum = center + turn @ np.array([-side * 12.0, -4.0, 0.0])
    canvas.ellipsoid(hilum, (14, 8, 22), hu["fat"], Organ.FAT, turn, wobble=0.12, phase=phase)
    vein_end = np.array([side * 15, 6, 0]) * scale[:3] + (0, 0, hilum[2] + 8)
    artery_end = np.array([side * 8, 4, 0]) * scale[:3] + (0, 0, hilum[2] + 12)
    canvas.tube([(*hilum, 3.5), (*vein_end, 4.0)], hu["veins"], Organ.VESSEL)
    artery_start = hilum + np.array([0, 4, 4])
    canvas.tube([(*artery_start, 2.4), (*artery_end, 2.8)], hu["aorta"], Organ.VESSEL)


def _paint_small_bowel(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Loops at random in the front, with fluid or gas in them."""
    scale = _scale(build)[:3]
    for _ in range(int(rng.integers(12, 26))):
        start = rng.uniform((-65, -62, -300), (75, -5, -140))
        steps = np.cumsum(rng.normal(0, 1.0, (7, 3)) * (20, 12, 16), axis=0)
        path = np.clip(start + steps, (-85, -66, -320), (90, 5, -130)) * scale
        loop = np.concatenate([path, np.full((7, 1), float(rng.uniform(8, 13)))], axis=1)
        canvas.tube(loop, build.hu["gut"], Organ.OTHER)
        gas = rng.random() < 0.2
        content = -900.0 if gas else float(rng.uniform(5, 40))
        canvas.tube(loop, content, Organ.AIR if gas else Organ.OTHER, grow=-2.5)


def _paint_colon(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Colon with haustra, stool and gas."""
    samples = 26
    at = np.linspace(0.0, 1.0, samples)
    for rows in COLON:
        path = np.array(rows) * _scale(build)
        path[:, :3] += rng.normal(0, 4.0, path[:, :3].shape)
        along = np.linspace(0.0, 1.0, len(path))
        line = np.stack([np.interp(at, along, path[:, c]) for c in range(4)], axis=1)
        line[:, 3] *= float(rng.uniform(0.75, 1.1)) * (1.0 + 0.16 * np.sin(np.arange(samples) * 1.9))
        canvas.tube(line, build.hu["gut"], Organ.OTHER)
        canvas.tube(line, float(rng.choice([-60.0, 25.0])), Organ.OTHER, grow=-2.5)
        for _ in range(int(rng.integers(4, 14))):
            spot = line[int(rng.integers(0, samples))]
            size = rng.uniform(0.25, 0.75, 3) * spot[3]
            phase = float(rng.uniform(0, 6))
            canvas.ellipsoid(spot[:3] + rng.normal(0, 3, 3), size, -960.0, Organ.AIR, wobble=0.15, phase=phase)
