"""All strategies in order: two studies of a patient, and simulated patients with a detector that jitters and misses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import UNKNOWN, Labels, Truth
from lnsdk.trainers.lens.mining.delta import choose_delta, collect_pairs
from lnsdk.trainers.lens.mining.measure import measure_mining, measure_rows, write_quality
from lnsdk.trainers.lens.mining.mine import LEVELS, Level, Mined, MiningSettings, mine, relabel
from lnsdk.trainers.lens.mining.wang import propagate_to_neighbours
from tests.trainers.lens.mining.toy import by_left_edge, case, found, square


@pytest.fixture
def patient() -> list[GridCase]:
    """Study 1 has an annotation on slice 5 and an uncertain place on slice 9, study 2 nothing marked."""
    first = case("a", Labels.of([square(5)], [0], ["liver"], slices=[0]), study="1")
    return [first, case("b", Labels.of(ignored=[[30, 0, 0, 60, 60, 12]]), study="2", depth=10)]


FOUND = {
    "a": found([square(4), square(5), square(6)]),
    "b": found([square(2, 12), square(3, 12), square(2, 40)]),
}
SPECIALISTS = {
    "a": found([square(5), square(5, 40), square(9, 40), square(10, 40)], [0.9, 0.8, 0.7, 0.3]),
    "b": found([square(2, 12), square(7, 10), square(7, 40)]),
}


def run(patient: list[GridCase], level: Level, **changes: object) -> Mined:
    settings = MiningSettings(level, delta=3.0, **changes)  # type: ignore[arg-type]
    return mine(patient, FOUND, SPECIALISTS, by_left_edge, settings)


def test_counts_of_every_level(patient: list[GridCase]) -> None:
    mined = run(patient, "unlabelled")
    counts = [(c.level, c.lesions, c.boxes, c.uncertain, c.slices) for c in mined.report.levels]
    assert counts == [
        ("none", 1, 1, 0, 1),
        ("cross_slice", 1, 3, 0, 3),
        ("intra_patient", 2, 5, 0, 5),
        ("cross_dataset", 2, 5, 1, 5),
        ("unlabelled", 2, 5, 3, 22),
    ]
    assert tuple(mined.stages) == LEVELS
    table = mined.report.markdown().splitlines()
    assert table[-1] == "| unlabelled | 2 | 5 | 3 | 22 |"
    assert len(table) == 7


def test_labels_of_the_last_level(patient: list[GridCase]) -> None:
    labels = run(patient, "unlabelled").labels
    assert labels["a"].boxes.tolist() == [square(5), square(4), square(6)]
    assert labels["a"].uncertain.tolist() == [square(5, 40), square(9, 40)]
    assert labels["a"].slices is None
    assert labels["b"].boxes.tolist() == [square(2, 12), square(3, 12)]
    assert labels["b"].types == ("liver",)
    assert labels["b"].uncertain.tolist() == [square(7, 10)]  # at 40 lies an ignored place
    assert len(labels["b"].ignored) == 1


@pytest.mark.parametrize("level", LEVELS)
def test_mining_stops_at_its_level(patient: list[GridCase], level: Level) -> None:
    mined = run(patient, level)
    assert tuple(mined.stages) == LEVELS[: LEVELS.index(level) + 1]
    assert mined.labels is mined.stages[level]
    assert len(mined.report.matches) == (LEVELS.index(level) >= LEVELS.index("intra_patient"))


def test_before_unlabelled_slices_are_opened_only_those_with_a_lesion_are_drawn(patient: list[GridCase]) -> None:
    labels = run(patient, "cross_dataset").labels
    slices = {name: None if of.slices is None else of.slices.tolist() for name, of in labels.items()}
    assert slices == {"a": [4, 5, 6], "b": [2, 3]}
    assert labels["a"].uncertain.tolist() == [square(5, 40)]
    assert [of.slices.tolist() for of in run(patient, "none").labels.values() if of.slices is not None] == [[5], []]


def test_uncertain_boxes_may_be_taken_for_lesions(patient: list[GridCase]) -> None:
    labels = run(patient, "unlabelled", uncertain_as_lesions=True).labels
    assert labels["a"].types == ("liver", UNKNOWN, UNKNOWN)
    assert not len(labels["a"].uncertain)


def test_mining_leaves_the_cases_as_they_were(patient: list[GridCase]) -> None:
    before = [json.dumps(of.labels.record()) for of in patient]
    run(patient, "unlabelled")
    assert [json.dumps(of.labels.record()) for of in patient] == before


def test_no_embedding_is_needed_below_matching(patient: list[GridCase]) -> None:
    assert len(mine(patient, FOUND, {}, None, MiningSettings("cross_slice")).labels["a"].boxes) == 3
    with pytest.raises(ValueError, match="embedding must describe lesions for level 'intra_patient'"):
        mine(patient, FOUND, {}, None, MiningSettings("intra_patient", delta=1.0))


def test_boxes_of_every_case_are_needed(patient: list[GridCase]) -> None:
    with pytest.raises(ValueError, match="found must hold the boxes of every case, got none for b"):
        mine(patient, {"a": found()}, {}, None, MiningSettings("none"))
    with pytest.raises(ValueError, match="specialists must hold the boxes of every case, got none for a, b"):
        mine(patient, FOUND, {}, by_left_edge, MiningSettings(delta=1.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "all"}, "level must be one of none, cross_slice"),
        ({"level": "none", "theta": 1.5}, "theta must be from 0 to 1, got 1.5"),
        ({"level": "none", "sigma": float("nan")}, "sigma must be from 0 to 1"),
        ({"level": "intra_patient"}, "delta must be a distance of 0 or more for level 'intra_patient', got None"),
        ({"delta": -1.0}, "delta must be a distance"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MiningSettings(**changes)  # type: ignore[arg-type]


def test_a_relabelled_case_says_so(patient: list[GridCase]) -> None:
    labels = run(patient, "unlabelled").labels["a"]
    changed = relabel(patient[0], labels)
    assert changed.labels is labels
    assert changed.fingerprint != patient[0].fingerprint
    assert changed.fingerprint == relabel(patient[0], labels).fingerprint
    assert changed.fingerprint != relabel(patient[0], replace(labels, uncertain=labels.uncertain[:1])).fingerprint


LESIONS = 5
"""Lesions of a simulated patient; each lies at its own distance from the left."""


def simulate(patients: int, rng: np.random.Generator) -> list[GridCase]:
    """Three studies of each patient; a lesion is labelled in about half of them, on its middle slice."""
    cases = []
    for p in range(patients):
        lefts = 20 + 40 * np.arange(LESIONS) + rng.uniform(-5, 5, LESIONS)
        for study in "123":
            rows = [square(z, left + rng.uniform(-1, 1), 20, 12) for left in lefts for z in range(4, 9)]
            owners = np.repeat(np.arange(LESIONS), 5)
            labelled = rng.random(LESIONS) < 0.5
            keys = [5 * i + 2 for i in np.flatnonzero(labelled)]
            labels = Labels.of([rows[k] for k in keys], np.arange(len(keys)), ["liver"] * len(keys))
            truth = Truth.of(
                [[left, 20, 3.5, left + 12, 32, 8.5] for left in lefts],
                ["liver"] * LESIONS,
                np.full(LESIONS, 10.0),
                [f"{p}-{i}" for i in range(LESIONS)],
                labelled,
                rows,
                owners,
            )
            name = f"{p}-{study}"
            grid = np.zeros((12, 64, 240), np.float16)
            cases.append(GridCase(name, "universal", grid, labels, truth, f"p{p}", study, "1", name))
    return cases


def detect(of: GridCase, rng: np.random.Generator, finds: float) -> SliceBoxes:
    """True boxes, jittered, some dropped, and a false positive on every slice that nothing lies near."""
    assert of.truth is not None
    true = of.truth.rows[rng.random(len(of.truth.rows)) < finds]
    true = true + np.pad(rng.normal(0, 0.4, (len(true), 4)), ((0, 0), (1, 0))).astype(np.float32)
    false = [square(z, rng.uniform(0, 220), 45, 12) for z in range(12)]
    rows = [*true.tolist(), *false]
    return found(rows, [0.9] * len(true) + [0.55] * len(false))


def place(grid: NDArray[np.float16], rows: NDArray[np.float32], /) -> NDArray[np.float32]:
    """An embedding that knows where a box lies, in tens of pixels."""
    return np.asarray(rows[:, 1:3] / 10, np.float32)


def test_mining_of_simulated_patients_recovers_what_was_removed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases, validation = simulate(12, rng), simulate(6, rng)
    boxes, specialists = ({of.name: detect(of, rng, finds) for of in cases} for finds in (0.9, 0.7))
    pairs = collect_pairs(validation, {of.name: detect(of, rng, 0.9) for of in validation}, place)
    choice = choose_delta(pairs.distances, pairs.same)
    assert choice.precision >= 0.9
    assert choice.recall > 0.8
    mined = mine(cases, boxes, specialists, place, MiningSettings(delta=choice.delta))

    qualities = {quality.strategy: quality for quality in measure_mining(cases, mined)}
    slices = qualities["cross-slice"]
    assert slices.tally.removed >= 200
    assert slices.precision == 1.0
    assert 0.4 < slices.recall < 0.9  # one dropped slice ends a tracklet
    same, hit = qualities["intra-patient, the same lesion"], qualities["intra-patient, a true lesion"]
    assert same.precision >= 0.85
    assert hit.precision >= same.precision
    assert same.recall > 0.9
    everywhere, labelled = (qualities[f"cross-dataset, {which} slices"] for which in ("all", "labelled"))
    assert everywhere.recall == 1.0
    assert everywhere.tally.mined > labelled.tally.mined
    assert 0 < everywhere.precision < 0.5  # most are false positives, which is why they are ignored and not taught

    write_quality(tuple(qualities.values()), tmp_path, "Mining")
    record = json.loads((tmp_path / "mining.json").read_text())
    assert record["data"] == "simulated lesions"
    assert [row["strategy"] for row in record["strategies"]] == list(qualities)
    assert "simulated" in (tmp_path / "mining.md").read_text()

    before = {of.name: of.labels for of in cases}
    wang = {of.name: propagate_to_neighbours(of.labels, boxes[of.name]) for of in cases}
    neighbours = measure_rows("after Wang et al.", cases, before, wang)
    assert neighbours.precision == 1.0
    assert neighbours.recall < slices.recall
