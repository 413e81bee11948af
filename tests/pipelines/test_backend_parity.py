"""The embedded model on every recorded CT: ONNX Runtime and TorchScript must find the same lesions."""

from pathlib import Path

import pytest

from lnsdk import Detector
from lnsdk.bundle import read_bundle
from lnsdk.pipelines.settings import read_settings
from lnsdk.trainers.common.backgrounds import load_backgrounds
from lnsdk.verification import BOUNDS, check_lesions

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def test_same_lesions_on_every_ct(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx, torchscript = (Detector(backend=name, threshold=0.0) for name in ("onnx", "torchscript"))
    threshold = read_settings(read_bundle()).operating_point
    matched = 0
    for background in load_backgrounds(data_dir):
        reference = onnx(background.path)
        parity = check_lesions(reference, torchscript(background.path), threshold)
        close = [lesion.score for lesion in reference.lesions if abs(lesion.score - threshold) <= BOUNDS["fp32"].near]
        with capsys.disabled():
            alone = ", ".join(f"{lesion.score:.3f}" for lesion in parity.unmatched) or "none"
            print(
                f"\n{background.id}: {parity.matched} matched, boxes within {parity.box_difference:.1e} voxel, "
                f"scores within {parity.score_difference:.1e}; scores found by one backend alone: {alone}; "
                f"lesions this close to the threshold: {', '.join(f'{score:.4f}' for score in close) or 'none'}",
                end="",
            )
        matched += parity.matched
    assert matched > 1000
