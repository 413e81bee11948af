"""Training of LENS, read from top to bottom: data, network, loop, losses of a batch, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lnsdk.errors import InputError
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.checkpoint import file_digest
from lnsdk.trainers.common.loop import GRADIENT_NORM, Training, optimize, start
from lnsdk.trainers.common.samples import Dataset, Sample
from lnsdk.trainers.common.schedule import stepped_rate
from lnsdk.trainers.common.simulation import SCOPES
from lnsdk.trainers.lens.features import load_features
from lnsdk.trainers.lens.losses import head_loss, total_loss
from lnsdk.trainers.lens.proposals.base import Candidates, Outputs
from lnsdk.trainers.lens.rois import sample_head, select_proposals
from lnsdk.trainers.lens.settings import LensSettings
from lnsdk.trainers.networks.densenet import load_imagenet
from lnsdk.trainers.networks.lens import PROPOSAL_NETWORKS, Lens

CHECKPOINT = "checkpoint.ckpt"
"""File of the trained network."""

LOSSES = ("center", "size", "class", "box")
"""Terms of eq. 3 in the order in which they are logged."""


@dataclass
class Batch:
    """Crops of one data set: slices (N, 9, S, S) and the boxes of each crop (mutable, as Fabric wants)."""

    expert: int
    slices: Tensor
    boxes: list[Tensor]
    uncertain: list[Tensor]
    ignored: list[Tensor]


def train(settings: LensSettings, datasets: Sequence[Dataset], out: Path, stop_after: int | None = None) -> Lens:
    """Train a network, going on from the last checkpoint in `out` if there is one.

    Parameters
    ----------
    settings : LensSettings
        What to do.
    datasets : sequence of Dataset
        Each gets an expert, in this order.
    out : Path
        Receives `checkpoint.ckpt` and `losses.png`.
    stop_after : int, optional
        Stop when so many steps are done in all, as an interruption would.

    Raises
    ------
    InputError
        ``cases`` when a data set has no labelled lesion, ``checkpoint`` when the one in `out` is damaged or was made
        with other settings or cases.

    Returns
    -------
    Lens
        The trained network in evaluation mode, where it was trained.

    Notes
    -----
    Step k draws its samples from a generator seeded by (seed, k), so an interrupted training that is started again
    ends with the weights of one that never stopped.
    """
    check_labelled(datasets)
    fabric = start(settings.seed)
    network = Lens(len(datasets), settings.shape, settings.proposal, settings.one_stage, settings.domain_attention)
    if settings.imagenet is not None:
        load_imagenet(network.backbone, settings.imagenet)
    if settings.features is not None:
        load_features(network, settings.features)
    batch_loss = fabric.setup_module(BatchLoss(network.to(memory_format=torch.channels_last), settings))

    def gradients(step: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng((settings.seed, step))
        batch = draw_batch(datasets, settings, rng)
        losses = batch_loss(batch, rng)
        fabric.backward(total_loss(*losses, size_weight=PROPOSAL_NETWORKS[settings.proposal].BOX_WEIGHT))
        clear_other_experts(network, batch.expert)
        return cast(tuple[Tensor, ...], losses)

    steps = total_steps(settings, datasets)
    training = Training(
        title="training LENS",
        losses=LOSSES,
        steps=steps,
        rate=lambda step: learning_rate(settings, step, steps),
        checkpoint=out / CHECKPOINT,
        curve=out / "losses.png",
        checkpoint_every=settings.checkpoint_every,
        record=describe_run(settings, datasets),
        network={"shape": asdict(network.shape), "design": network.design},
        gradient_norm=GRADIENT_NORM,
    )
    optimize(training, fabric, network, gradients, stop_after)
    return network


def by_expert(cases: Sequence[GridCase]) -> list[Dataset]:
    """Cases as one data set per expert, in the order of `SCOPES`."""
    return [Dataset(scope.name, [case for case in cases if case.expert == scope.name]) for scope in SCOPES]


def check_labelled(datasets: Sequence[Dataset]) -> None:
    """Refuse a data set without a labelled lesion, of which its expert would learn nothing."""
    empty = [dataset.name for dataset in datasets if dataset.lesions == 0]
    if empty:
        raise InputError("cases", f"no labelled lesions for {', '.join(empty)}: give it more cases or more lesions")


def total_steps(settings: LensSettings, datasets: Sequence[Dataset]) -> int:
    """Steps of a training: those that are set, or those of its epochs.

    In an epoch every labelled lesion is drawn once, on one of its slices (VI-D), and crops anywhere in their share.
    """
    if settings.steps is not None:
        return settings.steps
    lesions = sum(dataset.lesions for dataset in datasets)
    return max(1, round(settings.epochs * lesions / settings.positive_share / settings.batch))


def learning_rate(settings: LensSettings, step: int, steps: int) -> float:
    """Rate of a step: linear warm-up, then cut to a tenth at every milestone."""
    return stepped_rate(settings.learning_rate, step, [share * steps for share in settings.milestones], settings.warmup)


def draw_batch(datasets: Sequence[Dataset], settings: LensSettings, rng: np.random.Generator) -> Batch:
    """A batch of crops from one data set (VI-B), drawn by its number of labelled lesions."""
    sizes = np.array([dataset.lesions for dataset in datasets], float) ** settings.size_exponent
    expert = int(rng.choice(len(datasets), p=sizes / sizes.sum()))
    samples: list[Sample] = []
    for _ in range(settings.batch):
        positive = bool(rng.random() < settings.positive_share)
        sample = datasets[expert].draw(rng, settings.crop, positive, settings.balance_types, settings.wide_augmentation)
        samples.append(sample)
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
        """Losses of the batch's dataset: center, size, class, box; only its own expert receives gradients.

        A network without a head has no class and no box loss.
        """
        network, expert = self.network, batch.expert
        slices = batch.slices.to(next(network.parameters()).device)
        with torch.autocast(slices.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            features = self.features(slices)
            own = network.proposals[expert](features)
        features, own = features.float(), as_float(own)
        places = (batch.boxes, batch.uncertain, batch.ignored)
        center, size = network.proposal_networks[expert].loss(own, *places, rng)
        if network.head is None:
            return center, size, torch.zeros_like(center), torch.zeros_like(size)

        candidates = self.candidates(features, expert, own)
        height, width = batch.slices.shape[-2:]
        boxes = select_proposals(
            candidates, self.settings.proposals_before_nms, self.settings.proposals, (height, width)
        )
        samples = sample_head(boxes, *places, self.settings.head_samples, rng)
        scores, offsets = network.head(features, samples.rois.to(features.device))
        labels = samples.labels.to(features.device)
        used = labels >= 0
        label, box = head_loss(
            scores[..., expert][used],
            offsets[:, :, expert][used],
            labels[used],
            samples.offsets.to(features.device)[used],
        )
        return center, size, label, box

    @torch.no_grad()
    def candidates(self, features: Tensor, expert: int, own: Outputs) -> list[Candidates]:
        """Boxes of every expert on the CPU, without gradients; the batch's expert has given its outputs already."""
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            outputs = [own if i == expert else layers(features) for i, layers in enumerate(self.network.proposals)]
        return [Candidates(*(part.cpu() for part in each)) for each in self.network.decode(map(as_float, outputs))]


