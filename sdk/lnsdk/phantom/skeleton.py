"""Trunk wall and skeleton of the phantom: skin, fat, muscles, vertebrae, ribs, sternum and shoulder girdle."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.build import Build
from lnsdk.phantom.canvas import THETA, Canvas, rotation, smooth_steps
from lnsdk.phantom.organs import Organ
from lnsdk.phantom.trees import grow_tree

F64 = npt.NDArray[np.float64]

SKIN_MM = 1.8
CORTEX_MM = 1.3
RIB_WALL_MM = 11.0
"""From the inside of the chest wall to the outside of the ribs."""


def bump(center: float, width: float) -> F64:
    """Smooth bump over the angle, both sides mirrored; degrees from the front (0) to the back (180)."""
    from_front = np.rad2deg(np.abs(np.angle(np.exp(1j * (THETA - 1.5 * np.pi)))))
    shape: F64 = np.exp(-(((from_front - center) / width) ** 2))
    return shape


def paint_wall(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint skin, fat and muscle down to the cavity, which is left filled with fat."""
    z = canvas.heights
    hu = build.hu
    h = z / build.tall
    center, muscle = build.muscle_radii(z)
    muscle = muscle * (1.0 + _uneven(z, 0.006, rng))
    skin = muscle + build.fat_thickness(z) * (1.0 + 6.0 * _uneven(z, 0.012, rng)) + SKIN_MM
    if build.female:
        _paint_breasts(canvas, build, rng)
    canvas.outline(center, skin, 25.0, Organ.OTHER)
    canvas.outline(center, skin - SKIN_MM, hu["fat"], Organ.SUBCUTANEOUS)
    _paint_strands(canvas, build, skin, muscle, center, rng)
    canvas.outline(center, muscle, hu["muscle"], Organ.MUSCLE)
    _paint_flank_planes(canvas, build, muscle, center, rng)
    chest = smooth_steps(h, [(-70, 0.0), (-10, 1.0), (225, 1.0), (245, 0.0)])[:, None]
    high = smooth_steps(h, [(40, 0.0), (110, 1.0)])[:, None]
    chest_muscles = 12.0 * bump(38, 24) + 10.0 * bump(118, 22)
    layer = 5.0 + high * chest_muscles + 7.0 * bump(100, 30) + 30.0 * bump(180, 32) + 12.0 * bump(150, 18)
    inner = muscle - build.muscular * layer - 60.0 * (1.0 - chest)
    canvas.outline(center, np.where(chest > 0.02, inner, 0.0), hu["fat"], Organ.FAT)
    cavity_center, cavity = build.cavity_radii(z)
    sheets = (1.0 - smooth_steps(h, [(70, 0.0), (150, 1.0)]))[:, None] * bump(95, 42) + 0.35 * bump(60, 30)
    wall = cavity + RIB_WALL_MM - 2.0 + (3.0 + 11.0 * build.muscular * sheets) * (0.4 + chest * 0.6)
    canvas.outline(cavity_center, np.where(chest > 0.02, wall, 0.0), hu["muscle"] - 6.0, Organ.MUSCLE)
    plane = cavity + RIB_WALL_MM + 0.6
    canvas.outline(cavity_center, np.where(chest > 0.5, plane, 0.0), 0.5 * hu["fat"], Organ.FAT)
    canvas.outline(cavity_center, np.where(chest > 0.02, plane - 1.4, 0.0), hu["muscle"] - 14.0, Organ.MUSCLE)
    _paint_back_muscles(canvas, build)
    canvas.outline(cavity_center, np.where(z[:, None] < 235 * build.tall, cavity, 0.0), hu["fat"], Organ.FAT)


def _uneven(z: F64, size: float, rng: np.random.Generator) -> F64:
    """Smooth relative unevenness (z, ANGLES) of an outline."""
    total = np.zeros((len(z), len(THETA)))
    for n in range(2, 7):
        total += rng.normal(0, size) * np.cos(n * THETA[None] + z[:, None] / 90.0 + rng.uniform(0, 6.3))
    return total


def _paint_strands(canvas: Canvas, build: Build, skin: F64, muscle: F64, center: F64, rng: np.random.Generator) -> None:
    """Small vessels and septa in the fat under the skin."""
    z = canvas.heights
    rows = []
    for _ in range(int(0.9 * (z[-1] - z[0]))):
        k = int(rng.integers(len(z)))
        angle = int(rng.integers(len(THETA)))
        share = rng.uniform(0.0, 1.0, 2)
        turn = np.array([angle, angle + rng.normal(0, 5.0)])
        height = np.array([z[k], z[k] + rng.normal(0, 16.0)])
        at = np.round(turn).astype(int) % len(THETA)
        level = np.clip(np.round((height - z[0]) / canvas.spacing[2]).astype(int), 0, len(z) - 1)
        rho = muscle[level, at] + share * (skin[level, at] - muscle[level, at])
        theta = turn * (2.0 * np.pi / len(THETA))
        ends = np.stack(
            [center[level, 0] + rho * np.cos(theta), center[level, 1] + rho * np.sin(theta), height], axis=1
        )
        radius = float(np.clip(rng.lognormal(np.log(0.6), 0.4), 0.3, 1.6))
        rows.append([*ends[0], radius, *ends[1], 0.7 * radius])
    canvas.segments(np.array(rows), 30.0, Organ.OTHER, within=Organ.SUBCUTANEOUS)


