"""Slices that arrive one by one make the volume that reading them together makes, or the same error."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from lnsdk import InputError, Volume, read
from lnsdk.io.arriving import Arrivals
from tests.io.samples import enhanced_ct, localizer, save, series


def arrived(items: list[Dataset] | list[Path]) -> Volume:
    arrivals = Arrivals()
    for item in items:
        arrivals.add(item)
    return arrivals.volume()


def assert_same(found: Volume, expected: Volume) -> None:
    for name in (field.name for field in fields(Volume)):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1), [3, 0, 7, 1, 6, 2, 5, 4]])
def test_the_order_does_not_matter(tmp_path: Path, order: slice | list[int]) -> None:
    datasets = series()
    expected = read(save(tmp_path, datasets))
    chosen = np.arange(8)[order].tolist()
    assert_same(arrived([datasets[index] for index in chosen]), expected)
    files = sorted(tmp_path.iterdir())
    assert_same(arrived([files[index] for index in chosen]), expected)


def test_an_object_may_hold_many_slices(tmp_path: Path) -> None:
    dataset = enhanced_ct()
    expected = read(save(tmp_path, [dataset]))
    arrivals = Arrivals()
    slices = arrivals.add(dataset)
    assert [each.part.index for each in slices] == list(range(8))
    assert_same(arrivals.volume(), expected)


def test_what_is_no_slice_is_set_aside(tmp_path: Path) -> None:
    datasets = [*series(), localizer()]
    arrivals = Arrivals()
    assert [len(arrivals.add(dataset)) for dataset in datasets] == [1] * 8 + [0]
    found = arrivals.volume()
    assert_same(found, read(save(tmp_path, datasets)))
    assert "localizer (1)" in found.warnings[0]


def test_odd_pixels_are_told_of_as_in_reading(tmp_path: Path) -> None:
    datasets = series(RescaleSlope=30)
    expected = read(save(tmp_path, datasets))
    assert any("clipped" in warning for warning in expected.warnings)
    assert_same(arrived(datasets), expected)


def test_the_verdict_is_that_of_reading(tmp_path: Path) -> None:
    datasets = series(12)
    for chosen in (datasets[:4] + datasets[6:], [*datasets, series(1, SeriesInstanceUID="1.2.3")[0]]):
        folder = save(tmp_path / str(len(chosen)), chosen)
        with pytest.raises(InputError) as together:
            read(folder)
        with pytest.raises(InputError) as one_by_one:
            arrived(chosen)
        assert one_by_one.value.reason == together.value.reason


def test_what_cannot_be_used_is_left_out(tmp_path: Path) -> None:
    datasets, arrivals = series(), Arrivals()
    (tmp_path / "note.txt").write_text("no DICOM")
    (cut,) = save(tmp_path / "cut", datasets[:1]).iterdir()
    cut.write_bytes(cut.read_bytes()[:-100])
    for item, reason in (
        (tmp_path / "note.txt", "not-dicom"),
        (tmp_path / "none.dcm", "missing-path"),
        (tmp_path, "missing-path"),
        (cut, "truncated-file"),
    ):
        with pytest.raises(InputError) as refused:
            arrivals.add(item)
        assert refused.value.reason == reason
    with pytest.raises(InputError, match="no slice has arrived"):
        arrivals.volume()
    for dataset in datasets:
        arrivals.add(dataset)
    assert_same(arrivals.volume(), read(save(tmp_path / "whole", datasets)))
