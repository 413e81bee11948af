import json
import os
import zipfile
from pathlib import Path

import pytest

from lnsdk import InputError
from lnsdk import bundle as bundles
from lnsdk.bundle import METADATA, metadata_digest, read_bundle
from tests.toy_bundle import write_bundle, write_metadata, write_toy_bundle

FILES = {"models/image.onnx": b"\x08\x0a\x12\x0dnot a network", "docs/README.md": b"# card\n"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", FILES)


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + str(file.relative_to(folder)))
    return path


def refused(path: Path) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        read_bundle(path)
    assert "\n" not in str(caught.value)
    return caught.value.reason, str(caught.value)


def edit(folder: Path, **changes: object) -> None:
    metadata = json.loads((folder / METADATA).read_text())
    metadata["lnsdk"] |= changes
    write_metadata(folder, metadata)


def test_a_folder_is_read(folder: Path) -> None:
    bundle = read_bundle(folder)
    assert (bundle.name, bundle.version, bundle.task) == ("toy", "1.0.0", "detector")
    assert bundle.read("docs/README.md") == b"# card\n"
    assert bundle.graph("image").read(".onnx") == b"\x08\x0a\x12\x0dnot a network"
    assert bundle.graph("image").signature.inputs == {"image": (None, 3, None, None)}


@pytest.mark.parametrize("prefix", ["", "toy/"])
def test_a_zip_is_the_same_bundle(folder: Path, tmp_path: Path, prefix: str) -> None:
    bundle = read_bundle(zipped(folder, tmp_path / "toy.zip", prefix))
    assert bundle.sha256 == read_bundle(folder).sha256
    assert bundle.read("models/image.onnx") == b"\x08\x0a\x12\x0dnot a network"


def test_formatting_plays_no_part_in_the_hash(folder: Path) -> None:
    before = read_bundle(folder).sha256
    metadata = json.loads((folder / METADATA).read_text())
    (folder / METADATA).write_text(json.dumps(metadata, indent=4, sort_keys=True))
    assert read_bundle(folder).sha256 == before == metadata_digest(metadata)


def test_nothing_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere")[0] == "bundle-missing"
    assert refused(tmp_path)[0] == "bundle-missing"
    (tmp_path / "text").write_text("text")
    assert refused(tmp_path / "text")[0] == "bundle-missing"


@pytest.mark.parametrize("name", [*FILES, METADATA])
def test_a_changed_byte_is_found(folder: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[content.index(b"a" if name != METADATA else b"6000")] += 1
    (folder / name).write_bytes(content)
    reason, message = refused(folder)
    assert reason == "bundle-hash"
    assert name in message
    assert refused(zipped(folder, tmp_path / "toy.zip"))[0] == "bundle-hash"


def test_a_file_changed_after_reading_is_found(folder: Path) -> None:
    bundle = read_bundle(folder)
    (folder / "docs/README.md").write_bytes(b"# other\n")
    with pytest.raises(InputError, match=r"docs/README\.md does not match its SHA-256"):
        bundle.read("docs/README.md")


def test_a_missing_file_is_found(folder: Path, tmp_path: Path) -> None:
    (folder / "docs/README.md").unlink()
    assert refused(folder) == ("bundle-file", "bundle bundle: file docs/README.md is missing")
    assert refused(zipped(folder, tmp_path / "toy.zip"))[0] == "bundle-file"


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_format_version_is_refused(folder: Path, version: object) -> None:
    edit(folder, format_version=version)
    reason, message = refused(folder)
    assert reason == "bundle-version"
    assert f"format version {version!r}; this lnsdk reads version 1" in message


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "models/../../secret", "a\\b", "C:secret", "", "."])
def test_names_that_leave_the_bundle_are_refused(folder: Path, name: str) -> None:
    edit(folder, files={name: "0" * 64})
    assert refused(folder)[0] == "bundle-path"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "models/../../secret"])
