"""Training of false-positive reduction: files, learning, and the same weights after interruptions."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lnsdk.errors import InputError
from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.fpr.checkpoint import load_fpr
from lnsdk.trainers.lens.fpr.samples import collect_candidates
from lnsdk.trainers.lens.fpr.settings import FprSettings, edge, paper
from lnsdk.trainers.lens.fpr.train import CHECKPOINT, draw_batch, draw_order, focal_loss, learning_rate, train_fpr
from tests.trainers.lens.fpr.tiny import TINY

Found = list[tuple[GridCase, SliceBoxes]]


def f32(values: object) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def settings(**changes: object) -> FprSettings:
    defaults: dict[str, object] = {"shape": TINY, "epochs": 6, "cuts": (2, 4), "batch": 12, "checkpoint_every": 3}
    return edge(**(defaults | {"warmup": 0} | changes))


@pytest.fixture(scope="module")
def found() -> Found:
    """Bright blocks are lesions, dark ones are not; the detector found both."""
    rng = np.random.default_rng(0)
    cases: Found = []
    for name in ("a", "b"):
        grid = rng.normal(64, 4, (12, 96, 96)).astype(np.float16)
        boxes, lesions = [], []
        for i in range(9):
            y, x = 10 + 28 * (i // 3), 10 + 28 * (i % 3)
            grid[4:8, y : y + 12, x : x + 12] += 24 if i < 4 else -24
            row = [x - 0.5, y - 0.5, x + 11.5, y + 11.5]
            boxes += [[z, *row] for z in range(4, 8)]
            lesions += [[z, *row] for z in range(4, 8)] if i < 4 else []
        rows = np.array(sorted(boxes), np.float32)
        scores = np.full(len(rows), 0.5, np.float32)
        detected = SliceBoxes(rows[:, 1:], scores, scores[:, None], rows[:, 0].astype(np.int64))
        labels = Labels.of(lesions, np.repeat(np.arange(4), 4), ["nodule"] * 4)
        cases.append((GridCase(name, "universal", grid, labels, fingerprint=name), detected))
    return cases


def test_files_and_checkpoint(found: Found, tmp_path: Path) -> None:
    network = train_fpr(settings(), found, 0.3, tmp_path / "run", stop_after=6)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {CHECKPOINT, "fpr_losses.png"}
    assert not network.training
    content = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    assert content["state"]["step"] == 6
    assert np.isfinite(content["state"]["history"]).all()
    loaded = load_fpr(tmp_path / "run" / CHECKPOINT)
    assert loaded.shape == TINY
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_twice_interrupted_training_ends_with_the_same_weights(found: Found, tmp_path: Path) -> None:
    chosen = settings(epochs=4, warmup=2)
    whole = train_fpr(chosen, found, 0.3, tmp_path / "whole").state_dict()
    train_fpr(chosen, found, 0.3, tmp_path / "resumed", stop_after=2)
    train_fpr(replace(chosen, checkpoint_every=2), found, 0.3, tmp_path / "resumed", stop_after=5)
    assert torch.load(tmp_path / "resumed" / CHECKPOINT, weights_only=True)["state"]["step"] == 5
    resumed = train_fpr(chosen, found, 0.3, tmp_path / "resumed").state_dict()
    assert torch.load(tmp_path / "resumed" / CHECKPOINT, weights_only=True)["state"]["step"] == 8
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_it_learns_to_tell_lesions_apart(found: Found, tmp_path: Path) -> None:
    chosen = settings(epochs=25, cuts=(20,), learning_rate=1e-2)
    network = train_fpr(chosen, found, 0.3, tmp_path)
    candidates = collect_candidates(found, chosen, 0.3)
    inputs, labels = draw_batch(candidates, draw_order(candidates.labels, chosen, 400)[:24], chosen, 10_000)
    with torch.no_grad():
        scores = network(**inputs)[:, 0].sigmoid()
    assert scores[labels == 1].min() > scores[labels == 0].max()


def test_checkpoint_of_another_run_is_refused(found: Found, tmp_path: Path) -> None:
    train_fpr(settings(), found, 0.3, tmp_path, stop_after=1)
    with pytest.raises(InputError, match=r"made with theta_fp=0\.3, now theta_fp=0\.2"):
        train_fpr(settings(theta_fp=0.2), found, 0.3, tmp_path)
    with pytest.raises(InputError, match=r"made with stack_iou=0\.3, now stack_iou=0\.5"):
        train_fpr(settings(), found, 0.5, tmp_path)
    other = [(replace(case, labels=replace(case.labels, ignored=f32([[0, 0, 0, 9, 9, 1]]))), boxes)
             for case, boxes in found]  # fmt: skip
    with pytest.raises(InputError, match="made with other cases"):
        train_fpr(settings(), other, 0.3, tmp_path)
    (tmp_path / "other.ckpt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged or no checkpoint"):
        load_fpr(tmp_path / "other.ckpt")
    torch.save({"network": {}, "shape": {}}, tmp_path / "lens.ckpt")
    with pytest.raises(InputError, match="no checkpoint of false-positive reduction"):
        load_fpr(tmp_path / "lens.ckpt")


def test_batches_have_one_true_positive_in_three(found: Found) -> None:
    chosen = settings()
    candidates = collect_candidates(found, chosen, 0.3)
    _, labels = draw_batch(candidates, draw_order(candidates.labels, chosen, 0), chosen, 0)
    assert (len(labels), int(labels.sum())) == (24, 8)
    assert draw_order(candidates.labels, chosen, 0).tolist() != draw_order(candidates.labels, chosen, 1).tolist()


def test_rate_is_cut_after_epochs() -> None:
    chosen = paper(from_scratch=True)
    assert (chosen.epochs, chosen.batch, chosen.theta, chosen.theta_fp, chosen.negatives) == (6, 32, 0.5, 0.3, 2)
    rates = [learning_rate(chosen, step, per_epoch=10) for step in (0, 19, 20, 39, 40, 59)]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-5, 2e-5, 2e-6, 2e-6])


def test_focal_loss_by_hand() -> None:
    """P = 0.8 for a lesion, 0.6 for none: -0.5 x (0.2^2 log 0.8 + 0.6^2 log 0.4) / 2."""
    logits = torch.tensor([0.8, 0.6]).logit()
    expected = -0.5 * (0.2**2 * math.log(0.8) + 0.6**2 * math.log(0.4)) / 2
    assert focal_loss(logits, torch.tensor([1.0, 0.0])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "--imagenet-resnet FILE"),
        ({"imagenet": Path("a"), "from_scratch": True}, "exclude each other"),
        ({"imagenet": Path("a"), "shape": TINY}, "needs --preset paper"),
        ({"from_scratch": True, "theta_fp": 0.6}, "0 < theta_fp <= theta < 1"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paper(**changes)
