"""Chest organs of the phantom: lungs with vessels and airways, heart, great vessels, oesophagus."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.build import Build
from lnsdk.phantom.canvas import ANGLES, THETA, Canvas, rotation, smooth_steps
from lnsdk.phantom.organs import Organ
from lnsdk.phantom.trees import grow_tree

F64 = npt.NDArray[np.float64]

LUNG_TOP, LUNG_BOTTOM = 208.0, -92.0
"""Apex and lowest recess of the lungs for a patient of scale 1, mm from the right dome."""


def _medial(build: Build, y: F64, z: F64, side: int) -> F64:
    """Distance of a lung's inner border from the midline (mm)."""
    spine_y, spine_a, _ = build.spine(np.ravel(z))
    spine_y, spine_a = spine_y.reshape(z.shape), spine_a.reshape(z.shape)
    h = z / build.tall
    vertebra = (spine_a + 9.0) * np.exp(-(np.maximum(0.0, spine_y - 4.0 - y) / 14.0) ** 2)
    upper = smooth_steps(np.ravel(h), [(70, 15.0), (112, 27.0), (150, 30.0), (200, 26.0)]).reshape(z.shape)
    front = np.clip((-y / build.deep - 35.0) / 30.0, 0.0, 1.0)
    fat = 4.0 + 10.0 * build.visceral
    border: F64 = np.maximum(vertebra, upper * (1.0 - front) + (fat + 0.35 * np.maximum(upper - 15.0, 0.0)) * front)
    return border * build.wide + (2.0 if side > 0 else 0.0)


def lung_outline(build: Build, z: F64, side: int) -> tuple[F64, F64]:
    """Centres (N, 2) and radii (N, ANGLES) of a lung (side -1 right, +1 left) at heights `z`, before the diaphragm is pushed in."""
    h = z / build.tall
    width, _, center_y = build.cavity(z)
    apex = np.clip((h - 105.0) / (LUNG_TOP - 105.0), 0.0, 1.0)
    shrink = np.sqrt(np.maximum(1.0 - apex**2.6, 0.0))
    cx = side * np.where(h > 105, np.minimum(0.56 * width, 56 * build.wide), 0.56 * width)
    cy = center_y
    steps = np.linspace(0.0, 1.0, 64)
    cavity_center, cavity = build.cavity_radii(z)
    reach = 1.15 * cavity.max(axis=1)
    rho = reach[:, None, None] * steps
    x = cx[:, None, None] + rho * np.cos(THETA)[None, :, None]
    y = cy[:, None, None] + rho * np.sin(THETA)[None, :, None]
    dx, dy = x - cavity_center[:, 0, None, None], y - cavity_center[:, 1, None, None]
    at = np.mod(np.arctan2(dy, dx), 2 * np.pi) / (2 * np.pi) * ANGLES
    limit = cavity[np.arange(len(z))[:, None, None], np.round(at).astype(np.int64) % ANGLES]
    outside = np.sqrt(dx * dx + dy * dy) - (limit - 2.0)
    border = _medial(build, y, np.broadcast_to(z[:, None, None], y.shape), side) - side * x
    dome = np.sqrt(((x - cx[:, None, None]) / (52.0 * build.wide)) ** 2 + ((y - cy[:, None, None]) / (64.0 * build.deep)) ** 2)
    round_top = np.where(apex[:, None, None] > 0, (dome - shrink[:, None, None]) * 55.0, -50.0)
    blend = smooth_steps(h, [(105, 0.0), (150, 1.0)])[:, None, None]
    signed = np.maximum(np.maximum(outside, border), round_top * blend - 50.0 * (1 - blend))
    inside = np.logical_and.accumulate(signed < 0.0, axis=2)
    last = inside.sum(axis=2) - 1
    rows, cols = np.indices(last.shape)
    safe = np.clip(last, 0, len(steps) - 2)
    low, high = signed[rows, cols, safe], signed[rows, cols, safe + 1]
    part = np.clip(low / np.minimum(low - high, -1e-6), 0.0, 1.0)
    radii: F64 = reach[:, None] * (steps[safe] + part * (steps[1] - steps[0]))
    radii[last < 0] = 0.0
    radii = (np.roll(radii, 1, axis=1) + 2 * radii + np.roll(radii, -1, axis=1)) / 4.0
    radii[(h > LUNG_TOP) | (h < LUNG_BOTTOM) | (shrink < 0.15)] = 0.0
    return np.stack([cx, cy], axis=1), radii


