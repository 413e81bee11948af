"""The whole way of `lnsdk train lens`: cases, both trainings and the mining between, reduction, gate, card."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from lnsdk import Detector
from lnsdk.bundle import read_bundle
from lnsdk.phantom import chest_phantom
from lnsdk.trainers.common.patients import PatientSetPlan
from lnsdk.trainers.common.patients import plan as planning
from lnsdk.trainers.lens import organs
from lnsdk.trainers.lens import run as lens_run
from lnsdk.trainers.lens import settings as lens_settings
from lnsdk.trainers.lens.embedding.train import EmbeddingSettings
from lnsdk.trainers.lens.fpr import settings as fpr_settings
from lnsdk.trainers.lens.mining.mine import MiningSettings
from lnsdk.trainers.lens.organs import OrganSettings
from lnsdk.trainers.lens.settings import LensSettings
from lnsdk.trainers.lens.train import train as train_lens
from lnsdk.trainers.networks.lens import Lens
from tests.trainers.lens.fpr.tiny import TINY as TINY_FPR
from tests.trainers.lens.tiny import TINY, spread_scores


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_training_ends_with_a_bundle_that_says_how_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out but steps: a network that has learned too little to be compared is helped before export.

    The first run is interrupted after the second training; the one after it makes nothing again.
    """
    trained: list[int | None] = []

    def train(settings: LensSettings, *arguments: object) -> Lens:
        trained.append(settings.steps)
        return spread_scores(train_lens(settings, *arguments))  # type: ignore[arg-type]

    monkeypatch.setattr(lens_run, "train", train)
    monkeypatch.setattr(lens_run, "VALIDATION_PHANTOMS", 1)
    monkeypatch.setattr(planning, "PHANTOM_SIZE", 160)
    monkeypatch.setattr(planning, "PHANTOM_PIXELS_MM", (2.3, 2.5))
    monkeypatch.setattr(planning, "PHANTOM_LENGTHS_MM", (60.0, 70.0))
    monkeypatch.setattr(organs, "PHANTOM_SLICES", 6)
    monkeypatch.setattr(organs, "in_parallel", lambda title, task, items: list(map(task, items)))
    monkeypatch.setattr(lens_run, "MiningSettings", partial(MiningSettings, sigma=1.0))
    monkeypatch.setattr(fpr_settings, "EDGE_BOXES", 5000)
    everywhere = {**lens_settings.EDGE_RUNTIME.proposals, "pre_nms": 5000, "post_nms": 300}
    every_box = {**lens_settings.EDGE_RUNTIME.detections, "per_slice": 300}
    monkeypatch.setattr(lens_settings, "EDGE_RUNTIME", lens_settings.Runtime(everywhere, every_box))
    torch.manual_seed(0)
    framework = replace(
        lens_run.preset("edge", shape=TINY, steps=2, batch=2, crop=64),
        organs=OrganSettings(phantoms=1, steps=2, batch=1, crop=64),
        embedding=EmbeddingSettings(steps=2),
        reduction=fpr_settings.edge(shape=TINY_FPR, epochs=1, cuts=(), warmup=0, theta=0.1, theta_fp=0.1),
        patients=PatientSetPlan(patients=3, single=1, validation=1, test=0, lesions=6),
    )
    out = tmp_path / "run"

    with monkeypatch.context() as interrupted:
        interrupted.setattr(lens_run, "reduce", interrupt)
        with pytest.raises(KeyboardInterrupt):
            lens_run.run(framework, None, out)
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".ckpt", ".npy", ".npz")}
    assert {path.parent.name for path in made} == {"cases", "organs", "first", "embedding", "mining", "second"}

    bundle = lens_run.run(framework, None, out)

    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert trained == [1, 2] * 2
    folders = {"cases", "organs", "first", "embedding", "mining", "second", "fpr", "validation", "bundle"}
    assert {path.name for path in out.iterdir()} == folders | {"validation_without_fpr"}
    detector, plain = Detector(bundle), Detector(bundle, reduce_false_positives=False)
    card = (bundle / "docs/README.md").read_text()
    assert f"a score of {detector.provenance.threshold:.3f}" in card
    assert plain.provenance.threshold != detector.provenance.threshold
    assert "| unlabelled |" in card
    assert "No real CT was used." in card
    assert "1 volumes (0 with a real CT as background, 1 phantoms)" in card
    assert read_bundle(bundle).name == "lens-edge"
    assert (out / "validation/froc.png").stat().st_size > 0
    detector(chest_phantom(7, slices=8, spacing=(1.6, 1.6, 5.0), size=256).volume)
