"""Measurements as a table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lnsdk.bench.measure import Failure, Timing

NETWORK = ("image", "fuse", "head")
"""Stages that are the detector's network."""

COLUMNS = ("read", "resample", "network", "decode", "stack", "fpr")
"""Stages of the table."""


def to_markdown(results: Sequence[Timing | Failure]) -> str:
    """Write a table for every CT, with what failed below.

    Parameters
    ----------
    results : sequence of Timing or Failure
        In the order of the rows.
    """
    parts = []
    for ct in dict.fromkeys(result.ct for result in results):
        timed = [result for result in results if result.ct == ct and isinstance(result, Timing)]
        failed = [result for result in results if result.ct == ct and isinstance(result, Failure)]
        heading = f"## {ct}, {timed[0].slices} slices" if timed else f"## {ct}"
        reasons = [f"- {failure.engine}: {failure.reason}" for failure in failed]
        parts.append("\n".join([heading, "", *(_table(timed) if timed else []), *reasons]))
    return "\n\n".join(parts) + "\n"


def _table(timed: Sequence[Timing]) -> list[str]:
    names = ("engine", "load s", "first s", "volume s", "ms/slice", *(f"{stage} ms" for stage in COLUMNS), "peak GB")
    rows = ["| " + " | ".join(names) + " |", "|---|" + "--:|" * (len(names) - 1)]
    for timing in timed:
        stages = {**timing.stages, "network": sum(timing.stages.get(stage, 0.0) for stage in NETWORK)}
        cells = (
            str(timing.engine),
            f"{timing.load:.2f}",
            f"{timing.first:.2f}",
            f"{timing.seconds:.2f}",
            f"{1000 * timing.seconds / timing.slices:.1f}",
            *(f"{stages.get(stage, 0.0):.0f}" for stage in COLUMNS),
            f"{timing.peak_bytes / 1e9:.2f}",
        )
        rows.append("| " + " | ".join(cells) + " |")
    return rows
