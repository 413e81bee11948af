"""Painters of smooth-edged solids, the loops that draw the phantom, compiled by numba when first used.

All lengths are in mm. A canvas is `hu` float32 (z, y, x) and `organ` uint8 of the same shape; the voxel (x, y, z) =
(i, j, k) has its centre at `origin + (i, j, k) * spacing`. Edges are ramps as wide as the footprint of a voxel along
the surface's normal (`edge` in plane, the slice thickness along z), which is partial volume to first order; a ramp is
t^2 (3 - 2 t), where t is 0.5 less the distance to the surface in footprints, cut to 0..1.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lnsdk._jit import Kernel

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

CANVAS = "float32[:, :, ::1], uint8[:, :, ::1], Array(float64, 1, 'C', True), Array(float64, 1, 'C', True)"
"""numba's types of `hu`, `organ`, `origin` and `spacing`."""

VECTOR, MATRIX = "Array(float64, 1, 'C', True)", "Array(float64, 2, 'C', True)"


def _paint_outline(
    hu: F32, organ: U8, origin: F64, spacing: F64, edge: float, centers: F64, radii: F64, value: float, label: int
) -> None:
    """Paint the solid whose outline in slice k is `radii[k, angle]` around `centers[k]` (x, y); no outline where <= 0.

    Angle a of A stands for 2 pi a / A, from +x towards +y.
    """
    nz, ny, nx = hu.shape
    angles = radii.shape[1]
    per_radian = angles / (2.0 * math.pi)
    margin = 4.0 * edge + 2.0 * spacing[2]
    for k in range(nz):
        widest, narrowest = 0.0, 1e9
        for a0 in range(angles):
            widest = max(widest, radii[k, a0])
            narrowest = min(narrowest, radii[k, a0])
        if widest <= 0.0:
            continue
        below, above = max(k - 1, 0), min(k + 1, nz - 1)
        steps = max(above - below, 1)
        cx, cy = centers[k, 0], centers[k, 1]
        reach = widest + 4.0 * edge + spacing[2]
        i0 = max(math.ceil((cx - reach - origin[0]) / spacing[0]), 0)
        i1 = min(math.floor((cx + reach - origin[0]) / spacing[0]), nx - 1) + 1
        j0 = max(math.ceil((cy - reach - origin[1]) / spacing[1]), 0)
        j1 = min(math.floor((cy + reach - origin[1]) / spacing[1]), ny - 1) + 1
        for j in range(j0, j1):
            dy = origin[1] + j * spacing[1] - cy
            for i in range(i0, i1):
                dx = origin[0] + i * spacing[0] - cx
                rho2 = dx * dx + dy * dy
                if narrowest > margin and rho2 < (narrowest - margin) ** 2:
                    hu[k, j, i] = value
                    organ[k, j, i] = label
                    continue
                if rho2 > reach * reach:
                    continue
                rho = math.sqrt(rho2)
                a = math.atan2(dy, dx) * per_radian
                if a < 0.0:
                    a += angles
                a0 = int(a)
                t = a - a0
                a0 = a0 % angles
                a1 = (a0 + 1) % angles
                r = radii[k, a0] * (1.0 - t) + radii[k, a1] * t
                slope = (radii[k, a1] - radii[k, a0]) * per_radian / max(rho, 1.0)
                climb = abs(max(radii[above, a0], 0.0) - max(radii[below, a0], 0.0)) / steps
                lean = math.sqrt(1.0 + min(slope * slope, 4.0))
                t = 0.5 - (rho - r) / (lean * (edge * lean + min(climb, 2.0 * spacing[2])))
                if t <= 0.0:
                    continue
                t = min(t, 1.0)
                share = t * t * (3.0 - 2.0 * t)
                hu[k, j, i] += np.float32(share * (value - hu[k, j, i]))
                if share >= 0.5:
                    organ[k, j, i] = label


PAINT_OUTLINE = Kernel(_paint_outline, f"void({CANVAS}, float64, {MATRIX}, {MATRIX}, float64, int64)")


