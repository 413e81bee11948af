"""The catalogue of real backgrounds: the split it promises, boxes inside their volumes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsdk.io import read
from lnsdk.trainers.common.backgrounds import CATALOGUE, Background, load_backgrounds

ENTRY: dict[str, Any] = {
    "id": "one",
    "path": "ct/one",
    "patient": "P1",
    "role": "train",
    "suspicious": [{"box": [0, 0, 0, 4, 5, 6], "note": "nodule"}],
    "liver": [[1, 1, 1, 2, 2, 2]],
}


def catalogue(folder: Path, *entries: dict[str, Any]) -> Path:
    """A catalogue file, and an empty folder for each of its volumes."""
    for entry in entries:
        (folder / entry["path"]).mkdir(parents=True, exist_ok=True)
    path = folder / "catalogue.json"
    path.write_text(json.dumps({"backgrounds": entries}))
    return path


def real_catalogue(folder: Path) -> tuple[Background, ...]:
    """The project's catalogue, over empty stand-ins for the volumes."""
    for entry in json.loads(CATALOGUE.read_text())["backgrounds"]:
        (folder / entry["path"]).mkdir(parents=True, exist_ok=True)
    return load_backgrounds(folder)


def test_reads_an_entry(tmp_path: Path) -> None:
    (background,) = load_backgrounds(tmp_path, catalogue=catalogue(tmp_path, ENTRY))
    assert (background.id, background.patient, background.role) == ("one", "P1", "train")
    assert background.path == tmp_path / "ct" / "one"
    assert background.notes == ("nodule",)
    assert background.suspicious.dtype == background.liver.dtype == np.float32
    np.testing.assert_array_equal(background.suspicious, [[0, 0, 0, 4, 5, 6]])
    np.testing.assert_array_equal(background.liver, [[1, 1, 1, 2, 2, 2]])


def test_volumes_without_boxes(tmp_path: Path) -> None:
    path = catalogue(tmp_path, ENTRY | {"suspicious": [], "liver": []})
    (background,) = load_backgrounds(tmp_path, catalogue=path)
    assert background.suspicious.shape == background.liver.shape == (0, 6)


def test_by_role(tmp_path: Path) -> None:
    path = catalogue(tmp_path, ENTRY, ENTRY | {"id": "two", "patient": "P2", "role": "test"})
    assert [b.id for b in load_backgrounds(tmp_path, role="test", catalogue=path)] == ["two"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([ENTRY, ENTRY], "listed twice"),
        ([ENTRY, ENTRY | {"id": "two", "role": "test"}], "patient P1 is listed as train and as test"),
        ([ENTRY | {"role": "spare"}], "role must be one of"),
        ([ENTRY | {"liver": [[1, 1, 1, 2, 2, 1]]}], "x1 < x2"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, entries: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_backgrounds(tmp_path, catalogue=catalogue(tmp_path, *entries))


def test_wrong_folder_is_named(tmp_path: Path) -> None:
    path = catalogue(tmp_path, ENTRY)
    with pytest.raises(ValueError, match="data_root must hold the volume one"):
        load_backgrounds(tmp_path / "elsewhere", catalogue=path)


def test_unknown_role(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="role must be one of train, validation, test"):
        load_backgrounds(tmp_path, role="spare")  # type: ignore[arg-type]


def test_split_of_the_project(tmp_path: Path) -> None:
    roles = {background.id: background.role for background in real_catalogue(tmp_path)}
    never_trained_on = {name for name in roles if name.startswith(("chest_rider", "lidc"))}
    never_trained_on |= {"STS_008", "STS_009", "STS_010"}
    assert len(never_trained_on) == 6
    assert all(roles[name] == "test" for name in never_trained_on)
    assert all(roles[f"STS_{n:03d}"] == "train" for n in range(1, 8))
    assert set(roles.values()) == {"train", "validation", "test"}


def test_every_sarcoma_is_suspicious(tmp_path: Path) -> None:
    sarcomas = [background for background in real_catalogue(tmp_path) if background.id.startswith("STS")]
    assert len(sarcomas) == 10
    assert all("sarcoma" in background.notes[0] for background in sarcomas)


@pytest.mark.realdata
@pytest.mark.slow
def test_boxes_lie_in_their_volumes(data_dir: Path) -> None:
    for background in load_backgrounds(data_dir):
        volume = read(background.path)
        last = np.array(volume.shape[::-1]) - 0.5
        boxes = np.concatenate([background.suspicious, background.liver])
        assert (boxes[:, :3] >= -0.5).all(), background.id
        assert (boxes[:, 3:] <= last).all(), background.id
        for x1, y1, z1, x2, y2, z2 in np.ceil(background.liver).astype(int):
            inside = volume.voxels[z1:z2, y1:y2, x1:x2]
            assert 30 < inside.mean() < 130, f"{background.id}: not the HU of a liver"
