from pathlib import Path

import numpy as np
import pytest

from lnsdk.bundle import Bundle, read_bundle
from lnsdk.export.triton import SIDE, warm_up_shapes
from lnsdk.pipelines.profiles import LARGEST_SIDE, USUAL_SIDE, input_profiles
from lnsdk.pipelines.settings import read_settings
from tests.toy_bundle import FPR, write_toy_bundle


@pytest.fixture(params=["embedded", "toy"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    return read_bundle(None if request.param == "embedded" else write_toy_bundle(tmp_path / "toy", fpr=FPR))


def test_profiles_are_the_shapes_that_the_graphs_give_each_other(bundle: Bundle) -> None:
    settings = read_settings(bundle)
    profiles = input_profiles(bundle.graphs, settings)
    met = warm_up_shapes(bundle, settings)  # for one slice of SIDE x SIDE
    assert profiles.keys() == met.keys() == bundle.graphs.keys()
    for graph, profile in profiles.items():
        assert list(profile) == list(bundle.graphs[graph].inputs)
        for name, shapes in profile.items():
            axes = np.array([size is None for size in bundle.graphs[graph].inputs[name][1:]]) & (name != "rois")
            for shape, side in zip(shapes, (settings.multiple, USUAL_SIDE, LARGEST_SIDE), strict=True):
                scaled = np.where(axes, np.array(met[graph][name]) * side // SIDE, met[graph][name])
                if name != "rois":
                    assert shape[1:] == tuple(scaled)
            assert [shape[0] for shape in shapes] == [1, settings.max_batch, settings.max_batch]
    assert [shape[1:] for shape in profiles["head"]["rois"]] == [
        (1, 4),
        (settings.post_nms, 4),
        (settings.post_nms, 4),
    ]
