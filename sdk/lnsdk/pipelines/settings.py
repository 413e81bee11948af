"""Settings of the lesion detector, as its bundle stores them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from lnsdk.backends.base import Signature
from lnsdk.bundle import Bundle
from lnsdk.errors import InputError

FPR = "fpr"
"""Name of the graph of false-positive reduction, which a bundle may lack, and of its settings."""

LOW_PRECISION = {"bf16": ("image", "fuse"), "int8": ("image", "fuse"), "fp16": ("image", "fuse", "head", FPR)}
"""Graphs that a precision below float32 is for. On a CPU the others cost little, and the head, which sees coordinates,
loses most: alone in bfloat16 it changed scores by up to 0.20, the feature fusion by 0.005."""


@dataclass(frozen=True)
class FalsePositiveSettings:
    """What false-positive reduction does around its network (LENS IV-D).

    Attributes
    ----------
    patch : tuple of int
        Size (z, y, x) of the network's input in grid samples.
    bins : tuple of int
        Parts (z, y, x) that a box is cut into when features are pooled over it.
    strides : tuple of int
        Patch pixels per feature pixel, in plane, of each level that is pooled over the box.
    boxes : int
        Most boxes of a volume that the network looks at: the best. The others get half of the detector's score.
    threshold : float
        Operating point of the combined score (eq. 4).
    """

    patch: tuple[int, int, int]
    bins: tuple[int, int, int]
    strides: tuple[int, ...]
    boxes: int
    threshold: float

    @property
    def signature(self) -> Signature:
        """Inputs and outputs that the ``fpr`` graph must have."""
        (depth, height, width), (z, y, x) = self.patch, self.bins
        pooling: dict[str, tuple[int | None, ...]] = {"z": (None, z, depth)}
        for level, stride in enumerate(self.strides, start=1):
            pooling |= {f"y{level}": (None, y, height // stride), f"x{level}": (None, x, width // stride)}
        return Signature({"patch": (None, depth, height, width), **pooling}, {"scores": (None, 1)})


@dataclass(frozen=True)
class Settings:
    """What the detector does around its network (LENS IV and VI-A).

    Attributes
    ----------
    experts : tuple of str
        Names of the dataset experts, in the order of the graphs' tensors.
    spacing : tuple of float
        Grid spacing (x, y, z) in mm.
    multiple : int
        Height and width of the network's input are padded to a multiple of this.
    stride : int
        Grid pixels per pixel of the feature map.
    window : tuple of float
        HU that become 0 and 255.
    max_batch : int
        Most slices that the graphs take at once.
    pre_nms, post_nms : int
        Most proposals of a slice before and after their non-maximum suppression.
    proposal_iou, proposal_min_score : float
        IoU above which proposals suppress each other; the centerness that a proposal must exceed.
    detection_iou, detection_min_score : float
        The same for the boxes of the head.
    per_slice : int
        Most boxes of a slice.
    stack_iou : float
        IoU above which boxes of neighbouring slices belong together.
    delta_weights : tuple of float
        Divisors of dx, dy, dw, dh.
    threshold : float
        Operating point without false-positive reduction: the score from which lesions are reported; a training chooses
        that of one false positive per validation volume.
    fpr : FalsePositiveSettings, optional
        False-positive reduction; None when the bundle has none.
    """

    experts: tuple[str, ...]
    spacing: tuple[float, float, float]
    multiple: int
    stride: int
    window: tuple[float, float]
    max_batch: int
    pre_nms: int
    post_nms: int
    proposal_iou: float
    proposal_min_score: float
    detection_iou: float
    detection_min_score: float
    per_slice: int
    stack_iou: float
    delta_weights: tuple[float, float, float, float]
    threshold: float
    fpr: FalsePositiveSettings | None = None

    @property
    def operating_point(self) -> float:
        """The threshold of the detector as it runs by default: with false-positive reduction where there is one."""
        return self.threshold if self.fpr is None else self.fpr.threshold


MAX_PATCH, MAX_PATCH_VOXELS, MAX_LEVELS = 1024, 2**25, 8
"""Largest patch of false-positive reduction along an axis and in all, 128 MB, and most levels that are pooled."""

IMAGES = 3
"""Images of a centre slice (LENS IV-A)."""

CHANNELS = 3
"""Neighbouring slices of an image (LENS IV-A)."""

GRAPHS = ("image", "fuse", "head")
"""Graphs that every detector's bundle holds."""


