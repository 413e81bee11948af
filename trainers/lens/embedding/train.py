"""Training of the lesion embedding, read from top to bottom: settings, loop, losses, batches.

It stands in for LesaNet (LENS V-B) and learns from annotations alone: their type, their place in the volume, and that
two augmented views of a lesion are nearer to each other than to anything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from lnsdk.errors import InputError
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import UNKNOWN
from lnsdk.trainers.common.loop import Training, optimize, start
from lnsdk.trainers.common.schedule import late_rate
from lnsdk.trainers.lens.embedding.views import Scan, center_of, jitter, scan, stack_views, view
from lnsdk.trainers.lens.mining.matching import key_rows, person
from lnsdk.trainers.lens.mining.tracklets import apart
from lnsdk.trainers.networks.embedding import EmbeddingNetwork, EmbeddingShape, LesionViews

UNKNOWN_TYPE = -100
"""Class that the cross-entropy leaves out (torch's default)."""

CHECKPOINT = "embedding.ckpt"
"""File of the network, and of the delta that was chosen for it."""

SCANS = 512
"""Volumes whose scans are kept in memory."""

LOSSES = ("type", "place", "pairs")
"""Terms of the loss in the order in which they are logged."""


@dataclass(frozen=True)
class EmbeddingSettings:
    """What a training of the embedding does. The paper names none of these: LesaNet was trained elsewhere.

    Attributes
    ----------
    steps : int
        Optimizer steps.
    volumes : int
        Volumes in a batch.
    lesions : int
        Annotated lesions of each volume in a batch at most.
    places : int
        Random places of each volume in a batch: most of what is mined is no lesion, and should be near to none.
    learning_rate : float
        Base rate of RAdam.
    temperature : float
        Of the loss over pairs.
    place_weight : float
        Weight of the loss over places.
    seed : int
        Of the initial weights and of the batches.
    checkpoint_every : int
        Steps between checkpoints.
    """

    steps: int = 600
    volumes: int = 6
    lesions: int = 5
    places: int = 3
    learning_rate: float = 2e-3
    temperature: float = 0.1
    place_weight: float = 5.0
    seed: int = 0
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        least = {"steps": 1, "volumes": 1, "lesions": 1, "places": 0, "checkpoint_every": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


class Batch(NamedTuple):
    """Two views of each lesion and place of a batch, the first views before the second.

    Attributes
    ----------
    views : LesionViews
        Of 2 N lesions and places.
    types : Tensor, (N,)
        Index of the type; `UNKNOWN_TYPE` where there is none.
    centers : Tensor, (N, 3)
        Place in the grid as shares of its extent along x, y, z.
    cases, patients : Tensor, (N,)
        Which volume and which person each is of.
    """

    views: LesionViews
    types: Tensor
    centers: Tensor
    cases: Tensor
    patients: Tensor


def train_embedding(
    cases: Sequence[GridCase],
    out: Path,
    settings: EmbeddingSettings | None = None,
    stop_after: int | None = None,
    shape: EmbeddingShape | None = None,
) -> EmbeddingNetwork:
    """Train an embedding, going on from the last checkpoint in `out` if there is one.

    Parameters
    ----------
    cases : sequence of GridCase
        With annotations; their truth is not looked at.
    out : Path
        Receives `CHECKPOINT` and `embedding_losses.png`.
    settings : EmbeddingSettings, optional
        What to do.
    stop_after : int, optional
        Stop when so many steps are done in all, as an interruption would.
    shape : EmbeddingShape, optional
        Sizes of the network; None tells apart the types that the annotations have.

    Returns
    -------
    EmbeddingNetwork
        In evaluation mode, on the CPU.

    Raises
    ------
    InputError
        ``cases`` without a single annotation; ``checkpoint`` when the one in `out` is damaged or was made with other
        settings or cases.

    Notes
    -----
    The loss of a batch is the cross-entropy of the type (lesions of unknown type leave it out), the smooth L1 distance
    of the place, and the contrastive loss of Chen et al. (SimCLR, NT-Xent) between two augmented views of each lesion
    and of random places. Views are never mirrored: left and right are places. Of the same patient's other volumes,
    which may hold the same lesion, a view learns nothing. Step k draws its batch from a generator seeded by (seed, k).
    """
    settings = EmbeddingSettings() if settings is None else settings
    labelled = [case for case in cases if len(case.labels.boxes)]
    if not labelled:
        raise InputError("cases", "no case has an annotation to train an embedding on")
    shape = EmbeddingShape(annotated_types(labelled)) if shape is None else shape
    fabric = start(settings.seed)
    network = EmbeddingNetwork(shape)
    module = fabric.setup_module(BatchLoss(network, settings))
    scan_of = lru_cache(maxsize=SCANS)(lambda index: scan(labelled[index].grid))

    def gradients(step: int) -> tuple[Tensor, ...]:
        batch = draw_batch(labelled, scan_of, shape.types, settings, np.random.default_rng((settings.seed, step)))
        label, place, pairs = module(batch)
        fabric.backward(label + settings.place_weight * place + pairs)
        return label, place, pairs

    training = Training(
        title="training the embedding",
        losses=LOSSES,
        steps=settings.steps,
        rate=lambda step: late_rate(settings.learning_rate, step, settings.steps),
        checkpoint=out / CHECKPOINT,
        curve=out / "embedding_losses.png",
        checkpoint_every=settings.checkpoint_every,
        record=describe_run(settings, shape, labelled),
        network={"shape": asdict(shape)},
    )
    optimize(training, fabric, network, gradients, stop_after)
    return network


def annotated_types(cases: Sequence[GridCase]) -> tuple[str, ...]:
    """Types of annotated lesions, sorted; a name for the unknown one is not among them."""
    types = {case.labels.types[lesion] for case in cases for lesion in case.labels.lesion}
    return tuple(sorted(types - {UNKNOWN}))


def describe_run(settings: EmbeddingSettings, shape: EmbeddingShape, cases: Sequence[GridCase]) -> dict[str, Any]:
    """What decides the weights: settings but how often they are saved, the network, and the cases' fingerprints."""
    record = {name: value for name, value in asdict(settings).items() if name != "checkpoint_every"}
    record |= {"shape": asdict(shape), "cases": {case.name: case.fingerprint for case in cases}}
    return cast(dict[str, Any], json.loads(json.dumps(record)))


class BatchLoss(nn.Module):
    """The network with its losses."""

    def __init__(self, network: EmbeddingNetwork, settings: EmbeddingSettings) -> None:
        super().__init__()
        self.network = network
        self.temperature = settings.temperature

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Losses of type, place and pairs."""
        device = next(self.network.parameters()).device
        embeddings = self.network(LesionViews(*(view.to(device) for view in batch.views)))
        types = batch.types.to(device).repeat(2)
        known = types != UNKNOWN_TYPE
        label = (
            cross_entropy(self.network.classify(embeddings[known]), types[known])
            if known.any()
            else embeddings.sum() * 0
        )
        place = smooth_l1_loss(self.network.locate(embeddings), batch.centers.to(device).repeat(2, 1), beta=0.1)
        return label, place, pair_loss(embeddings, batch.cases.to(device), batch.patients.to(device), self.temperature)


def pair_loss(embeddings: Tensor, cases: Tensor, patients: Tensor, temperature: float) -> Tensor:
    """Contrastive loss between the two views of each lesion (NT-Xent of SimCLR).

    Parameters
    ----------
    embeddings : Tensor, (2 N, D)
        L2-normalised; view i and view N + i are of the same lesion.
    cases, patients : Tensor, (N,)
        Which volume and which person each lesion is of. Views of one person's different volumes may be of the same
        lesion, and are left out.
    temperature : float
        Divisor of the cosines.
    """
    count = len(cases)
    case, patient = cases.repeat(2), patients.repeat(2)
    unclear = (patient[:, None] == patient) & (case[:, None] != case)
    itself = torch.eye(2 * count, dtype=torch.bool, device=embeddings.device)
    cosines = (embeddings @ embeddings.T / temperature).masked_fill(unclear | itself, -torch.inf)
    partner = torch.arange(2 * count, device=embeddings.device).roll(count)
    return cross_entropy(cosines, partner)


def draw_batch(
    cases: Sequence[GridCase],
    scan_of: Callable[[int], Scan],
    types: Sequence[str],
    settings: EmbeddingSettings,
    rng: np.random.Generator,
) -> Batch:
    """Lesions and random places of some volumes (cases, and the scan of each by its index), two views of each."""
    chosen = rng.choice(len(cases), min(settings.volumes, len(cases)), replace=False)
    people = {name: index for index, name in enumerate(sorted({person(case) for case in cases}))}
    drawn = [(int(index), *place) for index in chosen for place in _draw_places(cases[index], settings, rng)]
    views = [
        view(scan_of(index), jitter(row, len(cases[index].grid), rng), rng) for _ in range(2) for index, row, _ in drawn
    ]
    names = [UNKNOWN if lesion is None else cases[index].labels.types[lesion] for index, _, lesion in drawn]
    return Batch(
        stack_views(views),
        torch.tensor([types.index(name) if name in types else UNKNOWN_TYPE for name in names]),
        torch.tensor(
            np.stack([center_of(row, cases[index].grid.shape) for index, row, _ in drawn]), dtype=torch.float32
        ),
        torch.tensor([index for index, _, _ in drawn]),
        torch.tensor([people[person(cases[index])] for index, _, _ in drawn]),
    )


def _draw_places(
    case: GridCase, settings: EmbeddingSettings, rng: np.random.Generator
) -> list[tuple[NDArray[np.float32], int | None]]:
    """Boxes of some annotated lesions of a case, and random boxes of the same sizes that overlap none (lesion None)."""
    labels = case.labels
    keys = key_rows(labels)
    picked = rng.permutation(keys)[: settings.lesions]
    places: list[tuple[NDArray[np.float32], int | None]] = [(labels.boxes[k], int(labels.lesion[k])) for k in picked]
    depth, height, width = case.grid.shape
    for key in rng.choice(keys, settings.places):
        size = labels.boxes[key, 3:] - labels.boxes[key, 1:3]
        corner = rng.uniform((0, 0), np.maximum((width, height) - size, 1))
        row = np.array([rng.integers(depth), *corner, *(corner + size)], np.float32)
        if apart(row[None], labels.boxes, 0.0)[0]:
            places.append((row, None))
    return places
