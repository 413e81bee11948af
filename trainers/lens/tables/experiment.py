"""One seed of the tables: labels, trainings and measurements, each kept on disk so that nothing is made twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnsdk.metrics import HIT_OVERLAP, froc, froc_by_group
from lnsdk.pipelines.proposals import Stacks, stack_slices
from lnsdk.pipelines.settings import Settings
from lnsdk.trainers.common.cases import GridCase, read_set
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.common.progress import TrainingProgress
from lnsdk.trainers.common.samples import Dataset
from lnsdk.trainers.common.simulation import SCOPES
from lnsdk.trainers.lens.fpr.train import train_fpr
from lnsdk.trainers.lens.inference import VolumeRegions, find_regions, pool_networks, rescored, select_slices
from lnsdk.trainers.lens.mining.distillation import distil, draw_transforms
from lnsdk.trainers.lens.mining.mine import Level, MiningSettings, count, mine, on_labelled_slices, relabel
from lnsdk.trainers.lens.mining.truth import truth_of
from lnsdk.trainers.lens.mining.wang import propagate_to_neighbours
from lnsdk.trainers.lens.organs import train_organs
from lnsdk.trainers.lens.settings import LensSettings, detector_settings
from lnsdk.trainers.lens.stages import find_boxes, find_sigma, make_embedding, mine_labels, with_labels
from lnsdk.trainers.lens.tables.recipes import DISTILLING, JOINT, UNIVERSAL, LabelSource, Recipe, Row
from lnsdk.trainers.lens.tables.results import DIGITS, RowResult, curve_fields
from lnsdk.trainers.lens.tables.scale import Scale
from lnsdk.trainers.lens.train import describe_settings, train
from lnsdk.trainers.networks.lens import Lens

UNIVERSAL_SET, *SINGLE_SETS = (scope.name for scope in SCOPES)
"""The partially labelled data set, and the fully labelled ones of a single type."""

MINED: tuple[Level, ...] = ("cross_slice", "intra_patient", "cross_dataset", "unlabelled")
"""Label sources that are the strategies of section V, each with all before it."""


METHOD = ("proposal", "one_stage", "domain_attention", "wide_augmentation")
"""Settings that a recipe decides."""


@dataclass(frozen=True)
class Experiment:
    """The data of a table, and one seed.

    Attributes
    ----------
    folder : Path
        Receives everything.
    scale : Scale
        How large the trainings are.
    seed : int
        Of weights, sampling and augmentation.
    train : mapping of str to tuple of GridCase
        Training cases by data set.
    matching, test : tuple of GridCase
        Validation patients with all their series, and the test volumes.
    """

    folder: Path
    scale: Scale
    seed: int
    train: Mapping[str, tuple[GridCase, ...]]
    matching: tuple[GridCase, ...]
    test: tuple[GridCase, ...]

    @property
    def own(self) -> Path:
        """Folder of this seed."""
        return self.folder / f"seed{self.seed}"

    def settings(self, experts: int) -> Settings:
        """What the detector does around a network with so many experts."""
        return detector_settings(self.scale.training.runtime, tuple(str(index) for index in range(experts)))


def open_experiment(folder: Path, scale: Scale, seed: int) -> Experiment:
    """Read the simulated set in `folder`/cases."""
    cases = read_set(folder / "cases", "train")
    train_sets = {scope.name: tuple(case for case in cases if case.expert == scope.name) for scope in SCOPES}
    matching, test = (tuple(read_set(folder / "cases", part)) for part in ("matching", "test"))
    return Experiment(folder, scale, seed, train_sets, matching, test)


def trained(experiment: Experiment, recipe: Recipe) -> Lens:
    """The network of a recipe, trained if it is not there yet."""
    return train(training_settings(experiment, recipe), datasets(experiment, recipe), experiment.own / recipe.name)


def training_settings(experiment: Experiment, recipe: Recipe) -> LensSettings:
    """What the training of a recipe does."""
    changes = {name: getattr(recipe, name) for name in METHOD}
    return replace(experiment.scale.training, seed=experiment.seed, features=organs(experiment), **changes)


def organs(experiment: Experiment) -> Path:
    """The weights that every network starts from, as the paper's start from ImageNet: the same for all seeds."""
    return train_organs(experiment.scale.training.shape, experiment.scale.organs, experiment.folder / "organs")


