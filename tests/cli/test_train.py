"""`lnsdk train lens-data` and `lens-table`: what they write, print and refuse."""

from pathlib import Path

import pytest

from lnsdk.cli.__main__ import main
from lnsdk.trainers.common.cases import read_set
from lnsdk.trainers.common.patients import PatientSetPlan, SetSummary
from lnsdk.trainers.lens.tables import run as tables
from lnsdk.trainers.lens.tables.recipes import TABLES
from lnsdk.trainers.lens.tables.run import write_tables
from tests.trainers.datasets.test_masks import write_lits


def refuse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("lnsdk: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_published_data_become_a_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lits(tmp_path / "lits")
    monkeypatch.setattr(
        "lnsdk.trainers.datasets.prepare.in_parallel", lambda title, task, items: [task(item) for item in items]
    )
    out = tmp_path / "cases"
    assert main(["train", "lens-data", "--lits", str(tmp_path / "lits"), "-o", str(out)]) == 0
    assert f"1 volumes written to {out}" in capsys.readouterr().out
    parts = [read_set(out, part) for part in ("train", "validation", "matching", "test")]
    (case,) = [case for part in parts[:2] for case in part]
    assert case.expert == "liver"
    assert case.truth is not None
    assert len(case.truth.boxes) == len(set(case.labels.lesion.tolist())) > 0
    assert parts[3] == []
    assert len(parts[1]) == len(parts[2])


def test_simulated_patients_are_planned_as_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[PatientSetPlan] = []

    def generate(plan: PatientSetPlan, folder: Path) -> SetSummary:
        planned.append(plan)
        return SetSummary((), {})

    monkeypatch.setattr("lnsdk.trainers.common.patients.generate", generate)
    counts = ["--patients", "3", "--single", "2", "--validation", "0", "--test", "1", "--reach-mm", "20", "--seed", "5"]
    assert main(["train", "lens-data", "--phantoms-only", *counts, "-o", str(tmp_path)]) == 0
    assert planned == [PatientSetPlan(patients=3, single=2, validation=0, test=1, reach_mm=20.0, seed=5)]
    assert f"written to {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--phantoms-only", "--seed", "100"], "seed must be from 0 to 99"),
        (["--phantoms-only", "--reach-mm", "-1"], "reach_mm"),
        (["--lits", "{tmp}/nowhere"], "nowhere"),
        (["--luna16", "{tmp}"], "unpack subset0.zip"),
        (["--lits", "{tmp}", "--deeplesion-boxes", "{tmp}/b.json"], "the 3D boxes belong to DeepLesion"),
        (["--phantoms-only", "--allow-missing"], "--allow-missing is for published data sets"),
        (["--lits", "{tmp}", "--patients", "0"], "--patients is for simulated patients, and --lits takes recorded"),
        (["--luna16", "{tmp}", "--phantoms-only"], "--phantoms-only is for simulated patients"),
    ],
)
def test_unusable_data(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "--deeplesion-boxes" in arguments:
        write_lits(tmp_path)
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    assert words in refuse(["train", "lens-data", "-o", str(tmp_path / "cases"), *given], capsys)


def test_table_is_printed_when_its_rows_were_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def run_tables(numbers: list[str], scale: str, folder: Path, results: Path, seeds: list[int] | None) -> None:
        asked.append((numbers, scale, folder, results, seeds))
        (results / "table_IV.md").write_text("# Table IV")

    monkeypatch.setattr(tables, "run_tables", run_tables)
    assert main(["train", "lens-table", "IV", "-o", str(tmp_path / "out"), "--seeds", "0", "2"]) == 0
    assert asked == [(["IV"], "edge", tmp_path / "out", tmp_path / "out/results", [0, 2])]
    assert "# Table IV" in capsys.readouterr().out


def test_command_knows_every_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["train", "lens-table", "--help"])
    assert "{" + ",".join(TABLES) + "}" in capsys.readouterr().out
    write_tables(tmp_path)
    assert list(tmp_path.iterdir()) == []
