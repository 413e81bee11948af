"""Intra-patient lesion matching: a lesion that is annotated in one volume, found unannotated in another (LENS V-B)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.mining.tracklets import Rows, Tracklets, add_lesions, apart, compact
from lnsdk.trainers.lens.mining.uncertain import OVERLAP


class Embedding(Protocol):
    """Describes lesions so that the same lesion in another volume of its patient is near (LENS V-B).

    Any callable with this signature serves, such as a network of the user's own; the project's is
    `lnsdk.trainers.lens.embedding.use.LesionEmbedding`. A threshold delta belongs to the embedding it was chosen for.
    """

    def __call__(self, grid: NDArray[np.float16], rows: Rows, /) -> NDArray[np.float32]:
        """Embed boxes of a volume.

        Parameters
        ----------
        grid : ndarray of float16, (z, y, x)
            Values 0..255 (window -1024..3071 HU), 0.8 mm in plane and 2 mm along z.
        rows : ndarray of float32, (N, 5)
            z (a whole number), x1, y1, x2, y2 in continuous grid pixels; N may be 0.

        Returns
        -------
        ndarray of float32, (N, D)
            L2-normalised descriptions.
        """


@dataclass(frozen=True, eq=False)
class MinedVolume:
    """A volume of a patient on its way through the mining.

    Attributes
    ----------
    case : GridCase
        The volume; `case.labels` are its annotations.
    labels : Labels
        Annotations with what was mined so far.
    tracklets : Tracklets
        Of the detector's boxes.
    free : ndarray of int64
        The tracklets that belong to no annotation.
    """

    case: GridCase
    labels: Labels
    tracklets: Tracklets
    free: NDArray[np.int64]


@dataclass(frozen=True)
class Candidate:
    """A tracklet and the annotation of another volume that is nearest to it.

    Attributes
    ----------
    volume, source : int
        Which volume the tracklet lies in, and which the annotation.
    tracklet, lesion : int
        The tracklet of `volume` and the annotated lesion of `source`.
    distance : float
        L2 distance of their embeddings.
    """

    volume: int
    source: int
    tracklet: int
    lesion: int
    distance: float


@dataclass(frozen=True)
class Match:
    """A lesion that was mined from an annotation in another volume.

    Attributes
    ----------
    case : str
        Name of the volume in which it was found.
    lesion : int
        Index into the types of that volume's mined labels.
    source : str
        Name of the volume with the annotation.
    source_lesion : int
        Index into the types of that volume's labels.
    distance : float
        L2 distance of the embeddings.
    """

    case: str
    lesion: int
    source: str
    source_lesion: int
    distance: float


def match_patient(
    volumes: Sequence[MinedVolume], embedding: Embedding, delta: float, overlap: float = OVERLAP
) -> tuple[list[Labels], list[Match]]:
    """Mine lesions from the annotations in a patient's other volumes.

    Parameters
    ----------
    volumes : sequence of MinedVolume
        All volumes of one patient.
    embedding : Embedding
        Describes lesions.
    delta : float
        Distance below which a tracklet and an annotation are the same lesion; 0 mines nothing.
    overlap : float
        IoU above which a box shows a lesion that is labelled or mined already; its tracklet is then nothing new.

    Returns
    -------
    labels : list of Labels
        Of each volume, with the boxes of every matched tracklet that are `compact` with its centre, as a new lesion of
        the annotation's type.
    matches : list of Match
        Where each new lesion comes from.
    """
    if not delta >= 0:
        raise ValueError(f"delta must be a distance of 0 or more, got {delta}")
    labels = [volume.labels for volume in volumes]
    matches = []
    near = [candidate for candidate in nearest_annotations(volumes, embedding) if candidate.distance < delta]
    for found in near:
        volume, source, current = volumes[found.volume], volumes[found.source].case, labels[found.volume]
        rows = volume.tracklets.rows[volume.tracklets.members == found.tracklet]
        if apart(rows, current.boxes, overlap).all():
            center = volume.tracklets.rows[volume.tracklets.center_rows()[[found.tracklet]]]
            rows = rows[compact(rows, center)]
            index = len(current.types)
            new_lesion = np.full(len(rows), index)
            labels[found.volume] = add_lesions(current, rows, new_lesion, (source.labels.types[found.lesion],))
            matches.append(Match(volume.case.name, index, source.name, found.lesion, found.distance))
    return labels, matches


def person(case: GridCase) -> str:
    """The patient that a case shows; a case without one is a person by itself."""
    return case.patient or f"case {case.name}"


def by_patient(volumes: Sequence[MinedVolume]) -> list[list[MinedVolume]]:
    """Volumes that show the same person, in the order of their first."""
    people: dict[str, list[MinedVolume]] = {}
    for volume in volumes:
        people.setdefault(person(volume.case), []).append(volume)
    return list(people.values())


def nearest_annotations(volumes: Sequence[MinedVolume], embedding: Embedding) -> list[Candidate]:
    """For each free tracklet of a patient the nearest annotation in another study or series.

    Parameters
    ----------
    volumes : sequence of MinedVolume
        All volumes of one patient.
    embedding : Embedding
        Describes lesions: annotations on their key slice, tracklets on their centre slice.

    Returns
    -------
    list of Candidate
        By rising distance, at most one for an annotation in each of the other volumes. Of annotations at the same
        distance the first counts. A tracklet without an annotation in another volume is left out.

    Notes
    -----
    The paper keeps every pair whose distance is small enough. Here a lesion is in one place of a volume: an annotation
    that is nearer to one of the volume's own annotations than to a tracklet is known there, and of several tracklets
    that are nearest to the same annotation, such as parts of one lesion, the nearest one is taken.
    """
    keys = [key_rows(volume.case.labels) for volume in volumes]
    partners = [_partners(index, volumes, keys) for index in range(len(volumes))]
    described = {
        source: describe(embedding, volumes[source].case, volumes[source].case.labels.boxes[keys[source]])
        for source in sorted({source for sources in partners for source in sources})
    }
    found = []
    for index, (volume, sources) in enumerate(zip(volumes, partners, strict=True)):
        if not sources or not len(volume.free):
            continue
        centers = volume.tracklets.rows[volume.tracklets.center_rows()[volume.free]]
        places = [(source, int(row)) for source in sources for row in keys[source]]
        annotations = np.concatenate([described[source] for source in sources])
        distances = _distances(describe(embedding, volume.case, centers), annotations)
        known = _distances(described[index], annotations).min(axis=0, initial=np.inf) if index in described else np.inf
        for tracklet, row in zip(volume.free, np.where(distances < known, distances, np.inf), strict=True):
            nearest = int(row.argmin())
            if np.isfinite(row[nearest]):
                source, place = places[nearest]
                lesion = int(volumes[source].case.labels.lesion[place])
                found.append(Candidate(index, source, int(tracklet), lesion, float(row[nearest])))
    return _one_place_each(sorted(found, key=lambda candidate: candidate.distance))


def _one_place_each(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first candidate of every annotation in every volume."""
    first: dict[tuple[int, int, int], Candidate] = {}
    for candidate in candidates:
        first.setdefault((candidate.volume, candidate.source, candidate.lesion), candidate)
    return list(first.values())


