"""Training: the files it leaves, the same weights for a seed, and the same weights after an interruption."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lnsdk.errors import InputError
from lnsdk.trainers.common.cases import GridCase, read_grid_cases, store
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.common.samples import Dataset
from lnsdk.trainers.common.simulation import SCOPES
from lnsdk.trainers.lens.bundle import load_network
from lnsdk.trainers.lens.settings import LensSettings, edge, paper
from lnsdk.trainers.lens.train import Batch, BatchLoss, by_expert, draw_batch, learning_rate, total_steps, train
from lnsdk.trainers.networks.lens import Lens
from tests.trainers.lens.tiny import TINY

STEPS = 6
NAMES = [scope.name for scope in SCOPES]


DESIGNS: dict[str, dict[str, object]] = {
    "afp": {},
    "rpn": {"proposal": "rpn"},
    "centernet": {"proposal": "centernet"},
    "fcos": {"proposal": "fcos"},
    "one-stage": {"proposal": "fcos", "one_stage": True},
    "adapted": {"domain_attention": True},
}
designs = pytest.mark.parametrize("design", DESIGNS)


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
        labels = Labels.of(boxes, [0, 0, 0], [scope.types[0]], ignored=[[10, 10, 0, 20, 20, 5]])
        store(GridCase(scope.name, scope.name, grid, labels, fingerprint=scope.name), folder)
    return folder


def read(cases: Path, names: Sequence[str] = NAMES) -> list[Dataset]:
    return by_expert(read_grid_cases(cases, names))


@designs
def test_six_steps_leave_the_promised_files(cases: Path, tmp_path: Path, design: str) -> None:
    network = train(settings(**DESIGNS[design]), read(cases), tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoint.ckpt", "losses.png"}
    assert not network.training
    content = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    assert content["state"]["step"] == STEPS
    assert np.isfinite(content["state"]["history"]).all()
    loaded = load_network(tmp_path / "run" / "checkpoint.ckpt")
    assert loaded.design == network.design
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())


@designs
def test_steps_on_one_batch_lower_its_loss(cases: Path, design: str) -> None:
    torch.manual_seed(0)
    chosen = settings(**DESIGNS[design], bfloat16=False)
    network = Lens(len(SCOPES), TINY, chosen.proposal, chosen.one_stage, chosen.domain_attention)
    loss, optimizer = BatchLoss(network, chosen), torch.optim.Adam(network.parameters(), lr=5e-3)
    batch = draw_batch(read(cases), chosen, np.random.default_rng(0))
    history = []
    for step in range(12):
        terms = loss(batch, np.random.default_rng(step))
        optimizer.zero_grad()
        torch.stack(terms).sum().backward()
        optimizer.step()
        history.append(terms[0].item())
    assert np.isfinite(history).all()
    assert history[-1] < 0.9 * history[0]
    assert (terms[2] == 0) == (design == "one-stage")


def test_training_that_was_interrupted_twice_ends_with_the_same_weights(cases: Path, tmp_path: Path) -> None:
    chosen = settings(warmup=2, milestones=(0.4, 0.8))
    whole = train(chosen, read(cases), tmp_path / "whole").state_dict()
    for stop in (2, 5):
        train(chosen, read(cases), tmp_path / "resumed", stop_after=stop)
        assert torch.load(tmp_path / "resumed/checkpoint.ckpt", weights_only=True)["state"]["step"] == stop
    resumed = train(replace(chosen, checkpoint_every=2), read(cases), tmp_path / "resumed").state_dict()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_checkpoint_of_another_run_is_refused(cases: Path, tmp_path: Path) -> None:
    train(settings(steps=1), read(cases), tmp_path / "run")
    with pytest.raises(InputError, match=r"made with steps=1, now steps=2; use another folder or the same settings"):
        train(settings(steps=2), read(cases), tmp_path / "run")
    other = Path(shutil.copytree(cases, tmp_path / "cases"))
    record = json.loads((other / "lung.json").read_text())
    (other / "lung.json").write_text(json.dumps(record | {"fingerprint": "other"}))
    with pytest.raises(InputError, match="made with other cases"):
        train(settings(steps=1), read(other), tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04 broken"])
def test_damaged_checkpoint_is_refused(cases: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.ckpt").write_bytes(content)
    with pytest.raises(InputError, match="damaged or no checkpoint"):
        train(settings(steps=1), read(cases), tmp_path)


@designs
def test_other_experts_stay_as_they_were(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, design: str
) -> None:
    """After batches of every dataset, two steps of one dataset leave the other experts' layers bitwise alone."""
    monkeypatch.setattr("lnsdk.trainers.lens.train.draw_batch", lambda *a: draw_expert(*a))
    drawn: list[int] = []

    def draw_expert(datasets: list[Dataset], chosen: LensSettings, rng: np.random.Generator) -> Batch:
        expert = len(drawn) % len(SCOPES) if len(drawn) < len(SCOPES) else 1
        drawn.append(expert)
        batch = draw_batch([datasets[expert]] * len(SCOPES), chosen, rng)
        return replace(batch, expert=expert)

    chosen = settings(steps=6, **DESIGNS[design])
    before = {k: v.clone() for k, v in train(chosen, read(cases), tmp_path, stop_after=4).state_dict().items()}
    after = train(chosen, read(cases), tmp_path).state_dict()
    assert drawn == [0, 1, 2, 3, 1, 1]
    layers = ("proposals",) if chosen.one_stage else ("proposals", "head.classify", "head.regress")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    for layer in layers:
        assert any(name.startswith(f"{layer}.1.") for name in moved), layer
        assert not [name for name in moved if name.startswith(layer) and not name.startswith(f"{layer}.1.")]


