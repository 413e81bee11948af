"""Training: the files it leaves, the same weights for a seed, and the same weights after an interruption."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lnsdk.trainers.common.simulation import SCOPES
from lnsdk.trainers.lens.settings import LensSettings, edge, paper
from lnsdk.trainers.lens.train import learning_rate, load_datasets, train
from lnsdk.trainers.networks.lens import FULL_WINDOW, LensShape

TINY = LensShape(
    stem=8, stem_kernel=3, blocks=(1, 1, 1), growth=4, bottleneck=1, pyramid=8, proposal=4, roi_hidden=8,
    windows=(FULL_WINDOW,),
)  # fmt: skip
STEPS = 6


def settings(**changes: object) -> LensSettings:
    defaults: dict[str, object] = {"shape": TINY, "steps": STEPS, "batch": 2, "crop": 64, "checkpoint_every": 3}
    return edge(**(defaults | changes))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One case per expert: bright squares on an even background."""
    folder = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    for scope in SCOPES:
        grid = rng.normal(64, 1, (12, 80, 96)).astype(np.float16)
        grid[4:7, 30:40, 50:60] += 10
        boxes = [[z, 49.5, 29.5, 59.5, 39.5] for z in (4, 5, 6)]
        np.save(folder / f"{scope.name}.npy", grid)
        record = {"expert": scope.name, "boxes": boxes, "lesion": [0, 0, 0], "ignored": [[10, 10, 0, 20, 20, 5]]}
        (folder / f"{scope.name}.json").write_text(json.dumps(record))
    return folder


def test_six_steps_leave_the_promised_files(cases: Path, tmp_path: Path) -> None:
    network = train(settings(), cases, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoint.ckpt", "losses.png"}
    assert not network.training
    content = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    assert content["state"]["step"] == STEPS
    assert np.isfinite(content["state"]["history"]).all()


def test_interrupted_training_ends_with_the_same_weights(cases: Path, tmp_path: Path) -> None:
    whole = train(settings(), cases, tmp_path / "whole").state_dict()
    # milestones are fractions of the steps: the first half of the run is trained with the same rates
    train(settings(steps=3, milestones=()), cases, tmp_path / "resumed")
    resumed = train(settings(), cases, tmp_path / "resumed").state_dict()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_another_seed_gives_other_weights(cases: Path, tmp_path: Path) -> None:
    first = train(settings(steps=1), cases, tmp_path / "first").state_dict()
    second = train(settings(steps=1, seed=1), cases, tmp_path / "second").state_dict()
    assert not torch.equal(first["merge.weight"], second["merge.weight"])


def test_missing_expert_is_named(cases: Path, tmp_path: Path) -> None:
    for path in cases.glob("l*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="no labelled lesions for universal"):
        load_datasets(tmp_path)


def test_rate_warms_up_and_is_cut_tenfold() -> None:
    chosen = settings(steps=100, warmup=10, learning_rate=1.0, milestones=(0.5, 0.75))
    rates = [learning_rate(chosen, step) for step in (0, 9, 49, 50, 75)]
    np.testing.assert_allclose(rates, [0.1, 1, 1, 0.1, 0.01])


def test_paper_preset_wants_imagenet_weights() -> None:
    with pytest.raises(ValueError, match="--from-scratch"):
        paper()
    assert paper(from_scratch=True).learning_rate == 1e-4
