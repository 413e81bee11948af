"""Trunk wall and skeleton of the phantom: skin, fat, muscles, vertebrae, ribs, sternum and shoulder girdle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.build import Build
from lnsdk.phantom.canvas import THETA, Canvas, rotation, smooth_steps
from lnsdk.phantom.organs import Organ

F64 = npt.NDArray[np.float64]

SKIN_MM = 1.8
CORTEX_MM = 1.3
RIB_WALL_MM = 11.0
"""From the inside of the chest wall to the outside of the ribs."""


def _bump(center: float, width: float) -> F64:
    """Smooth bump over the angle, both sides mirrored; degrees from the front (0) to the back (180)."""
    from_front = np.rad2deg(np.abs(np.angle(np.exp(1j * (THETA - 1.5 * np.pi)))))
    bump: F64 = np.exp(-(((from_front - center) / width) ** 2))
    return bump


def paint_wall(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint skin, fat and muscle down to the cavity, which is left filled with fat."""
    z = canvas.heights
    hu = build.hu
    center, muscle = build.muscle_radii(z)
    uneven = sum(
        float(rng.normal(0, 0.006)) * np.cos(n * THETA[None] + z[:, None] / 90.0 + float(rng.uniform(0, 6.3))) for n in range(2, 7)
    )
    muscle = muscle * (1.0 + uneven)
    skin = muscle + build.fat_thickness(z) + SKIN_MM
    shifted = center
    if build.female:
        _paint_breasts(canvas, build, rng)
    canvas.outline(shifted, skin, 25.0, Organ.OTHER)
    canvas.outline(shifted, skin - SKIN_MM, hu["fat"], Organ.SUBCUTANEOUS)
    canvas.outline(shifted, muscle, hu["muscle"], Organ.MUSCLE)
    chest = smooth_steps(z / build.tall, [(-70, 0.0), (-10, 1.0), (225, 1.0), (245, 0.0)])[:, None]
    high = smooth_steps(z / build.tall, [(40, 0.0), (110, 1.0)])[:, None]
    layer = build.muscular * (
        5.0 + high * (11.0 * _bump(38, 24) + 9.0 * _bump(118, 22)) + 7.0 * _bump(100, 30) + 30.0 * _bump(180, 32) + 12.0 * _bump(150, 18)
    )
    inner = np.where(chest > 0.02, muscle - layer - 60.0 * (1.0 - chest), 0.0)
    canvas.outline(center, inner, hu["fat"], Organ.FAT)
    cavity_center, cavity = build.cavity_radii(z)
    wall = np.where(chest > 0.02, cavity + RIB_WALL_MM - 2.0, 0.0)
    canvas.outline(cavity_center, wall, hu["muscle"] - 12.0, Organ.MUSCLE)
    _paint_back_muscles(canvas, build)
    canvas.outline(cavity_center, np.where(z[:, None] < 235 * build.tall, cavity, 0.0), hu["fat"], Organ.FAT)


