"""A hostile bundle is one line of error: nothing outside it is read, nothing runs, memory and time stay small."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lnsdk import InputError
from lnsdk.backends import BACKENDS
from lnsdk.bundle import read_bundle
from tests.hostile import graphs
from tests.hostile.zips import ZIPS
from tests.toy_bundle import write_bundle, write_toy_bundle

SIGNATURE = {"image": {"inputs": {"image": [None, 3, None, None]}, "outputs": {"out": [None, 3, None, None]}}}

LITTLE_BYTES = 64 << 20
MOST_SECONDS = 5.0


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_is_refused_before_it_is_unpacked(tmp_path: Path, name: str) -> None:
    path = ZIPS[name](write_toy_bundle(tmp_path / "toy"), tmp_path / "hostile.zip")
    started = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        read_bundle(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.reason in ("bundle-size", "bundle-path", "bundle-hash", "bundle-missing", "bundle-file")
    assert "\n" not in str(caught.value)
    assert peak < LITTLE_BYTES
    assert time.perf_counter() - started < MOST_SECONDS
    assert not (tmp_path.parent / "evil").exists()


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
    [graphs.enormous, graphs.negative, graphs.truncated, graphs.endless, graphs.deep],
    ids=lambda make: make.__name__,
)
def test_a_graph_that_lies_of_its_size_is_refused(tmp_path: Path, backend: str, make: Callable[[], bytes]) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "bundle", {"models/image.onnx": make()}, graphs=SIGNATURE))
    started = time.perf_counter()
    with pytest.raises(InputError) as caught:
        BACKENDS[backend].open(bundle.graph("image"), "cpu", "fp32", 1)
    assert caught.value.reason == "bundle-graph"
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < MOST_SECONDS


def test_no_pickle_runs(tmp_path: Path) -> None:
    marker = tmp_path / graphs.MARKER
    files = {"models/image.ts": graphs.pickled(marker)}
    bundle = read_bundle(write_bundle(tmp_path / "bundle", files, graphs=SIGNATURE))
    with pytest.raises(InputError, match="torch cannot load graph 'image'"):
        BACKENDS["torchscript"].open(bundle.graph("image"), "cpu", "fp32", 1)
    assert not marker.exists()


def test_ordinary_graphs_pass(tmp_path: Path) -> None:
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy"))
    for name in ("image", "fuse", "head"):
        assert bundle.graph(name).read(".onnx") == bundle.read(f"models/{name}.onnx")
