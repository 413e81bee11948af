"""Numba painters of smooth-edged solids: what draws the phantom.

All lengths are in mm. A canvas is `hu` float32 (z, y, x) and `organ` uint8 of the same shape; voxel (i, j, k) = (x, y, z) has
its centre at `origin + (i, j, k) * spacing`. Edges are ramps as wide as the footprint of a voxel along the surface's normal
(`edge` in plane, the slice thickness along z), which is partial volume to first order.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]


@numba.njit(nogil=True, inline="always")
def _ramp(signed: float, width: float) -> float:
    """Share of a voxel inside a surface at the signed distance `signed` (negative inside) with a footprint `width`."""
    t = 0.5 - signed / width
    if t <= 0.0:
        return 0.0
    if t >= 1.0:
        return 1.0
    return t * t * (3.0 - 2.0 * t)


@numba.njit(nogil=True, inline="always")
def _index_range(low: float, high: float, origin: float, step: float, count: int) -> tuple[int, int]:
    first = int(math.ceil((low - origin) / step))
    last = int(math.floor((high - origin) / step))
    return max(first, 0), min(last, count - 1) + 1


@numba.njit(nogil=True)
def paint_polar(
    hu: F32, organ: U8, origin: F64, spacing: F64, edge: float, centers: F64, radii: F64, value: float, label: int
) -> None:
    """Paint the solid whose outline in slice k is `radii[k, angle]` (mm) around `centers[k]` (x, y); a radius <= 0 is no outline.

    Angle a of A stands for 2 pi a / A, from +x towards +y.
    """
    nz, ny, nx = hu.shape
    angles = radii.shape[1]
    per_radian = angles / (2.0 * math.pi)
    for k in range(nz):
        widest = radii[k].max()
        if widest <= 0.0:
            continue
        narrowest = radii[k].min()
        below, above = max(k - 1, 0), min(k + 1, nz - 1)
        steps = max(above - below, 1)
        cx, cy = centers[k, 0], centers[k, 1]
        reach = widest + 4.0 * edge + spacing[2]
        i0, i1 = _index_range(cx - reach, cx + reach, origin[0], spacing[0], nx)
        j0, j1 = _index_range(cy - reach, cy + reach, origin[1], spacing[1], ny)
        margin = 4.0 * edge + 2.0 * spacing[2]
        for j in range(j0, j1):
            dy = origin[1] + j * spacing[1] - cy
            for i in range(i0, i1):
                dx = origin[0] + i * spacing[0] - cx
                rho2 = dx * dx + dy * dy
                share = 1.0
                if narrowest <= margin or rho2 > (narrowest - margin) ** 2:
                    rho = math.sqrt(rho2)
                    if rho > reach:
                        continue
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
                    width = edge * math.sqrt(1.0 + min(slope * slope, 4.0)) + min(climb, 2.0 * spacing[2])
                    share = _ramp((rho - r) / math.sqrt(1.0 + min(slope * slope, 4.0)), width)
                    if share <= 0.0:
                        continue
                hu[k, j, i] += np.float32(share * (value - hu[k, j, i]))
                if share >= 0.5:
                    organ[k, j, i] = label


@numba.njit(nogil=True)
def paint_ellipsoid(
    hu: F32, organ: U8, origin: F64, spacing: F64, edge: float, center: F64, axes: F64, power: float, wobble: F64, level: float, value: float, label: int
) -> None:
    """Paint a superellipsoid: columns of `axes` (3, 3) are its half axes in mm, `power` 2 is an ellipsoid, more is boxier.

    `wobble` (amplitude, frequency, three phases) makes the surface uneven; only what lies at y < `level` is painted (gas over fluid).
    """
    nz, ny, nx = hu.shape
    inverse = np.linalg.inv(axes)
    grow = 1.0 + wobble[0]
    ex = grow * math.sqrt(axes[0, 0] ** 2 + axes[0, 1] ** 2 + axes[0, 2] ** 2)
    ey = grow * math.sqrt(axes[1, 0] ** 2 + axes[1, 1] ** 2 + axes[1, 2] ** 2)
    ez = grow * math.sqrt(axes[2, 0] ** 2 + axes[2, 1] ** 2 + axes[2, 2] ** 2)
    if power > 2.0:
        stretch = 3.0 ** (0.5 - 1.0 / power)
        ex, ey, ez = ex * stretch, ey * stretch, ez * stretch
    i0, i1 = _index_range(center[0] - ex - edge, center[0] + ex + edge, origin[0], spacing[0], nx)
    j0, j1 = _index_range(center[1] - ey - edge, center[1] + ey + edge, origin[1], spacing[1], ny)
    k0, k1 = _index_range(center[2] - ez - spacing[2], center[2] + ez + spacing[2], origin[2], spacing[2], nz)
    for k in range(k0, k1):
        dz = origin[2] + k * spacing[2] - center[2]
        for j in range(j0, j1):
            dy = origin[1] + j * spacing[1] - center[1]
            above = _ramp(dy + center[1] - level, edge)
            if above <= 0.0:
                continue
            for i in range(i0, i1):
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
                f = norm - 1.0
                if wobble[0] > 0.0:
                    q = wobble[1]
                    f += wobble[0] * (
                        math.sin(q * u + wobble[2]) * math.cos(q * v + wobble[3])
                        + 0.6 * math.sin(1.7 * q * w + wobble[4] + 1.3 * q * u)
                    )
                n = max(norm, 0.05)
                gx = (inverse[0, 0] * gu + inverse[1, 0] * gv + inverse[2, 0] * gw) / n
                gy = (inverse[0, 1] * gu + inverse[1, 1] * gv + inverse[2, 1] * gw) / n
                gz = (inverse[0, 2] * gu + inverse[1, 2] * gv + inverse[2, 2] * gw) / n
                width = edge * math.sqrt(gx * gx + gy * gy) + spacing[2] * abs(gz)
                share = above * _ramp(f, max(width, 1e-6))
                if share > 0.0:
                    hu[k, j, i] += np.float32(share * (value - hu[k, j, i]))
                    if share >= 0.5:
                        organ[k, j, i] = label


@numba.njit(nogil=True)
def paint_tubes(
    hu: F32, organ: U8, origin: F64, spacing: F64, edge: float, segments: F64, flatten: float, value: float, label: int
) -> None:
    """Paint round tubes: rows of `segments` are x, y, z, radius of one end and of the other (mm).

    A tube thinner than a voxel's footprint fills its share of the voxel. `flatten` > 1 makes tubes taller in z by that factor.
    """
    nz, ny, nx = hu.shape
    sz = spacing[2] / flatten
    for s in range(segments.shape[0]):
        x0, y0, z0, r0 = segments[s, 0], segments[s, 1], segments[s, 2] / flatten, segments[s, 3]
        x1, y1, z1, r1 = segments[s, 4], segments[s, 5], segments[s, 6] / flatten, segments[s, 7]
        tx, ty, tz = x1 - x0, y1 - y0, z1 - z0
        length = math.sqrt(tx * tx + ty * ty + tz * tz)
        if length < 1e-6:
            continue
        tx, ty, tz = tx / length, ty / length, tz / length
        flat = math.sqrt(tx * tx + ty * ty)
        if flat > 1e-6:
            ax, ay = -ty / flat, tx / flat
        else:
            ax, ay = 1.0, 0.0
        bx, by, bz = -ay * tz, ax * tz, flat
        wa = edge
        wb = edge * math.sqrt(bx * bx + by * by) + sz * abs(bz)
        reach = max(r0, r1)
        reach_xy = reach + edge
        reach_z = reach + sz
        i0, i1 = _index_range(min(x0, x1) - reach_xy, max(x0, x1) + reach_xy, origin[0], spacing[0], nx)
        j0, j1 = _index_range(min(y0, y1) - reach_xy, max(y0, y1) + reach_xy, origin[1], spacing[1], ny)
        k0, k1 = _index_range(min(z0, z1) - reach_z, max(z0, z1) + reach_z, origin[2] / flatten, sz, nz)
        for k in range(k0, k1):
            pz = origin[2] / flatten + k * sz - z0
            for j in range(j0, j1):
                py = origin[1] + j * spacing[1] - y0
                for i in range(i0, i1):
                    px = origin[0] + i * spacing[0] - x0
                    along = px * tx + py * ty + pz * tz
                    t = min(max(along / length, 0.0), 1.0)
                    over = along - t * length
                    r = r0 + t * (r1 - r0)
                    qx, qy, qz = px - along * tx, py - along * ty, pz - along * tz
                    ua = qx * ax + qy * ay
                    ub = qx * bx + qy * by + qz * bz
                    ra, rb = max(r, 0.5 * wa), max(r, 0.5 * wb)
                    na, nb = ua / ra, ub / rb
                    square = na * na + nb * nb
                    lateral = math.sqrt(square)
                    soft = (wa / ra * na * na + wb / rb * nb * nb) / square if square > 1e-9 else wa / ra
                    if over != 0.0:
                        wo = edge * flat + sz * abs(tz)
                        no = over / max(r, 0.5 * wo)
                        total = square + no * no
                        soft = (soft * square + wo / max(r, 0.5 * wo) * no * no) / total
                        lateral = math.sqrt(total)
                    share = _ramp(lateral - 1.0, soft) * min(1.0, 2.0 * r / wa) * min(1.0, 2.0 * r / wb)
                    if share > 0.0:
                        hu[k, j, i] += np.float32(share * (value - hu[k, j, i]))
                        if share >= 0.5:
                            organ[k, j, i] = label


@numba.njit(nogil=True)
def blur_rows(image: F32, taps: F32, out: F32) -> None:
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


@numba.njit(nogil=True, inline="always")
def _coarse(field: F32, z: float, y: float, x: float) -> float:
    """Trilinear value of a periodic field at a continuous index >= 0."""
    n = field.shape[0]
    k, j, i = int(z), int(y), int(x)
    c, b, a = z - k, y - j, x - i
    k0, j0, i0 = k % n, j % n, i % n
    k1, j1, i1 = (k + 1) % n, (j + 1) % n, (i + 1) % n
    low = (field[k0, j0, i0] * (1 - a) + field[k0, j0, i1] * a) * (1 - b) + (field[k0, j1, i0] * (1 - a) + field[k0, j1, i1] * a) * b
    high = (field[k1, j0, i0] * (1 - a) + field[k1, j0, i1] * a) * (1 - b) + (field[k1, j1, i0] * (1 - a) + field[k1, j1, i1] * a) * b
    return low * (1 - c) + high * c


@numba.njit(nogil=True)
def finish_slice(
    hu: F32,
    organ: U8,
    noise: F32,
    field: F32,
    amplitude: F32,
    pitch: F32,
    spacing: F64,
    height: float,
    falloff: float,
    center: F64,
    out: npt.NDArray[np.int16],
) -> None:
    """Add texture and noise to one slice and round to HU.

    Texture of organ o: `amplitude[o]` times a periodic random field sampled every `pitch[o]` mm. Noise falls off from `center`
    (pixels) outwards by `falloff` at 200 mm.
    """
    ny, nx = hu.shape
    for j in range(ny):
        for i in range(nx):
            o = organ[j, i]
            value = hu[j, i]
            if amplitude[o] > 0.0:
                p = pitch[o]
                value += amplitude[o] * _coarse(field, height / p, j * spacing[1] / p, i * spacing[0] / p)
            r2 = ((i - center[0]) * spacing[0]) ** 2 + ((j - center[1]) * spacing[1]) ** 2
            value += noise[j, i] * (1.0 - falloff * min(r2 / 40000.0, 1.0))
            out[j, i] = np.int16(min(max(round(value), -1024.0), 3071.0))
