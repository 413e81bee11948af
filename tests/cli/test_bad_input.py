"""What cannot be used ends `lnsdk detect` with exit code 2 and one line, never with a traceback."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lnsdk.bundle import METADATA
from lnsdk.cli.__main__ import main
from tests.io import samples
from tests.io.test_bad_input import BAD
from tests.toy_bundle import write_metadata


def refuse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["detect", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("lnsdk: ")
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize(("make", "words"), [(make, words) for make, _, words in BAD], ids=[b[0].__name__ for b in BAD])
def test_bad_images(
    make: Callable[[Path], Path], words: str, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    message = refuse([str(make(tmp_path / "in")), "-o", str(tmp_path / "out"), "--bundle", str(toy)], capsys)
    assert words in message
    assert not any((tmp_path / "out").iterdir())


def changed_byte(bundle: Path) -> None:
    content = bytearray((bundle / "models/fuse.onnx").read_bytes())
    content[200] ^= 1
    (bundle / "models/fuse.onnx").write_bytes(content)


def unknown_version(bundle: Path) -> None:
    metadata = json.loads((bundle / METADATA).read_text())
    metadata["lnsdk"]["format_version"] = 99
    write_metadata(bundle, metadata)


def parent_path_in_zip(bundle: Path) -> None:
    with zipfile.ZipFile(bundle.with_suffix(".zip"), "w") as archive:
        archive.writestr("../evil.onnx", b"evil")
    shutil.rmtree(bundle)
    bundle.with_suffix(".zip").rename(bundle)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (changed_byte, "models/fuse.onnx does not match its SHA-256"),
        (unknown_version, "has format version 99; this lnsdk reads version 1"),
        (parent_path_in_zip, "names a file outside itself: '../evil.onnx'"),
        (shutil.rmtree, "there is no bundle at"),
    ],
)
def test_bad_bundles(
    spoil: Callable[[Path], None], words: str, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(toy, tmp_path / "bundle"))
    spoil(bundle)
    series = samples.save(tmp_path / "in", samples.series())
    assert words in refuse([str(series), "-o", str(tmp_path / "out"), "--bundle", str(bundle)], capsys)
