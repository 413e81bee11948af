from pathlib import Path
from typing import Any

import pytest

from lnsdk import InputError
from lnsdk.bundle import read_bundle
from lnsdk.pipelines.settings import FalsePositiveSettings, read_settings
from tests.toy_bundle import FPR, SIGNATURES, write_toy_bundle


def test_settings_are_read(toy: Path) -> None:
    settings = read_settings(read_bundle(toy))
    assert settings.experts == ("universal", "lung")
    assert settings.spacing == (0.8, 0.8, 2.0)
    assert settings.delta_weights == (10, 10, 5, 5)
    assert (settings.pre_nms, settings.post_nms, settings.per_slice) == (6000, 100, 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experts": []}, "lnsdk.experts must be a list of names"),
        ({"experts": ["lung", "lung"]}, "lnsdk.experts must hold each name once"),
        ({"grid": None}, "lnsdk.grid must hold settings"),
        ({"grid": {"images": 5, "channels": 3}}, "lnsdk.grid.images and grid.channels must both be 3"),
        ({"window": [0]}, "lnsdk.window must be 2 numbers"),
        ({"window": [-1024, float("inf")]}, "lnsdk.window must be 2 numbers"),
        ({"max_batch": 0}, "lnsdk.max_batch must be a positive whole number, got 0"),
        ({"max_batch": True}, "lnsdk.max_batch must be a positive whole number, got True"),
        ({"threshold": 2}, "lnsdk.threshold must be a number from 0 to 1, got 2"),
        ({"threshold": float("nan")}, "lnsdk.threshold must be a number from 0 to 1, got nan"),
        ({"box_deltas": {"weights": [0, 1, 1, 1]}}, "lnsdk.box_deltas.weights must be 4 numbers of at least 0.001"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy", **change))
    with pytest.raises(InputError, match=message) as caught:
        read_settings(bundle)
    assert caught.value.reason == "bundle-metadata"


def test_settings_of_false_positive_reduction(toy: Path, tmp_path: Path) -> None:
    settings = read_settings(read_bundle(write_toy_bundle(tmp_path / "toy", fpr=FPR)))
    assert settings.fpr == FalsePositiveSettings((8, 32, 32), (1, 1, 1), (4,), 50, 0.25)
    assert settings.operating_point == 0.25
    without = read_settings(read_bundle(toy))
    assert without.fpr is None
    assert without.operating_point == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fpr": None}, "lnsdk.fpr must hold settings, got None"),
        ({"fpr": FPR | {"patch": [8, 32]}}, r"lnsdk.fpr.patch must be 3 positive whole numbers, got \[8, 32\]"),
        ({"fpr": FPR | {"strides": []}}, "lnsdk.fpr.strides must be one or more positive whole numbers"),
        ({"fpr": FPR | {"bins": [1, 1, 0]}}, "lnsdk.fpr.bins must be 3 positive whole numbers"),
        ({"fpr": FPR | {"boxes": 0}}, "lnsdk.fpr.boxes must be a positive whole number"),
        ({"fpr": FPR | {"threshold": 1.5}}, "lnsdk.fpr.threshold must be a number from 0 to 1"),
        (
            {"fpr": FPR | {"patch": [4096, 4096, 4096]}},
            "lnsdk.fpr.patch must hold at most 33554432 samples, 1024",
        ),
        ({"fpr": FPR | {"patch": [1000, 1000, 1000]}}, "lnsdk.fpr.patch must hold at most 33554432 samples"),
        ({"fpr": FPR | {"bins": [2**40, 1, 1]}}, "lnsdk.fpr.bins and fpr.strides must be at most 1024 each"),
        ({"fpr": FPR | {"patch": [8, 33, 32]}}, "lnsdk.fpr.patch must be a multiple of every stride in plane"),
        ({"fpr": FPR | {"patch": [8, 32, 64]}}, "lnsdk.fpr must fit the inputs and outputs of graph 'fpr'"),
        ({"fpr": FPR, "graphs": SIGNATURES}, "lnsdk.fpr must be left out, because the bundle has no graph 'fpr'"),
    ],
)
def test_wrong_settings_of_false_positive_reduction_are_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    bundle = read_bundle(write_toy_bundle(tmp_path / "toy", **change))
    with pytest.raises(InputError, match=message) as caught:
        read_settings(bundle)
    assert caught.value.reason == "bundle-metadata"


def test_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not for the detector"):
        read_settings(read_bundle(write_toy_bundle(tmp_path / "toy", task="slide")))
