"""Pretraining on the organs of phantoms: what a small network starts from where the paper's starts from ImageNet.

The features of LENS (backbone, fusion, pyramid) learn to name the tissue of every pixel of lesion-free phantom CTs. No
lesion and no label of a data set takes part, so every training can start from the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lnsdk.phantom import ORGANS, chest_phantom
from lnsdk.trainers.common.grid import GRID_SPACING, grid_frame, read_grid
from lnsdk.trainers.common.loop import Training, optimize, start
from lnsdk.trainers.common.parallel import in_parallel
from lnsdk.trainers.common.samples import GROUP, noise_sigma, read_slices
from lnsdk.trainers.common.schedule import late_rate
from lnsdk.trainers.networks.boxes import STRIDE
from lnsdk.trainers.networks.lens import Lens, LensShape

CHECKPOINT = "organs.ckpt"
"""File of the trained network."""

FIRST_PHANTOM = 4_000_000
"""Seed of the first phantom: beyond those of training, validation, test and the parity gate."""

PHANTOM_SLICES, PHANTOM_SIZE = 96, 512
"""Slices of a phantom, and their rows and columns, on the network's grid: 192 mm of a field of 410 mm."""


@dataclass(frozen=True)
class OrganSettings:
    """What the pretraining does.

    Attributes
    ----------
    phantoms : int
        Phantom CTs.
    steps, batch, crop : int
        Optimizer steps, crops of nine slices in each, and their side in pixels.
    learning_rate : float
        Base rate of RAdam.
    seed : int
        Of the initial weights and the crops; the phantoms are always the same.
    checkpoint_every : int
        Steps between checkpoints.
    """

    phantoms: int = 16
    steps: int = 3000
    batch: int = 4
    crop: int = 128
    learning_rate: float = 2e-3
    seed: int = 0
    checkpoint_every: int = 500


@dataclass(frozen=True, eq=False)
class OrganCase:
    """A phantom on the network's grid: values (z, y, x) of 0..255, and the organ of each."""

    grid: NDArray[np.float16]
    organs: NDArray[np.uint8]


class OrganNetwork(nn.Module):
    """The features of LENS and a layer that names organs, at a quarter of the resolution."""

    def __init__(self, shape: LensShape) -> None:
        super().__init__()
        self.lens = Lens(1, shape)
        self.name_organs = nn.Conv2d(shape.pyramid, len(ORGANS), kernel_size=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Return logits (N, organs, h, w) for groups of nine slices (N, 9, H, W) in 0..255."""
        logits: Tensor = self.name_organs(self.lens.forward_training(slices))
        return logits


def train_organs(shape: LensShape, settings: OrganSettings, out: Path, stop_after: int | None = None) -> Path:
    """Pretrain, going on from the last checkpoint in `out` if there is one.

    Parameters
    ----------
    shape : LensShape
        Of the network that will start from the result.
    settings : OrganSettings
        What to do.
    out : Path
        Receives the phantoms, `CHECKPOINT` and `organs_losses.png`.
    stop_after : int, optional
        Stop when so many steps are done in all, as an interruption would.

    Returns
    -------
    Path
        The checkpoint, for `lnsdk.trainers.lens.features.load_features`.

    Raises
    ------
    InputError
        ``checkpoint`` when the one in `out` is damaged or was made with other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    seeds = range(FIRST_PHANTOM, FIRST_PHANTOM + settings.phantoms)
    missing = [seed for seed in seeds if not _phantom_file(out, seed).exists()]
    if missing:
        in_parallel("simulating phantoms", partial(_prepare, folder=out), missing)
    cases = [read_organ_case(_phantom_file(out, seed)) for seed in seeds]

    fabric = start(settings.seed)
    network = OrganNetwork(shape)
    module = fabric.setup_module(network.to(memory_format=torch.channels_last))

    def gradients(step: int) -> tuple[Tensor]:
        slices, organs = draw_batch(cases, settings, np.random.default_rng((settings.seed, step)))
        with torch.autocast(fabric.device.type, torch.bfloat16):
            logits = module(slices.to(fabric.device))
        loss = cross_entropy(logits.float(), organs.to(fabric.device))
        fabric.backward(loss)
        return (loss,)

    training = Training(
        title="pretraining on organs",
        losses=("organs",),
        steps=settings.steps,
        rate=lambda step: late_rate(settings.learning_rate, step, settings.steps),
        checkpoint=out / CHECKPOINT,
        curve=out / "organs_losses.png",
        checkpoint_every=settings.checkpoint_every,
        record=json.loads(json.dumps({"shape": asdict(shape), **asdict(settings), "checkpoint_every": None})),
        network={"shape": asdict(shape)},
    )
    optimize(training, fabric, network, gradients, stop_after)
    return training.checkpoint


def draw_batch(cases: Sequence[OrganCase], settings: OrganSettings, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Crops of phantoms: groups of nine slices (N, 9, S, S), and the organs (N, S / 4, S / 4) on the centre slices."""
    groups, organs = [], []
    for _ in range(settings.batch):
        case = cases[int(rng.integers(len(cases)))]
        depth, height, width = case.grid.shape
        z = int(rng.integers(depth))
        corner = rng.integers(0, np.maximum((width - settings.crop, height - settings.crop), 0) + 1)
        group = read_slices(case.grid, np.arange(z - GROUP // 2, z + GROUP // 2 + 1), corner, settings.crop)
        named = read_slices(case.organs, np.array([z]), corner, settings.crop)[0, ::STRIDE, ::STRIDE]
        sigma = noise_sigma(rng)
        group = np.clip(group + sigma * rng.standard_normal(group.shape, np.float32), 0.0, 255.0)
        groups.append(torch.from_numpy(group.astype(np.float32)))
        organs.append(torch.from_numpy(named.astype(np.int64)))
    return torch.stack(groups), torch.stack(organs)


def read_organ_case(path: Path) -> OrganCase:
    """Read a phantom that `train_organs` made."""
    with np.load(path) as arrays:
        return OrganCase(arrays["grid"], arrays["organs"])


def _prepare(seed: int, folder: Path) -> None:
    """Make a phantom on the grid, cropped to its body."""
    phantom = chest_phantom(seed, slices=PHANTOM_SLICES, spacing=GRID_SPACING, size=PHANTOM_SIZE)
    frame = grid_frame(phantom.volume)
    z, y, x = (slice(*span) for span in frame.ranges)
    partial_file = folder / f"phantom-{seed}.partial.npz"
    np.savez(partial_file, grid=read_grid(phantom.volume, frame), organs=phantom.organs[z, y, x])
    partial_file.replace(_phantom_file(folder, seed))


def _phantom_file(folder: Path, seed: int) -> Path:
    return folder / f"phantom-{seed}.npz"
