"""A hostile bundle is one line of error: nothing outside it is read, nothing runs, memory and time stay small."""

import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lnsdk import InputError
from lnsdk.backends import BACKENDS
from lnsdk.bundle import read_bundle
from tests.hostile import graphs
from tests.hostile.zips import ZIPS, ordinary
from tests.toy_bundle import write_bundle, write_toy_bundle

SIGNATURE = {"image": {"inputs": {"image": [None, 3, None, None]}, "outputs": {"out": [None, 3, None, None]}}}

LITTLE_BYTES = 64 << 20
MOST_SECONDS = 5.0


@contextmanager
def watched() -> Iterator[None]:
    """Whatever is refused is refused soon and with little memory."""
    started = time.perf_counter()
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LITTLE_BYTES
    assert time.perf_counter() - started < MOST_SECONDS


@pytest.mark.parametrize(("make", "reason", "message"), ZIPS, ids=[make.__name__ for make, _, _ in ZIPS])
def test_a_zip_is_refused_before_it_is_unpacked(
    tmp_path: Path, make: Callable[[Path, Path], None], reason: str, message: str
) -> None:
    make(write_toy_bundle(tmp_path / "toy"), tmp_path / "hostile.zip")
    with watched(), pytest.raises(InputError, match=message) as caught:
        read_bundle(tmp_path / "hostile.zip")
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_the_same_zip_without_harm_is_read(tmp_path: Path) -> None:
    with ordinary(write_toy_bundle(tmp_path / "toy"), tmp_path / "toy.zip"):
        pass
    assert read_bundle(tmp_path / "toy.zip").name == "toy"


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("make", [graphs.outside, graphs.constant_outside, graphs.nested_outside])
@pytest.mark.parametrize("where", ["secret.bin", "../{name}/secret.bin", "{folder}/secret.bin"])
def test_no_graph_reads_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, make: Callable[[str], bytes], where: str
) -> None:
    np.arange(36, dtype=np.float32).tofile(tmp_path / "secret.bin")
    monkeypatch.chdir(tmp_path)
    content = make(where.format(name=tmp_path.name, folder=tmp_path))
    bundle = read_bundle(write_bundle(tmp_path / "bundle", {"models/image.onnx": content}, graphs=SIGNATURE))
    with pytest.raises(InputError, match="has weights in another file, which a bundle may not"):
        BACKENDS[backend].open(bundle.graph("image"), "cpu", "fp32", 1)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize(
    "make",
    [
        graphs.enormous,
        graphs.negative,
        graphs.truncated,
        graphs.endless,
        graphs.deep,
        graphs.crowded,
        graphs.disguised,
        graphs.flatbuffer,
    ],
)
def test_a_graph_that_is_made_to_harm_is_refused(tmp_path: Path, backend: str, make: Callable[[], bytes]) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "bundle", {"models/image.onnx": make()}, graphs=SIGNATURE))
    with watched(), pytest.raises(InputError) as caught:
        BACKENDS[backend].open(bundle.graph("image"), "cpu", "fp32", 1)
    assert caught.value.reason == "bundle-graph"
    assert "\n" not in str(caught.value)


def torchscript_refused(tmp_path: Path, content: bytes) -> str:
    files = {"models/image.ts": content}
    bundle = read_bundle(write_bundle(tmp_path / "bundle", files, graphs=SIGNATURE))
    with pytest.raises(InputError) as caught:
        BACKENDS["torchscript"].open(bundle.graph("image"), "cpu", "fp32", 1)
    assert caught.value.reason == "bundle-graph"
    return str(caught.value)


def test_no_pickle_runs(tmp_path: Path) -> None:
    marker = tmp_path / graphs.MARKER
    assert "torch cannot load graph 'image'" in torchscript_refused(tmp_path, graphs.pickled(marker))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (graphs.reads_a_file, "does more than arithmetic: it calls torch.from_file"),
        (graphs.writes_a_file, "does more than arithmetic: it calls torch.save"),
        (graphs.never_ends, "does more than arithmetic: it has a statement While"),
    ],
)
def test_no_program_runs(tmp_path: Path, program: Callable[[Path], bytes], expected: str) -> None:
    marker = tmp_path / graphs.MARKER
    np.arange(8, dtype=np.float32).tofile(marker)
    before = marker.read_bytes()
    assert expected in torchscript_refused(tmp_path, program(marker))
    assert marker.read_bytes() == before


def test_nothing_runs_while_an_archive_is_loaded(tmp_path: Path) -> None:
    content = graphs.archive("class Net(Module):\n  def __setstate__(self, x: int) -> NoneType:\n    return None\n")
    assert "does more than arithmetic: it defines __setstate__" in torchscript_refused(tmp_path, content)


@pytest.mark.parametrize(
    "content", [b"", b"no archive", graphs.archive("def forward(:"), graphs.archive("(" * 100_000)]
)
def test_an_archive_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "is no TorchScript archive" in torchscript_refused(tmp_path, content)


def test_ordinary_graphs_pass(tmp_path: Path) -> None:
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy"))
    for name in ("image", "fuse", "head"):
        assert bundle.graph(name).read(".onnx") == bundle.read(f"models/{name}.onnx")


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, zipfile.ZIP_LZMA)], ids=["encrypted", "squeezed"])
def test_code_that_cannot_be_looked_at_is_refused(tmp_path: Path, offset: int, value: int) -> None:
    content = bytearray(graphs.archive("class Net(Module):\n  pass\n"))
    content[content.index(b"PK\x01\x02") + offset] = value  # in the directory's first entry, the code's
    assert "its code is encrypted, or compressed otherwise" in torchscript_refused(tmp_path, bytes(content))