def read_settings(bundle: Bundle) -> Settings:
    """Read a detector's settings from its bundle.

    Raises
    ------
    InputError
        ``bundle-task`` if the bundle is not a detector's, ``bundle-metadata`` naming the setting that is missing or
        has another type or range than it must have, or that does not fit the graph that it is about.
    """
    if bundle.task != "detector":
        raise InputError("bundle-task", f"bundle {bundle.name} is for task {bundle.task!r}, not for the detector")
    section = _Section(bundle, "lnsdk", bundle.section)
    grid, proposals, detections = section.within("grid"), section.within("proposals"), section.within("detections")
    if (grid.integer("images"), grid.integer("channels")) != (IMAGES, CHANNELS):
        raise section.wrong("grid.images and grid.channels", f"both be {IMAGES}")
    x, y, z = grid.numbers("spacing", 3, low=0.01)
    low, high = section.numbers("window", 2, low=-32768)
    dx, dy, dw, dh = section.within("box_deltas").numbers("weights", 4, low=1e-3)
    return Settings(
        experts=section.names("experts"),
        spacing=(x, y, z),
        multiple=grid.integer("multiple"),
        stride=grid.integer("stride"),
        window=(low, high),
        max_batch=section.integer("max_batch"),
        pre_nms=proposals.integer("pre_nms"),
        post_nms=proposals.integer("post_nms"),
        proposal_iou=proposals.number("iou"),
        proposal_min_score=proposals.number("min_score"),
        detection_iou=detections.number("iou"),
        detection_min_score=detections.number("min_score"),
        per_slice=detections.integer("per_slice"),
        stack_iou=detections.number("stack_iou"),
        delta_weights=(dx, dy, dw, dh),
        threshold=section.number("threshold"),
        fpr=_read_fpr(bundle, section),
    )


def _read_fpr(bundle: Bundle, section: "_Section") -> FalsePositiveSettings | None:
    """Return the settings of false-positive reduction; there must be some if there is a graph, and only then."""
    if FPR not in bundle.graphs:
        if FPR in bundle.section:
            raise section.wrong(FPR, f"be left out, because the bundle has no graph {FPR!r}")
        return None
    part = section.within(FPR)
    depth, height, width = part.integers("patch", 3)
    z, y, x = part.integers("bins", 3)
    settings = FalsePositiveSettings(
        patch=(depth, height, width),
        bins=(z, y, x),
        strides=part.integers("strides"),
        boxes=part.integer("boxes"),
        threshold=part.number("threshold"),
    )
    _check_sizes(section, settings)
    if bundle.graphs[FPR] != settings.signature:
        raise section.wrong(FPR, f"fit the inputs and outputs of graph {FPR!r}")
    return settings


def _check_sizes(section: "_Section", settings: FalsePositiveSettings) -> None:
    """Refuse sizes that no network has, before memory is asked for."""
    depth, height, width = settings.patch
    if max(settings.patch) > MAX_PATCH or depth * height * width > MAX_PATCH_VOXELS:
        raise section.wrong("fpr.patch", f"hold at most {MAX_PATCH_VOXELS} samples, {MAX_PATCH} along each axis")
    if max(settings.bins) > MAX_PATCH or len(settings.strides) > MAX_LEVELS:
        raise section.wrong("fpr.bins and fpr.strides", f"be at most {MAX_PATCH} each, and {MAX_LEVELS} strides")
    if any(height % stride or width % stride for stride in settings.strides):
        raise section.wrong("fpr.patch", "be a multiple of every stride in plane")


class _Section:
    """A part of the description whose values are checked as they are taken."""

    def __init__(self, bundle: Bundle, name: str, values: Mapping[str, Any]) -> None:
        self._bundle = bundle
        self._name = name
        self._values = values

    def wrong(self, key: str, expected: str) -> InputError:
        return InputError("bundle-metadata", f"bundle {self._bundle.name}: {self._name}.{key} must {expected}")

    def within(self, key: str) -> "_Section":
        values = self._values.get(key)
        if not isinstance(values, dict):
            raise self.wrong(key, f"hold settings, got {values!r}")
        return _Section(self._bundle, f"{self._name}.{key}", values)

    def integer(self, key: str) -> int:
        value = self._values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(key, f"be a positive whole number, got {value!r}")
        return value

    def integers(self, key: str, count: int | None = None) -> tuple[int, ...]:
        """Return `count` positive whole numbers, or any number of them but none."""
        values = self._values.get(key)
        if (
            not isinstance(values, list)
            or not values
            or len(values) != (count or len(values))
            or not all(isinstance(value, int) and not isinstance(value, bool) and value >= 1 for value in values)
        ):
            raise self.wrong(key, f"be {count or 'one or more'} positive whole numbers, got {values!r}")
        return tuple(values)

    def number(self, key: str) -> float:
        """Return a fraction: a score or an overlap."""
        value = self._values.get(key)
        if _is_number(value) and 0 <= value <= 1:
            return float(value)
        raise self.wrong(key, f"be a number from 0 to 1, got {value!r}")

    def numbers(self, key: str, count: int, low: float) -> tuple[float, ...]:
        values = self._values.get(key)
        if (
            not isinstance(values, list)
            or len(values) != count
            or not all(_is_number(value) and low <= value < float("inf") for value in values)
        ):
            raise self.wrong(key, f"be {count} numbers of at least {low:g}, got {values!r}")
        return tuple(float(value) for value in values)

    def names(self, key: str) -> tuple[str, ...]:
        values = self._values.get(key)
        if not isinstance(values, list) or not values or not all(isinstance(value, str) and value for value in values):
            raise self.wrong(key, f"be a list of names, got {values!r}")
        if len(set(values)) < len(values):
            raise self.wrong(key, f"hold each name once, got {values!r}")
        return tuple(values)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def precision_of(graph: str, precision: str) -> str:
    """Return what a graph computes in when its detector's precision is `precision`."""
    return precision if graph in LOW_PRECISION.get(precision, ()) else "fp32"
