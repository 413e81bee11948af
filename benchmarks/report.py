"""What the benchmarks say: the table, the JSON file, the picture of growth, and the comparison with an earlier run."""

import itertools
import json
import math
import platform
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from lnsdk import _C, threads

THREADS = 2
"""Given to every library, whatever the machine has."""

PACKAGES = ("numpy", "torch", "torchvision", "opencv-python-headless", "monai", "SimpleITK")

WORSE = 2.5
"""A ratio that got worse by more than this factor is a regression.

Between runs of the same code on a virtual machine, ratios to peers that allocate much changed by up to 2.2, and ratios
to the limit by up to 1.6.
"""

HEADER = (
    "case", "size", "ours", "per item", "k", "fresh", "limit", "ours/limit", "peer", "its time", "peer/ours",
    "peer/fresh",
)  # fmt: skip

LEGEND = f"""\
Medians, every library allowed {THREADS} threads. *ours*: the kernel writes into memory touched before, where it takes
`out=`; *fresh*: the same with a newly allocated result, as peers make one. *k*: the time grew as (number of
items)^k since the next smaller size of the same case; 1 is linear. *limit*: an estimate of what only moving the memory
takes, timed in the same rounds; under the table it says how, case by case. Lower is better for ours/limit, higher for
peer/ours. Targets, set before the kernels were written, stand in brackets behind the figures that they are for. Peers
called NumPy or Python loops are reference code of this project: no library does it."""

PANELS = (
    ("NMS, 2D", "boxes", ("nms, clustered", "nms, uniform")),
    ("NMS, 3D", "boxes", ("nms_3d, clustered",)),
    ("Stacking", "boxes", ("stack_boxes, 50 a slice", "stack_boxes, 100 slices")),
    ("Vote heat map", "pixels", ("vote_heatmap",)),
)
"""Of the picture: title, unit, cases."""


@dataclass(frozen=True)
class Times:
    """Seconds of a number of rounds: the median is shown, the best is compared between runs."""

    median: float
    best: float
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        return cls(median(seconds), min(seconds), len(seconds))

    def scaled(self, scale: float) -> "Times":
        return Times(self.median * scale, self.best * scale, self.rounds)


@dataclass(frozen=True)
class LimitTime:
    """The time that cannot be beaten, how it was computed, and how far above it a kernel may be."""

    times: Times
    how: str
    at_most: float | None = None


@dataclass(frozen=True)
class PeerTime:
    """The time of what a user would take instead, and how many times the kernel's it should be."""

    name: str
    times: Times
    at_least: float | None = None


@dataclass(frozen=True)
class Measured:
    """One case at one size."""

    case: str
    size: str
    count: int
    unit: str
    ours: Times
    at_most_seconds: float | None = None
    fresh: Times | None = None
    limit: LimitTime | None = None
    peers: tuple[PeerTime, ...] = ()
    note: str = ""

    @property
    def title(self) -> str:
        return f"{self.case}: {self.size}"

    @property
    def over_limit(self) -> float | None:
        return self.ours.median / self.limit.times.median if self.limit else None

    def times_ours(self, peer: PeerTime) -> float:
        return peer.times.median / self.ours.median

    @property
    def best_ratios(self) -> dict[str, float]:
        """Ratios of the best rounds, which repeat better than medians; higher is better, the limit's is limit/ours."""
        ratios = {peer.name: peer.times.best / self.ours.best for peer in self.peers}
        if self.limit:
            ratios["limit"] = self.limit.times.best / self.ours.best
        return ratios


def growth(measured: Sequence[Measured]) -> dict[str, float]:
    """For each title but the smallest of its case: k, when the time grew as count^k since the next smaller one."""
    exponents = {}
    for cases in _by_case(measured).values():
        ordered = sorted(cases, key=lambda each: each.count)
        for small, large in itertools.pairwise(ordered):
            slower, larger = large.ours.median / small.ours.median, large.count / small.count
            exponents[large.title] = math.log(slower) / math.log(larger)
    return exponents


