"""The bounds of every precision: what they let pass and what not."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from lnsdk.results import Detections, Lesion, Provenance
from lnsdk.verification import BOUNDS, ParityError, check_lesions, compare_lesions
from lnsdk.volume import Volume

PROVENANCE = Provenance("m", "1", "0" * 64, "onnx", "cpu", "fp32", ("lung",), 0.0, "body", {})
VOLUME = Volume(np.zeros((4, 5, 6), np.int16), np.eye(4))


def lesion(x: float, score: float) -> Lesion:
    box = (x, 0.0, 0.0, x + 4, 4.0, 4.0)
    return Lesion(box, box, (x + 2, 2.0, 2.0), 4.0, score, {"lung": score}, 1)


def result(*lesions: Lesion) -> Detections:
    return Detections(lesions, (), MappingProxyType({}), PROVENANCE, VOLUME)


PAIR = (lesion(0, 0.9), lesion(10, 0.3))


def test_equal_results_match() -> None:
    parity = check_lesions(result(*PAIR), result(*PAIR), 0.1)
    assert (parity.matched, parity.box_difference, parity.score_difference, parity.unmatched) == (2, 0, 0, ())


@pytest.mark.parametrize(("shift", "passes"), [(0.0005, True), (0.01, False), (-0.01, False)])
def test_shifted_score(shift: float, passes: bool) -> None:
    other = result(PAIR[0], replace(PAIR[1], score=PAIR[1].score + shift))
    if passes:
        assert check_lesions(result(*PAIR), other, 0.1).matched == 2
    else:
        with pytest.raises(ParityError, match=r"scores differ by 0\.01"):
            check_lesions(result(*PAIR), other, 0.1)


@pytest.mark.parametrize("swapped", [False, True])
def test_extra_lesions(swapped: bool) -> None:
    low, high, best = lesion(20, 0.1005), lesion(30, 0.2), lesion(40, 0.6)
    results = result(*PAIR), result(*PAIR, low)
    assert check_lesions(*(results[::-1] if swapped else results), 0.1).unmatched == (low,)
    results = result(*PAIR), result(*PAIR, low, high, best)
    with pytest.raises(ParityError, match=r"2 lesions .*the best with score 0\.600"):
        check_lesions(*(results[::-1] if swapped else results), 0.1)


def test_a_box_at_the_limit_of_false_positive_reduction_is_compared_by_the_detectors_score() -> None:
    """Ranks 50 and 51 by 0.96: one engine looks at the first and one at the second, which gives 0.9 or 0.48."""
    seen, unseen = replace(lesion(0, 0.9), fpr_score=0.84), lesion(0, 0.48)
    assert check_lesions(result(seen), result(unseen), 0.95).score_difference == pytest.approx(0.0)
    with pytest.raises(ParityError, match=r"scores differ by 0\.04"):
        check_lesions(result(seen), result(lesion(0, 0.5)), 0.95)
    with pytest.raises(ParityError, match=r"scores differ by 0\.1"):
        check_lesions(result(seen), result(replace(seen, score=0.8)), 0.95)


def test_moved_box_has_no_partner() -> None:
    parity = compare_lesions(result(lesion(0, 0.9)), result(lesion(0.04, 0.9)))
    assert parity.matched == 1
    assert parity.box_difference == pytest.approx(0.04)
    with pytest.raises(ParityError, match="2 lesions were found by one engine only"):
        check_lesions(result(lesion(0, 0.9)), result(lesion(0.2, 0.9)), 0.1)


def test_nothing_found_is_equal() -> None:
    assert check_lesions(result(), result(), 0.1).matched == 0


@pytest.mark.parametrize("matched", [True, False])
def test_scores_that_are_not_finite(matched: bool) -> None:
    other = result(lesion(0 if matched else 20, float("nan")))
    with pytest.raises(ParityError, match="not finite"):
        check_lesions(result(lesion(0, 0.9)), other, 0.1)


def test_too_many_low_lesions_of_one_backend() -> None:
    low = [lesion(20 + 10 * n, 0.05) for n in range(3)]
    assert check_lesions(result(*PAIR, *low[:2]), result(*PAIR), 0.1).matched == 2
    with pytest.raises(ParityError, match="3 lesions were found by one engine only, 2 by both"):
        check_lesions(result(*PAIR, *low), result(*PAIR), 0.1)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_may_differ_a_little(precision: str) -> None:
    bounds = BOUNDS[precision]
    moved = result(lesion(0.2, 0.895), lesion(10, 0.3))
    assert check_lesions(result(*PAIR), moved, 0.1, bounds).matched == 2
    with pytest.raises(ParityError, match=r"scores differ by 0\.02"):
        check_lesions(result(*PAIR), result(lesion(0, 0.88), PAIR[1]), 0.1, bounds)
    with pytest.raises(ParityError, match="2 lesions were found by one engine only"):
        check_lesions(result(*PAIR), result(lesion(0.3, 0.9), PAIR[1]), 0.1, bounds)
    noise = [lesion(20 + 10 * n, 0.105) for n in range(9)]
    assert check_lesions(result(*PAIR), result(*PAIR, *noise), 0.1, bounds).matched == 2


def test_quantized_lesions_need_only_overlap() -> None:
    bounds = BOUNDS["int8"]
    found = result(lesion(1, 0.5), lesion(11, 0.2))
    assert check_lesions(result(*PAIR), found, 0.1, bounds).matched == 2
    with pytest.raises(ParityError, match="2 lesions were found by one engine only"):
        check_lesions(result(*PAIR), result(lesion(2, 0.9), PAIR[1]), 0.1, bounds)


def test_a_lesion_has_one_partner() -> None:
    twice = result(lesion(0, 0.9), lesion(0.01, 0.9))
    parity = compare_lesions(result(lesion(0.01, 0.9)), twice)
    assert parity.matched == 1
    assert parity.box_difference == 0
    assert [other.box[0] for other in parity.unmatched] == [0]
