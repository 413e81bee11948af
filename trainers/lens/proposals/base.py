"""What every proposal network offers to training and inference."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, cast

import numpy as np
from torch import Tensor, nn

Method = Literal["afp", "rpn", "centernet", "fcos"]
"""Names of the proposal networks."""

Outputs = tuple[Tensor, ...]
"""Raw maps of a proposal network, each (N, channels, h, w) at stride 4; what they are is the network's own business."""


class Candidates(NamedTuple):
    """Every box that proposal networks offer, before any is left out.

    Attributes
    ----------
    scores : Tensor, (N, P)
        Probabilities.
    boxes : Tensor, (N, P, 4)
        x1, y1, x2, y2 in continuous grid pixels, not clipped.
    """

    scores: Tensor
    boxes: Tensor


class ProposalNetwork(nn.Module, ABC):
    """Proposal network of one data set.

    Parameters
    ----------
    channels : int
        Channels of the features.
    hidden : int
        Channels of the hidden layers.
    """

    BOX_WEIGHT: ClassVar[float]
    """Factor on the box loss in eq. 3: lambda_1, or what the method's own paper has in its place."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, features: Tensor) -> Outputs:
        """Raw maps for features (N, C, h, w)."""

    @abstractmethod
    def loss(
        self,
        outputs: Outputs,
        boxes: Sequence[Tensor],
        uncertain: Sequence[Tensor],
        ignored: Sequence[Tensor],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Losses of a batch.

        Parameters
        ----------
        outputs : tuple of Tensor
            What `forward` gave for the N slices.
        boxes, uncertain, ignored : sequence of N Tensor, (K_i, 4), (U_i, 4), (J_i, 4)
            Labelled lesions, boxes that may be lesions, and places where nothing is known, on the CPU: x1, y1, x2, y2
            in continuous grid pixels, all with an area. Nothing in the last two counts as background.
        rng : Generator
            Decides what is sampled, where the method samples.

        Returns
        -------
        classification, box : Tensor
            Scalars; eq. 3 adds the second `BOX_WEIGHT` times.
        """

    @abstractmethod
    def decode(self, outputs: Outputs) -> Candidates:
        """A box with its score for every place of the maps."""


def start_at(layer: nn.Module, probability: float) -> None:
    """Set the bias of a convolution to logits so that it starts at a probability everywhere."""
    nn.init.constant_(cast(Tensor, layer.bias), math.log(probability / (1.0 - probability)))
