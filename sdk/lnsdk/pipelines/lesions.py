"""From 3D boxes in the grid to lesions: boxes in the volume as given and in the patient, sizes and key slices."""

import math

import numpy as np
from numpy.typing import NDArray

from lnsdk.pipelines.grid import Grid
from lnsdk.pipelines.proposals import Stacks
from lnsdk.results import Lesion


def lesions_in_patient(grid: Grid, stacks: Stacks, experts: tuple[str, ...]) -> tuple[Lesion, ...]:
    """Bring 3D boxes from the grid to the volume as given and to the patient.

    Parameters
    ----------
    grid : Grid
        Where the boxes were found.
    stacks : Stacks
        3D boxes in grid indices, best first.
    experts : tuple of str
        Names of the columns of the experts' scores.

    Returns
    -------
    tuple of Lesion
        In the same order; boxes are clipped to the volume, and those wholly in the padding are left out.
    """
    high = np.array(grid.volume.shape[::-1]) - 0.5
    boxes = np.clip(grid.to_voxels(stacks.boxes), -0.5, np.tile(high, 2))
    inside = np.flatnonzero((boxes[:, 3:] > boxes[:, :3]).all(axis=1))
    boxes, stacks, source = boxes[inside], stacks.rows(inside), grid.source
    in_source = grid.axis_map.boxes_to_source(boxes)
    corners = _corners(boxes)
    world = grid.volume.voxels_to_lps(corners.reshape(-1, 3)).reshape(-1, 8, 3)
    diameters = ((boxes[:, 3:5] - boxes[:, :2]) * grid.volume.spacing[:2]).max(axis=1)
    columns = (
        in_source,
        np.concatenate([world.min(axis=1), world.max(axis=1)], axis=1),
        world.mean(axis=1),
        diameters,
        stacks.scores,
        stacks.expert_scores,
        np.full(len(boxes), np.nan) if stacks.fpr_scores is None else stacks.fpr_scores,
        _key_slices(grid, stacks),
    )
    return tuple(
        Lesion(
            box=tuple(box),
            box_mm=tuple(box_mm),
            center_mm=tuple(center),
            diameter_mm=diameter,
            score=score,
            expert_scores=dict(zip(experts, expert_scores, strict=True)),
            fpr_score=None if math.isnan(fpr_score) else fpr_score,
            key_slice=key_slice,
            key_slice_uid=source.sop_instance_uids[key_slice] if source.sop_instance_uids else "",
            key_slice_frame=source.frame_numbers[key_slice] if source.frame_numbers else None,
        )
        for box, box_mm, center, diameter, score, expert_scores, fpr_score, key_slice in zip(
            *(column.tolist() for column in columns), strict=True
        )
    )


def _key_slices(grid: Grid, stacks: Stacks) -> NDArray[np.int64]:
    """Return the slice of the volume as given that each best member lies in."""
    keys = grid.axis_map.boxes_to_source(grid.to_voxels(stacks.key_boxes))
    middle = np.rint((keys[:, 2] + keys[:, 5]) / 2).astype(np.int64)
    return np.clip(middle, 0, grid.source.shape[0] - 1)


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the eight corners (N, 8, 3) of boxes (N, 6)."""
    choice = np.stack(np.meshgrid([0, 3], [1, 4], [2, 5], indexing="ij"), axis=-1).reshape(8, 3)
    return boxes[:, choice]
