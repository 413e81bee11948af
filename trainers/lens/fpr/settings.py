"""Settings of the training of false-positive reduction and its two presets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnsdk.trainers.networks.fpr import EDGE, PAPER, FprShape

EDGE_BOXES = 50
"""Boxes of a volume that the edge network looks at: bounds what it costs on a CPU."""

PAPER_BOXES = 1000
"""The paper's network looks at all of them; a bound against volumes in which everything is a box."""


@dataclass(frozen=True)
class FprSettings:
    """What a training does; the defaults are the paper's (LENS VI-B) where it states one.

    Attributes
    ----------
    shape : FprShape
        Sizes of the network (IV-D).
    imagenet : Path or None
        File with torchvision's ResNet-18 ImageNet weights that are inflated (VI-B).
    from_scratch : bool
        Start from random weights instead.
    epochs : int
        Passes over the true positives (VI-B).
    cuts : tuple of int
        Epochs after which the learning rate is cut to a tenth (VI-B).
    batch : int
        Patches per step (VI-B).
    learning_rate : float
        Base rate of RAdam (VI-B).
    warmup : int
        Steps over which the rate rises from zero.
    theta : float
        A box is a true positive when one of its slices' boxes overlaps a lesion more than this (IoU, VI-B).
    theta_fp : float
        A box is a false positive when none of its slices' boxes reaches this IoU with anything that is or may be a
        lesion (VI-B).
    negatives : int
        False positives per true positive in an epoch (1:2, VI-B).
    seed : int
        Of the initial weights, the order of samples and their augmentation.
    checkpoint_every : int
        Steps between checkpoints.
    """

    shape: FprShape = PAPER
    imagenet: Path | None = None
    from_scratch: bool = False
    epochs: int = 6
    cuts: tuple[int, ...] = (2, 4)
    batch: int = 32
    learning_rate: float = 2e-4
    warmup: int = 0
    theta: float = 0.5
    theta_fp: float = 0.3
    negatives: int = 2
    seed: int = 0
    checkpoint_every: int = 100

    @property
    def boxes(self) -> int:
        """Best boxes of every case that are learned from: as many as the runtime looks at."""
        return boxes_of(self.shape)

    def __post_init__(self) -> None:
        if self.imagenet is not None and self.shape != PAPER:
            raise ValueError("--imagenet-resnet needs --preset paper: the weights fit no other network")
        if self.imagenet is None and not self.from_scratch:
            raise ValueError(
                "false-positive reduction starts from ImageNet weights: name a file with torchvision's ResNet-18 "
                "weights (--imagenet-resnet FILE), or pass --from-scratch to start from random weights"
            )
        if self.imagenet is not None and self.from_scratch:
            raise ValueError("--imagenet-resnet and --from-scratch exclude each other: choose where to start from")
        if not 0 < self.theta_fp <= self.theta < 1:
            raise ValueError(f"theta_fp and theta must be 0 < theta_fp <= theta < 1, got {self.theta_fp}, {self.theta}")


def boxes_of(shape: FprShape) -> int:
    """Boxes of a volume that a network looks at: the paper's all, every smaller one the edge preset's number."""
    return PAPER_BOXES if shape == PAPER else EDGE_BOXES


def paper(**changes: object) -> FprSettings:
    """The paper's network and training."""
    return FprSettings(**changes)  # type: ignore[arg-type]


def edge(**changes: object) -> FprSettings:
    """The thin network, trained from scratch: a higher rate for longer."""
    defaults: dict[str, object] = {
        "shape": EDGE,
        "from_scratch": True,
        "epochs": 54,
        "cuts": (36, 45),
        "learning_rate": 1e-3,
        "warmup": 50,
    }
    return FprSettings(**(defaults | changes))  # type: ignore[arg-type]


PRESETS = {"paper": paper, "edge": edge}
"""Name of a preset to the function that makes its settings."""