def as_float(outputs: Outputs) -> Outputs:
    """Outputs in float32, whatever the convolutions ran in."""
    return tuple(part.float() for part in outputs)


def clear_other_experts(network: Lens, expert: int) -> None:
    """Drop the gradients of all experts but one (IV-C).

    The head computes every expert's scores, so the others' layers receive gradients of zero, and with those an
    optimizer that keeps running means would still move them.
    """
    heads = () if network.head is None else (network.head.classify, network.head.regress)
    for layers in (network.proposals, *heads):
        for index, layer in enumerate(layers):
            if index != expert:
                for parameter in layer.parameters():
                    parameter.grad = None


def describe_run(settings: LensSettings, datasets: Sequence[Dataset]) -> dict[str, Any]:
    """What decides the weights: the settings, and the fingerprints of the cases."""
    cases = {dataset.name: {case.name: case.fingerprint for case in dataset.cases} for dataset in datasets}
    return describe_settings(settings) | {"cases": cases}


def describe_settings(settings: LensSettings) -> dict[str, Any]:
    """Every setting but how often weights are saved, as JSON holds them; files by their digest."""
    record = {name: value for name, value in asdict(settings).items() if name != "checkpoint_every"}
    record |= {name: file_digest(getattr(settings, name)) for name in ("imagenet", "features")}
    return cast(dict[str, Any], json.loads(json.dumps(record)))
