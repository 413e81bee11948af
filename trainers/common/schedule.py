"""Learning rates over the steps of a training."""

from __future__ import annotations

from collections.abc import Iterable

CUT = 0.1
"""Factor on the learning rate at every milestone (LENS VI-B)."""

LATE = (0.7, 0.9)
"""Shares of the steps after which short trainings that the paper leaves open cut their rate."""


def stepped_rate(base: float, step: int, milestones: Iterable[float], warmup: int = 0) -> float:
    """Rate of a step: linear warm-up, then cut to a tenth at every milestone.

    Parameters
    ----------
    base : float
        Rate before the first milestone.
    step : int
        From 0.
    milestones : iterable of float
        Steps from which the rate is cut once more.
    warmup : int
        Steps over which the rate rises from zero.
    """
    cuts = sum(step >= milestone for milestone in milestones)
    warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return float(base * warm * CUT**cuts)


def late_rate(base: float, step: int, steps: int) -> float:
    """Rate of a step of a training of so many steps, cut after the shares `LATE` of them."""
    return stepped_rate(base, step, [share * steps for share in LATE])