def _paint_ellipsoid(
    hu: F32,
    organ: U8,
    origin: F64,
    spacing: F64,
    edge: float,
    center: F64,
    extent: F64,
    inverse: F64,
    power: float,
    wobble: F64,
    level: float,
    value: float,
    label: int,
    only: int,
) -> None:
    """Paint a superellipsoid: `inverse` (3, 3) maps offsets to a unit ball, `extent` is its half size along x, y, z.

    `power` 2 is an ellipsoid, more is boxier. `wobble` (amplitude, frequency, three phases) makes the surface uneven.
    Only what lies at y < `level` is painted (gas over fluid). With `only` >= 0, nothing but voxels of that organ is
    painted, and they keep their label.
    """
    nz, ny, nx = hu.shape
    i0 = max(math.ceil((center[0] - extent[0] - edge - origin[0]) / spacing[0]), 0)
    i1 = min(math.floor((center[0] + extent[0] + edge - origin[0]) / spacing[0]), nx - 1) + 1
    j0 = max(math.ceil((center[1] - extent[1] - edge - origin[1]) / spacing[1]), 0)
    j1 = min(math.floor((center[1] + extent[1] + edge - origin[1]) / spacing[1]), ny - 1) + 1
    k0 = max(math.ceil((center[2] - extent[2] - spacing[2] - origin[2]) / spacing[2]), 0)
    k1 = min(math.floor((center[2] + extent[2] + spacing[2] - origin[2]) / spacing[2]), nz - 1) + 1
    for k in range(k0, k1):
        dz = origin[2] + k * spacing[2] - center[2]
        for j in range(j0, j1):
            dy = origin[1] + j * spacing[1] - center[1]
            over = min(max(0.5 - (dy + center[1] - level) / edge, 0.0), 1.0)
            if over <= 0.0:
                continue
            for i in range(i0, i1):
                if only >= 0 and organ[k, j, i] != only:
                    continue
                dx = origin[0] + i * spacing[0] - center[0]
                u = inverse[0, 0] * dx + inverse[0, 1] * dy + inverse[0, 2] * dz
                v = inverse[1, 0] * dx + inverse[1, 1] * dy + inverse[1, 2] * dz
                w = inverse[2, 0] * dx + inverse[2, 1] * dy + inverse[2, 2] * dz
                if power == 2.0:
                    norm = math.sqrt(u * u + v * v + w * w)
                    gu, gv, gw = u, v, w
                else:
                    norm = (abs(u) ** power + abs(v) ** power + abs(w) ** power) ** (1.0 / power)
                    scale = max(norm, 1e-6) ** (2.0 - power)
                    gu = math.copysign(abs(u) ** (power - 1.0), u) * scale
                    gv = math.copysign(abs(v) ** (power - 1.0), v) * scale
                    gw = math.copysign(abs(w) ** (power - 1.0), w) * scale
                if norm > 1.6 + wobble[0]:
                    continue
                signed = norm - 1.0
                if wobble[0] > 0.0:
                    q = wobble[1]
                    signed += wobble[0] * (
                        math.sin(q * u + wobble[2]) * math.cos(q * v + wobble[3])
                        + 0.6 * math.sin(1.7 * q * w + wobble[4] + 1.3 * q * u)
                    )
                n = max(norm, 0.05)
                gx = (inverse[0, 0] * gu + inverse[1, 0] * gv + inverse[2, 0] * gw) / n
                gy = (inverse[0, 1] * gu + inverse[1, 1] * gv + inverse[2, 1] * gw) / n
                gz = (inverse[0, 2] * gu + inverse[1, 2] * gv + inverse[2, 2] * gw) / n
                t = 0.5 - signed / max(edge * math.sqrt(gx * gx + gy * gy) + spacing[2] * abs(gz), 1e-6)
                if t <= 0.0:
                    continue
                t = min(t, 1.0)
                share = over * t * t * (3.0 - 2.0 * t)
                hu[k, j, i] += np.float32(share * (value - hu[k, j, i]))
                if share >= 0.5 and only < 0:
                    organ[k, j, i] = label


