"""Export: graphs of a small network pass the gate, a damaged one does not, and the bundle runs in the detector."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lnsdk import Detector
from lnsdk.bundle import read_bundle
from lnsdk.errors import InputError
from lnsdk.export.bundle import replaced_bundle, update_files, write_graphs
from lnsdk.export.graph import ExportGraph
from lnsdk.export.parity import check_graph
from lnsdk.phantom import chest_phantom
from lnsdk.pipelines.settings import read_settings
from lnsdk.trainers.lens import bundle as lens_bundle
from lnsdk.trainers.lens.bundle import Verdict, _open_candidate, detector_section, export_checkpoint, write_lens_bundle
from lnsdk.trainers.lens.gate import BACKENDS, BATCHES, compare_outputs, real_inputs
from lnsdk.trainers.lens.graphs import lens_graphs
from lnsdk.trainers.lens.proposals.base import Method
from lnsdk.trainers.lens.settings import runtime_of
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork
from lnsdk.trainers.networks.lens import Lens
from lnsdk.verification import ParityError, compare_lesions
from lnsdk.volume import Volume
from tests.trainers.lens.fpr.tiny import TINY as TINY_FPR
from tests.trainers.lens.tiny import TINY, spread_scores


def accept(_: Detector) -> Verdict:
    return Verdict(0.1, "# tiny\n")


@pytest.fixture(scope="module")
def network() -> Lens:
    torch.manual_seed(0)
    return spread_scores(Lens(4, TINY).eval())


@pytest.fixture(scope="module")
def volume() -> Volume:
    return chest_phantom(0, slices=10, spacing=(1.6, 1.6, 4.0), size=256).volume


@pytest.fixture(scope="module")
def written(network: Lens, volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "bundle"
    write_lens_bundle(network, folder, "tiny", [volume], accept)
    return folder


@pytest.mark.parametrize("name", ["image", "fuse", "head"])
def test_torchscript_can_be_recorded_on_a_gpu_in_float32(written: Path, name: str) -> None:
    """No value goes to the host, which a CUDA graph cannot record; TensorFloat-32 is not frozen in."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit")
        traced = torch.jit.load(written / "models" / f"{name}.ts").inlined_graph
    assert [node.kind() for node in traced.nodes() if node.kind() in ("aten::Int", "aten::item", "aten::Float")] == []
    convolutions = traced.findAllNodes("aten::_convolution")
    assert bool(convolutions) == (name != "head")
    assert all(list(node.inputs())[-1].toIValue() is False for node in convolutions)


def test_bundle_holds_what_it_promises(written: Path) -> None:
    names = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    graphs = {f"models/{graph}{suffix}" for graph in ("image", "fuse", "head") for suffix in (".onnx", ".ts")}
    assert names == graphs | {"LICENSE", "configs/metadata.json", "docs/README.md", "docs/parity.json"}
    assert read_bundle(written).task == "detector"
    assert (written / "docs/README.md").read_text() == "# tiny\n"
    assert Detector(written).provenance.threshold == 0.1


@pytest.fixture(scope="module")
def reduction() -> FalsePositiveNetwork:
    torch.manual_seed(0)
    return FalsePositiveNetwork(TINY_FPR).eval()


@pytest.fixture(scope="module")
def few_slices(volume: Volume) -> Volume:
    return Volume(volume.voxels[3:6], volume.affine)


def test_bundle_with_false_positive_reduction(
    network: Lens, reduction: FalsePositiveNetwork, few_slices: Volume, tmp_path: Path
) -> None:
    """Both ways of running are evaluated, and each gets its own operating point; the gate runs the graph."""
    ways: list[bool] = []

    def evaluate(detector: Detector) -> Verdict:
        assert detector.provenance.threshold == 0.0
        ways.append(detector.reduces_false_positives)
        return Verdict(0.15 if ways[-1] else 0.1, f"# {len(ways)}\n")

    folder = tmp_path / "bundle"
    write_lens_bundle(network, folder, "tiny", [few_slices], evaluate, fpr=reduction)
    assert ways == [False, True]
    assert (folder / "docs/README.md").read_text() == "# 2\n"
    settings = read_settings(read_bundle(folder))
    assert settings.fpr is not None
    assert (settings.threshold, settings.fpr.threshold, settings.operating_point) == (0.1, 0.15, 0.15)
    assert (settings.fpr.patch, settings.fpr.boxes) == (TINY_FPR.patch, 50)
    assert "s_lens / 2 for the others" in read_bundle(folder).section["fpr"]["combination"]
    report = json.loads((folder / "docs/parity.json").read_text())
    compared = {name: detector["lesions_above"] for name, detector in report["detectors"].items()}
    assert compared == {"detector": 0.15, "without false-positive reduction": 0.1}
    checked = {(row["backend"], row["batch"]) for row in report["outputs"] if row["graph"] == "fpr"}
    assert checked == {(backend, batch) for backend in ("onnx", "torchscript") for batch in BATCHES}
    assert Detector(folder).reduces_false_positives
    assert Detector(folder, reduce_false_positives=False).provenance.threshold == 0.1


