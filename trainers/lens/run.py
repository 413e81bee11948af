"""The framework of LENS from cases to a bundle, in the five steps of section III, and the export behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from lnsdk import Detector
from lnsdk.errors import InputError
from lnsdk.export.bundle import check_output
from lnsdk.phantom import describe_ranges
from lnsdk.trainers.common.backgrounds import load_backgrounds
from lnsdk.trainers.common.cases import GridCase, Origin, read_origin, read_set
from lnsdk.trainers.common.checkpoint import first_line
from lnsdk.trainers.common.evaluation import CaseResult, from_detections, operating_point, summarize
from lnsdk.trainers.common.evaluation import run as run_cases
from lnsdk.trainers.common.evaluation_report import RECORDED, SIMULATED, write_report
from lnsdk.trainers.common.patients import PatientSetPlan, generate
from lnsdk.trainers.common.progress import TrainingProgress
from lnsdk.trainers.common.simulation import SCOPES, CasePlan, check_seed, evaluation_case, make_case, plan_evaluation
from lnsdk.trainers.lens.bundle import Verdict, write_lens_bundle
from lnsdk.trainers.lens.card import Trained, model_card
from lnsdk.trainers.lens.embedding.train import EmbeddingSettings
from lnsdk.trainers.lens.features import load_features
from lnsdk.trainers.lens.fpr.settings import PRESETS as REDUCTIONS
from lnsdk.trainers.lens.fpr.settings import FprSettings
from lnsdk.trainers.lens.fpr.train import train_fpr
from lnsdk.trainers.lens.inference import case_result, find_regions, rescored, stack_regions
from lnsdk.trainers.lens.mining.mine import MiningReport, MiningSettings, on_labelled_slices, relabel
from lnsdk.trainers.lens.mining.uncertain import SIGMA
from lnsdk.trainers.lens.organs import OrganSettings, train_organs
from lnsdk.trainers.lens.settings import PRESETS as DETECTORS
from lnsdk.trainers.lens.settings import LensSettings, detector_settings
from lnsdk.trainers.lens.stages import find_boxes, find_sigma, make_embedding, mine_labels, with_labels
from lnsdk.trainers.lens.train import CHECKPOINT, by_expert, train
from lnsdk.trainers.networks.densenet import load_imagenet
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork
from lnsdk.trainers.networks.fpr import load_imagenet as load_imagenet_resnet
from lnsdk.trainers.networks.lens import Lens

FALSE_POSITIVES = 1.0
"""False positives per validation volume at the operating point that a bundle stores."""

VALIDATION_PHANTOMS = 8
VALIDATION_REPEATS = 3
VALIDATION_LESIONS = 8
"""The validation set: phantoms, uses of every real CT kept for validation, and lesions in each at most."""

ORGAN_STEPS = 3000
"""Most steps of the pretraining on organs."""

EXPERTS = tuple(scope.name for scope in SCOPES)
"""The experts; the first is that of the partially labelled data set."""


@dataclass(frozen=True)
class Framework:
    """What to train.

    Attributes
    ----------
    preset : str
        Name of the presets; the model is called lens-PRESET.
    organs : OrganSettings or None
        Of the pretraining that the detector starts from where the paper's starts from ImageNet; None leaves it out.
    detector : LensSettings
        Of both trainings of LENS.
    first_share : float
        Steps of the first training, which only proposes what is mined, over those of the second. The paper trains both
        alike.
    continues : bool
        Start the second training with the features of the first. The paper starts both from ImageNet.
    mining : bool
        Mine missing annotations and train again with them (steps 2 to 4).
    sigma : float or None
        Score above which a specialist's box is uncertain (0.5, VI-B); None chooses it on the cases for matching: a
        small network that was trained briefly gives such scores to little else than false positives.
    delta : float or None
        Distance below which embeddings are of the same lesion; None chooses it on the cases for matching, which a
        simulated set has.
    embedding : EmbeddingSettings
        Of the lesion embedding.
    reduction : FprSettings or None
        Of false-positive reduction (step 5); None leaves it out.
    patients : PatientSetPlan
        The simulated patients, where no cases are given.
    """

    preset: str
    organs: OrganSettings | None
    detector: LensSettings
    first_share: float
    continues: bool
    mining: bool
    sigma: float | None
    delta: float | None
    embedding: EmbeddingSettings
    reduction: FprSettings | None
    patients: PatientSetPlan


def preset(name: str, imagenet_resnet: Path | None = None, fpr: bool = True, **changes: object) -> Framework:
    """A framework of the named presets.

    Parameters
    ----------
    name : {"edge", "paper"}
        Which.
    imagenet_resnet : Path, optional
        File with torchvision's ResNet-18 ImageNet weights for the paper's false-positive reduction.
    fpr : bool
        Whether there is a false-positive reduction.
    **changes
        To the settings of the detector.

    Raises
    ------
    ValueError
        When the settings contradict each other.
    """
    detector = DETECTORS[name](**changes)
    from_scratch = imagenet_resnet is None and detector.from_scratch
    pretrain = name == "edge" and detector.features is None
    steps = ORGAN_STEPS if detector.steps is None else min(ORGAN_STEPS, detector.steps)
    return Framework(
        preset=name,
        organs=OrganSettings(
            steps=steps,
            batch=detector.batch,
            crop=detector.crop,
            seed=detector.seed,
            checkpoint_every=detector.checkpoint_every,
        )
        if pretrain
        else None,
        detector=detector,
        first_share=1.0 if name == "paper" else 0.5,
        continues=name == "edge",
        mining=True,
        sigma=SIGMA if name == "paper" else None,
        delta=None,
        embedding=EmbeddingSettings(seed=detector.seed),
        reduction=REDUCTIONS[name](seed=detector.seed, imagenet=imagenet_resnet, from_scratch=from_scratch)
        if fpr
        else None,
        patients=PatientSetPlan(patients=64, single=24, validation=8, test=0, lesions=12, seed=detector.seed),
    )


def run(framework: Framework, data_root: Path | None, out: Path, cases: Path | None = None) -> Path:
    """Train and export.

    Parameters
    ----------
    framework : Framework
        What to train.
    data_root : Path or None
        Folder with the real CTs of the background catalogue; None uses phantoms only.
    out : Path
        Receives `cases/`, `organs/`, `first/`, `embedding/`, `mining/`, `second/`, `fpr/`, `validation/` and `bundle/`.
        Cases and steps that are already there are not made again.
    cases : Path, optional
        Folder with a set of cases, of simulated patients or of published data sets, instead of `out`/cases.

    Returns
    -------
    Path
        The bundle.
    """
    bundle = out / "bundle"
    check_output(bundle)
    check_ready(framework)
    backgrounds = load_backgrounds(data_root) if data_root else ()
    if cases is None:
        cases = out / "cases"
        Console(stderr=True, soft_wrap=True).print(describe_ranges())
        generate(replace(framework.patients, backgrounds=backgrounds), cases)
    origin, matching = read_origin(cases), read_set(cases, "matching")
    if framework.mining and framework.delta is None and not matching:
        raise InputError(
            "delta",
            f"{cases} does not say which lesions are the same, so that delta cannot be chosen: name one (--delta; the "
            "paper's is 0.15, of another embedding), or train once (--no-mining)",
        )
    if framework.organs is not None:
        start = train_organs(framework.detector.shape, framework.organs, out / "organs")
        framework = replace(framework, detector=replace(framework.detector, features=start))
    known = [on_known_slices(case) for case in read_set(cases, "train")]
    mined = None
    if framework.mining:
        known, mined = mine_cases(framework, known, matching, out)
        if framework.continues:
            first = out / "first" / CHECKPOINT
            framework = replace(framework, detector=replace(framework.detector, features=first))
    network = train(framework.detector, by_expert(known), out / "second")
    reduction = reduce(framework.reduction, framework.detector, network, known, out) if framework.reduction else None
    trained = Trained(
        framework.preset, describe_start(framework), framework.detector, framework.reduction, origin, known, mined
    )
    export(network, reduction, trained, validation_cases(cases, origin), data_root, out)
    return bundle


def describe_start(framework: Framework) -> str:
    """Weights that the training began with, in words."""
    if framework.detector.imagenet is not None:
        return "ImageNet weights, as the paper"
    if framework.organs is not None:
        first = "features that learned to name the organs of phantoms"
    else:
        first = "random weights" if framework.detector.features is None else "features of an earlier training"
    goes_on = framework.mining and framework.continues
    return f"{first}; with the mined labels, the features of the first training" if goes_on else first


def on_known_slices(case: GridCase) -> GridCase:
    """A case of the universal set whose slices without a label stay out until mining has looked at them (VI-D)."""
    return relabel(case, on_labelled_slices(case.labels)) if case.expert == EXPERTS[0] else case


def validation_cases(folder: Path, origin: Origin) -> list[GridCase]:
    """Validation cases of published data sets whose lesions are all known; simulated models have a set of their own."""
    return [] if origin.simulated else [case for case in read_set(folder, "validation") if case.truth is not None]


def check_ready(framework: Framework) -> None:
    """Say now, and not after hours, what the trainings cannot use."""
    settings, reduction = framework.detector, framework.reduction
    check_seed(settings.seed)
    if settings.imagenet is not None:
        load_imagenet(Lens(len(EXPERTS), settings.shape).backbone, settings.imagenet)
    if settings.features is not None:
        load_features(Lens(len(EXPERTS), settings.shape), settings.features)
    if reduction is not None and reduction.imagenet is not None:
        load_imagenet_resnet(FalsePositiveNetwork(reduction.shape), reduction.imagenet)
    if settings.compile:
        check_compiler()


def mine_cases(
    framework: Framework, cases: Sequence[GridCase], matching: Sequence[GridCase], out: Path
) -> tuple[list[GridCase], MiningReport]:
    """Train LENS on the labels there are, let it propose, and mine the universal set (steps 1 to 3)."""
    settings = framework.detector
    if settings.steps is not None:
        settings = replace(settings, steps=max(1, round(settings.steps * framework.first_share)))
    network = train(settings, by_expert(cases), out / "first")
    detector = detector_settings(settings.runtime, EXPERTS)
    universal = [case for case in cases if case.expert == EXPERTS[0]]
    embedding = make_embedding(out / "embedding", universal, matching, network, detector, framework.embedding)
    delta = framework.delta
    if delta is None:
        delta = 0.0 if embedding.delta is None else embedding.delta.delta
    found = find_boxes(network, universal, detector, out / "mining" / "found.npz")
    sigma = framework.sigma
    if sigma is None:
        sigma = find_sigma(out / "embedding", matching, network, detector) if matching else SIGMA
    mining = MiningSettings("unlabelled", delta, sigma=sigma)
    mined = mine_labels(out / "mining", universal, found, embedding, mining)
    others = [case for case in cases if case.expert != EXPERTS[0]]
    return [*with_labels(universal, mined.labels), *others], mined.report


def reduce(
    settings: FprSettings, detector: LensSettings, network: Lens, cases: Sequence[GridCase], out: Path
) -> FalsePositiveNetwork:
    """Train false-positive reduction on what the network finds in the universal set (step 5)."""
    around = detector_settings(detector.runtime, EXPERTS)
    universal = [case for case in cases if case.expert == EXPERTS[0]]
    boxes = find_boxes(network, universal, around, out / "fpr" / "found.npz").pooled
    return train_fpr(settings, [(case, boxes[case.name]) for case in universal], around.stack_iou, out / "fpr")


def export(
    network: Lens,
    reduction: FalsePositiveNetwork | None,
    trained: Trained,
    validation: Sequence[GridCase],
    data_root: Path | None,
    out: Path,
) -> None:
    """Write the bundle through the parity gate, with the operating points of the validation set."""
    network, seed, name = network.cpu(), trained.settings.seed, f"lens-{trained.preset}"
    reduction = None if reduction is None else reduction.cpu()
    plans = validation_plans(data_root, seed)

    def evaluate(detector: Detector) -> Verdict:
        reduced = detector.reduces_false_positives
        if validation:
            results = validate_cases(network, reduction if reduced else None, trained.settings, validation)
        else:
            results = validate(detector, plans, seed)
        evaluation = summarize(results)
        kind = "validation" if reduced or reduction is None else "validation_without_fpr"
        write_report(evaluation, out / kind, f"{name}, {kind.replace('_', ' ')}", RECORDED if validation else SIMULATED)
        point = operating_point(results, FALSE_POSITIVES)
        return Verdict(point.threshold, model_card(name, trained, evaluation, point))

    gate = [make_case(plan).volume for plan in (plans[0], plans[-1])]
    write_lens_bundle(network, out / "bundle", name, gate, evaluate, fpr=reduction)


def validate_cases(
    network: Lens, reduction: FalsePositiveNetwork | None, settings: LensSettings, cases: Sequence[GridCase]
) -> tuple[CaseResult, ...]:
    """Run a network over recorded cases on the grid whose lesions are all known, with a progress bar."""
    around = detector_settings(settings.runtime, EXPERTS)
    results = []
    with TrainingProgress("validating", len(cases), 0) as progress:
        for case in cases:
            stacks = stack_regions(find_regions(network, case.grid, around), range(len(EXPERTS)), around)
            stacks = stacks if reduction is None else rescored(reduction, case, stacks)
            results.append(case_result(case, stacks, EXPERTS))
            progress.advance({})
    return tuple(results)


def check_compiler() -> None:
    """Compile next to nothing, to learn now and not after simulating whether this machine can.

    Raises
    ------
    InputError
        ``compiler``.
    """
    try:
        torch.compile(torch.sin)(torch.ones(1))
    except RuntimeError as error:
        reason = first_line(error)
        raise InputError(
            "compiler",
            f"--compile needs a C++ compiler that torch can use ({reason}); install one or leave --compile out",
        ) from error


def validation_plans(data_root: Path | None, seed: int) -> list[CasePlan]:
    """The cases on which the operating point is chosen; none of their backgrounds is trained or tested on."""
    backgrounds = load_backgrounds(data_root, role="validation") if data_root else ()
    return plan_evaluation(backgrounds, "validation", VALIDATION_PHANTOMS, VALIDATION_REPEATS, VALIDATION_LESIONS, seed)


def validate(detector: Detector, plans: Sequence[CasePlan], seed: int) -> tuple[CaseResult, ...]:
    """Run a detector over cases with a progress bar, one volume in memory at a time."""
    cases = (evaluation_case(make_case(plan), seed) for plan in plans)
    with TrainingProgress("validating", len(plans), 0) as progress:
        return run_cases(lambda volume: from_detections(detector(volume)), cases, lambda _: progress.advance({}))
