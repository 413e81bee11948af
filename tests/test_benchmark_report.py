"""What the benchmarks report, on made-up times: table, files, and which ratios count as worse."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.report import LimitTime, Measured, PeerTime, Times


def seconds(value: float) -> Times:
    return Times.of([value, value * 1.2, value * 0.9])


def measured(count: int, ours: float, peer: float = 0.3, limit: float = 0.02) -> Measured:
    return Measured(
        case="nms, clustered",
        size=f"{count} boxes",
        count=count,
        unit="box",
        ours=seconds(ours),
        at_most_seconds=0.035,
        fresh=seconds(ours * 2),
        limit=LimitTime(seconds(limit), "bytes moved.", at_most=2),
        peers=(PeerTime("torchvision", seconds(peer), at_least=10), PeerTime("OpenCV", seconds(3 * peer))),
    )


RUN = [measured(1000, 0.03), measured(10_000, 0.3)]


def recorded(run: list[Measured], folder: Path) -> dict[str, object]:
    report.write(run, folder)
    record: dict[str, object] = json.loads((folder / "kernels.json").read_text())
    return record


def worse(run: list[Measured], record: dict[str, object]) -> list[str]:
    return [str(change) for change in report.changes(run, record) if change.is_worse]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_times_are_the_median_and_the_best() -> None:
    assert Times.of([3.0, 1.0, 2.0]) == Times(2.0, 1.0, 3)
    assert Times.of([3.0, 1.0, 2.0]).scaled(0.5) == Times(1.0, 0.5, 3)


def test_table_has_a_line_for_each_peer() -> None:
    lines = report.table(RUN).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert cells(lines[0]) == list(report.HEADER)
    assert [cells(line) for line in lines[2:4]] == [
        [
            "nms, clustered", "1000 boxes", "30 ms (< 35 ms: met)", "30 us/box", "", "60 ms", "20 ms",
            "1.50 (<= 2: met)", "torchvision", "300 ms", "10x (>= 10x: met)", "5x",
        ],
        ["", "", "", "", "", "", "", "", "OpenCV", "900 ms", "30x", "15x"],
    ]  # fmt: skip
    assert cells(lines[4])[2:8] == [
        "300 ms (< 35 ms: MISSED)", "30 us/box", "1.00", "600 ms", "20 ms", "15.00 (<= 2: MISSED)",
    ]  # fmt: skip


def test_case_without_limit_and_peers_has_one_line() -> None:
    bare = replace(RUN[0], limit=None, peers=(), fresh=None, at_most_seconds=None)
    assert cells(report.table([bare]).splitlines()[2])[2:] == ["30 ms", "30 us/box", *[""] * 8]
    assert report.notes([bare]) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.0, "2 s"), (0.9996, "1000 ms"), (1.234e-3, "1.23 ms"), (45.6e-6, "45.6 us"), (3e-10, "0.3 ns")],
)
def test_durations(value: float, text: str) -> None:
    assert report.duration(value) == text


def test_growth_between_consecutive_sizes() -> None:
    quadratic = [measured(1000, 1.0), measured(4000, 16.0), measured(2000, 4.0)]
    assert report.growth(quadratic) == pytest.approx({"nms, clustered: 2000 boxes": 2, "nms, clustered: 4000 boxes": 2})


def test_files_hold_machine_ratios_and_picture(tmp_path: Path) -> None:
    record = json.loads(json.dumps(recorded(RUN, tmp_path)))
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["instruction set"]
    assert set(report.PACKAGES) < set(record["machine"])
    case = record["cases"][0]
    assert case["ratios"] == pytest.approx({"ours/limit": 1.5, "torchvision/ours": 10, "OpenCV/ours": 30})
    assert case["limit"]["how"] == "bytes moved."
    assert case["fresh"]["median"] == 0.06
    assert report.table(RUN) in (tmp_path / "kernels.md").read_text()
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "now",
    [
        [measured(1000, 0.3, peer=3.0, limit=0.2)],  # a machine ten times slower
        [measured(1000, 0.03 * 2.2)],  # noise
        [measured(1000, 0.01)],  # an improvement
        [measured(2000, 9.0)],  # was not recorded
        [],
    ],
)
def test_no_regression(now: list[Measured], tmp_path: Path) -> None:
    assert worse(now, recorded(RUN, tmp_path)) == []


def test_regressions_are_listed(tmp_path: Path) -> None:
    record = recorded(RUN, tmp_path)
    assert worse([measured(1000, 0.12), RUN[1]], record) == [
        "nms, clustered: 1000 boxes: torchvision/ours 2.5, was 10: 4.00 times worse",
        "nms, clustered: 1000 boxes: OpenCV/ours 7.5, was 30: 4.00 times worse",
        "nms, clustered: 1000 boxes: ours/limit 6, was 1.5: 4.00 times worse",
    ]
    assert len(worse([measured(1000, 0.03, peer=0.1)], record)) == 2
    assert len(report.changes(RUN, record)) == 6


def test_best_rounds_are_compared_not_medians(tmp_path: Path) -> None:
    disturbed = replace(RUN[0], ours=replace(RUN[0].ours, median=1.0))
    assert worse([disturbed], recorded(RUN, tmp_path)) == []