def test_checkpoints_of_both_networks_are_exported(
    network: Lens,
    reduction: FalsePositiveNetwork,
    few_slices: Volume,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lens, fpr = tmp_path / "checkpoint.ckpt", tmp_path / "fpr.ckpt"
    torch.save({"network": network.state_dict(), "shape": vars(TINY)}, lens)
    torch.save({"network": reduction.state_dict(), "shape": vars(TINY_FPR)}, fpr)
    with pytest.raises(ValueError, match="fpr and fpr_threshold go together"):
        export_checkpoint(lens, tmp_path / "bundle", "tiny", [], 0.25, fpr=fpr)

    written: list[tuple[Any, ...]] = []
    monkeypatch.setattr(lens_bundle, "gate_volume", lambda: few_slices)
    monkeypatch.setattr(lens_bundle, "write_lens_bundle", lambda *arguments: written.append(arguments))
    export_checkpoint(lens, tmp_path / "bundle", "tiny", [], 0.25, fpr=fpr, fpr_threshold=0.0)
    ((_, _, _, _, evaluate, _, exported),) = written
    ways = [evaluate(SimpleNamespace(reduces_false_positives=reduces)).threshold for reduces in (False, True)]
    assert ways == [0.25, 0.0]
    for name, value in reduction.state_dict().items():
        assert torch.equal(exported.state_dict()[name], value), name


def test_evaluation_gets_every_lesion_and_may_refuse(network: Lens, volume: Volume, tmp_path: Path) -> None:
    def fail(detector: Detector) -> Verdict:
        assert detector.provenance.threshold == 0.0
        raise InputError("no-operating-point", "finds nothing")

    with pytest.raises(InputError, match="finds nothing"):
        write_lens_bundle(network, tmp_path / "bundle", "tiny", [volume], fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["onnx", "torchscript"])
def test_backends_find_the_same_as_each_other(written: Path, volume: Volume, backend: str) -> None:
    detections = Detector(written, backend=backend, threshold=0.0)(volume)
    reference = Detector(written, threshold=0.0)(volume)
    parity = compare_lesions(reference, detections)
    assert parity.matched == len(reference.lesions) > 0
    assert parity.unmatched == ()


def test_gate_refuses_a_graph_that_differs(network: Lens, written: Path) -> None:
    head = lens_graphs(network)[2]

    class Shifted(torch.nn.Module):
        def forward(self, features: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scores, offsets = head.module(features, rois)
            return scores, offsets + 0.01

    damaged = replace(head, module=Shifted())
    with pytest.raises(ParityError, match="output 'offsets', batch 3"):
        check_graph(damaged, read_bundle(written).graph("head"), BACKENDS, [head.make_inputs(3, 64, 64)])


@pytest.mark.parametrize("earlier", [False, True])
def test_failed_gate_leaves_what_was_there(
    network: Lens, written: Path, volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    folder = tmp_path / "bundle"
    if earlier:
        shutil.copytree(written, folder)

    def refuse(*_: object) -> list[dict[str, object]]:
        with pytest.raises(InputError, match="no bundle"):  # what a kill at this moment would leave
            read_bundle(next(tmp_path.glob(".bundle-*/new")))
        raise ParityError("differs")

    monkeypatch.setattr(lens_bundle, "compare_detectors", refuse)
    with pytest.raises(ParityError):
        write_lens_bundle(network, folder, "tiny", [volume], accept)
    assert [path.name for path in tmp_path.iterdir()] == (["bundle"] if earlier else [])
    if earlier:
        assert read_bundle(folder).sha256 == read_bundle(written).sha256


def test_a_folder_that_is_no_bundle_is_left_alone(network: Lens, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for folder in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(InputError, match="name a") as refused:
            export_checkpoint(tmp_path / "no.ckpt", folder, "tiny", [], 0.5)
        assert refused.value.reason == "output-folder"
        with pytest.raises(InputError, match="name a"):
            write_lens_bundle(network, folder, "tiny", [], accept)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failed_swap_brings_the_old_bundle_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle/configs").mkdir(parents=True)
    (tmp_path / "bundle/configs/metadata.json").write_text("{}")
    rename = Path.rename

    def fail_for_the_new(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="no"), replaced_bundle(tmp_path / "bundle"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle/configs/metadata.json").is_file()


def test_documents_are_hashed_again_and_graphs_are_not(written: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written, tmp_path / "bundle"))
    (folder / "docs/README.md").write_text("# measured\n")
    with pytest.raises(InputError):
        read_bundle(folder)
    update_files(folder, "docs/")
    assert read_bundle(folder).sha256 != read_bundle(written).sha256
    with (folder / "models/head.onnx").open("ab") as file:
        file.write(b"0")
    update_files(folder, "docs/")
    with pytest.raises(InputError):
        read_bundle(folder).graph("head")


def test_replacing_touches_nothing_but_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bundle/configs", "bundle.partial", "bundle.old"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bundle/configs/metadata.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with replaced_bundle(Path("bundle")) as partial:
        assert list(partial.iterdir()) == []
        (partial / "new").write_text("")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert names == ["bundle", "bundle.old", "bundle.partial", "bundle/new"]


def test_the_folder_that_one_stands_in_can_be_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with replaced_bundle(Path()) as partial:
        (partial / "new").write_text("")
    assert (tmp_path / "here/new").is_file()


def test_gate_wants_something_to_compare(volume: Volume, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = Lens(4, TINY)
    with pytest.raises(ParityError, match=r"no lesion above the operating point 0\.1"):
        write_lens_bundle(fresh, tmp_path / "bundle", "tiny", [volume], accept)
    write_lens_bundle(fresh, tmp_path / "bundle", "tiny", [volume], accept, untrained=True)
    assert read_bundle(tmp_path / "bundle").task == "detector"


def test_gate_runs_empty_and_full_regions(network: Lens, written: Path, volume: Volume) -> None:
    inputs = real_inputs(lens_graphs(network), volume, read_settings(read_bundle(written)))
    assert [len(slices) for (slices,) in inputs["image"]] == list(BATCHES)
    counts = {rois.shape[1] for _, rois in inputs["head"]}
    assert min(counts) == 1
    assert max(counts) == 100


def test_checkpoint_is_exported_with_its_threshold(network: Lens, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.ckpt"
    torch.save({"network": network.state_dict(), "shape": vars(TINY)}, checkpoint)
    export_checkpoint(checkpoint, tmp_path / "bundle", "tiny", [], 0.25, untrained=True)
    assert Detector(tmp_path / "bundle").provenance.threshold == 0.25


def test_graph_inputs_follow_the_signature(network: Lens) -> None:
    for graph in lens_graphs(network):
        inputs = graph.make_inputs(2, 64, 96)
        assert [tensor.ndim for tensor in inputs] == [len(shape) for shape in graph.signature.inputs.values()]
        assert np.isfinite([float(tensor.sum()) for tensor in inputs]).all()
        assert isinstance(graph, ExportGraph)


@pytest.mark.parametrize(("proposal", "one_stage"), [("rpn", False), ("centernet", False), ("fcos", True)])
def test_other_proposals_are_not_exported(proposal: Method, one_stage: bool, volume: Volume, tmp_path: Path) -> None:
    other = Lens(4, TINY, proposal, one_stage)
    with pytest.raises(
        InputError, match=f"only networks with proposal='afp' are exported, got '{proposal}'"
    ) as refused:
        write_lens_bundle(other, tmp_path / "bundle", "tiny", [volume], accept)
    assert refused.value.reason == "proposal"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="use decode instead"):
        other.propose(torch.zeros(1, TINY.pyramid, 4, 4))


@pytest.mark.slow
def test_adapted_network_gives_the_same_in_every_backend(volume: Volume, tmp_path: Path) -> None:
    """Of the gate, all but the cylinder of water, where the scores of an untrained network are ties."""
    torch.manual_seed(0)
    graphs = lens_graphs(spread_scores(Lens(4, TINY, domain_attention=True).eval()))
    write_graphs(tmp_path, graphs)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/README.md").write_text("# tiny\n")
    (tmp_path / "LICENSE").write_text("none\n")
    candidate = _open_candidate(tmp_path, detector_section("tiny", runtime_of(TINY), None), graphs)
    assert compare_outputs(candidate.bundle, graphs, [volume])  # raises where a graph differs
    reference, other = (detector(volume) for detector in candidate.detectors.values())
    parity = compare_lesions(reference, other)
    assert parity.matched == len(reference.lesions) > 0
    assert parity.unmatched == ()