def _by_case(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    cases = defaultdict(list)
    for each in measured:
        cases[each.case].append(each)
    return cases


def table(measured: Sequence[Measured]) -> str:
    """Markdown that reads well as it stands: a line for each peer of each case."""
    exponents = growth(measured)
    rows = [row for each in measured for row in _rows(each, exponents.get(each.title))]
    widths = [max(len(row[column]) for row in (HEADER, *rows)) for column in range(len(HEADER))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (HEADER, rule, *rows)
    )


def _rows(measured: Measured, exponent: float | None) -> Iterator[tuple[str, ...]]:
    limit = measured.limit
    cells = [
        measured.case,
        measured.size,
        _with_target(duration(measured.ours.median), measured.ours.median, measured.at_most_seconds),
        f"{duration(measured.ours.median / measured.count)}/{measured.unit}",
        "" if exponent is None else f"{exponent:.2f}",
        duration(measured.fresh.median) if measured.fresh else "",
        duration(limit.times.median) if limit else "",
        _over_limit(measured),
    ]
    for peer in measured.peers or (None,):
        yield (*cells, *_peer_cells(measured, peer), _over_fresh(measured, peer))
        cells = [""] * len(cells)


def _with_target(text: str, seconds: float, at_most: float | None) -> str:
    return text if at_most is None else f"{text} (< {duration(at_most)}: {_verdict(seconds < at_most)})"


def _over_limit(measured: Measured) -> str:
    ratio, limit = measured.over_limit, measured.limit
    if ratio is None or limit is None:
        return ""
    if limit.at_most is None:
        return f"{ratio:.2f}"
    return f"{ratio:.2f} (<= {limit.at_most:g}: {_verdict(ratio <= limit.at_most)})"


def _peer_cells(measured: Measured, peer: PeerTime | None) -> tuple[str, str, str]:
    if peer is None:
        return "", "", ""
    ratio = measured.times_ours(peer)
    text = f"{_significant(ratio)}x"
    if peer.at_least is not None:
        text += f" (>= {peer.at_least:g}x: {_verdict(ratio >= peer.at_least)})"
    return peer.name, duration(peer.times.median), text


def _over_fresh(measured: Measured, peer: PeerTime | None) -> str:
    if peer is None or measured.fresh is None:
        return ""
    return f"{_significant(peer.times.median / measured.fresh.median)}x"


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{_significant(seconds / size)} {unit}"
    return f"{_significant(seconds / 1e-9)} ns"


def _significant(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def notes(measured: Sequence[Measured]) -> str:
    """How the limits were computed and what else to know, a line for each case and size that has something to say."""
    lines = []
    for each in measured:
        parts = [f"limit: {each.limit.how}."] if each.limit else []
        parts += [each.note] if each.note else []
        if parts:
            lines.append(f"- {each.title}. {' '.join(parts)}")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """On what this runs."""
    return {
        "cpu": _cpu_model(),
        "cores": threads.available_cores(),
        "threads used": THREADS,
        "instruction set": _C.instruction_set(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def write(measured: Sequence[Measured], folder: Path) -> None:
    """Write kernels.json, kernels.md and growth.png."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "cases": [_as_json(each) for each in measured],
    }
    (folder / "kernels.json").write_text(json.dumps(record, indent=1) + "\n")
    described = ", ".join(f"{name} {value}" for name, value in machine().items())
    (folder / "kernels.md").write_text(
        f"# Kernels against their peers\n\nWritten by `make bench` on {record['date']}: {described}.\n\n{LEGEND}\n\n"
        f"{table(measured)}\n\n{notes(measured)}\n\n![time over size](growth.png)\n"
    )
    draw_growth(measured, folder / "growth.png")


def _as_json(measured: Measured) -> dict[str, Any]:
    record = asdict(measured)
    record["ratios"] = {
        "ours/limit": measured.over_limit,
        **{f"{peer.name}/ours": measured.times_ours(peer) for peer in measured.peers},
    }
    record["best_ratios"] = measured.best_ratios
    return record


@dataclass(frozen=True)
class Change:
    """A ratio of this run beside that of an earlier one; higher is better."""

    title: str
    name: str
    now: float
    then: float

    @property
    def is_worse(self) -> bool:
        return self.now * WORSE < self.then

    def __str__(self) -> str:
        if self.name == "limit":
            ratios = f"ours/limit {1 / self.now:.3g}, was {1 / self.then:.3g}"
        else:
            ratios = f"{self.name}/ours {self.now:.3g}, was {self.then:.3g}"
        return f"{self.title}: {ratios}: {self.then / self.now:.2f} times worse"


def changes(measured: Sequence[Measured], recorded: dict[str, Any]) -> list[Change]:
    """Every ratio that both this run and an earlier run's kernels.json have.

    Times are never compared: they belong to a machine.
    """
    before = {(case["case"], case["size"]): case["best_ratios"] for case in recorded["cases"]}
    return [
        Change(each.title, name, each.best_ratios[name], then)
        for each in measured
        for name, then in before.get((each.case, each.size), {}).items()
        if name in each.best_ratios
    ]


def draw_growth(measured: Sequence[Measured], path: Path) -> None:
    """Time over size, ours and the peers', both axes logarithmic."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    cases = _by_case(measured)
    figure = Figure(figsize=(16, 9), layout="constrained")
    for axes, (title, unit, names) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        shown = [sorted(cases.get(name, []), key=lambda each: each.count) for name in names]
        for style, name, ordered in zip(("-", "--"), names, shown, strict=False):
            _draw_case(axes, name, ordered, style)
        _draw_guides(axes, shown[0])
        counts = sorted({each.count for ordered in shown for each in ordered})
        axes.set(title=title, xlabel=unit, ylabel="seconds (median)", xscale="log", yscale="log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts], fontsize="small")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(which="major", alpha=0.3)
        if axes.lines:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    figure.suptitle("How time grows with size; grey: in proportion to the size n, and to its square")
    figure.savefig(path, dpi=100)


def _draw_case(axes: Any, name: str, ordered: Sequence[Measured], style: str) -> None:
    if not ordered:
        return
    variant = name.partition(", ")[2]
    suffix = f", {variant}" if variant else ""
    axes.plot(
        [each.count for each in ordered],
        [each.ours.median for each in ordered],
        color="black", linestyle=style, marker="o", linewidth=2, label=f"lnsdk{suffix}",
    )  # fmt: skip
    peers = list(dict.fromkeys(peer.name for each in ordered for peer in each.peers))
    for number, peer_name in enumerate(peers):
        points = [(each.count, peer.times.median) for each in ordered for peer in each.peers if peer.name == peer_name]
        axes.plot(
            *zip(*points, strict=True), color=f"C{number}", linestyle=style, marker=".", label=f"{peer_name}{suffix}"
        )


def _draw_guides(axes: Any, ordered: Sequence[Measured]) -> None:
    """How time would grow from the smallest size on, were it in proportion to the size, or to its square."""
    if not ordered:
        return
    first, last = ordered[0], ordered[-1]
    for power, label in ((1, "n"), (2, "n^2")):
        end = first.ours.median * (last.count / first.count) ** power
        axes.plot([first.count, last.count], [first.ours.median, end], color="grey", linestyle=":")
        axes.annotate(label, (last.count, end), color="grey", ha="right", va="bottom")
