"""What a person sees of a long training: a progress bar with the losses, and their curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import matplotlib
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

matplotlib.use("Agg")

SMOOTHING = 0.98
"""Weight of the past in the running means that are shown."""


class TrainingProgress:
    """Progress bar over the steps with running means of the losses; quiet when standard error is no terminal."""

    def __init__(self, title: str, steps: int, done: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=steps, completed=done, losses="")
        self._means: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, losses: Mapping[str, float]) -> None:
        """Count one step."""
        for name, value in losses.items():
            self._means[name] = SMOOTHING * self._means.get(name, value) + (1 - SMOOTHING) * value
        text = "  ".join(f"{name} {value:.3f}" for name, value in self._means.items())
        self._progress.update(self._task, advance=1, losses=text)


def save_loss_curve(path: Path, names: Sequence[str], history: Sequence[Sequence[float]]) -> None:
    """Draw every loss over the steps, smoothed, one panel each."""
    from matplotlib import pyplot as plt

    values = np.asarray(history)
    window = max(1, len(values) // 100)
    kernel = np.ones(window) / window
    figure, axes = plt.subplots(1, len(names), figsize=(4 * len(names), 3), layout="constrained")
    for axis, name, column in zip(np.atleast_1d(axes), names, values.T, strict=True):
        axis.plot(np.arange(len(column)) + 1, column, color="0.85", linewidth=0.5)
        axis.plot(np.arange(window, len(column) + 1), np.convolve(column, kernel, mode="valid"))
        axis.set(title=f"{name} loss", xlabel="step", ylim=(0, float(np.percentile(column, 99)) or None))
    figure.savefig(path, dpi=110)
    plt.close(figure)
