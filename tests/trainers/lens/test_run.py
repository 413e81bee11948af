"""The whole way of `lnsdk train`: simulated cases, training, gate, validation, operating point, card."""

from pathlib import Path

import pytest
import torch

from lnsdk import Detector
from lnsdk.bundle import read_bundle
from lnsdk.phantom import chest_phantom
from lnsdk.trainers.lens import run as lens_run
from lnsdk.trainers.lens.settings import LensSettings, edge
from lnsdk.trainers.lens.train import train as train_lens
from lnsdk.trainers.networks.lens import Lens
from tests.trainers.lens.tiny import TINY, spread_scores


@pytest.mark.slow
def test_training_ends_with_a_bundle_that_says_how_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out but steps: a network that has learned too little to be compared is helped before export."""
    trained: list[int] = []

    def train(settings: LensSettings, *arguments: object) -> Lens:
        trained.append(settings.steps)
        return spread_scores(train_lens(settings, *arguments))  # type: ignore[arg-type]

    monkeypatch.setattr(lens_run, "train", train)
    monkeypatch.setattr(lens_run, "VALIDATION_PHANTOMS", 1)
    torch.manual_seed(0)
    settings = edge(shape=TINY, steps=2, batch=2, crop=64, phantoms=1, lesions=6)

    bundle = lens_run.run(settings, "edge", None, tmp_path / "run")

    assert trained == [2]
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"cases", "checkpoint.ckpt", "validation", "bundle"}
    detector = Detector(bundle)
    card = (bundle / "docs/README.md").read_text()
    assert f"a score of {detector.provenance.threshold:.3f}" in card
    assert "5 phantom CTs" in card
    assert "No real CT was used." in card
    assert "1 volumes (0 with a real CT as background, 1 phantoms)" in card
    assert read_bundle(bundle).name == "lens-edge"
    assert (tmp_path / "run/validation/froc.png").stat().st_size > 0
    detector(chest_phantom(7, slices=8, spacing=(1.6, 1.6, 5.0), size=256).volume)
