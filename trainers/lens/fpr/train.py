"""Training of false-positive reduction, read from top to bottom: candidates, network, loop, loss, checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from lnsdk.pipelines.false_positives import pooling_weights
from lnsdk.trainers.common.checkpoint import file_digest
from lnsdk.trainers.common.loop import GRADIENT_NORM, Training, optimize, start
from lnsdk.trainers.common.schedule import stepped_rate
from lnsdk.trainers.lens.fpr.samples import (
    TRUE,
    Candidates,
    Found,
    case_digests,
    collect_candidates,
    draw_epoch,
    draw_patch,
)
from lnsdk.trainers.lens.fpr.settings import FprSettings
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork, load_imagenet

CHECKPOINT = "fpr.ckpt"
"""File of the checkpoint, beside that of the detector."""


def train_fpr(
    settings: FprSettings, found: Found, stack_iou: float, out: Path, stop_after: int | None = None
) -> FalsePositiveNetwork:
    """Train a network on what the detector found, going on from the last checkpoint in `out` if there is one.

    Parameters
    ----------
    settings : FprSettings
        What to do.
    found : sequence of (GridCase, SliceBoxes)
        As for `lnsdk.trainers.lens.fpr.samples.collect_candidates`.
    stack_iou : float
        IoU above which the runtime joins boxes of neighbouring slices.
    out : Path
        Receives `fpr.ckpt` and `fpr_losses.png`.
    stop_after : int, optional
        Stop when so many steps are done in all, as an interruption would.

    Returns
    -------
    FalsePositiveNetwork
        The trained network in evaluation mode, on the CPU.

    Raises
    ------
    InputError
        ``candidates`` when there is nothing to learn from, ``imagenet`` when the weights cannot be used, ``checkpoint``
        when the one in `out` is damaged or was made with other settings, cases, labels or boxes.

    Notes
    -----
    Epoch e draws its samples, and step k their augmentation, from generators seeded by the seed and their number, so
    an interrupted training that is started again ends with the weights of one that never stopped.
    """
    fabric = start(settings.seed)
    candidates = collect_candidates(found, settings, stack_iou)
    network = FalsePositiveNetwork(settings.shape)
    if settings.imagenet is not None:
        load_imagenet(network, settings.imagenet)
    model = fabric.setup_module(network)
    per_epoch = steps_per_epoch(candidates, settings)
    epoch_order = lru_cache(maxsize=1)(partial(draw_order, candidates.labels, settings))

    def gradients(step: int) -> tuple[Tensor]:
        epoch, place = divmod(step, per_epoch)
        chosen = epoch_order(epoch)[place * settings.batch : (place + 1) * settings.batch]
        inputs, labels = draw_batch(candidates, chosen, settings, step)
        logits = model(**{name: value.to(fabric.device) for name, value in inputs.items()})
        loss = focal_loss(logits[:, 0], labels.to(fabric.device))
        fabric.backward(loss)
        return (loss,)

    training = Training(
        title="training FPR",
        losses=("focal",),
        steps=settings.epochs * per_epoch,
        rate=lambda step: learning_rate(settings, step, per_epoch),
        checkpoint=out / CHECKPOINT,
        curve=out / "fpr_losses.png",
        checkpoint_every=settings.checkpoint_every,
        record=describe_run(settings, found, stack_iou),
        network={"shape": asdict(settings.shape)},
        gradient_norm=GRADIENT_NORM,
    )
    optimize(training, fabric, network, gradients, stop_after)
    return network


def steps_per_epoch(candidates: Candidates, settings: FprSettings) -> int:
    """Batches that hold an epoch's samples; the last one may be smaller."""
    samples = int((candidates.labels == TRUE).sum()) * (1 + settings.negatives)
    return -(-samples // settings.batch)


def learning_rate(settings: FprSettings, step: int, per_epoch: int) -> float:
    """Rate of a step, cut to a tenth after the epochs that the settings name."""
    return stepped_rate(settings.learning_rate, step, [cut * per_epoch for cut in settings.cuts], settings.warmup)


def draw_order(labels: NDArray[np.int64], settings: FprSettings, epoch: int) -> NDArray[np.int64]:
    """Which candidates an epoch looks at, and in which order."""
    return draw_epoch(labels, settings.negatives, np.random.default_rng((settings.seed, 0, epoch)))


def draw_batch(
    candidates: Candidates, chosen: NDArray[np.int64], settings: FprSettings, step: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs of the network by name, and labels (N,), of the chosen candidates."""
    rng = np.random.default_rng((settings.seed, 1, step))
    patches, boxes = zip(
        *(
            draw_patch(candidates.cases[candidates.owners[i]], candidates.boxes[i], settings.shape.patch, rng)
            for i in chosen
        ),
        strict=True,
    )
    weights = pooling_weights(np.stack(boxes), settings.shape.settings(settings.boxes, threshold=0.0))
    inputs = {"patch": np.stack(patches), **weights}
    labels = candidates.labels[chosen].astype(np.float32)
    return {name: torch.from_numpy(value) for name, value in inputs.items()}, torch.from_numpy(labels)


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal loss (reference [52], gamma 2), both classes alike as in eq. 1.

    Parameters
    ----------
    logits, labels : Tensor, (N,)
        Labels are 1 for a lesion, 0 for none.

    Returns
    -------
    Tensor
        Mean over the samples.
    """
    signed = torch.where(labels > 0, logits, -logits)  # of the right answer
    return -0.5 * ((1 - signed.sigmoid()) ** 2 * logsigmoid(signed)).mean()


def describe_run(settings: FprSettings, found: Found, stack_iou: float) -> dict[str, Any]:
    """What decides the weights: every setting but how often they are saved, the cases and what was found in them."""
    record = {name: value for name, value in asdict(settings).items() if name != "checkpoint_every"}
    record["imagenet"] = file_digest(settings.imagenet)
    cases = case_digests(found)
    return cast(dict[str, Any], json.loads(json.dumps(record | {"stack_iou": stack_iou, "cases": cases})))