def datasets(experiment: Experiment, recipe: Recipe) -> tuple[Dataset, ...]:
    """The data sets of a recipe, one expert each."""
    sets = dict(experiment.train)
    if recipe.data not in SINGLE_SETS:
        sets[UNIVERSAL_SET] = with_labels(sets[UNIVERSAL_SET], universal_labels(experiment, recipe.labels))
    if recipe.data == "all":
        return tuple(Dataset(name, cases) for name, cases in sets.items())
    if recipe.data == "pooled":
        return (Dataset("pooled", tuple(case for cases in sets.values() for case in cases)),)
    if recipe.data == "positive_pooled":
        single = (only_lesions(case) for name in SINGLE_SETS for case in sets[name])
        return (Dataset("pooled", (*sets[UNIVERSAL_SET], *single)),)
    return (Dataset(recipe.data, sets[recipe.data]),)


def only_lesions(case: GridCase) -> GridCase:
    """A case of which only the labelled lesions teach: everything else is ignored (Table V, positive pooling)."""
    depth, height, width = case.grid.shape
    whole = np.array([[-0.5, -0.5, -0.5, width - 0.5, height - 0.5, depth - 0.5]], np.float32)
    return relabel(case, replace(case.labels, ignored=whole, slices=np.zeros(0, np.int64)))


def universal_labels(experiment: Experiment, source: LabelSource) -> Mapping[str, Labels]:
    """Labels of every case of the universal set, kept in a file once they were made for these cases."""
    kept = _kept_labels(experiment, source)
    if kept is None:
        for name, labels in _make_labels(experiment, source).items():
            _keep_labels(experiment, name, labels)
        kept = _kept_labels(experiment, source)
        assert kept is not None
    return kept


def _label_file(experiment: Experiment, source: LabelSource) -> Path:
    return experiment.own / "labels" / f"{source}.json"


def _kept_labels(experiment: Experiment, source: LabelSource) -> Mapping[str, Labels] | None:
    """Labels in a file, None where there are none or they were made for other cases."""
    path = _label_file(experiment, source)
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    if content["cases"] != _fingerprints(experiment):
        return None
    return {name: Labels.of(**record) for name, record in content["labels"].items()}