def test_larger_datasets_give_more_batches(cases: Path) -> None:
    universal, *others = read(cases)
    datasets = [Dataset(universal.name, universal.cases * 5), *others]
    chosen = settings(batch=1, size_exponent=1.0)
    drawn = [draw_batch(datasets, chosen, np.random.default_rng(seed)).expert for seed in range(200)]
    counts = np.bincount(drawn)
    np.testing.assert_allclose(counts / 200, [5 / 8, 1 / 8, 1 / 8, 1 / 8], atol=0.1)


@pytest.mark.slow
def test_compiled_training_gives_the_same_weights(cases: Path, tmp_path: Path) -> None:
    chosen = settings(steps=3, bfloat16=False)
    plain = train(chosen, read(cases), tmp_path / "plain").state_dict()
    compiled = train(replace(chosen, compile=True), read(cases), tmp_path / "compiled").state_dict()
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_another_seed_gives_other_weights(cases: Path, tmp_path: Path) -> None:
    first = train(settings(steps=1), read(cases), tmp_path / "first").state_dict()
    second = train(settings(steps=1, seed=1), read(cases), tmp_path / "second").state_dict()
    assert not torch.equal(first["merge.weight"], second["merge.weight"])


def test_missing_expert_is_named(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labelled lesions for universal"):
        train(settings(), read(cases, NAMES[1:]), tmp_path)


def test_an_epoch_draws_every_lesion_once(cases: Path) -> None:
    """Four lesions, and half as many crops anywhere, in batches of two: three steps an epoch."""
    chosen = settings(steps=None, epochs=8, positive_share=2 / 3)
    assert total_steps(chosen, read(cases)) == 24


def test_rate_warms_up_and_is_cut_tenfold() -> None:
    chosen = settings(steps=100, warmup=10, learning_rate=1.0, milestones=(0.5, 0.75))
    rates = [learning_rate(chosen, step, 100) for step in (0, 9, 49, 50, 75)]
    np.testing.assert_allclose(rates, [0.1, 1, 1, 0.1, 0.01])


def test_paper_preset_wants_imagenet_weights() -> None:
    with pytest.raises(ValueError, match="--from-scratch"):
        paper()
    assert paper(from_scratch=True).learning_rate == 1e-4


def test_designs_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(ValueError, match="one_stage needs proposal='fcos', got 'afp'"):
        settings(one_stage=True)
    with pytest.raises(ValueError, match=r"proposal must be one of afp, rpn, centernet, fcos, got 'yolo'"):
        settings(proposal="yolo")
    with pytest.raises(ValueError, match="one_stage needs"):
        Lens(2, TINY, "rpn", one_stage=True)


def test_checkpoint_of_another_proposal_network_is_not_gone_on_from(cases: Path, tmp_path: Path) -> None:
    train(settings(steps=1), read(cases), tmp_path)
    with pytest.raises(InputError, match="made with proposal=afp, now proposal=rpn"):
        train(settings(steps=1, proposal="rpn"), read(cases), tmp_path)
