"""Training of LENS, read from top to bottom: data, network, loop, losses of a batch, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from lnsdk.errors import InputError
from lnsdk.trainers.common.progress import TrainingProgress, save_loss_curve
from lnsdk.trainers.common.samples import GridCase, Sample, draw_sample, read_grid_cases
from lnsdk.trainers.common.schedule import stepped_rate
from lnsdk.trainers.common.simulation import SCOPES
from lnsdk.trainers.lens.checkpoint import restore, save
from lnsdk.trainers.lens.losses import center_loss, head_loss, size_loss, total_loss
from lnsdk.trainers.lens.rois import decode_proposals, sample_head
from lnsdk.trainers.lens.settings import LensSettings
from lnsdk.trainers.lens.targets import IGNORE_RATIO, ProposalTargets, proposal_targets
from lnsdk.trainers.networks.densenet import load_imagenet
from lnsdk.trainers.networks.lens import Lens, Proposals

GRADIENT_NORM = 5.0
"""Gradients are scaled down to this norm: a guard for training from scratch, far above the usual norm."""

LOSSES = ("center", "size", "class", "box")
"""Terms of eq. 3 in the order in which they are logged."""


@dataclass
class Batch:
    """Crops of one dataset: slices (N, 9, S, S) and the boxes of each crop (mutable, as Fabric wants)."""

    expert: int
    slices: Tensor
    boxes: list[Tensor]
    uncertain: list[Tensor]
    ignored: list[Tensor]


def train(settings: LensSettings, cases: Path, out: Path, names: Sequence[str], stop_after: int | None = None) -> Lens:
    """Train a network on a folder of cases, going on from the last checkpoint in `out` if there is one.

    Parameters
    ----------
    settings : LensSettings
        What to do.
    cases : Path
        Folder with cases on the network's grid (written by `lnsdk.trainers.common.samples.write_grid_case`).
    out : Path
        Receives `checkpoint.ckpt` and `losses.png`.
    names : sequence of str
        The cases to train on; others in the folder are not read.
    stop_after : int, optional
        Stop when so many steps are done in all, as an interruption would.

    Raises
    ------
    InputError
        ``checkpoint`` when the one in `out` is damaged or was made with other settings or cases.

    Returns
    -------
    Lens
        The trained network in evaluation mode, on the CPU.

    Notes
    -----
    Step k draws its samples from a generator seeded by (seed, k), so an interrupted training that is started again
    ends with the weights of one that never stopped.
    """
    fabric = Fabric(accelerator="auto", devices=1)
    fabric.seed_everything(settings.seed, verbose=False)
    datasets = load_datasets(cases, names)
    record = describe_run(settings, datasets)
    network = Lens(len(SCOPES), settings.shape)
    if settings.imagenet is not None:
        load_imagenet(network.backbone, settings.imagenet)
    batch_loss = fabric.setup_module(BatchLoss(network.to(memory_format=torch.channels_last), settings))
    radam = torch.optim.RAdam(network.parameters(), lr=settings.learning_rate)
    optimizer = cast(torch.optim.Optimizer, fabric.setup_optimizers(radam))

    out.mkdir(parents=True, exist_ok=True)
    state = restore(out / "checkpoint.ckpt", network, optimizer, record)
    last = settings.steps if stop_after is None else min(stop_after, settings.steps)
    network.train()
    with TrainingProgress("training LENS", settings.steps, state.step) as progress:
        while state.step < last:
            rng = np.random.default_rng((settings.seed, state.step))
            batch = draw_batch(datasets, settings, rng)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, state.step)
            losses = batch_loss(batch, rng)
            optimizer.zero_grad()
            fabric.backward(total_loss(*losses))
            clear_other_experts(network, batch.expert)
            fabric.clip_gradients(batch_loss, optimizer, max_norm=GRADIENT_NORM)
            optimizer.step()
            state.step += 1
            state.history.append([loss.item() for loss in losses])
            progress.advance(dict(zip(LOSSES, state.history[-1], strict=True)))
            if state.step % settings.checkpoint_every == 0 or state.step == last:
                save(fabric, out / "checkpoint.ckpt", network, optimizer, state, settings.shape, record)
                save_loss_curve(out / "losses.png", LOSSES, state.history)
    return network.eval().cpu()


def load_datasets(folder: Path, names: Sequence[str]) -> list[list[GridCase]]:
    """The named cases by expert, in the order of `SCOPES`."""
    cases = read_grid_cases(folder, names)
    datasets = [[case for case in cases if case.expert == scope.name] for scope in SCOPES]
    labelled = [sum(len(case.labels.boxes) for case in dataset) for dataset in datasets]
    empty = [scope.name for scope, boxes in zip(SCOPES, labelled, strict=True) if boxes == 0]
    if empty:
        raise InputError(
            "cases", f"no labelled lesions for {', '.join(empty)} in {folder}: simulate more cases or more lesions"
        )
    return datasets


def learning_rate(settings: LensSettings, step: int) -> float:
    """Rate of a step: linear warm-up, then cut to a tenth at every milestone."""
    milestones = [fraction * settings.steps for fraction in settings.milestones]
    return stepped_rate(settings.learning_rate, step, milestones, settings.warmup)


def draw_batch(datasets: list[list[GridCase]], settings: LensSettings, rng: np.random.Generator) -> Batch:
    """A batch of crops from one dataset (VI-B), chosen in proportion to its CTs."""
    sizes = np.array([len(dataset) for dataset in datasets])
    expert = int(rng.choice(len(datasets), p=sizes / sizes.sum()))
    samples: list[Sample] = []
    for _ in range(settings.batch):
        positive = bool(rng.random() < settings.positive_share)
        samples.append(draw_sample(datasets[expert], rng, settings.crop, positive))
    slices = torch.stack([s.slices for s in samples])
    boxes = ([getattr(s, name) for s in samples] for name in ("boxes", "uncertain", "ignored"))
    return Batch(expert, slices, *boxes)


class BatchLoss(nn.Module):
    """The network with its losses; one forward pass gives the four terms of eq. 3 for a batch."""

    def __init__(self, network: Lens, settings: LensSettings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.features = torch.compile(network.forward_training) if settings.compile else network.forward_training

    def forward(self, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of the batch's dataset: center, size, class, box; only its own expert receives gradients."""
        slices = batch.slices.to(next(self.network.parameters()).device)
        with torch.autocast(slices.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            features = self.features(slices)
            logits, distances = self.network.proposals[batch.expert](features)
            with torch.no_grad():
                proposals = self.network.propose(features)
        features, logits, distances = features.float(), logits.float(), distances.float()
        targets = batch_targets(batch, *logits.shape[-2:])
        target_map = targets.centerness.to(logits.device)
        center = center_loss(logits[:, 0], target_map)
        size = size_loss(distances, targets.distances.to(logits.device), target_map)

        boxes = decode_proposals(
            Proposals(*(p.cpu() for p in proposals)),
            self.settings.proposals_before_nms,
            self.settings.proposals,
            batch.slices.shape[-1],
        )
        samples = sample_head(boxes, batch.boxes, batch.uncertain, batch.ignored, self.settings.head_samples, rng)
        scores, offsets = self.network.head(features, samples.rois.to(features.device))
        labels = samples.labels.to(features.device)
        used = labels >= 0
        label, box = head_loss(
            scores[..., batch.expert][used],
            offsets[:, :, batch.expert][used],
            labels[used],
            samples.offsets.to(features.device)[used],
        )
        return center, size, label, box


def clear_other_experts(network: Lens, expert: int) -> None:
    """Drop the gradients of all experts but one (IV-C).

    The head computes every expert's scores, so the others' layers receive gradients of zero, and with those an
    optimizer that keeps running means would still move them.
    """
    for layers in (network.proposals, network.head.classify, network.head.regress):
        for index, layer in enumerate(layers):
            if index != expert:
                for parameter in layer.parameters():
                    parameter.grad = None


def batch_targets(batch: Batch, height: int, width: int) -> ProposalTargets:
    """Proposal targets of every crop, stacked; uncertain boxes ignore their middle, ignored ones all of themselves."""
    targets = []
    for boxes, uncertain, ignored in zip(batch.boxes, batch.uncertain, batch.ignored, strict=True):
        pooled = torch.cat((boxes, uncertain, enlarge(ignored)))
        targets.append(proposal_targets(pooled, torch.arange(len(pooled)) >= len(boxes), height, width))
    return ProposalTargets(*(torch.stack(maps) for maps in zip(*targets, strict=True)))


def enlarge(boxes: Tensor) -> Tensor:
    """Boxes whose ignored region (IV-B) is the given box: a place without labels is ignored up to its border."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / (2 * IGNORE_RATIO)
    return torch.cat((center - half, center + half), dim=1)


def describe_run(settings: LensSettings, datasets: list[list[GridCase]]) -> dict[str, Any]:
    """What decides the weights: every setting but how often they are saved, and the fingerprints of the cases."""
    record = {name: value for name, value in asdict(settings).items() if name != "checkpoint_every"}
    record["imagenet"] = None if settings.imagenet is None else str(settings.imagenet)
    cases = {case.name: case.fingerprint for dataset in datasets for case in dataset}
    return cast(dict[str, Any], json.loads(json.dumps(record | {"cases": cases})))