def key_rows(labels: Labels) -> NDArray[np.int64]:
    """Index of each lesion's largest box, which RECIST measures it on (V-A); ties the first, lesions ascending."""
    sizes = (labels.boxes[:, 3] - labels.boxes[:, 1]) * (labels.boxes[:, 4] - labels.boxes[:, 2])
    order = np.lexsort((-sizes, labels.lesion))
    _, first = np.unique(labels.lesion[order], return_index=True)
    return order[first]


def describe(embedding: Embedding, case: GridCase, rows: Rows) -> NDArray[np.float32]:
    """Embed boxes of a case, and refuse an embedding that does not give one finite row for each.

    Raises
    ------
    ValueError
        When the embedding gives anything else.
    """
    found = np.asarray(embedding(case.grid, rows))
    if found.ndim != 2 or len(found) != len(rows):
        raise ValueError(
            f"embedding must give one row per box: expected shape ({len(rows)}, D) for {case.name}, got {found.shape}"
        )
    if not np.isfinite(found).all():
        raise ValueError(f"embedding must give finite numbers, got others for {case.name}")
    return found.astype(np.float32)


def _partners(index: int, volumes: Sequence[MinedVolume], keys: Sequence[NDArray[np.int64]]) -> list[int]:
    """Volumes of another study or series than one's own that hold an annotation."""
    own = volumes[index].case
    return [
        other
        for other, volume in enumerate(volumes)
        if (volume.case.study, volume.case.series) != (own.study, own.series) and len(keys[other])
    ]


def _distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """L2 distance of every row of a to every row of b, (N, M)."""
    return np.stack([np.linalg.norm(a.astype(float) - row, axis=1) for row in b.astype(float)], axis=1)
