"""What cannot be used ends `lnsdk train`, `export` and `evaluate` with exit code 2 and one line, before any work."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lnsdk.cli.__main__ import main
from lnsdk.errors import InputError
from lnsdk.trainers.lens import run as lens_run
from lnsdk.trainers.networks.lens import EDGE, Lens
from lnsdk.volume import Volume


def refuse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("lnsdk: ")
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.fixture(autouse=True)
def no_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        pytest.fail("began to simulate")

    monkeypatch.setattr(lens_run, "generate", fail)
    monkeypatch.setattr(lens_run, "describe_ranges", lambda: "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "{tmp}/nowhere"], "there is no folder at"),
        (["--data", "{tmp}"], "pass the folder that holds ct/"),
        (["--phantoms-only", "--seed", "-1"], "seed must be from 0 to 99"),
        (["--phantoms-only", "--imagenet", "{tmp}/no.pth"], "--imagenet needs --preset paper"),
        (
            ["--phantoms-only", "--preset", "paper", "--no-fpr", "--imagenet", "{tmp}/no.pth"],
            "cannot read ImageNet weights",
        ),
        (
            ["--phantoms-only", "--preset", "paper", "--no-fpr", "--imagenet", "{tmp}/text.pth"],
            "cannot read ImageNet weights",
        ),
        (
            ["--phantoms-only", "--preset", "paper", "--no-fpr", "--imagenet", "{tmp}/other.pth"],
            "does not hold DenseNet-121",
        ),
        (["--phantoms-only", "--preset", "paper"], "--from-scratch"),
        (["--phantoms-only", "--preset", "paper", "--imagenet", "{tmp}/other.pth"], "--imagenet-resnet FILE"),
        (["--phantoms-only", "--cases", "{tmp}"], "must hold a set of cases"),
        (["--phantoms-only", "--cases", "{tmp}", "--patients", "3"], "choose one of them"),
        (["--phantoms-only", "--features", "{tmp}/no.ckpt"], "cannot read"),
        (["--phantoms-only", "--delta", "0.2", "--no-mining"], "choose one of them"),
        (["--phantoms-only", "--features", "{tmp}/other.pth"], "does not hold features for this network"),
        (["--phantoms-only", "--imagenet-resnet", "{tmp}/other.pth"], "--imagenet-resnet needs --preset paper"),
    ],
)
def test_train(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "text.pth").write_text("weights")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    monkeypatch.setattr("rich.console.Console.print", lambda *_, **__: None)
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    assert words in refuse(["train", "lens", "-o", str(tmp_path / "run"), *given], capsys)


def test_train_looks_for_the_cts_of_all_roles_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: Path) -> tuple[()]:
        raise InputError("data-root", "a validation CT is not there")

    monkeypatch.setattr(lens_run, "load_backgrounds", load)
    said = refuse(["train", "lens", "--data", str(tmp_path), "-o", str(tmp_path / "run")], capsys)
    assert "a validation CT is not there" in said


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def damaged(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 damaged")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    torch.save({"model": torch.zeros(1)}, path)


def no_dictionary(path: Path) -> None:
    torch.save([1, 2], path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, "there is no checkpoint at"),
        (damaged, "damaged or no checkpoint"),
        (empty, "damaged or no checkpoint"),
        (foreign, "no checkpoint of a LENS training"),
        (no_dictionary, "no checkpoint of a training"),
    ],
)
def test_export(make: Callable[[Path], None], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "checkpoint.ckpt")
    assert words in refuse(
        ["export", str(tmp_path / "checkpoint.ckpt"), "-o", str(tmp_path / "bundle"), "--threshold", "0.5"], capsys
    )
    assert not (tmp_path / "bundle").exists()


def test_export_verified_on_air(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"network": Lens(4, EDGE).state_dict(), "shape": vars(EDGE)}, tmp_path / "checkpoint.ckpt")
    air = Volume(np.full((8, 64, 64), -1000, np.int16), np.eye(4))
    monkeypatch.setattr("lnsdk.trainers.lens.bundle.read", lambda _: air)
    arguments = ["export", str(tmp_path / "checkpoint.ckpt"), "-o", str(tmp_path / "bundle"), "--threshold", "0.5"]
    assert "only air" in refuse([*arguments, "--verify-on", "air"], capsys)
    assert not (tmp_path / "bundle").exists()


def test_evaluate_into_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "lens", "--card", "-o", str(tmp_path / "report"), "--data", str(tmp_path)]
    assert "name the bundle folder whose card" in refuse(arguments, capsys)
    (tmp_path / "model.zip").write_bytes(b"")
    assert "name the bundle folder whose card" in refuse([*arguments, "--bundle", str(tmp_path / "model.zip")], capsys)


def test_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "lens", "-o", str(tmp_path / "report"), "--data"]
    assert "there is no folder at" in refuse([*arguments, str(tmp_path / "nowhere")], capsys)
    assert "pass the folder that holds ct/" in refuse([*arguments, str(tmp_path)], capsys)


def test_evaluate_wants_its_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnsdk.trainers.lens.evaluate.load_backgrounds", lambda *_, **__: ())
    arguments = ["evaluate", "lens", "-o", str(tmp_path / "report"), "--data", str(tmp_path)]
    assert "must hold oracles/luna16/tables/annotations.csv" in refuse(arguments, capsys)
