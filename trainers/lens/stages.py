"""Steps of the framework between its trainings (LENS III): proposals, embedding, mined labels, hard negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.pipelines.settings import Settings
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.common.progress import TrainingProgress
from lnsdk.trainers.lens.embedding import (
    CHECKPOINT,
    EmbeddingSettings,
    LesionEmbedding,
    load_embedding,
    store_delta,
    train_embedding,
)
from lnsdk.trainers.lens.inference import find_regions, select_slices
from lnsdk.trainers.lens.mining.delta import choose_delta, collect_pairs, draw_delta_curve
from lnsdk.trainers.lens.mining.measure import measure_mining, write_quality
from lnsdk.trainers.lens.mining.mine import Mined, MiningSettings, mine, relabel
from lnsdk.trainers.networks.lens import Lens


@dataclass(frozen=True)
class FoundBoxes:
    """2D boxes by name of the case.

    Attributes
    ----------
    pooled : mapping of str to SliceBoxes
        Of all experts together.
    specialists : mapping of str to SliceBoxes
        Of all experts but the first, the universal one; empty for a network with one expert.
    """

    pooled: Mapping[str, SliceBoxes]
    specialists: Mapping[str, SliceBoxes]


def find_boxes(network: Lens, cases: Sequence[GridCase], settings: Settings) -> FoundBoxes:
    """Run a network over cases, with a progress bar (step 2 of III).

    Parameters
    ----------
    network : Lens
        In evaluation mode; its first expert is the universal one.
    cases : sequence of GridCase
        Whose boxes are wanted.
    settings : Settings
        What the detector does around the network.
    """
    pooled, specialists = {}, {}
    with TrainingProgress("looking for boxes", len(cases), 0) as progress:
        for case in cases:
            regions = find_regions(network, case.grid, settings)
            pooled[case.name] = select_slices(regions, range(network.experts), settings)
            if network.experts > 1:
                specialists[case.name] = select_slices(regions, range(1, network.experts), settings)
            progress.advance({})
    return FoundBoxes(pooled, specialists)


def make_embedding(
    folder: Path,
    annotated: Sequence[GridCase],
    matching: Sequence[GridCase],
    network: Lens,
    detector: Settings,
    settings: EmbeddingSettings,
) -> LesionEmbedding:
    """Train the lesion embedding and choose its delta on validation patients, unless `folder` holds it (V-B, Fig. 5).

    Parameters
    ----------
    folder : Path
        Receives the checkpoint, and the curve of precision and recall over delta.
    annotated : sequence of GridCase
        Cases of the universal set, whose annotations it learns from.
    matching : sequence of GridCase
        Validation patients with several studies or series and known lesions.
    network : Lens
        Finds the tracklets that are matched.
    detector : Settings
        What the detector does around the network.
    settings : EmbeddingSettings
        Of the training.
    """
    train_embedding(annotated, folder, settings)
    embedding = load_embedding(folder / CHECKPOINT)
    if embedding.delta is None:
        pairs = collect_pairs(matching, find_boxes(network, matching, detector).pooled, embedding)
        choice = choose_delta(pairs.distances, pairs.same)
        store_delta(folder / CHECKPOINT, choice)
        draw_delta_curve(folder / "delta.png", pairs, choice, "validation patients")
    return load_embedding(folder / CHECKPOINT)


def mine_labels(
    folder: Path, cases: Sequence[GridCase], found: FoundBoxes, embedding: LesionEmbedding, settings: MiningSettings
) -> Mined:
    """Mine missing annotations (step 3 of III), and measure them where the truth is known.

    Parameters
    ----------
    folder : Path
        Receives `counts.md` with the columns of Table IV and, for simulated cases, precision and recall of every
        strategy.
    cases : sequence of GridCase
        Of the universal set.
    found : FoundBoxes
        What the first training's network finds in them.
    embedding : LesionEmbedding
        With its delta.
    settings : MiningSettings
        What to mine.
    """
    mined = mine(cases, found.pooled, found.specialists, embedding, settings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "counts.md").write_text(mined.report.markdown())
    if all(case.truth is not None for case in cases):
        write_quality(measure_mining(cases, mined), folder, "Mining on simulated patients")
    return mined


def with_labels(cases: Sequence[GridCase], labels: Mapping[str, Labels]) -> tuple[GridCase, ...]:
    """Cases with other labels to train on."""
    return tuple(relabel(case, labels[case.name]) for case in cases)
