"""Streams against whole volumes: the same lesions, how long after the last slice, and how far behind the slices.

Run as ``python -m benchmarks.streaming CT... -o DIR``; writes DIR/streaming.md, streaming.json and latency.png.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

import lnsdk
from lnsdk import Detections, Detector, Volume
from lnsdk.bench.machine import describe, facts
from lnsdk.verification.lesions import Bounds, compare_lesions

RATE = 20.0
"""Slices that a scanner sends in a second."""

VOXELS, SCORE = 0.25, 0.01
"""How far a stream's lesions may be from the whole volume's where it had to settle on a crop; else they are equal."""

AT_MOST_SECONDS = 1.0
"""From the last slice to the result, in order at `RATE`."""

POLL = 0.001
"""Seconds between two looks at what a stream has caught up with."""


@dataclass(frozen=True)
class Run:
    """One stream.

    Attributes
    ----------
    ct, crop, order : str
        What was streamed, and how.
    rate : float or None
        Slices a second; None without a pause.
    slices, lesions : int
        Of the CT, and found in it by the whole-volume call whatever their score.
    above : int
        Those of them above the operating point.
    equal : bool
        Whether every lesion is bitwise the whole volume's.
    box_difference, score_difference : float
        Largest over matched lesions, in voxels and score.
    alone : int
        Lesions that only one of the two found.
    best_alone : float
        Best score of these; 0 where there is none.
    seconds : float
        From the last slice to the result.
    latencies : list of float
        Of every slice that came with a pause after it: until the network had caught up with it.
    """

    ct: str
    crop: str
    order: str
    rate: float | None
    slices: int
    lesions: int
    above: int
    equal: bool
    box_difference: float
    score_difference: float
    alone: int
    best_alone: float
    seconds: float
    latencies: list[float]


@dataclass(frozen=True)
class Source:
    """A CT and its slices as they are sent: DICOM files, or arrays of a known geometry."""

    name: str
    volume: Volume
    items: Sequence[Any]
    geometry: Any


def open_source(path: Path) -> Source:
    """Read a CT, and find the file of every slice where it has such."""
    volume = lnsdk.read(path)
    files = {}
    if path.is_dir():
        for file in filter(Path.is_file, sorted(path.rglob("*"))):
            files[str(dcmread(file, stop_before_pixels=True, force=True).get("SOPInstanceUID"))] = file
    if all(uid in files for uid in volume.sop_instance_uids or ("none",)):
        return Source(path.name, volume, [files[uid] for uid in volume.sop_instance_uids], None)
    return Source(path.name, volume, list(enumerate(volume.voxels)), volume.geometry)


def orders(count: int) -> dict[str, list[int]]:
    """Orders in which slices may come."""
    straight = list(range(count))
    return {
        "in order": straight,
        "reversed": straight[::-1],
        "shuffled": np.random.default_rng(0).permutation(count).tolist(),
    }


def stream_once(detector: Detector, items: Sequence[Any], geometry: Any, rate: float | None) -> tuple[Any, ...]:
    """The result of a stream, the seconds to it, and the latency of every slice."""
    stream = detector.stream(geometry)
    came: list[float] = []
    caught_up: list[float] = []
    start = time.perf_counter()
    for number, item in enumerate(items, start=1):
        stream.add(item)
        came.append(time.perf_counter())
        while rate is not None and number < len(items) and time.perf_counter() < start + number / rate:
            done = number - stream.waiting - len(caught_up)
            caught_up += [time.perf_counter()] * done
            time.sleep(POLL)
    detections = stream.result()
    end = time.perf_counter()
    caught_up += [end] * (len(items) - len(caught_up))
    latencies = [after - before for before, after in zip(came, caught_up, strict=True)]
    return detections, end - came[-1], latencies if rate is not None else []


def runs(source: Source, crop: str, threads: int | None) -> Iterator[Run]:
    """Stream a CT in every order, at a scanner's rate and without pauses."""
    detector = Detector(threshold=0.0, crop=crop, threads=threads)
    operating_point = Detector(crop=crop, threads=threads).provenance.threshold
    whole = detector(source.volume)
    for rate in (RATE, None):
        for order, indices in orders(len(source.items)).items():
            items = [source.items[index] for index in indices]
            found, seconds, latencies = stream_once(detector, items, source.geometry, rate)
            parity = compare_lesions(whole, found, Bounds(VOXELS, SCORE, SCORE))
            yield Run(
                ct=source.name,
                crop=crop,
                order=order,
                rate=rate,
                slices=len(items),
                lesions=len(whole.lesions),
                above=sum(lesion.score >= operating_point for lesion in whole.lesions),
                equal=_content(whole) == _content(found),
                box_difference=parity.box_difference,
                score_difference=parity.score_difference,
                alone=len(parity.unmatched),
                best_alone=max((lesion.score for lesion in parity.unmatched), default=0.0),
                seconds=seconds,
                latencies=latencies,
            )