def dome_radii(build: Build, z: F64, side: int) -> tuple[F64, F64]:
    """Centres and outlines of what a half of the diaphragm covers; below its base the outline stays."""
    h = z / build.tall
    top, base = (0.0, -100.0) if side < 0 else (-14.0, -104.0)
    rise = np.clip((h - base) / (top - base), 0.0, 1.0)
    scale = np.sqrt(np.maximum(1.0 - rise**2.2, 0.0))
    width, depth, center = build.cavity(np.minimum(z, -60 * build.tall))
    cx = side * 0.47 * width
    a, b = (0.535 * width) * scale, (0.98 * depth) * scale
    radii = (np.abs(np.cos(THETA)) / np.maximum(a, 1e-3)[:, None]) ** 2.2 + (np.abs(np.sin(THETA)) / np.maximum(b, 1e-3)[:, None]) ** 2.2
    outline: F64 = radii ** (-1.0 / 2.2)
    outline[scale <= 0.0] = 0.0
    cy = center + (1.0 - scale) * (-6.0 if side < 0 else 4.0)
    return np.stack([cx, cy], axis=1), outline


def paint_lungs(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint both lungs, their vessels and the airways inside them."""
    for side in (-1, 1):
        centers, radii = lung_outline(build, canvas.heights, side)
        canvas.outline(centers, radii, build.hu["lung"], Organ.LUNG)
    for side in (-1, 1):
        _paint_lung_trees(canvas, build, rng, side)


def _lung_points(build: Build, rng: np.random.Generator, side: int, count: int) -> F64:
    """Draw `count` points inside a lung (x, y, z mm)."""
    grid = np.arange(LUNG_BOTTOM + 4, LUNG_TOP - 4, 6.0) * build.tall
    centers, radii = lung_outline(build, grid, side)
    dome_center, dome = dome_radii(build, grid, side)
    area = (radii**2).sum(axis=1)
    level = rng.choice(len(grid), size=4 * count, p=area / area.sum())
    angle = rng.integers(0, ANGLES, size=4 * count)
    rho = np.maximum(radii[level, angle] - 3.0, 0.0) * np.sqrt(rng.random(4 * count))
    x = centers[level, 0] + rho * np.cos(THETA[angle])
    y = centers[level, 1] + rho * np.sin(THETA[angle])
    z = grid[level] + rng.uniform(-3, 3, 4 * count)
    dx, dy = x - dome_center[level, 0], y - dome_center[level, 1]
    at = np.round(np.mod(np.arctan2(dy, dx), 2 * np.pi) / (2 * np.pi) * ANGLES).astype(np.int64) % ANGLES
    keep = np.hypot(dx, dy) > dome[level, at] + 4.0
    heart = np.array(_heart_center(build))
    keep &= (((np.stack([x, y, z], axis=1) - heart) / (58.0, 50.0, 52.0)) ** 2).sum(axis=1) > 1.0
    return np.stack([x, y, z], axis=1)[keep][:count]


def _paint_lung_trees(canvas: Canvas, build: Build, rng: np.random.Generator, side: int) -> None:
    w, d, t = build.wide, build.deep, build.tall
    hilum = np.array([-44 * w, 4 * d, 86 * t]) if side < 0 else np.array([46 * w, 12 * d, 92 * t])
    low = canvas.heights[0] - 30.0
    high = canvas.heights[-1] + 30.0
    density = float(rng.uniform(0.75, 1.25))
    for kind, count, radius, offset in (("artery", 1150, 8.2, (0, 0, 0)), ("vein", 900, 6.5, (-3 * side, -8, -16))):
        points = _lung_points(build, rng, side, int(count * density))
        tree = grow_tree(hilum + offset, radius, points, rng)
        tree = tree[(np.maximum(tree[:, 2], tree[:, 6]) > low) & (np.minimum(tree[:, 2], tree[:, 6]) < high)]
        blood = build.hu["right_heart"] if kind == "artery" else build.hu["aorta"]
        if kind == "artery":
            airway = tree[tree[:, 3] > 1.3].copy()
            airway[:, [0, 4]] += side * 1.2 * airway[:, [3, 7]]
            airway[:, [1, 5]] += 1.6 * airway[:, [3, 7]]
            airway[:, [3, 7]] *= 0.8
            wall = airway.copy()
            wall[:, [3, 7]] += 0.9
            canvas.segments(wall, 0.0, Organ.OTHER)
            canvas.segments(airway, -960.0, Organ.AIR)
        canvas.segments(tree, max(blood, 40.0), Organ.VESSEL)


def _heart_center(build: Build) -> tuple[float, float, float]:
    return 20.0 * build.wide, -20.0 * build.deep, 36.0 * build.tall


def paint_heart(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint pericardial fat, myocardium and the four chambers."""
    hu = build.hu
    scale = float(rng.uniform(0.92, 1.12)) * 0.5 * (build.wide + build.deep)
    center = np.array(_heart_center(build))
    turn = rotation(yaw=-38.0, pitch=-18.0, roll=22.0)
    phase = float(rng.uniform(0, 6))
    fat = 3.0 + 9.0 * build.visceral
    size = np.array([60.0, 44.0, 46.0]) * scale
    canvas.ellipsoid(center + (-4, -6, -4), size + fat + 2.0, 20.0, Organ.OTHER, turn, wobble=0.05, phase=phase)
    canvas.ellipsoid(center + (-4, -6, -4), size + fat, hu["fat"], Organ.FAT, turn, wobble=0.05, phase=phase)
    canvas.ellipsoid(center, size, hu["myocardium"], Organ.OTHER, turn, wobble=0.05, phase=phase + 1)

    def place(x: float, y: float, z: float) -> F64:
        spot: F64 = center + scale * (turn @ np.array([x, y, z]))
        return spot

    right, left = hu["right_heart"], hu["aorta"]
    canvas.ellipsoid(place(16, 12, -4), np.array([34.0, 19.0, 21.0]) * scale, left, Organ.VESSEL, turn, wobble=0.08, phase=phase)
    canvas.ellipsoid(place(0, -24, 0), np.array([44.0, 13.0, 30.0]) * scale, right, Organ.VESSEL, turn, wobble=0.08, phase=phase + 2)
    canvas.ellipsoid(center + (-12 * scale, 32 * scale, 24 * scale), np.array([33.0, 19.0, 22.0]) * scale, left, Organ.VESSEL, rotation(yaw=8), wobble=0.08, phase=phase + 3)
    canvas.ellipsoid(center + (-54 * scale, 4 * scale, 4 * scale), np.array([21.0, 25.0, 30.0]) * scale, right, Organ.VESSEL, rotation(yaw=-20), wobble=0.08, phase=phase + 4)


def paint_mediastinum(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint trachea, oesophagus, aorta with its branches, pulmonary arteries and systemic veins."""
    hu, w, d, t = build.hu, build.wide, build.deep, build.tall
    swell = float(rng.uniform(0.88, 1.22))

    def scaled(rows: list[tuple[float, float, float, float]], grow: float = 1.0) -> F64:
        return np.array(rows) * (w, d, t, grow)

    def vessel(rows: list[tuple[float, float, float, float]], value: float, grow: float = 1.0) -> None:
        path = scaled(rows, grow)
        canvas.tube(path, 35.0, Organ.OTHER, grow=1.0)
        canvas.tube(path, value, Organ.VESSEL)

    right, left, veins = hu["right_heart"], hu["aorta"], hu["veins"]
    canvas.tube(scaled([(0, 20, 240, 7), (2, 30, 150, 7.5), (6, 36, 100, 7.5), (9, 30, 50, 7.5), (14, 22, -5, 8), (24, 10, -28, 9)]), 42.0, Organ.OTHER)
    if rng.random() < 0.6:
        z = float(rng.uniform(90, 190))
        canvas.tube(scaled([(2, 30, z, 2.0), (4, 33, z - 25, 2.5)]), -800.0, Organ.AIR)
    vessel([(-26, 2, -40, 12), (-26, 0, 8, 12), (-30, -6, 26, 13)], veins)
    vessel([(-28, -10, 50, 11), (-28, -16, 90, 10), (-26, -20, 145, 9)], right)
    vessel([(-26, -20, 145, 8), (-10, -34, 158, 7), (30, -36, 182, 7), (70, -24, 204, 6)], right * 0.6 + veins * 0.4)
    vessel([(-26, -20, 145, 8), (-36, -28, 185, 7), (-70, -22, 204, 6)], right)
    vessel([(-20, 42, 15, 3.5), (-16, 44, 60, 4), (-16, 42, 105, 4.5), (-22, 22, 118, 4.5), (-27, -8, 114, 4.5)], veins)
    vessel([(14, -42, 62, 13), (16, -36, 84, 14), (18, -24, 98, 14)], right)
    vessel([(16, -24, 96, 12), (-6, -8, 92, 11), (-28, 0, 90, 10.5), (-46, 4, 86, 8.5)], right)
    vessel([(18, -24, 98, 12), (32, -4, 104, 11.5), (47, 12, 93, 9)], right)
    vessel([(-4, -14, 60, 15), (-14, -22, 84, 16), (-17, -22, 108, 15.5), (-8, -10, 128, 14.5), (8, 8, 134, 14), (20, 26, 126, 13.5), (25, 44, 104, 13), (24, 50, 60, 12.5), (19, 46, 10, 12), (11, 34, -25, 11.5), (5, 18, -70, 11), (5, 6, -120, 10), (6, 0, -200, 9.5), (5, 4, -238, 9)], left, swell)
    vessel([(-6, -10, 136, 8), (-16, -8, 165, 7), (-24, -4, 190, 6.5), (-32, 2, 214, 5), (-70, 4, 214, 4.5)], left)
    vessel([(-24, -4, 190, 4.5), (-24, 2, 220, 4), (-26, 6, 300, 4)], left)
    vessel([(6, 2, 138, 6), (16, 0, 175, 5), (22, 4, 220, 4.5), (26, 6, 300, 4.5)], left)
    vessel([(17, 18, 134, 7), (28, 12, 170, 6), (34, 8, 205, 5.5), (70, 6, 216, 5)], left)
    for side in (-1, 1):
        vessel([(side * 30, -6, 200, 6), (side * 32, 0, 230, 6), (side * 34, 4, 300, 6)], veins)
        axilla = [(70, 2, 212), (104, 0, 196), (134, 4, 168), (146, 14, 140)]
        vessel([(side * x, y, z, 4.5) for x, y, z in axilla], left)
        vessel([(side * (x + 4), y - 10, z - 6, 5.0) for x, y, z in axilla], right if side < 0 else veins)
        canvas.ellipsoid((side * 16 * w, 2 * d, 232 * t), (9, 11, 24), hu["thyroid"], Organ.OTHER)
    for rows in ([(-2, 14, 108, 7.2), (-20, 18, 98, 6.6), (-40, 14, 86, 5.5)], [(2, 14, 108, 7.0), (24, 22, 96, 6.0), (42, 18, 90, 5.2)], [(0, 2, 310, 9), (0, 4, 230, 9), (0, 4, 195, 9), (-1, 10, 140, 8.8), (0, 14, 106, 8.8)]):
        canvas.tube(scaled(rows), 20.0, Organ.OTHER, grow=1.4)
    for rows in ([(-2, 14, 108, 7.2), (-20, 18, 98, 6.6), (-40, 14, 86, 5.5)], [(2, 14, 108, 7.0), (24, 22, 96, 6.0), (42, 18, 90, 5.2)], [(0, 2, 310, 9), (0, 4, 230, 9), (0, 4, 195, 9), (-1, 10, 140, 8.8), (0, 14, 106, 8.8)]):
        canvas.tube(scaled(rows), -995.0, Organ.AIR)
