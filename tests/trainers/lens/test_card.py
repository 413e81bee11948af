"""The model card: what it learned from, what it reached, and where it differs from the paper."""

import numpy as np

from lnsdk.trainers.common.cases import GridCase, Origin
from lnsdk.trainers.common.evaluation import CaseResult, Found, OperatingPoint, summarize
from lnsdk.trainers.common.labels import Labels, Truth
from lnsdk.trainers.lens import card
from lnsdk.trainers.lens.card import Trained, add_measurements, differences, model_card
from lnsdk.trainers.lens.fpr.settings import edge as reduction
from lnsdk.trainers.lens.mining.mine import LevelCounts, MiningReport
from lnsdk.trainers.lens.settings import EDGE_RUNTIME, PAPER_RUNTIME, edge, paper

BOX = np.array([[0.0, 0.0, 0.0, 2.0, 2.0, 2.0]])

CASE = GridCase(
    "a", "liver", np.zeros((3, 8, 8), np.float16), Labels.of(np.ones((2, 5)), [0, 0], ["liver"]), Truth.of()
)
ORIGIN = Origin(True, ("chest",))
MINED = MiningReport((LevelCounts("cross_slice", 3, 7, 0, 5),), ())
TRAINED = Trained("edge", "random weights", edge(), reduction(), ORIGIN, [CASE], MINED)


def test_card_says_what_was_reached_and_how() -> None:
    found = Found(BOX, np.array([0.9]), {"lung": np.array([0.9])})
    result = CaseResult("a", BOX, ("lung",), np.array([5.0]), np.zeros((0, 6)), "phantom", 0, found)
    evaluation = summarize([result], bootstraps=0)
    text = model_card("tiny", TRAINED, evaluation, OperatingPoint(0.42, 0.75, 0.5))
    assert "a score of 0.420, gives 0.75 false positives per volume" in text
    assert "sensitivity of 0.500" in text
    assert (
        "expert `liver`: 1 volumes of 1 patients, 1 lesions, labelled or mined (liver), with 2 boxes on slices" in text
    )
    assert "| cross_slice | 3 | 7 | 0 | 5 |" in text
    assert "looks at the 50 best boxes" in text
    assert "Real backgrounds: chest." in text
    assert "## Differs from the paper" in text
    assert card.CARD.splitlines()[0].format(name="tiny") == text.splitlines()[0]


def test_measurements_take_the_place_of_earlier_ones() -> None:
    found = Found(BOX, np.array([0.9]), {"lung": np.array([0.9])})
    result = CaseResult("a", BOX, ("lung",), np.array([5.0]), np.zeros((0, 6)), "phantom", 0, found)
    evaluation = summarize([result], bootstraps=20)
    fresh = model_card("tiny", TRAINED, evaluation, OperatingPoint(0.42, 0.75, 0.5))
    once = add_measurements(fresh, evaluation, "Control: nothing.", "## Real lesions\n\nnone found")
    assert "| all | 1 | 1.000 | 1.000 to 1.000 |" in once
    assert once.index("| all |") < once.index("Control: nothing.") < once.index("## Real")
    assert once.index("## Validation") < once.index("## Test") < once.index("## Real") < once.index("## Differs")
    assert add_measurements(once, evaluation, "Control: nothing.", "## Real lesions\n\nnone found") == once


def test_card_says_what_was_left_out() -> None:
    found = Found(BOX, np.array([0.9]), {"lung": np.array([0.9])})
    result = CaseResult("a", BOX, ("lung",), np.array([5.0]), np.zeros((0, 6)), "phantom", 0, found)
    plain = Trained("edge", "random weights", edge(), None, Origin(simulated=False), [CASE], None)
    text = model_card("tiny", plain, summarize([result], bootstraps=0), OperatingPoint(0.42, 0.75, 0.5))
    assert "False-positive reduction (IV-D) is not part of it." in text
    assert "No missing annotation was mined" in text
    assert "imulated" not in text
    assert "recorded CTs and their published annotations" in text


def test_differences_follow_the_settings() -> None:
    assert "start: random weights" in differences(edge(), ORIGIN, "random weights")
    assert "base learning rate 0.0015" in differences(edge(), ORIGIN, "any")
    assert "stacked at an IoU above 0.3" in differences(edge(), ORIGIN, "any")
    assert "stacked at an IoU above 0.5" in differences(paper(from_scratch=True), ORIGIN, "any")


def test_detector_settings_by_preset() -> None:
    assert edge().runtime == EDGE_RUNTIME
    assert paper(from_scratch=True).runtime == PAPER_RUNTIME
    assert (PAPER_RUNTIME.proposals["post_nms"], EDGE_RUNTIME.proposals["post_nms"]) == (300, 100)