def test_zip_entries_that_leave_the_bundle_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    path = zipped(folder, tmp_path / "toy.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    assert refused(path)[0] == "bundle-path"


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(FILES["docs/README.md"])
    (folder / "docs/README.md").unlink()
    (folder / "docs/README.md").symlink_to(tmp_path / "secret")
    assert refused(folder) == ("bundle-path", "bundle bundle: docs/README.md is a link that leaves the bundle")


def test_a_link_in_a_zip_is_refused(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "toy.zip")
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    assert refused(path)[0] == "bundle-path"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_holds_a_file_twice_is_refused(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "toy.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("docs/README.md", b"# card\n")
    assert refused(path)[0] == "bundle-path"


def test_a_damaged_zip_is_refused(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "toy.zip")
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    path.write_bytes(content)
    assert refused(path)[0] in ("bundle-hash", "bundle-metadata")
    path.write_bytes(content[: len(content) // 2])
    assert refused(path)[0] == "bundle-missing"


def test_sizes_are_limited(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(folder, tmp_path / "toy.zip")
    monkeypatch.setattr(bundles, "MAX_BUNDLE_BYTES", 15)
    assert refused(folder)[0] == refused(path)[0] == "bundle-size"
    monkeypatch.setattr(bundles, "MAX_FILE_BYTES", 5)
    assert refused(folder)[1].endswith("is larger than 5 bytes")
    monkeypatch.setattr(bundles, "MAX_FILES", 1)
    assert refused(folder)[0] == refused(path)[0] == "bundle-size"
    monkeypatch.setattr(bundles, "MAX_METADATA_BYTES", 10)
    assert refused(folder)[0] == "bundle-size"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"lnsdk": 1}', "[" * 100_000])
def test_a_description_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / METADATA).write_text(text)
    assert refused(folder)[0] == "bundle-metadata"


@pytest.mark.parametrize(
    "changes",
    [
        {"files": ["models/image.onnx"]},
        {"files": {"models/image.onnx": 5}},
        {"graphs": {}},
        {"graphs": {"image": 3}},
        {"graphs": {"image": {"inputs": {"image": [3]}}}},
        {"graphs": {"image": {"inputs": {"image": ["N"]}, "outputs": {"mid": [None]}}}},
        {"graphs": {"image": {"inputs": {"image": [-1]}, "outputs": {"mid": [None]}}}},
        {"name": ""},
        {"task": None},
    ],
)
def test_a_broken_section_is_refused(folder: Path, changes: dict[str, object]) -> None:
    edit(folder, **changes)
    assert refused(folder)[0] == "bundle-metadata"


def test_what_a_bundle_lacks_is_named(folder: Path) -> None:
    bundle = read_bundle(folder)
    with pytest.raises(InputError, match=r"has no file models/fpr\.onnx"):
        bundle.read("models/fpr.onnx")
    with pytest.raises(InputError, match="has no graph 'fpr'; it has image, fuse, head"):
        bundle.graph("fpr")
    with pytest.raises(InputError, match=r"has no models/image\.ts, only \.onnx of graph 'image'"):
        bundle.graph("image").read(".ts")


def test_a_toy_bundle_is_whole(tmp_path: Path) -> None:
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy"))
    assert set(bundle.files) == {
        "LICENSE",
        "docs/README.md",
        "models/image.onnx",
        "models/fuse.onnx",
        "models/head.onnx",
    }
    assert bundle.path == Path(os.fspath(tmp_path)) / "toy"


@pytest.mark.parametrize("packed", [False, True])
def test_a_bundle_that_the_system_does_not_let_read(
    folder: Path, tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(folder, tmp_path / "bundle.zip") if packed else folder
    bundle = read_bundle(path)

    def refuse(file: object, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder / "models/image.onnx"))

    monkeypatch.setattr("zipfile.ZipFile", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    expected = ("bundle-file", f"bundle {path.name} cannot be read, file image.onnx (Permission denied): ")
    reason, message = refused(path)
    assert (reason, message[: len(expected[1])]) == expected
    with pytest.raises(InputError, match="cannot be read"):
        bundle.read("models/image.onnx")
