"""Candidates of false-positive reduction: labels by hand-made cases, epochs, and augmented patches."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk import ops
from lnsdk.errors import InputError
from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.fpr import settings as presets
from lnsdk.trainers.lens.fpr.samples import (
    FALSE,
    TRUE,
    UNUSED,
    case_digests,
    collect_candidates,
    draw_epoch,
    draw_patch,
    label_boxes,
)

LESION = [10, 10, 20, 20]


def f32(values: object) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def slice_boxes(*rows: Sequence[float]) -> SliceBoxes:
    """From rows z, x1, y1, x2, y2, score."""
    values = f32(sorted(map(list, rows))).reshape(-1, 6)
    return SliceBoxes(values[:, 1:5], values[:, 5], values[:, 5:], values[:, 0].astype(np.int64))


def case(labels: Labels, name: str = "a") -> GridCase:
    return GridCase(name, "universal", np.zeros((12, 64, 64), np.float16), labels, fingerprint=name)


def label_of(labels: Labels, *rows: Sequence[float]) -> int:
    """Label of the one 3D box that the rows make."""
    found = slice_boxes(*rows)
    members = ops.stack_boxes(found.boxes, found.scores, found.slices, 0.3).members
    assert set(members.tolist()) == {0}
    return int(label_boxes(found, members, labels, 0.5, 0.3)[0])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param([10, 10, 20, 20], TRUE, id="the lesion itself"),
        pytest.param([10, 10, 20, 15.1], TRUE, id="IoU 0.51"),
        pytest.param([10, 10, 20, 15], UNUSED, id="IoU 0.5, not above theta"),
        pytest.param([10, 10, 20, 13], UNUSED, id="IoU 0.3, not below theta_fp"),
        pytest.param([10, 10, 20, 12.9], FALSE, id="IoU 0.29"),
        pytest.param([40, 40, 50, 50], FALSE, id="elsewhere"),
    ],
)
def test_overlap_with_a_lesion(box: list[float], expected: int) -> None:
    assert label_of(Labels.of([[5, *LESION]], [0], ["nodule"]), [5, *box, 0.9]) == expected


def test_one_slice_decides_for_a_lesion() -> None:
    """Key-slice IoU: a tracklet over slices 4 to 6 with the lesion labelled on slice 5 only."""
    labels = Labels.of([[5, *LESION]], [0], ["nodule"])
    rows = [[z, *LESION, 0.5] for z in (4, 5, 6)]
    assert label_of(labels, *rows) == TRUE
    assert label_of(labels, *[[z, *LESION, 0.5] for z in (6, 7, 8)]) == FALSE


def test_every_slice_decides_against_one() -> None:
    """The member on slice 5 overlaps with IoU 0.4: the 3D box is neither."""
    labels = Labels.of([[5, *LESION]], [0], ["nodule"])
    assert label_of(labels, [5, 10, 10, 20, 14, 0.5], [6, 10, 10, 20, 14, 0.5]) == UNUSED


def test_what_is_uncertain_or_unknown_is_never_negative() -> None:
    uncertain = Labels.of(uncertain=[[5, *LESION]])
    assert label_of(uncertain, [5, *LESION, 0.9]) == UNUSED
    assert label_of(uncertain, [6, *LESION, 0.9]) == FALSE
    assert label_of(uncertain, [5, *LESION, 0.9], [6, *LESION, 0.9]) == UNUSED
    ignored = Labels.of(ignored=[[0, 0, 3, 40, 40, 6]])
    assert label_of(ignored, [5, *LESION, 0.9]) == UNUSED  # its IoU is 0.06, but all of it lies inside
    assert label_of(ignored, [7, *LESION, 0.9]) == FALSE
    assert label_of(ignored, [5, 38, 10, 48, 20, 0.9]) == FALSE  # a fifth of it lies inside
    both = Labels.of([[5, *LESION]], [0], ["nodule"], ignored=[[0, 0, 3, 40, 40, 6]])
    assert label_of(both, [5, *LESION, 0.9]) == TRUE


def test_no_boxes_no_labels() -> None:
    empty = slice_boxes()
    assert label_boxes(empty, np.zeros(0, np.int64), Labels.of(), 0.5, 0.3).tolist() == []


def test_candidates_are_the_best_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "EDGE_BOXES", 2)
    labels = Labels.of([[5, *LESION]], [0], ["nodule"])
    found = slice_boxes([5, *LESION, 0.5], [5, 40, 40, 50, 50, 0.9], [8, 30, 30, 40, 40, 0.2])
    candidates = collect_candidates([(case(labels), found)], presets.edge(), 0.3)
    assert candidates.labels.tolist() == [FALSE, TRUE]
    assert candidates.boxes.tolist() == [[40, 40, 4.5, 50, 50, 5.5], [10, 10, 4.5, 20, 20, 5.5]]
    two = collect_candidates([(case(Labels.of()), slice_boxes()), (case(labels), found)], presets.edge(), 0.3)
    assert two.owners.tolist() == [1, 1]


@pytest.mark.parametrize(("row", "name"), [([5, *LESION, 0.5], "false"), ([5, 40, 40, 50, 50, 0.5], "true")])
def test_nothing_to_learn_from_is_said(row: list[float], name: str) -> None:
    labels = Labels.of([[5, *LESION]], [0], ["nodule"])
    with pytest.raises(InputError, match=f"no {name} positives among the 50 best boxes of 1 cases") as refused:
        collect_candidates([(case(labels), slice_boxes(row))], presets.edge(), 0.3)
    assert refused.value.reason == "candidates"
    with pytest.raises(InputError, match="of 0 cases"):
        collect_candidates([], presets.edge(), 0.3)


def test_an_epoch_holds_two_false_positives_for_every_true_one() -> None:
    labels = np.array([TRUE] * 5 + [FALSE] * 30)
    orders = [draw_epoch(labels, 2, np.random.default_rng(seed)) for seed in (0, 1)]
    for order in orders:
        assert len(order) == 15
        assert set(order[labels[order] == TRUE]) == set(range(5))
        assert len(set(order.tolist())) == 15
    assert set(orders[0].tolist()) != set(orders[1].tolist())
    few = draw_epoch(labels[:8], 2, np.random.default_rng(0))
    assert np.bincount(few)[:5].tolist() == [1] * 5
    assert sorted(np.bincount(few)[5:].tolist()) == [3, 3, 4]


def test_an_augmented_box_stays_on_its_lesion() -> None:
    """A bright block fills its box in every shift, size and flip: outside the moved borders there is nothing."""
    grid = np.zeros((12, 64, 64), np.float16)
    grid[4:8, 20:30, 30:46] = 200
    own = GridCase("a", "universal", grid, Labels.of())
    box = f32([29.5, 19.5, 3.5, 45.5, 29.5, 7.5])
    seen = set()
    for seed in range(60):
        patch, moved = draw_patch(own, box, (16, 64, 64), np.random.default_rng(seed))
        z, y, x = np.nonzero(patch > 100)
        bright = f32([x.min() - 0.5, y.min() - 0.5, z.min() - 0.5, x.max() + 0.5, y.max() + 0.5, z.max() + 0.5])
        sides = np.tile(bright[3:] - bright[:3], 2)
        assert (np.abs(moved - bright) <= 0.15 * sides + 0.75).all()
        assert patch.shape == (16, 64, 64)
        seen.add(len(np.unique(x)))
    assert len(seen) > 4  # sizes
    again, _ = draw_patch(own, box, (16, 64, 64), np.random.default_rng(3))
    same, _ = draw_patch(own, box, (16, 64, 64), np.random.default_rng(3))
    assert np.array_equal(again, same)


def test_patches_are_flipped_along_x_and_z() -> None:
    grid = np.tile(np.arange(64, dtype=np.float16), (12, 64, 1)) + 64 * (np.arange(12) > 5)[:, None, None]
    own = GridCase("a", "universal", grid.astype(np.float16), Labels.of())
    box = f32([20, 20, 3.5, 44, 44, 7.5])
    patches = [draw_patch(own, box, (8, 32, 32), np.random.default_rng(seed))[0] for seed in range(40)]
    signs = {(bool(p[0, 16, 20] > p[0, 16, 10]), bool(p[-1, 16, 16] > p[0, 16, 16])) for p in patches}
    assert signs == {(a, b) for a in (False, True) for b in (False, True)}


def test_digests_tell_labels_and_boxes_apart() -> None:
    labels, found = Labels.of([[5, *LESION]], [0], ["nodule"]), slice_boxes([5, *LESION, 0.5])
    digests = {
        case_digests([(case(labels), found)])["a"],
        case_digests([(case(Labels.of(uncertain=[[5, *LESION]])), found)])["a"],
        case_digests([(case(labels), slice_boxes([5, *LESION, 0.25]))])["a"],
    }
    assert len(digests) == 3