def to_markdown(found: Sequence[Run], model: str) -> str:
    """The table, and what it comes to."""
    lines = [
        f"# Streams of slices against whole volumes\n\n{describe(facts())} Model {model}.\n",
        "| CT | crop | order | slices/s | slices | lesions (above the operating point) | equal | boxes, voxels | "
        "scores | alone (best score) | last slice to result, s |",
        "|---|---|---|--:|--:|--:|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r.ct} | {r.crop} | {r.order} | {'no pause' if r.rate is None else f'{r.rate:g}'} | {r.slices} | "
        f"{r.lesions} ({r.above}) | {'yes' if r.equal else 'no'} | {r.box_difference:.3f} | {r.score_difference:.4f} | "
        f"{r.alone} ({r.best_alone:.3f}) | {r.seconds:.2f} |"
        for r in found
    ]
    whole = [r for r in found if r.crop == "none"]
    cropped = [r for r in found if r.crop == "body"]
    timed = [r for r in found if r.rate is not None and r.order == "in order"]
    beyond = [r for r in cropped if r.score_difference > SCORE or r.box_difference > VOXELS]
    late = [r for r in timed if r.seconds > AT_MOST_SECONDS]
    lines += [
        f'\n- Whole slices, `crop="none"`: {sum(r.equal for r in whole)} of {len(whole)} equal, bit for bit.',
        f"- The body's crop: {sum(r.equal for r in cropped)} of {len(cropped)} equal; {len(beyond)} of them beyond "
        f"{VOXELS} voxels or {SCORE} of score.",
        f"- In order at {RATE:g} a second: the slowest result came {max(r.seconds for r in timed):.2f} s after the "
        f"last slice; {len(late)} of {len(timed)} took more than {AT_MOST_SECONDS:g} s.",
    ]
    return "\n".join(lines) + "\n"


def draw(found: Sequence[Run], path: Path) -> None:
    """How far the network was behind every slice, for the CT with the most slices, and its result."""
    from matplotlib.figure import Figure

    longest = max(found, key=lambda run: run.slices).ct
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    shown = [r for r in found if r.ct == longest and r.crop == "body" and r.rate is not None]
    for number, run in enumerate(shown):
        seconds = np.maximum(run.latencies, POLL)
        axes.plot(range(1, run.slices + 1), seconds, color=f"C{number}", lw=1, label=run.order)
        axes.plot(run.slices, run.seconds, "o", color=f"C{number}")
    axes.axhline(AT_MOST_SECONDS, color="0.5", ls="--", lw=1)
    axes.set(
        yscale="log",
        xlabel="slice, in the order of coming",
        ylabel="seconds until the network had caught up",
        title=f"{longest}: {shown[0].slices} slices at {RATE:g} a second; dots: the result after the last one",
    )
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _content(result: Detections) -> list[tuple[object, ...]]:
    return [(lesion.box, lesion.score, lesion.fpr_score, *lesion.expert_scores.items()) for lesion in result.lesions]


def _progress(generator: Iterator[Run], say: Callable[[str], None]) -> Iterator[Run]:
    for run in generator:
        say(f"{run.ct} {run.crop} {run.order} {run.rate}: {run.seconds:.2f} s, score {run.score_difference:.4f}")
        yield run


def main() -> None:
    """Stream and write the report."""
    parser = ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("ct", nargs="+", type=Path, help="CTs: DICOM folders, or files that lnsdk.read takes")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the report; made when missing")
    parser.add_argument("--threads", type=int, help="CPU threads; all cores without it")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    found: list[Run] = []
    for path in options.ct:
        source = open_source(path)
        for crop in ("none", "body"):
            found += _progress(runs(source, crop, options.threads), print)
    provenance = Detector(threads=options.threads).provenance
    model = f"{provenance.model} {provenance.model_version}, {provenance.backend} {provenance.precision}"
    document = {"machine": facts(), "provenance": asdict(provenance), "runs": [asdict(run) for run in found]}
    (options.output / "streaming.json").write_text(json.dumps(document, indent=1) + "\n")
    text = to_markdown(found, model)
    (options.output / "streaming.md").write_text(text)
    draw(found, options.output / "latency.png")
    print(text)


if __name__ == "__main__":
    main()