def _paint_flank_planes(canvas: Canvas, build: Build, muscle: F64, center: F64, rng: np.random.Generator) -> None:
    """Thin fat between the three muscle layers of the abdominal wall, and around the recti."""
    h = canvas.heights / build.tall
    low = smooth_steps(h, [(-40, 1.0), (-10, 0.0)])[:, None]
    if low.max() <= 0.0:
        return
    thickness = float(rng.uniform(0.6, 1.8)) * low * bump(85, 38)
    for depth in (7.0, 14.0):
        outer = muscle - depth * build.muscular
        canvas.outline(
            center, np.where(low > 0.05, outer, 0.0), 0.6 * build.hu["fat"] + 0.4 * build.hu["muscle"], Organ.MUSCLE
        )
        canvas.outline(center, np.where(low > 0.05, outer - thickness, 0.0), build.hu["muscle"], Organ.MUSCLE)


def _paint_breasts(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint breasts of fat with glandular tissue that fans out from the nipple."""
    size = float(rng.uniform(0.55, 1.25))
    lobes = int(rng.integers(10, 45))
    for side in (-1, 1):
        center = np.array([side * 74 * build.wide, -98 * build.deep - 0.6 * build.fat, 45 * build.tall])
        radii = np.array([62.0, 36.0, 58.0]) * size
        turn = rotation(yaw=-side * 12.0)
        phase = float(rng.uniform(0, 6))
        canvas.ellipsoid(center, radii, 25.0, Organ.OTHER, turn, wobble=0.03, phase=phase)
        canvas.ellipsoid(center, radii - SKIN_MM, build.hu["fat"], Organ.SUBCUTANEOUS, turn, wobble=0.03, phase=phase)
        nipple = center + turn @ np.array([0.0, -0.85 * radii[1], 0.0])
        ends = center + (turn @ (rng.normal(0, 0.33, (lobes, 3)) * radii).T).T
        for end in ends:
            middle = 0.5 * (nipple + end) + rng.normal(0, 4.0, 3)
            width = float(rng.uniform(1.2, 5.0))
            line = np.array([[*nipple, 1.5, *middle, width], [*middle, width, *end, 0.5 * width]])
            canvas.segments(line, float(rng.normal(18, 12)), Organ.OTHER, within=Organ.SUBCUTANEOUS)


def _paint_back_muscles(canvas: Canvas, build: Build) -> None:
    """Erector spinae beside the spinous processes in two bellies, with fat between them and the layers over them."""
    heights = np.array([-320.0, -200.0, -80.0, 40.0, 150.0, 230.0]) * build.tall
    y = build.spine(heights)[0]
    for side in (-1, 1):
        rows = np.array(
            [
                (
                    h,
                    side * (27.0 + 4.0 * (h < 0)) * build.wide,
                    v + 36.0 * build.deep,
                    a * build.muscular,
                    b * build.muscular,
                )
                for h, v, a, b in zip(heights, y, (28, 27, 24, 19, 17, 14), (22, 22, 19, 14, 12, 11), strict=True)
            ]
        )
        canvas.column(rows, build.hu["fat"], Organ.FAT, grow=1.8)
        canvas.column(rows, build.hu["muscle"], Organ.MUSCLE, power=2.4)
        cleft = rows * (1.0, 1.0, 1.0, 0.06, 0.75) + (0.0, side * 4.0, -2.0, 0.0, 0.0)
        canvas.column(cleft, 0.45 * build.hu["fat"], Organ.MUSCLE)
        outer = rows * (1.0, 1.0, 1.0, 0.5, 0.8) + (0.0, side * 0.52 * rows[:, 3].mean(), 0.0, 0.0, 0.0)
        canvas.column(outer, build.hu["muscle"] - 5.0, Organ.MUSCLE)


def paint_spine(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint vertebrae with cortex, marrow, canal and processes, and the discs between them."""
    hu = build.hu
    heights = np.arange(-330.0, 300.0, 15.0) * build.tall
    y, a, b = build.spine(heights)
    canvas.column(np.stack([heights, 0 * y, y, 0.97 * a, 0.97 * b], axis=1), 85.0, Organ.BONE, power=2.3)
    for height, pitch in build.vertebrae():
        _paint_vertebra(canvas, build, height, pitch, hu["marrow"] + float(rng.normal(0, 8)))
    canal = np.stack([heights, 0 * y, y + b + 9.0, 0 * y + 10.0, 0 * y + 8.2], axis=1)
    canvas.column(canal, -20.0, Organ.OTHER)
    canvas.column(canal, 18.0, Organ.OTHER, grow=-1.6)
    canvas.column(canal[heights > -90 * build.tall], 38.0, Organ.OTHER, grow=-4.0)


def _paint_vertebra(canvas: Canvas, build: Build, height: float, pitch: float, marrow: float) -> None:
    hu = build.hu
    v, p, q = (float(value[0]) for value in build.spine(np.array([height])))
    canal = v + q + 9.0
    thoracic = height > -60 * build.tall
    canvas.ellipsoid((0, canal, height - 3), (15, 12.5, 0.36 * pitch), hu["cortex"] - 150, Organ.BONE, power=2.5)
    for side in (-1, 1):
        tip = (side * (p + 14.0), canal + (10.0 if thoracic else 0.0), height)
        canvas.tube([(side * 10, canal - 2, height, 4.2), (*tip, 3.6)], hu["cortex"] - 170, Organ.BONE)
        canvas.tube([(side * 10, canal - 2, height, 2.6), (*tip, 2.2)], hu["marrow"], Organ.MARROW)
    end = (0.0, canal + 33.0 * build.deep, height - (14.0 if thoracic else 4.0))
    canvas.tube([(0, canal + 11, height - 3, 3.6), (*end, 3.2)], hu["cortex"] - 150, Organ.BONE, flatten=2.0)
    canvas.tube([(0, canal + 13, height - 3, 2.1), (*end, 1.9)], hu["marrow"], Organ.MARROW, flatten=2.0)
    body = np.array([p, q, 0.41 * pitch])
    canvas.ellipsoid((0, v, height), body, hu["cortex"] - 180, Organ.BONE, power=2.9)
    canvas.ellipsoid((0, v, height), body - CORTEX_MM, marrow, Organ.MARROW, power=2.9)


def _rib_path(build: Build, index: int, height: float, side: int) -> F64:
    """Centre line (N, 4: x, y, z, radius) of the bony part of rib `index` (1..12), from the spine to the front."""
    drop = float(np.interp(index, [1, 2, 4, 8, 10, 12], [22, 42, 66, 78, 72, 50])) * build.tall
    reach = float(np.interp(index, [1, 7, 8, 10, 11, 12], [140, 146, 140, 122, 85, 62]))
    t = np.linspace(0.0, 1.0, 40)
    from_back = 13.0 + t * (reach - 13.0)
    z = height - drop * t**1.25
    centers, radii = build.cavity_radii(z)
    theta = 0.5 * np.pi - side * np.deg2rad(from_back)
    at = np.mod(theta, 2 * np.pi) / (2 * np.pi) * radii.shape[1]
    rho = radii[np.arange(len(t)), np.round(at).astype(int) % radii.shape[1]] + 0.5 * RIB_WALL_MM
    rho = np.convolve(np.pad(rho, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    radius = np.interp(t, [0, 0.15, 0.8, 1.0], [3.6, 4.2, 4.6, 5.2]) * (0.8 if index > 10 else 1.0)
    return np.stack([centers[:, 0] + rho * np.cos(theta), centers[:, 1] + rho * np.sin(theta), z, radius], axis=1)


def paint_ribs(canvas: Canvas, build: Build) -> None:
    """Paint twelve pairs of ribs with marrow, their cartilage and the sternum."""
    hu = build.hu
    levels = build.vertebrae()
    first = int(np.argmin([abs(z / build.tall - 198.0) for z, _ in levels]))
    front = _sternum_rows(build)
    for index in range(1, 13):
        height = levels[first + index - 1][0] + 4.0
        for side in (-1, 1):
            path = _rib_path(build, index, height, side)
            if index <= 10:
                end = path[-1]
                joint = min(max(end[2] + 18.0, front[0][0]), front[-1][0])
                y = float(np.interp(joint, [r[0] for r in front], [r[2] for r in front]))
                target = (side * 15.0, y, joint, 4.5) if index <= 7 else (0.55 * end[0], end[1] - 22, end[2] + 14, 4.5)
                middle = 0.5 * (end[:3] + np.array(target[:3])) + (0, -4, -4)
                canvas.tube([end, (*middle, 5.0), target], 95.0, Organ.BONE)
            segments = np.concatenate([path[:-1], path[1:]], axis=1)
            canvas.segments(segments, hu["cortex"], Organ.BONE, flatten=1.45)
            inner = segments.copy()
            inner[:, [3, 7]] -= CORTEX_MM
            canvas.segments(inner, hu["marrow"] - 20, Organ.MARROW, flatten=1.45)
    canvas.column(front, hu["cortex"] - 250, Organ.BONE, power=3.0)
    canvas.column([(h, x, y, a - 1.2, b - 1.2) for h, x, y, a, b in front], hu["marrow"] - 40, Organ.MARROW, power=3.0)


def _sternum_rows(build: Build) -> list[tuple[float, float, float, float, float]]:
    heights = np.array([5.0, 25.0, 80.0, 112.0, 120.0, 150.0, 166.0]) * build.tall
    _, depth, center = build.cavity(heights)
    halves = zip((9, 15, 17, 14, 16, 27, 24), (4, 6, 6, 6, 7, 8, 8), strict=True)
    return [
        (float(h), 0.0, float(c - d - 7.0), a * build.wide, float(b))
        for h, d, c, (a, b) in zip(heights, depth, center, halves, strict=True)
    ]


def paint_shoulders(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint scapulae with the muscles on both faces, clavicles, heads of the humeri and the muscles of the armpit."""
    if canvas.heights[-1] < 50.0 * build.tall:
        return
    hu, scale = build.hu, np.array([build.wide, build.deep, build.tall])
    for side in (-1, 1):
        turn = rotation(yaw=-side * float(rng.uniform(34, 46)))
        heights = ((88, 78, 95), (98, 76, 130), (112, 66, 168), (128, 48, 200))
        blade = [np.array([side * x, y, z]) * scale for x, y, z in heights]
        for place in blade:
            canvas.ellipsoid(place, np.array([36, 15, 34]) * scale, hu["fat"], Organ.FAT, turn)
        for lower, upper in pairwise(blade):
            for depth, thick in ((-9.5, 9.0), (9.5, 8.5)):
                place = 0.5 * (lower + upper) + turn @ np.array([0.0, depth, 0.0])
                size = np.array([31 * build.wide, thick * build.muscular, 27 * build.tall])
                canvas.ellipsoid(
                    place, size, hu["muscle"], Organ.MUSCLE, turn, wobble=0.06, phase=float(rng.uniform(0, 6))
                )
        for place in blade:
            across = turn @ np.array([26.0 * build.wide, 0.0, 0.0])
            for shift in (-12.0, 0.0, 12.0):
                up = np.array([0.0, 0.0, shift])
                plate = [(*(place - across + up), 1.8), (*(place + across + up), 3.6)]
                canvas.tube(plate, hu["cortex"] - 200, Organ.BONE, flatten=3.0)
        _paint_armpit(canvas, build, side, rng)
        collar = [(16, -48, 168, 7.0), (60, -42, 196, 5.5), (110, -12, 222, 5.5), (140, 14, 226, 6.5)]
        path = np.array(collar) * (side * build.wide, build.deep, build.tall, 1.0)
        canvas.tube(path, hu["cortex"], Organ.BONE)
        canvas.tube(path, hu["marrow"], Organ.MARROW, grow=-2.0)
        head = np.array([side * 150, 12, 212]) * scale
        canvas.ellipsoid(head, (30, 31, 30), hu["muscle"], Organ.MUSCLE)
        canvas.ellipsoid(head, (23, 23, 24), hu["cortex"] - 150, Organ.BONE)
        canvas.ellipsoid(head, (21.3, 21.3, 22.3), hu["marrow"] - 60, Organ.MARROW)


def _paint_armpit(canvas: Canvas, build: Build, side: int, rng: np.random.Generator) -> None:
    """Pectoralis minor, teres and coracobrachialis as bellies in the fat, and small vessels between them."""
    scale = np.array([side * build.wide, build.deep, build.tall, build.muscular])
    bellies = (
        ((62, -66, 120, 4), (84, -56, 150, 8), (108, -30, 186, 7), (122, -10, 206, 4)),
        ((112, 66, 104, 6), (128, 52, 132, 10), (142, 34, 168, 9), (148, 22, 196, 6)),
        ((138, 2, 150, 5), (142, 4, 176, 8), (142, 6, 200, 7)),
    )
    for belly in bellies:
        canvas.tube(np.array(belly) * scale, build.hu["muscle"], Organ.MUSCLE)
    root = np.array([112.0, -4.0, 186.0]) * scale[:3]
    targets = rng.uniform((92, -50, 70), (140, 45, 190), size=(90, 3)) * scale[:3]
    tree = grow_tree(root, 2.6, targets, rng, leaf_radius=0.4)
    canvas.segments(tree, 40.0 + 0.4 * max(build.hu["veins"] - 40.0, 0.0), Organ.VESSEL, within=Organ.FAT)
