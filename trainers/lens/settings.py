"""Settings of a LENS training and its two presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnsdk.pipelines.settings import Settings
from lnsdk.trainers.common.grid import GRID_SPACING
from lnsdk.trainers.lens.proposals.base import Method
from lnsdk.trainers.lens.rois import PROPOSAL_IOU
from lnsdk.trainers.networks.boxes import DELTA_WEIGHTS, STRIDE
from lnsdk.trainers.networks.lens import EDGE, FULL_WINDOW, PAPER, LensShape, check_design


@dataclass(frozen=True)
class Runtime:
    """What the detector does around the network; goes into the bundle.

    Attributes
    ----------
    proposals, detections : mapping
        As the bundle's sections of these names.
    """

    proposals: Mapping[str, float]
    detections: Mapping[str, float]


PAPER_RUNTIME = Runtime(
    proposals={"pre_nms": 6000, "post_nms": 300, "iou": PROPOSAL_IOU, "min_score": 0.0},
    detections={"iou": 0.5, "per_slice": 50, "min_score": 0.05, "stack_iou": 0.5},
)
"""Reference [25] of the paper; stack_iou is its theta (VI-B)."""

EDGE_RUNTIME = Runtime(
    proposals={"pre_nms": 1000, "post_nms": 100, "iou": PROPOSAL_IOU, "min_score": 0.02},
    detections={"iou": 0.5, "per_slice": 50, "min_score": 0.02, "stack_iou": 0.3},
)
"""Fewer proposals bound what suppression and head cost on a CPU. Boxes join at a lower overlap than the paper's,
because lesions of a few pixels change by as much between slices."""


@dataclass(frozen=True)
class LensSettings:
    """What a training does; the defaults are the paper's (LENS VI-B) where it states one.

    Attributes
    ----------
    shape : LensShape
        Sizes of the network (IV-A to IV-C).
    proposal : str
        Proposal network: "afp" (IV-B), or one that Tables II and III compare it with: "rpn", "centernet", "fcos".
    one_stage : bool
        Without a detection head; needs "fcos" (Table III).
    domain_attention : bool
        Adapt the features to the data set that an image seems to come from (Table V).
    imagenet : Path or None
        File with torchvision's DenseNet-121 ImageNet weights that the backbone starts from (VI-B).
    features : Path or None
        Checkpoint whose features the network starts from: of `lnsdk.trainers.lens.organs.train_organs` or of another
        training of LENS; for small networks.
    from_scratch : bool
        Start from random weights instead.
    epochs : int
        How often every labelled lesion is drawn (8, VI-B).
    steps : int or None
        Optimizer steps, whatever the size of the data sets; None does `epochs`.
    batch : int
        Groups of nine slices per step, all from one dataset (VI-B).
    crop : int
        Side of the square crop in pixels (512 is the largest slice of reference [25]).
    learning_rate : float
        Base rate of RAdam (VI-B).
    milestones : tuple of float
        Fractions of the steps after which the rate is cut to a tenth (after epochs 4 and 6 of 8, VI-B).
    warmup : int
        Steps over which the rate rises from zero.
    positive_share : float
        Share of crops with a labelled lesion (2:1 of VI-B).
    balance_types : bool
        Draw each lesion type of a data set as often as the others, not each lesion (VI-D).
    wide_augmentation : bool
        Augment as data distillation does (VI-D): resizing by 0.5 to 1.5 and flips along y, besides the others.
    size_exponent : float
        Batches come from a data set in proportion to the number of its labelled lesions to this power: 1 draws every
        lesion as often as any other (VI-B), less favours small data sets.
    proposals_before_nms, proposals : int
        Proposals of a slice before and after suppression (training values of reference [25]).
    head_samples : int
        Regions per slice that the head learns from (reference [25]).
    seed : int
        Of the data, the initial weights and the order of samples.
    bfloat16 : bool
        Run the convolutions in bfloat16; windows, regions of interest and losses stay float32.
    compile : bool
        Compile the backbone and the pyramid before the first step (torch.compile). Takes two minutes and a C++ compiler
        and saves a quarter of every step on a CPU.
    checkpoint_every : int
        Steps between checkpoints.
    """

    shape: LensShape = PAPER
    proposal: Method = "afp"
    one_stage: bool = False
    domain_attention: bool = False
    imagenet: Path | None = None
    features: Path | None = None
    from_scratch: bool = False
    epochs: int = 8
    steps: int | None = None
    batch: int = 4
    crop: int = 512
    learning_rate: float = 1e-4
    milestones: tuple[float, ...] = (0.5, 0.75)
    warmup: int = 0
    positive_share: float = 2 / 3
    balance_types: bool = False
    wide_augmentation: bool = False
    size_exponent: float = 1.0
    proposals_before_nms: int = 12_000
    proposals: int = 2_000
    head_samples: int = 64
    seed: int = 0
    bfloat16: bool = True
    compile: bool = False
    checkpoint_every: int = 500

    @property
    def runtime(self) -> Runtime:
        """What the detector does around this network."""
        return runtime_of(self.shape)

    def __post_init__(self) -> None:
        check_design(self.proposal, self.one_stage)
        if self.imagenet is not None and self.shape != PAPER:
            raise ValueError("--imagenet needs --preset paper: the weights fit no other network")
        if self.imagenet is None and not self.from_scratch:
            raise ValueError(
                "the backbone starts from ImageNet weights: name a file with torchvision's DenseNet-121 weights "
                "(--imagenet FILE), or pass --from-scratch to start from random weights"
            )
        if self.imagenet is not None and self.features is not None:
            raise ValueError("imagenet and features exclude each other: choose which weights to start from")
        if self.imagenet is not None and self.from_scratch:
            raise ValueError("--imagenet and --from-scratch exclude each other: choose where the backbone starts from")
        if self.crop % 16:
            raise ValueError(f"crop must be a multiple of 16, got {self.crop}")


def detector_settings(runtime: Runtime, experts: Sequence[str]) -> Settings:
    """What the runtime would read from the bundle of a network with these experts."""
    proposals, detections = runtime.proposals, runtime.detections
    return Settings(
        experts=tuple(experts),
        spacing=GRID_SPACING,
        multiple=16,
        stride=STRIDE,
        window=FULL_WINDOW,
        max_batch=1,
        pre_nms=int(proposals["pre_nms"]),
        post_nms=int(proposals["post_nms"]),
        proposal_iou=proposals["iou"],
        proposal_min_score=proposals["min_score"],
        detection_iou=detections["iou"],
        detection_min_score=detections["min_score"],
        per_slice=int(detections["per_slice"]),
        stack_iou=detections["stack_iou"],
        delta_weights=DELTA_WEIGHTS,
        threshold=0.0,
    )


def runtime_of(shape: LensShape) -> Runtime:
    """The paper's for the paper's network, the edge preset's for every smaller one."""
    return PAPER_RUNTIME if shape == PAPER else EDGE_RUNTIME


def paper(**changes: object) -> LensSettings:
    """The paper's network and training."""
    return LensSettings(**changes)  # type: ignore[arg-type]


def edge(**changes: object) -> LensSettings:
    """The thin network, trained from scratch on crops in less than two hours on two CPU cores."""
    defaults: dict[str, object] = {
        "shape": EDGE,
        "from_scratch": True,
        "steps": 12_000,
        "batch": 8,
        "crop": 192,
        "learning_rate": 1.5e-3,
        "milestones": (0.75, 0.92),
        "warmup": 300,
        "proposals_before_nms": 800,
        "proposals": 200,
        "balance_types": True,
        "size_exponent": 0.5,
    }
    return LensSettings(**(defaults | changes))  # type: ignore[arg-type]


PRESETS = {"paper": paper, "edge": edge}
"""Name of a preset to the function that makes its settings."""
