"""The loop of every training: rate, gradients, progress, checkpoints that an interrupted run goes on from, curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from lnsdk.trainers.common.checkpoint import restore, save
from lnsdk.trainers.common.progress import TrainingProgress, save_loss_curve

GRADIENT_NORM = 5.0
"""Norm to which trainings from scratch scale their gradients down: a guard, far above the usual norm."""


@dataclass(frozen=True)
class Training:
    """One training, whatever its network.

    Attributes
    ----------
    title : str
        Before the progress bar.
    losses : tuple of str
        Terms of the loss in the order in which they are logged.
    steps : int
        Optimizer steps.
    rate : callable
        From the number of a step to its learning rate.
    checkpoint, curve : Path
        Files of the checkpoint, and of the picture of the losses.
    checkpoint_every : int
        Steps between checkpoints.
    record : dict
        What decides the weights, as JSON holds it: a training with another record does not go on from the checkpoint.
    network : mapping
        What the network is built from when the checkpoint is read; plain values.
    gradient_norm : float, optional
        Gradients are scaled down to this norm.
    """

    title: str
    losses: tuple[str, ...]
    steps: int
    rate: Callable[[int], float]
    checkpoint: Path
    curve: Path
    checkpoint_every: int
    record: dict[str, Any]
    network: Mapping[str, Any]
    gradient_norm: float | None = None


def start(seed: int) -> Fabric:
    """The device at hand, with every generator seeded: what comes before a network's weights are drawn."""
    fabric = Fabric(accelerator="auto", devices=1)
    fabric.seed_everything(seed, verbose=False)
    return fabric


def optimize(
    training: Training,
    fabric: Fabric,
    network: nn.Module,
    gradients: Callable[[int], Sequence[Tensor]],
    stop_after: int | None = None,
) -> None:
    """Train with RAdam (reference [57] of LENS), going on from the training's checkpoint if there is one.

    Parameters
    ----------
    training : Training
        What to do.
    fabric : Fabric
        From `start`.
    network : Module
        What is trained, in place; left in evaluation mode.
    gradients : callable
        From the number of a step to the terms of its loss, after they were propagated back. Whatever it draws must
        follow from that number alone, then an interrupted training ends with the weights of one that never stopped.
    stop_after : int, optional
        Stop when so many steps are done in all, as an interruption would.

    Raises
    ------
    InputError
        ``checkpoint`` when the one that is there is damaged or was made by another training.
    """
    radam = torch.optim.RAdam(network.parameters(), lr=training.rate(0))
    optimizer = cast(torch.optim.Optimizer, fabric.setup_optimizers(radam))
    training.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = restore(training.checkpoint, network, optimizer, training.record)
    last = training.steps if stop_after is None else min(stop_after, training.steps)
    network.train()
    with TrainingProgress(training.title, training.steps, state.step) as progress:
        while state.step < last:
            for group in optimizer.param_groups:
                group["lr"] = training.rate(state.step)
            optimizer.zero_grad()
            losses = [loss.item() for loss in gradients(state.step)]
            if training.gradient_norm is not None:
                fabric.clip_gradients(network, optimizer, max_norm=training.gradient_norm)
            optimizer.step()
            state.step += 1
            state.history.append(losses)
            progress.advance(dict(zip(training.losses, losses, strict=True)))
            if state.step % training.checkpoint_every == 0 or state.step == last:
                save(fabric, training.checkpoint, network, optimizer, state, training.network, training.record)
                save_loss_curve(training.curve, training.losses, state.history)
    network.eval()