PAINT_ELLIPSOID = Kernel(
    _paint_ellipsoid,
    f"void({CANVAS}, float64, {VECTOR}, {VECTOR}, {MATRIX}, float64, {VECTOR}, float64, float64, int64, int64)",
)


def _paint_tubes(
    hu: F32,
    organ: U8,
    origin: F64,
    spacing: F64,
    edge: float,
    segments: F64,
    flatten: float,
    value: float,
    label: int,
    only: int,
) -> None:
    """Paint round tubes: rows of `segments` are x, y, z, radius of one end and of the other.

    A tube thinner than a voxel's footprint fills its share of the voxel. `flatten` > 1 makes tubes taller in z by that
    factor. With `only` >= 0, nothing but voxels of that organ is painted, and they keep their label.
    """
    nz, ny, nx = hu.shape
    sz = spacing[2] / flatten
    base = origin[2] / flatten
    for s in range(segments.shape[0]):
        x0, y0, z0, r0 = segments[s, 0], segments[s, 1], segments[s, 2] / flatten, segments[s, 3]
        x1, y1, z1, r1 = segments[s, 4], segments[s, 5], segments[s, 6] / flatten, segments[s, 7]
        tx, ty, tz = x1 - x0, y1 - y0, z1 - z0
        length = math.sqrt(tx * tx + ty * ty + tz * tz)
        if length < 1e-6:
            continue
        tx, ty, tz = tx / length, ty / length, tz / length
        flat = math.sqrt(tx * tx + ty * ty)
        ax, ay = 1.0, 0.0
        if flat > 1e-6:
            ax, ay = -ty / flat, tx / flat
        bx, by, bz = -ay * tz, ax * tz, flat
        wa = edge
        wb = edge * math.sqrt(bx * bx + by * by) + sz * abs(bz)
        wo = edge * flat + sz * abs(tz)
        reach = max(r0, r1)
        i0 = max(math.ceil((min(x0, x1) - reach - edge - origin[0]) / spacing[0]), 0)
        i1 = min(math.floor((max(x0, x1) + reach + edge - origin[0]) / spacing[0]), nx - 1) + 1
        j0 = max(math.ceil((min(y0, y1) - reach - edge - origin[1]) / spacing[1]), 0)
        j1 = min(math.floor((max(y0, y1) + reach + edge - origin[1]) / spacing[1]), ny - 1) + 1
        k0 = max(math.ceil((min(z0, z1) - reach - sz - base) / sz), 0)
        k1 = min(math.floor((max(z0, z1) + reach + sz - base) / sz), nz - 1) + 1
        for k in range(k0, k1):
            pz = base + k * sz - z0
            for j in range(j0, j1):
                py = origin[1] + j * spacing[1] - y0
                for i in range(i0, i1):
                    if only >= 0 and organ[k, j, i] != only:
                        continue
                    px = origin[0] + i * spacing[0] - x0
                    along = px * tx + py * ty + pz * tz
                    t = min(max(along / length, 0.0), 1.0)
                    beyond = along - t * length
                    r = r0 + t * (r1 - r0)
                    qx, qy, qz = px - along * tx, py - along * ty, pz - along * tz
                    ra, rb = max(r, 0.5 * wa), max(r, 0.5 * wb)
                    na = (qx * ax + qy * ay) / ra
                    nb = (qx * bx + qy * by + qz * bz) / rb
                    square = na * na + nb * nb
                    lateral = math.sqrt(square)
                    soft = wa / ra
                    if square > 1e-9:
                        soft = (wa / ra * na * na + wb / rb * nb * nb) / square
                    if beyond != 0.0:
                        ro = max(r, 0.5 * wo)
                        no = beyond / ro
                        soft = (soft * square + wo / ro * no * no) / (square + no * no)
                        lateral = math.sqrt(square + no * no)
                    t = 0.5 - (lateral - 1.0) / soft
                    if t <= 0.0:
                        continue
                    t = min(t, 1.0)
                    share = t * t * (3.0 - 2.0 * t) * min(1.0, 2.0 * r / wa) * min(1.0, 2.0 * r / wb)
                    hu[k, j, i] += np.float32(share * (value - hu[k, j, i]))
                    if share >= 0.5 and only < 0:
                        organ[k, j, i] = label