def _paint_breasts(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    size = float(rng.uniform(0.6, 1.25))
    glandular = float(rng.uniform(0.2, 0.75))
    for side in (-1, 1):
        center = (side * 72 * build.wide, -98 * build.deep - 0.6 * build.fat, 45 * build.tall)
        radii = (62 * size, 38 * size, 58 * size)
        turn = rotation(yaw=-side * 12.0)
        canvas.ellipsoid(center, radii, 25.0, Organ.OTHER, turn)
        canvas.ellipsoid(center, [r - SKIN_MM for r in radii], build.hu["fat"], Organ.FAT, turn)
        for _ in range(7):
            offset = rng.normal(0, 0.22, 3) * np.array(radii)
            lobe = glandular * rng.uniform(0.1, 0.32, 3) * np.array(radii)
            canvas.ellipsoid(
                np.array(center) + offset + (0, -0.3 * radii[1], 0), lobe, float(rng.normal(15, 12)), Organ.OTHER, turn, wobble=0.2, phase=float(rng.uniform(0, 6))
            )


def _paint_back_muscles(canvas: Canvas, build: Build) -> None:
    """Erector spinae beside the spinous processes, with fat between them and the layers over them."""
    heights = np.array([-320.0, -200.0, -80.0, 40.0, 150.0, 230.0]) * build.tall
    y = build.spine(heights)[0]
    for side in (-1, 1):
        rows = [
            (float(h), side * (27.0 + 4.0 * (h < 0)) * build.wide, float(v + 36.0 * build.deep), a * build.muscular, b * build.muscular)
            for h, v, a, b in zip(heights, y, (28, 27, 24, 19, 17, 14), (22, 22, 19, 14, 12, 11), strict=True)
        ]
        canvas.column([(h, x, v, a + 1.8, b + 1.8) for h, x, v, a, b in rows], build.hu["fat"], Organ.FAT)
        canvas.column(rows, build.hu["muscle"], Organ.MUSCLE, power=2.4)


def paint_spine(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint vertebrae with cortex, marrow, canal and processes, and the discs between them."""
    hu = build.hu
    z = canvas.heights
    y, a, b = build.spine(z)
    rows = [(float(h), 0.0, *(float(v[0]) for v in build.spine(np.array([h])))) for h in np.arange(-330, 300, 15) * build.tall]
    canvas.column([(h, x, v, p * 0.97, q * 0.97) for h, x, v, p, q in rows], 85.0, Organ.BONE, power=2.3)
    for height, pitch in build.vertebrae():
        v, p, q = (float(value[0]) for value in build.spine(np.array([height])))
        canal = v + q + 9.0
        half = 0.41 * pitch
        canvas.ellipsoid((0, canal, height - 3), (15, 12.5, 0.36 * pitch), hu["cortex"] - 150, Organ.BONE, power=2.5)
        for side in (-1, 1):
            tip = (side * (p + 14.0), canal + (10.0 if height > -60 else 0.0), height)
            canvas.tube([(side * 10, canal - 2, height, 4.2), (*tip, 3.6)], hu["cortex"] - 170, Organ.BONE)
            canvas.tube([(side * 10, canal - 2, height, 2.6), (*tip, 2.2)], hu["marrow"], Organ.MARROW)
        end = (0.0, canal + 33.0 * build.deep, height - (14.0 if height > -60 else 4.0))
        canvas.tube([(0, canal + 11, height - 3, 3.6), (*end, 3.2)], hu["cortex"] - 150, Organ.BONE, flatten=2.0)
        canvas.tube([(0, canal + 13, height - 3, 2.1), (*end, 1.9)], hu["marrow"], Organ.MARROW, flatten=2.0)
        canvas.ellipsoid((0, v, height), (p, q, half), hu["cortex"] - 180, Organ.BONE, power=3.2)
        marrow = hu["marrow"] + float(rng.normal(0, 8))
        canvas.ellipsoid((0, v, height), (p - CORTEX_MM, q - CORTEX_MM, half - CORTEX_MM), marrow, Organ.MARROW, power=3.2)
    depth = 8.0 + 0 * y
    top = [(float(h), 0.0, float(v + q + 9.0), 10.0, 8.2) for h, _, v, _, q in rows]
    canvas.column(top, -20.0, Organ.OTHER)
    canvas.column([(h, x, v, 8.2, 6.8) for h, x, v, _, _ in top], 18.0, Organ.OTHER)
    canvas.column([(h, x, v, 5.6, 4.4) for h, x, v, _, _ in top if h > -90], 38.0, Organ.OTHER)
    del depth, a, b


def _rib_path(build: Build, index: int, height: float, side: int) -> F64:
    """Centre line (N, 4: x, y, z, radius) of the bony part of rib `index` (1..12), from the spine to the front."""
    drop = float(np.interp(index, [1, 2, 4, 8, 10, 12], [22, 42, 66, 78, 72, 50])) * build.tall
    reach = float(np.interp(index, [1, 7, 8, 10, 11, 12], [140, 146, 140, 122, 85, 62]))
    t = np.linspace(0.0, 1.0, 40)
    from_back = 13.0 + t * (reach - 13.0)
    z = height - drop * t**1.25
    centers, radii = build.cavity_radii(z)
    theta = 0.5 * np.pi + (-side) * np.deg2rad(from_back) * -1.0
    theta = np.where(side > 0, 0.5 * np.pi - np.deg2rad(from_back), 0.5 * np.pi + np.deg2rad(from_back))
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
    return [(float(h), 0.0, float(c - d - 7.0), a * build.wide, float(b)) for h, d, c, (a, b) in zip(heights, depth, center, halves, strict=True)]


def paint_shoulders(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    """Paint scapulae with the muscles on both faces, clavicles and the muscles of the armpit."""
    hu, w, d, t = build.hu, build.wide, build.deep, build.tall
    for side in (-1, 1):
        blade = [(side * 88 * w, 78 * d, 95 * t), (side * 98 * w, 76 * d, 130 * t), (side * 112 * w, 66 * d, 168 * t), (side * 128 * w, 48 * d, 200 * t)]
        for x, y, z in blade:
            canvas.ellipsoid((x + side * 2, y, z), (34 * w, 16 * build.muscular, 34 * t), hu["fat"], Organ.FAT, rotation(yaw=-side * 38))
        for (x0, y0, z0), (x1, y1, z1) in zip(blade[:-1], blade[1:], strict=True):
            middle = (0.5 * (x0 + x1), 0.5 * (y0 + y1), 0.5 * (z0 + z1))
            turn = rotation(yaw=-side * 40)
            for depth, thick in ((-9.0, 8.5), (9.0, 8.0)):
                place = np.array(middle) + turn @ np.array([0.0, depth, 0.0])
                canvas.ellipsoid(place, (30 * w, thick * build.muscular, 26 * t), hu["muscle"], Organ.MUSCLE, turn, wobble=0.05, phase=float(rng.uniform(0, 6)))
        for x, y, z in blade:
            turn = rotation(yaw=-side * 40)
            ends = [np.array([x, y, z]) + turn @ np.array([o, 0.0, 0.0]) for o in (-26 * w, 26 * w)]
            for shift in (-12.0, 0.0, 12.0):
                canvas.tube([(*(ends[0] + (0, 0, shift)), 2.2), (*(ends[1] + (0, 0, shift)), 4.0)], hu["cortex"] - 200, Organ.BONE, flatten=3.0)
        collar = [(side * 16 * w, -48 * d, 168 * t, 7.0), (side * 60 * w, -42 * d, 196 * t, 5.5), (side * 110 * w, -12 * d, 222 * t, 5.5), (side * 140 * w, 14 * d, 226 * t, 6.5)]
        canvas.tube(collar, hu["cortex"], Organ.BONE)
        canvas.tube(collar, hu["marrow"], Organ.MARROW, grow=-2.0)
        head = (side * 150 * w, 12 * d, 212 * t)
        canvas.ellipsoid(head, (23, 23, 24), hu["cortex"] - 150, Organ.BONE)
        canvas.ellipsoid(head, (21.3, 21.3, 22.3), hu["marrow"] - 60, Organ.MARROW)
