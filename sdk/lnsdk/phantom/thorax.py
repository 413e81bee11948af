"""Chest organs of the phantom: lungs with vessels and airways, heart, great vessels, oesophagus."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.build import Build
from lnsdk.phantom.canvas import ANGLES, THETA, Canvas, curve, rotation, smooth_steps
from lnsdk.phantom.organs import Organ
from lnsdk.phantom.trees import grow_tree

F64 = npt.NDArray[np.float64]

Path = tuple[tuple[float, float, float, float], ...]

OESOPHAGUS: Path = (
    (0, 20, 240, 7),
    (2, 30, 150, 7.5),
    (6, 36, 100, 7.5),
    (9, 30, 50, 7.5),
    (14, 22, -5, 8),
    (24, 10, -28, 9),
)

AIRWAYS: tuple[Path, ...] = (
    ((-2, 14, 108, 7.2), (-20, 18, 98, 6.6), (-40, 14, 86, 5.5)),
    ((2, 14, 108, 7.0), (24, 22, 96, 6.0), (42, 18, 90, 5.2)),
    ((0, 2, 310, 9), (0, 4, 230, 9), (0, 4, 195, 9), (-1, 10, 140, 8.8), (0, 14, 106, 8.8)),
)
"""Main bronchi and trachea: x, y, z and radius (mm) for a patient of scale 1."""

GREAT_VESSELS: tuple[tuple[str, str, Path], ...] = (
    ("inferior vena cava", "veins", ((-26, 2, -40, 12), (-26, 0, 8, 12), (-30, -6, 26, 13))),
    ("superior vena cava", "right", ((-28, -10, 50, 11), (-28, -16, 90, 10), (-26, -20, 145, 9))),
    ("left innominate vein", "mixed", ((-26, -20, 145, 8), (-10, -34, 158, 7), (30, -36, 182, 7), (70, -24, 204, 6))),
    ("right innominate vein", "right", ((-26, -20, 145, 8), (-36, -28, 185, 7), (-70, -22, 204, 6))),
    (
        "azygos",
        "veins",
        (
            (-16, 36, -60, 3.0),
            (-20, 42, 15, 3.5),
            (-16, 44, 60, 4),
            (-16, 42, 105, 4.5),
            (-22, 22, 118, 4.5),
            (-27, -8, 114, 4.5),
        ),
    ),
    ("pulmonary trunk", "right", ((14, -42, 62, 13), (16, -36, 84, 14), (18, -24, 98, 14))),
    ("right pulmonary artery", "right", ((16, -24, 96, 12), (-6, -8, 92, 11), (-28, 0, 90, 10.5), (-46, 4, 86, 8.5))),
    ("left pulmonary artery", "right", ((18, -24, 98, 12), (32, -4, 104, 11.5), (47, 12, 93, 9))),
    ("right upper vein", "left", ((-2, 10, 64, 7), (-26, -4, 72, 6), (-44, -10, 84, 5))),
    ("left upper vein", "left", ((18, 8, 66, 7), (34, -10, 80, 6), (44, -16, 96, 5))),
    ("right lower vein", "left", ((-6, 18, 54, 7), (-30, 26, 44, 6), (-46, 30, 32, 5))),
    ("left lower vein", "left", ((16, 22, 54, 7), (36, 28, 44, 6), (50, 34, 30, 5))),
    (
        "aorta",
        "left",
        (
            (-4, -14, 60, 15),
            (-14, -22, 84, 16),
            (-17, -22, 108, 15.5),
            (-8, -10, 128, 14.5),
            (8, 8, 134, 14),
            (20, 26, 126, 13.5),
            (25, 44, 104, 13),
            (24, 50, 60, 12.5),
            (19, 46, 10, 12),
            (11, 34, -25, 11.5),
            (5, 18, -70, 11),
            (5, 6, -120, 10),
            (6, 0, -200, 9.5),
            (5, 4, -238, 9),
        ),
    ),
    ("left iliac artery", "left", ((5, 4, -236, 8), (22, 14, -270, 6.5), (44, 24, -320, 6))),
    ("right iliac artery", "left", ((5, 4, -236, 8), (-18, 16, -270, 6.5), (-42, 24, -320, 6))),
    (
        "innominate artery",
        "left",
        ((-6, -10, 136, 8), (-16, -8, 165, 7), (-24, -4, 190, 6.5), (-32, 2, 214, 5), (-70, 4, 214, 4.5)),
    ),
    ("right carotid", "left", ((-24, -4, 190, 4.5), (-24, 2, 220, 4), (-26, 6, 300, 4))),
    ("left carotid", "left", ((6, 2, 138, 6), (16, 0, 175, 5), (22, 4, 220, 4.5), (26, 6, 300, 4.5))),
    ("left subclavian artery", "left", ((17, 18, 134, 7), (28, 12, 170, 6), (34, 8, 205, 5.5), (70, 6, 216, 5))),
    ("right jugular", "veins", ((-30, -6, 200, 6), (-32, 0, 230, 6), (-34, 4, 300, 6))),
    ("left jugular", "veins", ((30, -6, 200, 6), (32, 0, 230, 6), (34, 4, 300, 6))),
    (
        "right axillary artery",
        "left",
        ((-70, 2, 212, 4.5), (-104, 0, 196, 4.5), (-134, 4, 168, 4), (-146, 14, 140, 3.5)),
    ),
    ("left axillary artery", "left", ((70, 2, 212, 4.5), (104, 0, 196, 4.5), (134, 4, 168, 4), (146, 14, 140, 3.5))),
    (
        "right axillary vein",
        "right",
        ((-74, -8, 206, 5.5), (-108, -10, 190, 5), (-138, -6, 162, 4.5), (-150, 4, 134, 4)),
    ),
    ("left axillary vein", "veins", ((74, -8, 206, 5.5), (108, -10, 190, 5), (138, -6, 162, 4.5), (150, 4, 134, 4))),
    ("right internal thoracic", "left", ((-28, -40, 190, 1.6), (-24, -74, 130, 1.6), (-26, -82, 20, 1.4))),
    ("left internal thoracic", "left", ((28, -40, 190, 1.6), (24, -74, 130, 1.6), (26, -82, 20, 1.4))),
)
"""Name, blood it carries, and x, y, z, radius (mm) along it, for a patient of scale 1."""

FISSURE_MM = 1.5
"""Half thickness of a sheet between lobes, wide enough to be sampled; it is faint instead of thin."""

LUNG_TOP, LUNG_BOTTOM = 208.0, -92.0
"""Apex and lowest recess of the lungs for a patient of scale 1, mm from the right dome."""


BORDER_Y = (-90.0, -62.0, -38.0, -12.0, 12.0, 34.0, 60.0)
"""Depths (mm, front to back) at which the lungs' inner borders are given."""

