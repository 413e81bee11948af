"""The four published data sets of the LENS paper (Table I), as many of them as there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lnsdk.errors import InputError
from lnsdk.trainers.datasets.deeplesion import read_deeplesion, read_deeplesion_3d
from lnsdk.trainers.datasets.lits import read_lits
from lnsdk.trainers.datasets.luna16 import read_luna16
from lnsdk.trainers.datasets.nih_ln import read_nih_ln
from lnsdk.trainers.datasets.recording import Recording

READERS = {"deeplesion": read_deeplesion, "luna16": read_luna16, "lits": read_lits, "nih_ln": read_nih_ln}
"""Name of a data set to its reader."""


def read_published(
    roots: Mapping[str, Path], deeplesion_boxes: Path | None = None, allow_missing: bool = False
) -> tuple[tuple[Recording, ...], tuple[str, ...]]:
    """Find the volumes of published data sets and their annotations.

    Parameters
    ----------
    roots : mapping of str to Path
        Name of a data set, of `READERS`, to its folder.
    deeplesion_boxes : Path, optional
        JSON with the 3D boxes of DeepLesion's fully annotated sub-volumes, which are for testing.
    allow_missing : bool
        Accept data sets of which only a part is there.

    Returns
    -------
    recordings : tuple of Recording
    left_out : tuple of str
        What the readers left out, one sentence each.

    Raises
    ------
    InputError
        What the reader of a data set says; ``missing-path`` for boxes without DeepLesion.
    """
    found = [READERS[name](root, allow_missing=allow_missing) for name, root in roots.items()]
    if deeplesion_boxes is not None:
        if "deeplesion" not in roots:
            raise InputError("missing-path", "the 3D boxes belong to DeepLesion: name its folder too")
        found.append(read_deeplesion_3d(roots["deeplesion"], deeplesion_boxes, allow_missing=allow_missing))
    recordings = tuple(recording for data_set in found for recording in data_set.recordings)
    return recordings, tuple(sentence for data_set in found for sentence in data_set.left_out)
