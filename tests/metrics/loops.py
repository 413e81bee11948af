"""Loop-only oracles of the metrics: slow and plain, in the arithmetic that their documentation promises."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mark = tuple[str, float, float, float, float]  # series, x, y, z, and the probability or the diameter
Event = tuple[bool, float]  # on a nodule, score; minus infinity for a missed nodule


def luna16(
    marks: Sequence[Mark], nodules: Sequence[Mark], excluded: Sequence[Mark], series: Sequence[str]
) -> tuple[dict[str, int], list[list[Event]]]:
    """What becomes of the marks and nodules, and the events of every scan."""
    counts = dict.fromkeys(
        ("candidates", "nodules", "true_positives", "false_negatives", "false_positives", "on_excluded", "doubles"), 0
    )
    scans = []
    for uid in series:
        own = [mark for mark in marks if mark[0] == uid]
        if len(own) > 100:
            cutoff = sorted((mark[4] for mark in own), reverse=True)[100]
            own = [mark for mark in own if mark[4] > cutoff]
        events: list[Event] = []
        left = set(range(len(own)))
        for nodule in nodules:
            if nodule[0] == uid:
                on = [index for index, mark in enumerate(own) if _is_on(mark, nodule)]
                left -= set(on)
                counts["nodules"] += 1
                counts["true_positives" if on else "false_negatives"] += 1
                counts["doubles"] += max(0, len(on) - 1)
                events.append((True, max((own[index][4] for index in on), default=-math.inf)))
        for index in sorted(left):
            if any(finding[0] == uid and _is_on(own[index], finding) for finding in excluded):
                counts["on_excluded"] += 1
            else:
                counts["false_positives"] += 1
                events.append((False, own[index][4]))
        counts["candidates"] += len(own)
        scans.append(events)
    return counts, scans


def _is_on(mark: Mark, finding: Mark) -> bool:
    diameter = 10.0 if finding[4] < 0 else finding[4]
    distance = (mark[1] - finding[1]) ** 2 + (mark[2] - finding[2]) ** 2 + (mark[3] - finding[3]) ** 2
    return distance < (diameter / 2) ** 2


def luna16_sensitivity(scans: Sequence[Sequence[Event]], points: Sequence[float]) -> NDArray[np.float64]:
    """Sensitivity at false positives per scan; NaN without nodules."""
    events = [event for scan in scans for event in scan]
    nodules = sum(is_nodule for is_nodule, _ in events)
    if nodules == 0:
        return np.full(len(points), np.nan)
    total = sum(not is_nodule for is_nodule, _ in events)
    rates, found = [0.0], [0.0]
    for threshold in sorted({score for _, score in events if score > -math.inf}, reverse=True):
        false = sum(not is_nodule and score >= threshold for is_nodule, score in events)
        rates.append(false / max(total, 1) * total / len(scans))
        found.append(sum(is_nodule and score >= threshold for is_nodule, score in events) / nodules)
    return np.interp(points, rates, found)


def pixel_recall(
    maps: Sequence[NDArray[np.float32]], boxes: Sequence[NDArray[Any]], points: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Recall at shares of falsely activated pixels, and the shares at all thresholds."""
    thresholds = sorted({float(value) for image in maps for value in image.ravel() if value > 0}, reverse=True)
    sites = sum(len(own) for own in boxes)
    best, ratios = [0.0] * len(points), []
    for threshold in thresholds:
        ratio, recalled = Fraction(0), 0
        for image, own in zip(maps, boxes, strict=True):
            ratio += Fraction(_false_pixels(image, own, threshold), image.size)
            for x1, y1, x2, y2 in own:
                x, y = math.floor((x1 + x2) / 2 + 0.5), math.floor((y1 + y2) / 2 + 0.5)
                recalled += bool(image[y, x] >= threshold)
        ratios.append(float(ratio / len(maps)))
        best = [
            max(before, recalled / sites) if ratios[-1] <= point else before
            for before, point in zip(best, points, strict=True)
        ]
    return best, ratios


def _false_pixels(image: NDArray[np.float32], boxes: NDArray[Any], threshold: float) -> int:
    false = 0
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            covered = any(x + 0.5 > x1 and x - 0.5 < x2 and y + 0.5 > y1 and y - 0.5 < y2 for x1, y1, x2, y2 in boxes)
            false += bool(image[y, x] >= threshold) and not covered
    return false
