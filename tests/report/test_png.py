from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lnsdk import Detections, Detector, Volume
from lnsdk.report.png import MOST_LESIONS, crosses, draw
from lnsdk.report.tiles import FOUND, INK, PICTURE
from tests.pipelines.test_detector import ball


@pytest.fixture(scope="module")
def found(toy: Path) -> Detections:
    return Detector(toy)(ball((30, 120, 130), (1.0, 1.0, 2.0), (70.3, 55.6, 14.2)))


def colored(picture: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == color).all(axis=2).sum())


def test_a_lesion_is_boxed_and_enlarged(found: Detections) -> None:
    single = replace(found, lesions=found.lesions[:1])
    picture = draw(single)
    assert picture.width > PICTURE
    assert picture.height > PICTURE
    x1, y1, _, x2, y2, _ = found.lesions[0].box
    outline = 2 * ((x2 - x1) + (y2 - y1))
    assert colored(picture, FOUND) > 3 * outline  # two pixels wide in the slice, and again in the enlarged part
    assert colored(picture, INK) > 100


@pytest.mark.parametrize(("first", "last"), [(0, 0), (3, 3), (3, 5)])
def test_a_box_crosses_the_slices_it_runs_over_and_no_other(first: int, last: int) -> None:
    box = (0.0, 0.0, first - 0.5, 1.0, 1.0, last + 0.5)
    assert [index for index in range(-1, 9) if crosses(box, index)] == list(range(first, last + 1))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 12, 13])
def test_any_number_of_lesions_fits(found: Detections, count: int) -> None:
    many = replace(found, lesions=(found.lesions[0],) * count)
    picture = draw(many)
    tiles = min(count, MOST_LESIONS)
    assert picture.width * picture.height >= tiles * PICTURE**2


def test_no_lesion_is_a_picture_too(found: Detections) -> None:
    picture = draw(replace(found, lesions=()))
    assert colored(picture, FOUND) == 0
    assert colored(picture, INK) > 100


def test_air_is_a_picture_too(toy: Path) -> None:
    draw(Detector(toy)(Volume(np.full((1, 20, 30), -1000, np.int16), np.eye(4))))


def test_a_lesion_at_the_edge_is_drawn(found: Detections) -> None:
    edge = replace(found.lesions[0], box=(-0.5, -0.5, 0.0, 4.0, 3.0, 29.5))
    assert colored(draw(replace(found, lesions=(edge,))), FOUND) > 0


def test_very_different_spacings_are_drawn(found: Detections) -> None:
    volume = Volume(np.zeros((3, 40, 200), np.int16), np.diag([0.3, 4.0, 10.0, 1.0]))
    lesion = replace(found.lesions[0], box=(10, 10, 0, 60, 14, 2), key_slice=1)
    assert colored(draw(replace(found, lesions=(lesion,), volume=volume)), FOUND) > 0