BORDERS = {
    "low": {-1: (5, 7, 15, 21, 15, 9, 9), 1: (5, 7, 17, 23, 20, 19, 20)},
    "arch": {-1: (6, 11, 24, 28, 22, 14, 14), 1: (6, 11, 23, 27, 27, 26, 24)},
    "top": {-1: (22, 26, 30, 31, 28, 24, 22), 1: (22, 26, 30, 31, 29, 26, 24)},
}
"""Distance of the right (-1) and left (+1) lung from the midline at those depths: at heart, arch and apex."""


def _medial(build: Build, y: F64, z: F64, side: int) -> F64:
    """Distance of a lung's inner border from the midline (mm) at depths `y` (N, ANGLES, steps), heights `z` (N,)."""
    spine_y, spine_a, _ = build.spine(z)
    h = z / build.tall
    arch = smooth_steps(h, [(75, 0.0), (110, 1.0)])[:, None, None]
    top = smooth_steps(h, [(135, 0.0), (180, 1.0)])[:, None, None]
    at = y / build.deep
    low, middle, high = (np.interp(at, BORDER_Y, BORDERS[name][side]) for name in ("low", "arch", "top"))
    border = (low * (1 - arch) + middle * arch) * (1 - top) + high * top
    border = border + 8.0 * build.visceral * np.exp(-(((at + 70.0) / 30.0) ** 2))
    behind = np.maximum(0.0, spine_y[:, None, None] - 4.0 - y) / 10.0
    vertebra = (spine_a[:, None, None] + 8.0) * np.exp(-(behind**2))
    edge: F64 = np.hypot(np.maximum(border, vertebra), 0.35 * np.minimum(border, vertebra)) * build.wide
    return edge


