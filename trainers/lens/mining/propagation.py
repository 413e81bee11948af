"""Cross-slice box propagation: an annotation of one slice becomes boxes on the lesion's other slices (LENS V-A)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnsdk.trainers.common.labels import Labels
from lnsdk.trainers.lens.mining.tracklets import NOBODY, THETA, Tracklets, add_lesions, apart, compact


def propagate(labels: Labels, tracklets: Tracklets, owner: NDArray[np.int64], theta: float = THETA) -> Labels:
    """Add the boxes of annotated lesions on other slices.

    Parameters
    ----------
    labels : Labels
        Annotations.
    tracklets : Tracklets
        Of the same volume.
    owner : ndarray of int64, (T,)
        The annotated lesion of each tracklet (`lnsdk.trainers.lens.mining.tracklets.owners`).
    theta : float
        A box with a larger IoU with any annotation is that annotation, and not added.

    Returns
    -------
    Labels
        With the mined rows behind the annotations, which stay as they are; only boxes that are `compact` with an
        annotation of their lesion are mined. No lesion has two rows on a slice: an annotation comes before a mined box,
        and among mined boxes the best score counts, ties the first.
    """
    lesion = owner[tracklets.members]
    new = (lesion != NOBODY) & apart(tracklets.rows, labels.boxes, theta)
    for index in np.unique(lesion[new]):
        own = np.flatnonzero(new & (lesion == index))
        new[own] = compact(tracklets.rows[own], labels.boxes[labels.lesion == index])
    taken = set(zip(labels.lesion.tolist(), labels.boxes[:, 0].tolist(), strict=True))
    kept = []
    for index in np.argsort(-tracklets.scores, kind="stable"):
        place = (int(lesion[index]), float(tracklets.rows[index, 0]))
        if new[index] and place not in taken:
            taken.add(place)
            kept.append(int(index))
    chosen = np.sort(np.asarray(kept, np.int64))
    return add_lesions(labels, tracklets.rows[chosen], lesion[chosen])
