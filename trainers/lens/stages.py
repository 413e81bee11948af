"""Steps of the framework between its trainings (LENS III): proposals, embedding, mined labels, hard negatives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lnsdk.pipelines.proposals import SliceBoxes
from lnsdk.pipelines.settings import Settings
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.common.progress import TrainingProgress
from lnsdk.trainers.lens.embedding.train import CHECKPOINT, EmbeddingSettings, train_embedding
from lnsdk.trainers.lens.embedding.use import LesionEmbedding, load_embedding, store_delta
from lnsdk.trainers.lens.inference import find_regions, select_slices
from lnsdk.trainers.lens.mining.delta import choose_delta, collect_pairs, draw_delta_curve
from lnsdk.trainers.lens.mining.measure import measure_mining, write_quality
from lnsdk.trainers.lens.mining.mine import Mined, MiningSettings, mine, relabel
from lnsdk.trainers.lens.mining.sigma import choose_sigma
from lnsdk.trainers.networks.lens import Lens

PARTS = ("boxes", "scores", "expert_scores", "slices")
"""Arrays of `SliceBoxes`, in its order."""


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


def find_boxes(network: Lens, cases: Sequence[GridCase], settings: Settings, keep: Path | None = None) -> FoundBoxes:
    """Run a network over cases, with a progress bar (step 2 of III).

    Parameters
    ----------
    network : Lens
        In evaluation mode; its first expert is the universal one.
    cases : sequence of GridCase
        Whose boxes are wanted.
    settings : Settings
        What the detector does around the network.
    keep : Path, optional
        File that keeps the boxes: with the same weights, cases and settings they are read from it, so that what is
        trained on them goes on with the very same ones, on another machine too.
    """
    key = _key(network, cases, settings)
    if keep is not None and (kept := _read_found(keep, key)) is not None:
        return kept
    pooled, specialists = {}, {}
    with TrainingProgress("looking for boxes", len(cases), 0) as progress:
        for case in cases:
            regions = find_regions(network, case.grid, settings)
            pooled[case.name] = select_slices(regions, range(network.experts), settings)
            if network.experts > 1:
                specialists[case.name] = select_slices(regions, range(1, network.experts), settings)
            progress.advance({})
    found = FoundBoxes(pooled, specialists)
    if keep is not None:
        _keep_found(keep, key, found)
    return found


def make_embedding(
    folder: Path,
    annotated: Sequence[GridCase],
    matching: Sequence[GridCase],
    network: Lens,
    detector: Settings,
    settings: EmbeddingSettings,
) -> LesionEmbedding:
    """Train the lesion embedding and choose its delta on validation patients, unless `folder` holds it (V-B, Fig. 5).

    A delta is kept for the very network, patients and settings that it was chosen with.

    Parameters
    ----------
    folder : Path
        Receives the checkpoint, and the curve of precision and recall over delta.
    annotated : sequence of GridCase
        Cases of the universal set, whose annotations it learns from.
    matching : sequence of GridCase
        Validation patients with several studies or series and known lesions; without any, no delta is chosen.
    network : Lens
        Finds the tracklets that are matched.
    detector : Settings
        What the detector does around the network.
    settings : EmbeddingSettings
        Of the training.
    """
    train_embedding(annotated, folder, settings)
    embedding = load_embedding(folder / CHECKPOINT)
    chosen_on = _key(network, matching, detector)
    if matching and embedding.chosen_on != chosen_on:
        found = find_boxes(network, matching, detector, folder / "matching.npz").pooled
        pairs = collect_pairs(matching, found, embedding)
        choice = choose_delta(pairs.distances, pairs.same)
        store_delta(folder / CHECKPOINT, choice, chosen_on)
        draw_delta_curve(folder / "delta.png", pairs, choice, "validation patients")
    return load_embedding(folder / CHECKPOINT)


def find_sigma(folder: Path, matching: Sequence[GridCase], network: Lens, detector: Settings) -> float:
    """Choose sigma on validation patients (V-C, Fig. 5).

    Parameters
    ----------
    folder : Path
        Of the embedding, which keeps the boxes of the same patients; receives `sigma.json`.
    matching, network, detector
        As for `make_embedding`.
    """
    found = find_boxes(network, matching, detector, folder / "matching.npz").specialists
    choice = choose_sigma(matching, found)
    (folder / "sigma.json").write_text(json.dumps(asdict(choice), indent=1) + "\n")
    return choice.sigma


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


def weights_digest(network: nn.Module) -> str:
    """Digest of a network's weights."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _key(network: Lens, cases: Sequence[GridCase], settings: Settings) -> str:
    """Digest of everything that decides what is found."""
    parts = [weights_digest(network), [(case.name, case.fingerprint) for case in cases], asdict(settings)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _keep_found(path: Path, key: str, found: FoundBoxes) -> None:
    arrays: dict[str, NDArray[Any]] = {"key": np.array(key)}
    for group, boxes in (("pooled", found.pooled), ("specialists", found.specialists)):
        for name, of_case in boxes.items():
            arrays |= {f"{group}/{name}/{part}": getattr(of_case, part) for part in PARTS}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **arrays)
    partial.replace(path)


def _read_found(path: Path, key: str) -> FoundBoxes | None:
    """Boxes that were kept for this key, None where there are none."""
    if not path.exists():
        return None
    with np.load(path) as arrays:
        if str(arrays["key"]) != key:
            return None
        groups: dict[str, dict[str, SliceBoxes]] = {"pooled": {}, "specialists": {}}
        for group, name in {tuple(entry.split("/")[:2]) for entry in arrays if entry != "key"}:
            groups[group][name] = SliceBoxes(*(arrays[f"{group}/{name}/{part}"] for part in PARTS))
    return FoundBoxes(groups["pooled"], groups["specialists"])