PAINT_TUBES = Kernel(_paint_tubes, f"void({CANVAS}, float64, {MATRIX}, float64, float64, int64, int64)")


def _blur_rows(image: F32, taps: F32, out: F32) -> None:
    """Convolve each row of `image` (y, x) with symmetric `taps`; edges repeat; `out` is transposed (x, y)."""
    ny, nx = image.shape
    half = taps.shape[0] // 2
    padded = np.empty(nx + 2 * half, dtype=np.float32)
    for j in range(ny):
        for i in range(half):
            padded[i] = image[j, 0]
            padded[nx + half + i] = image[j, nx - 1]
        for i in range(nx):
            padded[half + i] = image[j, i]
        for i in range(nx):
            total = np.float32(0.0)
            for t in range(taps.shape[0]):
                total += taps[t] * padded[i + t]
            out[i, j] = total


BLUR_ROWS = Kernel(
    _blur_rows,
    "void(Array(float32, 2, 'C', True), Array(float32, 1, 'C', True), float32[:, ::1])",
)


def _finish_slice(
    hu: F32,
    organ: U8,
    noise: F32,
    field: F32,
    amplitude: F32,
    pitch: F32,
    slope: F32,
    spacing: F64,
    height: float,
    falloff: float,
    center: F64,
    out: NDArray[np.int16],
) -> None:
    """Add texture and noise to one slice and round to HU.

    Texture of organ o: `amplitude[o]` times a periodic random field sampled every `pitch[o]` mm, trilinear; and
    `slope[o]` HU per mm towards the back. Noise falls off from `center` (pixels) outwards by `falloff` at 200 mm.
    """
    ny, nx = hu.shape
    n = field.shape[0]
    for j in range(ny):
        for i in range(nx):
            o = organ[j, i]
            value = hu[j, i] + slope[o] * (j - center[1]) * spacing[1]
            if amplitude[o] > 0.0:
                z, y, x = height / pitch[o], j * spacing[1] / pitch[o], i * spacing[0] / pitch[o]
                k0, j0, i0 = int(z), int(y), int(x)
                c, b, a = z - k0, y - j0, x - i0
                k0, j0, i0 = k0 % n, j0 % n, i0 % n
                k1, j1, i1 = (k0 + 1) % n, (j0 + 1) % n, (i0 + 1) % n
                low = (field[k0, j0, i0] * (1 - a) + field[k0, j0, i1] * a) * (1 - b)
                low += (field[k0, j1, i0] * (1 - a) + field[k0, j1, i1] * a) * b
                high = (field[k1, j0, i0] * (1 - a) + field[k1, j0, i1] * a) * (1 - b)
                high += (field[k1, j1, i0] * (1 - a) + field[k1, j1, i1] * a) * b
                value += amplitude[o] * (low * (1 - c) + high * c)
            r2 = ((i - center[0]) * spacing[0]) ** 2 + ((j - center[1]) * spacing[1]) ** 2
            value += noise[j, i] * (1.0 - falloff * min(r2 / 40000.0, 1.0))
            out[j, i] = np.int16(min(max(round(value), -1024), 3071))


FINISH_SLICE = Kernel(
    _finish_slice,
    "void(Array(float32, 2, 'C', True), Array(uint8, 2, 'C', True), Array(float32, 2, 'C', True), "
    "Array(float32, 3, 'C', True), Array(float32, 1, 'C', True), Array(float32, 1, 'C', True), "
    f"Array(float32, 1, 'C', True), {VECTOR}, float64, float64, {VECTOR}, int16[:, ::1])",
)
