"""Build: how one simulated patient is made and was scanned, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lnsdk.phantom.canvas import THETA, smooth_steps, superellipse

F64 = npt.NDArray[np.float64]

VERTEBRAE_ABOVE, VERTEBRAE_BELOW = 6, 11
"""Levels drawn above T3 and below it."""

PHASES = {
    "none": {"aorta": 42, "veins": 40, "portal": 40, "liver": 56, "spleen": 47, "kidney": 31, "muscle": 52, "gut": 35},
    "arterial": {
        "aorta": 300,
        "veins": 75,
        "portal": 85,
        "liver": 68,
        "spleen": 115,
        "kidney": 150,
        "muscle": 58,
        "gut": 65,
    },
    "venous": {
        "aorta": 155,
        "veins": 145,
        "portal": 170,
        "liver": 108,
        "spleen": 122,
        "kidney": 185,
        "muscle": 64,
        "gut": 70,
    },
    "late": {
        "aorta": 110,
        "veins": 108,
        "portal": 115,
        "liver": 88,
        "spleen": 98,
        "kidney": 160,
        "muscle": 62,
        "gut": 60,
    },
}
"""Typical HU by contrast phase."""


@dataclass(frozen=True)
class Build:
    """One patient and one scan; lengths in mm, x to the left, y to the back, z to the head, z = 0 at the right dome."""

    wide: float
    """Scale of the trunk from side to side."""
    deep: float
    """Scale of the trunk from front to back."""
    tall: float
    """Scale along z."""
    fat: float
    """Thickness of the fat under the skin."""
    visceral: float
    """Amount of fat around organs, 0..1."""
    muscular: float
    """Scale of the muscle layer."""
    female: bool
    shift: tuple[float, float]
    """Displacement of the patient in the scanner (x, y)."""
    hu: dict[str, float]
    """HU by tissue."""
    sigma: float
    """Noise in soft tissue, HU."""
    kernel: float
    """Reconstruction kernel: 0 smooth .. 1 sharp."""

    def cavity(self, z: F64) -> tuple[F64, F64, F64]:
        """Half width, half depth and centre y of the space inside ribs and abdominal wall."""
        h = z / self.tall
        width = smooth_steps(
            h,
            [
                (-320, 120),
                (-200, 122),
                (-120, 128),
                (-60, 133),
                (0, 130),
                (50, 124),
                (100, 112),
                (140, 96),
                (175, 78),
                (205, 60),
                (230, 42),
            ],
        )
        depth = smooth_steps(
            h,
            [
                (-320, 72),
                (-180, 74),
                (-110, 80),
                (-60, 88),
                (0, 90),
                (60, 86),
                (110, 76),
                (150, 62),
                (185, 46),
                (210, 34),
            ],
        )
        center = smooth_steps(h, [(-320, -14), (-180, -12), (-90, -4), (0, 3), (110, 8), (180, 16), (210, 14)])
        grow = 1.0 + 0.06 * self.visceral * (h < -40)
        return width * self.wide * grow, depth * self.deep * grow, center * self.deep

    def cavity_radii(self, z: F64) -> tuple[F64, F64]:
        """Centres (N, 2) and outline radii (N, ANGLES) of the cavity at heights `z`."""
        a, b, y = self.cavity(z)
        radii = superellipse(a, b, 2.35)
        groove = np.exp(-(((THETA - 0.5 * np.pi) / 0.30) ** 2))
        thoracic = smooth_steps(z / self.tall, [(-110, 0.0), (-60, 1.0), (160, 1.0), (210, 0.0)])
        radii *= 1.0 - 0.10 * groove * thoracic[:, None]
        return np.stack([np.zeros_like(y), y], axis=1), radii

    def muscle_radii(self, z: F64) -> tuple[F64, F64]:
        """Centres and outline radii of the body under the fat."""
        h = z / self.tall
        a = smooth_steps(
            h,
            [
                (-320, 165),
                (-250, 158),
                (-180, 143),
                (-100, 147),
                (0, 153),
                (80, 160),
                (140, 170),
                (190, 174),
                (222, 150),
                (248, 92),
                (270, 66),
                (320, 62),
            ],
        )
        b = smooth_steps(
            h,
            [
                (-320, 98),
                (-250, 94),
                (-180, 93),
                (-100, 104),
                (0, 113),
                (80, 113),
                (150, 103),
                (195, 88),
                (225, 74),
                (250, 64),
                (320, 66),
            ],
        )
        y = smooth_steps(h, [(-320, 0), (0, 3), (100, 6), (200, 14), (260, 12)])
        layer = 14.0 * (self.muscular - 1.0)
        radii = superellipse(a * self.wide + layer, b * self.deep + 0.5 * layer, 2.45)
        furrow = np.exp(-(((THETA - 0.5 * np.pi) / 0.13) ** 2))
        return np.stack([np.zeros_like(y), y * self.deep], axis=1), radii - 5.0 * furrow

    def fat_thickness(self, z: F64) -> F64:
        """Fat under the skin (N, ANGLES) at heights `z`."""
        h = z / self.tall
        front = 0.5 - 0.5 * np.sin(THETA)
        side = np.abs(np.cos(THETA)) ** 2
        belly = smooth_steps(h, [(-320, 1.0), (-120, 0.9), (0, 0.3), (100, 0.1)])[:, None]
        neck = smooth_steps(h, [(200, 1.0), (250, 0.5)])[:, None]
        midline = (
            1.0
            - 0.45 * np.exp(-(((THETA - 0.5 * np.pi) / 0.2) ** 2))
            - 0.3 * np.exp(-(((THETA - 1.5 * np.pi) / 0.25) ** 2)) * (1 - belly)
        )
        thickness: F64 = self.fat * neck * midline * (0.65 + 0.5 * belly * front + 0.35 * side * (1 - 0.4 * belly))
        return thickness

    def spine(self, z: F64) -> tuple[F64, F64, F64]:
        """Centre y, half width and half depth of the vertebral bodies at heights `z`."""
        h = z / self.tall
        y = smooth_steps(
            h, [(-320, 48), (-230, 32), (-150, 36), (-60, 48), (40, 60), (110, 56), (180, 40), (230, 26), (290, 20)]
        )
        a = smooth_steps(h, [(-320, 25), (-150, 22), (0, 16), (120, 14), (220, 12), (290, 11)])
        b = smooth_steps(h, [(-320, 18), (-150, 16), (0, 14), (120, 12), (220, 9), (290, 8)])
        grow = 0.5 * (self.wide + self.deep)
        return y * self.deep, a * grow, b * grow

    def vertebrae(self) -> list[tuple[float, float]]:
        """Centre z and height of each vertebra with its disc, from the top down; the seventh is T3."""
        levels: list[tuple[float, float]] = []
        z = 160.0
        for i in range(VERTEBRAE_ABOVE):
            z += 21.0 - 0.7 * i
        for _ in range(VERTEBRAE_ABOVE + VERTEBRAE_BELOW + 4):
            height = float(np.interp(z, [-300, -180, -60, 100, 200, 280], [37, 35, 27, 22, 19, 17]))
            levels.append((z * self.tall, height * self.tall))
            z -= height
        return levels


def draw_build(rng: np.random.Generator, half_field: float, thickness: float) -> Build:
    """Draw a patient who fits a field of view of half width `half_field` (mm), scanned in slices of `thickness` mm."""
    stature = float(np.clip(rng.normal(1.0, 0.06), 0.86, 1.14))
    female = bool(rng.random() < 0.5)
    fat = float(np.clip(rng.lognormal(np.log(15.0 if female else 12.0), 0.5), 4.0, 45.0))
    wide = stature * float(np.clip(rng.normal(0.94 if female else 1.0, 0.04), 0.85, 1.1))
    room = half_field - 4.0
    fat = min(fat, max(4.0, 0.6 * (room - 174.0 * wide)))
    wide = min(wide, max((room - fat) / 174.0, 0.78))
    phase = str(rng.choice(list(PHASES), p=[0.35, 0.2, 0.35, 0.1]))
    hu = {name: float(value * rng.normal(1.0, 0.09)) for name, value in PHASES[phase].items()}
    hu |= {
        "liver": hu["liver"] - (float(rng.uniform(10, 35)) if rng.random() < 0.2 else 0.0),
        "fat": float(rng.normal(-104, 5)),
        "lung": float(rng.normal(-860, 22)),
        "marrow": float(np.clip(rng.normal(180, 50), 70, 320)),
        "cortex": float(rng.normal(620, 90)),
        "myocardium": 0.25 * hu["aorta"] + 0.2 * hu["veins"] + 30.0,
        "right_heart": hu["veins"] + (float(rng.uniform(60, 260)) if phase == "arterial" else 0.0),
        "thyroid": 110.0 + 0.3 * hu["aorta"],
        "hepatic": hu["portal"] * 0.9 + 4.0,
    }
    noise = float(np.exp(rng.uniform(np.log(6.0), np.log(26.0)))) * float(np.clip((2.5 / thickness) ** 0.3, 0.8, 1.35))
    return Build(
        wide=wide,
        deep=stature * float(np.clip(rng.normal(0.98, 0.05), 0.85, 1.12)),
        tall=stature * float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.12)),
        fat=fat,
        visceral=float(np.clip(rng.normal(0.02 * fat + 0.2, 0.2), 0.05, 1.0)),
        muscular=float(np.clip(rng.normal(0.92 if female else 1.08, 0.12), 0.7, 1.4)),
        female=female,
        shift=(float(rng.normal(0, 5)), float(rng.normal(0, 6))),
        hu=hu,
        sigma=float(np.clip(noise, 6.0, 35.0)),
        kernel=float(rng.random()),
    )
