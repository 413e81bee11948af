"""The embedded model on every recorded CT: ONNX Runtime and TorchScript must find the same lesions."""

from pathlib import Path

import pytest

from lnsdk import Detector
from lnsdk.bundle import read_bundle
from lnsdk.export.parity import check_lesions
from lnsdk.pipelines.settings import read_settings
from lnsdk.trainers.common.backgrounds import load_backgrounds

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def test_same_lesions_on_every_ct(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx, torchscript = (Detector(backend=name, threshold=0.0) for name in ("onnx", "torchscript"))
    threshold = read_settings(read_bundle()).threshold
    matched = 0
    for background in load_backgrounds(data_dir):
        parity = check_lesions(onnx(background.path), torchscript(background.path), threshold)
        with capsys.disabled():
            alone = ", ".join(f"{lesion.score:.3f}" for lesion in parity.unmatched) or "none"
            print(
                f"\n{background.id}: {parity.matched} matched, boxes within {parity.box_difference:.1e} voxel, "
                f"scores within {parity.score_difference:.1e}; scores found by one backend alone: {alone}",
                end="",
            )
        matched += parity.matched
    assert matched > 1000
