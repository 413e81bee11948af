"""Labels and truth go to JSON and back."""

import json

import numpy as np
import pytest

from lnsdk.trainers.common.labels import Labels


@pytest.mark.parametrize("slices", [None, [], [3, 5]])
def test_open_slices_go_to_json_and_back(slices: list[int] | None) -> None:
    """No open slice is something else than every slice."""
    record = json.loads(json.dumps(Labels.of([[3, 0, 0, 1, 1]], [0], ["liver"], slices=slices).record()))
    back = Labels.of(**record)
    assert record["slices"] == slices
    assert (back.slices is None) == (slices is None)
    if back.slices is not None:
        np.testing.assert_array_equal(back.slices, np.array(slices, np.int64))
        assert back.slices.dtype == np.int64


def test_labels_written_before_slices_could_be_closed_are_all_open() -> None:
    record = {name: value for name, value in Labels.of().record().items() if name != "slices"}
    assert Labels.of(**record).slices is None
