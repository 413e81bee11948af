"""Pretraining on the organs of phantoms: what it leaves, what a network takes over, and resuming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lnsdk.errors import InputError
from lnsdk.phantom import ORGANS
from lnsdk.trainers.lens import organs
from lnsdk.trainers.lens.features import FEATURES, load_features
from lnsdk.trainers.lens.organs import OrganCase, OrganSettings, draw_batch, read_organ_case, train_organs
from lnsdk.trainers.networks.lens import Lens
from tests.trainers.lens.tiny import TINY

SETTINGS = OrganSettings(phantoms=1, steps=6, batch=2, crop=64, checkpoint_every=2)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the only phantom, small."""
    folder = tmp_path_factory.mktemp("organs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(organs, "PHANTOM_SLICES", 6)
        organs._prepare(organs.FIRST_PHANTOM, folder)
    return folder


def copied(phantom: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in phantom.glob("*.npz"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_organs_lie_on_the_values_of_the_grid(phantom: Path) -> None:
    case = read_organ_case(next(phantom.glob("*.npz")))
    assert case.grid.shape == case.organs.shape
    bone, lung_or_air = case.organs == ORGANS.BONE, case.organs == ORGANS.AIR
    assert case.grid[bone].mean() > 70  # 0 HU is 64
    assert case.grid[lung_or_air].mean() < 20


def test_organs_follow_the_crop() -> None:
    """Organ = value / 8: what the middle slice shows every fourth pixel is what is to be named."""
    z, y, x = np.indices((12, 96, 96))
    named = ((z + y // 4 + x // 4) % 5).astype(np.uint8)
    case = OrganCase((named * 8.0).astype(np.float16), named)
    settings = OrganSettings(batch=3, crop=64)
    slices, labels = draw_batch([case], settings, np.random.default_rng(0))
    assert slices.shape == (3, 9, 64, 64)
    assert labels.shape == (3, 16, 16)
    np.testing.assert_array_equal((slices[:, 4, ::4, ::4] / 8).round().long().numpy(), labels.numpy())


def test_features_are_taken_over_and_nothing_else(phantom: Path, tmp_path: Path) -> None:
    path = train_organs(TINY, SETTINGS, copied(phantom, tmp_path / "run"))
    torch.manual_seed(1)
    network = Lens(3, TINY)
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    load_features(network, path)
    trained = torch.load(path, weights_only=True)["network"]
    for name, value in network.state_dict().items():
        taken = name.split(".")[0] in FEATURES
        assert torch.equal(value, trained[f"lens.{name}"] if taken else fresh[name]), name


def test_interrupted_pretraining_ends_with_the_same_weights(phantom: Path, tmp_path: Path) -> None:
    whole = torch.load(train_organs(TINY, SETTINGS, copied(phantom, tmp_path / "whole")), weights_only=True)
    folder = copied(phantom, tmp_path / "resumed")
    for stop in (2, 4, None):
        path = train_organs(TINY, SETTINGS, folder, stop_after=stop)
    resumed = torch.load(path, weights_only=True)
    assert len(resumed["state"]["history"]) == 6
    for name, value in whole["network"].items():
        assert torch.equal(value, resumed["network"][name]), name


def test_weights_of_another_network_are_refused(phantom: Path, tmp_path: Path) -> None:
    path = train_organs(TINY, SETTINGS, copied(phantom, tmp_path / "run"), stop_after=1)
    with pytest.raises(InputError, match="does not hold features for this network"):
        load_features(Lens(1, replace(TINY, stem=16)), path)
    torch.save({"network": {"weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="does not hold features"):
        load_features(Lens(1, TINY), tmp_path / "other.ckpt")
