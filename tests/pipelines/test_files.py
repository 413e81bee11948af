"""From a file to lesions: however a volume is stored, its lesions lie in the same place of the patient."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lnsdk import Detections, Detector, Volume, read
from tests.io import samples
from tests.io.test_images import nifti
from tests.pipelines.test_detector import ORIENTATIONS, ball, reoriented

BALL = ball((20, 100, 110), (1.1, 0.9, 2.5), (60.3, 45.6, 9.2), origin=(10.0, -20.0, 30.0))
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def assert_same(found: Detections, expected: Detections) -> None:
    """Match lesions one to one, within half a voxel."""
    assert len(found.lesions) == len(expected.lesions) > 0
    half = min(expected.volume.spacing) / 2
    for a, b in zip(found.lesions, expected.lesions, strict=True):
        assert np.allclose(a.box_mm, b.box_mm, atol=half)
        assert a.score == pytest.approx(b.score, abs=1e-3)


@pytest.fixture(scope="module")
def detector(toy: Path) -> Detector:
    return Detector(toy)


@pytest.fixture(scope="module")
def expected(detector: Detector) -> Detections:
    return detector(BALL)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_nifti_in_any_orientation(
    detector: Detector, expected: Detections, tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    volume = reoriented(BALL, order, signs)
    path = nifti(tmp_path / "ct.nii", volume.voxels, TO_RAS @ volume.affine)
    assert_same(detector(path), expected)


@pytest.mark.parametrize("seed", range(3))
def test_dicom_in_any_order(detector: Detector, expected: Detections, tmp_path: Path, seed: int) -> None:
    slices = [
        samples.ct_slice(
            hu,
            index,
            ImagePositionPatient=BALL.voxels_to_lps([[0, 0, index]])[0].tolist(),
            PixelSpacing=[BALL.spacing[1], BALL.spacing[0]],
        )
        for index, hu in enumerate(BALL.voxels)
    ]
    names = [f"{number:03d}" for number in np.random.default_rng(seed).permutation(len(slices))]
    found = detector(samples.save(tmp_path / "series", slices, names))
    assert_same(found, expected)
    lesion = found.lesions[0]
    assert lesion.key_slice_uid == slices[lesion.key_slice].SOPInstanceUID


@pytest.mark.slow
@pytest.mark.realdata
def test_a_recorded_ct_in_every_orientation(data_dir: Path, tmp_path: Path) -> None:
    series = data_dir / "ct/chest_acrin013"
    detector = Detector(threshold=0.1)
    volume = read(series)
    expected = detector(volume)
    plain = Volume(volume.voxels, volume.affine)
    for order, signs in ORIENTATIONS:
        turned = reoriented(plain, order, signs)
        assert_same(detector(nifti(tmp_path / "ct.nii", turned.voxels, TO_RAS @ turned.affine)), expected)
    files = sorted(series.iterdir())
    for number, file in zip(np.random.default_rng(0).permutation(len(files)), files, strict=True):
        shutil.copy(file, tmp_path / f"{number:03d}.dcm")
    (tmp_path / "ct.nii").unlink()
    assert_same(detector(tmp_path), expected)
