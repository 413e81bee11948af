"""What a detector answers: lesions in the volume's voxels and in the patient, with where the answer came from."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lnsdk.volume import Volume

SCHEMA_VERSION = 1
"""Version of the JSON that `Detections.to_json` writes; its schema is ``lnsdk/schema/detections.schema.json``."""

BOX_CONVENTION = (
    "x1, y1, z1, x2, y2, z2 in continuous voxel indices of the volume as given: the centre of the first voxel is 0, "
    "so a box over voxels i to j runs from i - 0.5 to j + 0.5"
)
"""How boxes are to be read; every file that holds boxes carries it."""

WORLD_CONVENTION = "DICOM LPS (x to the patient's left, y to the back, z to the head), mm"
"""How positions are to be read."""

Box = tuple[float, float, float, float, float, float]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Lesion:
    """One lesion.

    Attributes
    ----------
    box : tuple of float
        x1, y1, z1, x2, y2, z2 in continuous voxel indices of the volume as given (centre of the first voxel at 0),
        clipped to the volume.
    box_mm : tuple of float
        Smallest and largest x, y, z over the box's eight corners, in LPS mm. For an oblique volume it is larger than
        the box.
    center_mm : tuple of float
        Centre of the box in LPS mm.
    diameter_mm : float
        The box's longer side in the axial plane (the plane of the volume's axes that lie closest to left and back).
    score : float
        0 to 1. Highest score of the box's slices (s_lens); with false-positive reduction (s_lens + s_fpr) / 2 (LENS
        eq. 4), or s_lens / 2 for a box that it did not look at because others scored higher.
    expert_scores : mapping of str to float
        Highest score of each expert over the box's slices.
    key_slice : int
        Index along the volume's slices (first array axis) of the slice in which the score is highest.
    key_slice_uid : str
        SOP Instance UID of that slice, empty when the volume has none.
    key_slice_frame : int, optional
        Number, from 1, of that slice's frame in its multi-frame object; None for other sources.
    fpr_score : float, optional
        Score of false-positive reduction (s_fpr); None where it did not look.
    """

    box: Box
    box_mm: Box
    center_mm: Point
    diameter_mm: float
    score: float
    expert_scores: Mapping[str, float]
    key_slice: int
    key_slice_uid: str = ""
    key_slice_frame: int | None = None
    fpr_score: float | None = None


@dataclass(frozen=True)
class Provenance:
    """What gave an answer.

    Attributes
    ----------
    model, model_version, model_sha256 : str
        Name, version and hash of the bundle.
    backend, device, precision : str
        The engine.
    experts : tuple of str
        Experts whose boxes count.
    threshold : float
        Lesions score at least this.
    crop : str
        ``"body"`` or ``"none"``: what of the volume was looked at.
    versions : mapping of str to str
        Versions of lnsdk and of what it ran on.
    false_positive_reduction : bool
        Whether the scores are those of LENS eq. 4, and not the detector's alone.
    """

    model: str
    model_version: str
    model_sha256: str
    backend: str
    device: str
    precision: str
    experts: tuple[str, ...]
    threshold: float
    crop: str
    versions: Mapping[str, str]
    false_positive_reduction: bool = False


@dataclass(frozen=True)
class Detections:
    """The lesions of a volume.

    Attributes
    ----------
    lesions : tuple of Lesion
        Best first.
    warnings : tuple of str
        What was odd about the volume.
    timings : mapping of str to float
        Milliseconds by stage; ``"total"`` is the time of the whole call.
    provenance : Provenance
        Model, engine and settings.
    volume : Volume
        What was looked at; pictures are drawn from it.
    """

    lesions: tuple[Lesion, ...]
    warnings: tuple[str, ...]
    timings: Mapping[str, float]
    provenance: Provenance
    volume: Volume = field(repr=False, compare=False)

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the result as JSON, and write it when a path is given.

        Parameters
        ----------
        path : str or Path, optional
            File to write, as UTF-8.

        Returns
        -------
        str
            Valid against ``lnsdk/schema/detections.schema.json``. It names no patient: of the source it holds UIDs,
            geometry and warnings.
        """
        text = json.dumps(self._document(), indent=2, allow_nan=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_csv(self, path: str | Path) -> None:
        """Write the result as a LUNA16 submission: ``seriesuid,coordX,coordY,coordZ,probability``, LPS mm.

        Parameters
        ----------
        path : str or Path
            File to write. The first column is empty when the volume has no Series Instance UID.
        """
        with Path(path).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["seriesuid", "coordX", "coordY", "coordZ", "probability"])
            for lesion in self.lesions:
                position = [f"{value:.3f}" for value in lesion.center_mm]
                writer.writerow([self.volume.series_uid, *position, f"{lesion.score:.6f}"])

    def to_png(self, path: str | Path) -> None:
        """Draw the best lesions, each in its key slice with box, score, size and position.

        Parameters
        ----------
        path : str or Path
            File to write.
        """
        from lnsdk.report.png import draw

        draw(self).save(path, format="PNG")

    def _document(self) -> dict[str, Any]:
        provenance = self.provenance
        return {
            "schema_version": SCHEMA_VERSION,
            "box_convention": BOX_CONVENTION,
            "world_convention": WORLD_CONVENTION,
            "study_uid": self.volume.study_uid,
            "series_uid": self.volume.series_uid,
            "frame_of_reference_uid": self.volume.frame_of_reference_uid,
            "volume": {
                "shape_zyx": list(self.volume.shape),
                "spacing_xyz_mm": list(self.volume.spacing),
                "affine_voxel_to_lps": self.volume.affine.tolist(),
            },
            "model": {
                "name": provenance.model,
                "version": provenance.model_version,
                "sha256": provenance.model_sha256,
            },
            "engine": {
                "backend": provenance.backend,
                "device": provenance.device,
                "precision": provenance.precision,
            },
            "experts": list(provenance.experts),
            "threshold": provenance.threshold,
            "false_positive_reduction": provenance.false_positive_reduction,
            "crop": provenance.crop,
            "versions": dict(provenance.versions),
            "warnings": list(self.warnings),
            "timings_ms": {stage: round(value, 3) for stage, value in self.timings.items()},
            "lesions": [_lesion_document(lesion) for lesion in self.lesions],
        }


def _lesion_document(lesion: Lesion) -> dict[str, Any]:
    return {
        "box": list(lesion.box),
        "box_mm": {"min": list(lesion.box_mm[:3]), "max": list(lesion.box_mm[3:])},
        "center_mm": list(lesion.center_mm),
        "diameter_mm": lesion.diameter_mm,
        "score": lesion.score,
        "expert_scores": dict(lesion.expert_scores),
        "fpr_score": lesion.fpr_score,
        "key_slice": lesion.key_slice,
        "key_slice_sop_instance_uid": lesion.key_slice_uid,
        "key_slice_frame": lesion.key_slice_frame,
    }