def _keep_labels(experiment: Experiment, source: LabelSource, labels: Mapping[str, Labels]) -> None:
    """Write labels to a file that is whole or not there."""
    path = _label_file(experiment, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    records = {name: each.record() for name, each in labels.items()}
    partial_file = path.with_suffix(".partial")
    partial_file.write_text(json.dumps({"cases": _fingerprints(experiment), "labels": records}))
    partial_file.replace(path)


def _fingerprints(experiment: Experiment) -> dict[str, str]:
    return {case.name: case.fingerprint for case in experiment.train[UNIVERSAL_SET]}


def _make_labels(experiment: Experiment, source: LabelSource) -> Mapping[LabelSource, Mapping[str, Labels]]:
    """The labels that are asked for, and those that come with them."""
    cases = experiment.train[UNIVERSAL_SET]
    if source == "none":
        return {"none": {case.name: on_labelled_slices(case.labels) for case in cases}}
    if source == "truth":
        truths = {case.name: truth_of(case) for case in cases}
        return {"truth": {name: Labels.of(each.rows, each.owners, each.types) for name, each in truths.items()}}
    if source == "adjacent_slices":
        found = find_boxes(trained(experiment, UNIVERSAL), cases, experiment.settings(1)).pooled
        labels = {case.name: propagate_to_neighbours(case.labels, found[case.name]) for case in cases}
        return {"adjacent_slices": {name: on_labelled_slices(each) for name, each in labels.items()}}
    if source == "distillation":
        return {"distillation": _distilled(experiment, cases)}
    return _mined(experiment, cases)


def _mined(experiment: Experiment, cases: Sequence[GridCase]) -> Mapping[LabelSource, Mapping[str, Labels]]:
    """Labels after each strategy of section V, mined with the experts of the joint training."""
    network = trained(experiment, JOINT)
    detector = experiment.settings(network.experts)
    embedding = make_embedding(
        experiment.own / "embedding",
        cases,
        experiment.matching,
        network,
        detector,
        replace(experiment.scale.embedding, seed=experiment.seed),
    )
    delta = 0.0 if embedding.delta is None else embedding.delta.delta
    sigma = find_sigma(experiment.own / "embedding", experiment.matching, network, detector)
    found = find_boxes(network, cases, detector, experiment.own / "mining" / "found.npz")
    settings = MiningSettings("unlabelled", delta, sigma=sigma)
    mined = mine_labels(experiment.own / "mining", cases, found, embedding, settings)
    as_truth = replace(settings, uncertain_as_lesions=True)
    uncertain = mine(cases, found.pooled, found.specialists, embedding, as_truth).labels
    return {**{level: mined.stages[level] for level in MINED}, "uncertain_as_truth": uncertain}


def _distilled(experiment: Experiment, cases: Sequence[GridCase]) -> Mapping[str, Labels]:
    """Labels after data distillation with a network that was trained on the universal set alone."""
    network = trained(experiment, DISTILLING)
    settings = experiment.settings(1)
    rng = np.random.default_rng((experiment.seed, len(cases)))
    labels = {}
    with TrainingProgress("data distillation", len(cases), 0) as progress:
        for case in cases:
            labels[case.name] = distil(
                case.grid,
                case.labels,
                lambda grid: select_slices(find_regions(network, grid, settings), [0], settings),
                draw_transforms(rng),
            )
            progress.advance({})
    return labels


Boxes = tuple[NDArray[np.float32], NDArray[np.float32]]
"""3D boxes (N, 6) of a volume and their scores (N,)."""


def run_rows(experiment: Experiment, rows: Sequence[Row]) -> list[RowResult]:
    """Train what rows need and measure them on the test volumes.

    Parameters
    ----------
    experiment : Experiment
        Data and seed.
    rows : sequence of Row
        That share their recipes: the networks run once for all of them.

    Returns
    -------
    list of RowResult
        One per row.
    """
    networks = [trained(experiment, recipe) for recipe in rows[0].recipes]
    experts = sum(network.experts for network in networks)
    settings = experiment.settings(experts)
    rescore = false_positive_reduction(experiment, rows[0].recipes[0]) if any(row.reduced for row in rows) else None
    found: dict[str, list[Boxes]] = {row.name: [] for row in rows}
    times = []
    with TrainingProgress("testing", len(experiment.test), 0) as progress:
        for case in experiment.test:
            regions = _regions(networks, case, settings)
            for row in rows:
                chosen = range(experts) if row.fused else [0]
                stacks = stack_slices(select_slices(regions, chosen, settings), settings.stack_iou)
                stacks = rescore(case, stacks) if row.reduced and rescore is not None else stacks
                found[row.name].append((stacks.boxes, stacks.scores))
            times.append(regions.milliseconds_per_slice)
            progress.advance({})
    return [_result(experiment, row, networks, found[row.name], float(np.median(times))) for row in rows]


def false_positive_reduction(experiment: Experiment, recipe: Recipe) -> Callable[[GridCase, Stacks], Stacks]:
    """Train the second network on what a recipe's network finds in the universal set; from 3D boxes to their eq. 4."""
    cases = with_labels(experiment.train[UNIVERSAL_SET], universal_labels(experiment, recipe.labels))
    network = trained(experiment, recipe)
    keep = experiment.own / f"{recipe.name}.fpr" / "found.npz"
    pooled = find_boxes(network, cases, experiment.settings(network.experts), keep).pooled
    settings = replace(experiment.scale.reduction, seed=experiment.seed)
    found = [(case, pooled[case.name]) for case in cases]
    stack_iou = experiment.settings(1).stack_iou
    reduction = train_fpr(settings, found, stack_iou, experiment.own / f"{recipe.name}.fpr")
    return partial(rescored, reduction)


def _regions(networks: Sequence[Lens], case: GridCase, settings: Settings) -> VolumeRegions:
    return pool_networks([find_regions(network, case.grid, settings) for network in networks])


def _result(
    experiment: Experiment,
    row: Row,
    networks: Sequence[Lens],
    predictions: Sequence[Boxes],
    milliseconds: float,
) -> RowResult:
    truths = [truth_of(case) for case in experiment.test]
    boxes = [truth.boxes for truth in truths]
    patients = [case.patient for case in experiment.test]
    curve = froc(predictions, boxes, threshold=HIT_OVERLAP, clusters=patients)
    by_type = froc_by_group(predictions, boxes, [truth.types for truth in truths], threshold=HIT_OVERLAP, bootstraps=0)
    return RowResult(
        row=row.name,
        seed=experiment.seed,
        test=test_digest(experiment.test),
        settings={recipe.name: describe_settings(training_settings(experiment, recipe)) for recipe in row.recipes},
        **curve_fields(curve),
        by_type={name: round(by_type[name].mean_sensitivity, DIGITS) for name in sorted(by_type)},
        milliseconds_per_slice=round(milliseconds, 2),
        parameters=sum(p.numel() for network in networks for p in network.parameters()),
        counts=_counts(experiment, row.recipes[0]),
    )


def test_digest(cases: Sequence[GridCase]) -> str:
    """Digest of what the test volumes hold: results of other ones cannot be compared."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(case.grid[::4].tobytes())
        digest.update(truth_of(case).boxes.tobytes())
    return digest.hexdigest()[:16]


def _counts(experiment: Experiment, recipe: Recipe) -> dict[str, int]:
    """Sizes of the universal set's labels."""
    labels = universal_labels(experiment, recipe.labels)
    counted = asdict(count(recipe.labels, experiment.train[UNIVERSAL_SET], labels))
    return {name: int(value) for name, value in counted.items() if name != "level"}
