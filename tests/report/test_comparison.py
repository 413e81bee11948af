from dataclasses import replace

import numpy as np
import pytest

from lnsdk.report.comparison import Comparison, Known, compare, draw_comparison
from lnsdk.report.tiles import FOUND, KNOWN
from tests.report.test_png import colored
from tests.test_results import LESION, result

HIT = Known("lung solid", (9.5, 19.5, 0.5, 19.5, 29.5, 2.5), (7.25, 12.25, 3.0), 5.0)
MISS = Known("liver", (30.5, 5.5, 0.5, 38.5, 12.5, 2.5), (17, 4.5, 3.0), 4.0)
OTHER = replace(LESION, box=(40.0, 30.0, 0.0, 44.0, 34.0, 1.0), score=0.6)


def test_known_lesions_are_found_or_missed() -> None:
    weaker = replace(LESION, score=0.7)
    comparison = compare(result(LESION, weaker, OTHER), [MISS, HIT])
    assert comparison.hits == (None, LESION)
    assert comparison.false_positives == (OTHER,)


@pytest.mark.parametrize(("share", "hits"), [(0.29, False), (0.31, True)])
def test_a_hit_has_a_third_of_its_box_inside(share: float, hits: bool) -> None:
    x1, y1, z1, x2, y2, z2 = HIT.box
    shifted = replace(LESION, box=(x1 + 10 * (1 - share), y1, z1, x2 + 10 * (1 - share), y2, z2))
    assert (compare(result(shifted), [HIT]).hits[0] is not None) is hits


def test_nothing_found_and_nothing_known() -> None:
    assert compare(result(), [HIT]) == Comparison((HIT,), (None,), ())
    assert compare(result(LESION), []) == Comparison((), (), (LESION,))
    assert draw_comparison(result(), compare(result(), []), "Nothing.").width > 0


def test_both_are_drawn() -> None:
    found = result(LESION, OTHER)
    picture = draw_comparison(found, compare(found, [HIT, MISS]), "Simulated.")
    assert colored(picture, FOUND) > 50
    assert colored(picture, KNOWN) > 50
    many = draw_comparison(found, compare(found, [MISS] * 20), "Simulated.")
    assert np.prod(many.size) < 4 * np.prod(picture.size)