def lung_outline(build: Build, z: F64, side: int) -> tuple[F64, F64]:
    """Centres (N, 2) and radii (N, ANGLES) of a lung (side -1 right, +1 left) at heights `z`, without the diaphragm."""
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
    border = _medial(build, y, z, side) - side * x
    dome = np.sqrt(
        ((x - cx[:, None, None]) / (52.0 * build.wide)) ** 2 + ((y - cy[:, None, None]) / (64.0 * build.deep)) ** 2
    )
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
    radii = (np.abs(np.cos(THETA)) / np.maximum(a, 1e-3)[:, None]) ** 2.2 + (
        np.abs(np.sin(THETA)) / np.maximum(b, 1e-3)[:, None]
    ) ** 2.2
    outline: F64 = radii ** (-1.0 / 2.2)
    outline[scale <= 0.0] = 0.0
    cy = center + (1.0 - scale) * (-6.0 if side < 0 else 4.0)
    return np.stack([cx, cy], axis=1), outline


def paint_lungs(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint both lungs, their vessels and the airways inside them."""
    for side in (-1, 1):
        centers, radii = lung_outline(build, canvas.heights, side)
        canvas.outline(centers, radii, build.hu["lung"], Organ.LUNG)
        _paint_fissures(canvas, build, side, rng)
    for side in (-1, 1):
        _paint_lung_trees(canvas, build, rng, side)


def _paint_fissures(canvas: Canvas, build: Build, side: int, rng: np.random.Generator) -> None:
    """Thin sheets between the lobes: oblique on both sides, horizontal on the right."""
    scale = np.array([build.wide, build.deep, build.tall])
    center = np.array([side * 75.0, 0.0, 75.0]) * scale
    tilt = rotation(yaw=side * float(rng.uniform(5, 28))) @ rotation(pitch=-float(rng.uniform(46, 60)))
    value = build.hu["lung"] + float(rng.uniform(20, 110))
    canvas.ellipsoid(center, (95, 150, FISSURE_MM), value, Organ.LUNG, tilt, within=Organ.LUNG)
    if side < 0:
        flat = rotation(pitch=float(rng.uniform(-8, 8)), roll=float(rng.uniform(-8, 8)))
        front = center + np.array([0.0, -45.0, 14.0])
        canvas.ellipsoid(front, (90, 42, FISSURE_MM), value, Organ.LUNG, flat, within=Organ.LUNG)


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
    points: F64 = np.stack([x, y, z], axis=1)[keep][:count]
    return points


def _paint_lung_trees(canvas: Canvas, build: Build, rng: np.random.Generator, side: int) -> None:
    w, d, t = build.wide, build.deep, build.tall
    hilum = np.array([-44 * w, 4 * d, 86 * t]) if side < 0 else np.array([46 * w, 12 * d, 92 * t])
    low = canvas.heights[0] - 30.0
    high = canvas.heights[-1] + 30.0
    density = float(rng.uniform(0.75, 1.25))
    for kind, count, radius, offset in (("artery", 1150, 8.2, (0, 0, 0)), ("vein", 900, 6.5, (-3 * side, -8, -16))):
        points = _lung_points(build, rng, side, int(count * density))
        tree = grow_tree(hilum + offset, radius, points, rng, wander=0.07)
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
    sac = center - np.array([4.0, 6.0, 4.0])
    canvas.ellipsoid(sac, size + fat + 2.0, 20.0, Organ.OTHER, turn, wobble=0.05, phase=phase)
    canvas.ellipsoid(sac, size + fat, hu["fat"], Organ.FAT, turn, wobble=0.05, phase=phase)
    canvas.ellipsoid(center, size, hu["myocardium"], Organ.OTHER, turn, wobble=0.05, phase=phase + 1)
    right, left = hu["right_heart"], hu["aorta"]
    chambers = (
        (turn @ np.array([16.0, 12.0, -4.0]), (34, 19, 21), left, turn),
        (turn @ np.array([0.0, -24.0, 0.0]), (44, 13, 30), right, turn),
        (np.array([-12.0, 32.0, 24.0]), (33, 19, 22), left, rotation(yaw=8)),
        (np.array([-54.0, 4.0, 4.0]), (21, 25, 30), right, rotation(yaw=-20)),
    )
    for index, (offset, radii, blood, own_turn) in enumerate(chambers):
        place, half = center + scale * offset, np.array(radii) * scale
        canvas.ellipsoid(place, half, blood, Organ.VESSEL, own_turn, wobble=0.08, phase=phase + index)


def paint_mediastinum(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint trachea, oesophagus, aorta with its branches, pulmonary arteries, systemic veins and small vessels."""
    hu = build.hu
    scale = np.array([build.wide, build.deep, build.tall, 1.0])
    top, bottom = canvas.heights[-1] / build.tall + 20.0, canvas.heights[0] / build.tall - 20.0
    _paint_small_vessels(canvas, build, rng)
    canvas.tube(np.array(OESOPHAGUS) * scale, 42.0, Organ.OTHER)
    if rng.random() < 0.6:
        z = float(rng.uniform(90, 190))
        canvas.tube(np.array([(2, 30, z, 2.0), (4, 33, z - 25, 2.5)]) * scale, -800.0, Organ.AIR)
    swell = float(rng.uniform(0.88, 1.25))
    mixed = 0.6 * hu["right_heart"] + 0.4 * hu["veins"]
    blood = {"right": hu["right_heart"], "left": hu["aorta"], "veins": hu["veins"], "mixed": mixed}
    for name, kind, path in GREAT_VESSELS:
        row = np.array(path, dtype=np.float64)
        row[:, :3] += rng.normal(0.0, 1.2, (len(row), 3)) + rng.normal(0.0, 1.0, 3)
        if row[:, 2].min() > top or row[:, 2].max() < bottom:
            continue
        row[:, 3] *= swell if name == "aorta" else float(rng.uniform(0.88, 1.15))
        canvas.tube(row * scale, blood[kind], Organ.VESSEL)
        if name == "aorta":
            _paint_calcium(canvas, row * scale, rng)
    for side in (-1, 1):
        thyroid = np.array([side * 16.0, 2.0, 232.0]) * scale[:3]
        canvas.ellipsoid(thyroid, (9, 11, 24), hu["thyroid"], Organ.OTHER)
    for path in AIRWAYS:
        canvas.tube(np.array(path) * scale, 20.0, Organ.OTHER, grow=1.4)
    for path in AIRWAYS:
        canvas.tube(np.array(path) * scale, -995.0, Organ.AIR)


def _paint_small_vessels(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Thymic, pericardial and bronchial vessels: thin strands in the fat between the lungs."""
    scale = np.array([build.wide, build.deep, build.tall])
    targets = rng.uniform((-30, -75, -10), (35, 30, 200), size=(140, 3)) * scale
    tree = grow_tree(np.array([0.0, -20.0, 120.0]) * scale, 2.4, targets, rng, leaf_radius=0.35, wander=0.2)
    canvas.segments(tree, 35.0 + 0.3 * max(build.hu["veins"] - 40.0, 0.0), Organ.VESSEL, within=Organ.FAT)


def _paint_calcium(canvas: Canvas, aorta: F64, rng: np.random.Generator) -> None:
    """Calcified plaques in the wall of the aorta of some patients."""
    plaques = int(rng.integers(3, 25)) if rng.random() < 0.4 else 0
    wall = curve(aorta)
    for _ in range(plaques):
        x, y, z, radius = wall[int(rng.integers(len(wall)))]
        angle = float(rng.uniform(0, 2 * np.pi))
        place = (x + radius * np.cos(angle), y + radius * np.sin(angle), z)
        size = rng.uniform(0.7, 2.4, 3) * (1.0, 1.0, 1.6)
        canvas.ellipsoid(place, size, float(rng.uniform(350, 900)), Organ.OTHER, rotation(yaw=np.rad2deg(angle)))
