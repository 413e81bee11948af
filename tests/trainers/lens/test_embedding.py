"""The lesion embedding: what it sees, what it learns, the same weights after an interruption, its files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lnsdk.errors import InputError
from lnsdk.trainers.common.cases import GridCase
from lnsdk.trainers.common.labels import UNKNOWN, Labels
from lnsdk.trainers.lens.embedding.train import UNKNOWN_TYPE, EmbeddingSettings, draw_batch, pair_loss, train_embedding
from lnsdk.trainers.lens.embedding.use import LesionEmbedding, embed, load_embedding, store_delta
from lnsdk.trainers.lens.embedding.views import jitter, scan, view
from lnsdk.trainers.lens.mining.delta import choose_delta
from lnsdk.trainers.networks.embedding import EmbeddingNetwork, EmbeddingShape

SHAPE = EmbeddingShape(("bright", "dark"), channels=(4, 4, 4, 4), hidden=16, dimensions=8)
SETTINGS = EmbeddingSettings(steps=4, volumes=2, lesions=2, places=1, checkpoint_every=2)


def patient(seed: int, name: str = "", types: tuple[str, str] = ("bright", "dark")) -> GridCase:
    """A bright lesion at the left and a dark one at the right, in noise."""
    rng = np.random.default_rng(seed)
    grid = rng.normal(60, 2, (12, 64, 96)).astype(np.float16)
    grid[4:7, 20:30, 15:25] += 30
    grid[5:8, 30:44, 70:84] -= 30
    labels = Labels.of([[5, 14.5, 19.5, 24.5, 29.5], [6, 69.5, 29.5, 83.5, 43.5]], [0, 1], types)
    label = name or str(seed)
    return GridCase(label, "universal", grid, labels, patient=label, study="1", series="1", fingerprint=label)


def weights(network: EmbeddingNetwork) -> dict[str, torch.Tensor]:
    return network.state_dict()


def test_embeddings_are_normalized_and_depend_on_their_own_box_alone() -> None:
    torch.manual_seed(0)
    network = EmbeddingNetwork(SHAPE).eval()
    case = patient(0)
    rows = np.concatenate((case.labels.boxes, case.labels.boxes + np.array([0, 3, 3, 3, 3], np.float32)))
    found = embed(network, case.grid, rows)
    assert found.shape == (4, 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(embed(network, case.grid, rows, batch=1), found, atol=1e-5)
    assert embed(network, case.grid, rows[:0]).shape == (0, 8)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_thin_network_is_small() -> None:
    network = EmbeddingNetwork(EmbeddingShape(("a", "b", "c", "d", "e")))
    assert sum(p.numel() for p in network.parameters()) < 500_000


@pytest.mark.parametrize("rows", [np.zeros((1, 4)), np.zeros(5)])
def test_rows_of_another_shape_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected shape \(N, 5\)"):
        embed(EmbeddingNetwork(SHAPE), patient(0).grid, rows)


@pytest.mark.parametrize("z", [-1, 12])
def test_rows_beyond_the_grid_are_refused(z: int) -> None:
    with pytest.raises(ValueError, match="must lie on slices 0 to 11"):
        embed(EmbeddingNetwork(SHAPE), patient(0).grid, np.array([[z, 1, 1, 5, 5]], np.float32))


def test_views_show_the_lesion_in_the_middle_and_its_place() -> None:
    case = patient(0)
    seen = view(scan(case.grid), case.labels.boxes[0])
    assert seen.close.shape == (1, 3, 48, 48)
    assert seen.context.shape == (1, 3, 96, 96)
    assert seen.close[0, :, 22:26, 22:26].min() > 80  # slices 4 to 6 all show it
    assert seen.close[0, 1, 2, 2] < 70
    assert seen.context[0, 1, 47:49, 47:49].min() > 80
    assert seen.context[0, 1, 0, 0] == 0  # outside the grid lies air
    x, y, width, height = seen.measures[0].tolist()
    assert (x, y) == (pytest.approx(2 * 20 / 96 - 1), pytest.approx(2 * 25 / 64 - 1))
    assert width == height == pytest.approx(np.log(8 / 15))


def test_the_coarse_scan_holds_means() -> None:
    grid = np.arange(2 * 9 * 11, dtype=np.float16).reshape(2, 9, 11)
    coarse = scan(grid).coarse
    assert coarse.shape == (2, 2, 2)
    assert coarse[1, 1, 0] == grid[1, 4:8, 0:4].astype(np.float32).mean()


def test_left_and_right_look_different() -> None:
    """A volume and its mirror image: the lesion has the same distance to its border, and is told apart."""
    case = patient(0)
    row = case.labels.boxes[:1]
    z, x1, y1, x2, y2 = row[0]
    mirrored = np.array([[z, 95 - x2, y1, 95 - x1, y2]], np.float32)
    torch.manual_seed(0)
    network = EmbeddingNetwork(SHAPE).eval()
    a, b = embed(network, case.grid, row), embed(network, np.ascontiguousarray(case.grid[:, :, ::-1]), mirrored)
    assert np.linalg.norm(a - b) > 1e-2


def test_jittered_boxes_stay_near_and_inside() -> None:
    row = np.array([0, 10, 10, 20, 30], np.float32)
    rng = np.random.default_rng(0)
    jittered = np.array([jitter(row, 2, rng) for _ in range(200)])
    assert set(jittered[:, 0]) == {0, 1}
    widths = jittered[:, 3] - jittered[:, 1]
    assert 10 * np.exp(-0.4) <= widths.min() < 8 < 12 < widths.max() <= 10 * np.exp(0.4)
    centers = (jittered[:, 2] + jittered[:, 4]) / 2
    assert 17 - 1e-3 <= centers.min() < 18 < 22 < centers.max() <= 23 + 1e-3


def test_batches_hold_two_views_of_lesions_and_places() -> None:
    cases = [patient(0), patient(1, types=("bright", UNKNOWN))]
    scans = [scan(case.grid) for case in cases]
    batch = draw_batch(
        cases,
        scans.__getitem__,
        SHAPE.types,
        EmbeddingSettings(volumes=5, lesions=2, places=2),
        np.random.default_rng(3),
    )
    count = len(batch.types)
    assert len(batch.views.close) == 2 * count
    named = sorted(batch.types.tolist())
    assert named[-3:] == [0, 0, 1]
    assert set(named[:-3]) == {UNKNOWN_TYPE}
    assert count <= 8
    left = batch.centers[batch.types == 0]
    np.testing.assert_allclose(left, [[20 / 96, 25 / 64, 5.5 / 12]] * 2, rtol=1e-5)
    assert batch.cases.tolist() == batch.patients.tolist()


def test_pair_loss_by_hand() -> None:
    """Two lesions, orthogonal: each view has its partner at cosine 1, two others at 0."""
    views = torch.eye(2).repeat(2, 1)
    one, other = torch.tensor([0, 1]), torch.tensor([0, 0])
    expected = -np.log(np.e / (np.e + 2))
    assert pair_loss(views, one, one, 1.0).item() == pytest.approx(expected)
    assert pair_loss(views, other, other, 1.0).item() == pytest.approx(expected)


def test_views_of_a_patients_other_volumes_are_left_out() -> None:
    """They may be of the same lesion: without them only the partner is left, and the loss is 0."""
    views = torch.eye(2).repeat(2, 1)
    assert pair_loss(views, torch.tensor([0, 1]), torch.tensor([0, 0]), 1.0).item() == pytest.approx(0.0)


def test_training_leaves_its_files_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    cases = [patient(seed) for seed in range(3)]
    whole = weights(train_embedding(cases, tmp_path / "whole", SETTINGS, shape=SHAPE))
    train_embedding(cases, tmp_path / "parts", SETTINGS, stop_after=1, shape=SHAPE)
    train_embedding(cases, tmp_path / "parts", SETTINGS, stop_after=3, shape=SHAPE)
    resumed = weights(train_embedding(cases, tmp_path / "parts", SETTINGS, shape=SHAPE))
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {"embedding.ckpt", "embedding_losses.png"}


def test_training_looks_at_annotations_alone(tmp_path: Path) -> None:
    cases = [patient(0), replace(patient(1), labels=Labels.of())]
    network = train_embedding(cases, tmp_path, replace(SETTINGS, steps=1))
    assert network.shape.types == ("bright", "dark")
    content = torch.load(tmp_path / "embedding.ckpt", weights_only=True)
    assert list(content["run"]["cases"]) == ["0"]


def test_lesions_without_a_type_train_place_and_pairs(tmp_path: Path) -> None:
    network = train_embedding([patient(0, types=(UNKNOWN, UNKNOWN))], tmp_path, replace(SETTINGS, steps=1), shape=SHAPE)
    assert all(torch.isfinite(value).all() for value in weights(network).values())


def test_checkpoint_of_other_settings_or_cases_is_refused(tmp_path: Path) -> None:
    train_embedding([patient(0)], tmp_path, replace(SETTINGS, steps=1), shape=SHAPE)
    with pytest.raises(InputError, match="made with seed=0, now seed=1"):
        train_embedding([patient(0)], tmp_path, replace(SETTINGS, steps=1, seed=1), shape=SHAPE)
    with pytest.raises(InputError, match="made with volumes=2, now volumes=1"):
        train_embedding([patient(0)], tmp_path, replace(SETTINGS, steps=1, volumes=1), shape=SHAPE)
    with pytest.raises(InputError, match="made with other cases"):
        train_embedding([patient(1)], tmp_path, replace(SETTINGS, steps=1), shape=SHAPE)


def test_no_annotation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no case has an annotation"):
        train_embedding([replace(patient(0), labels=Labels.of())], tmp_path)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"temperature": 0.0}, {"learning_rate": -1.0}, {"places": -1}])
def test_wrong_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        EmbeddingSettings(**changes)  # type: ignore[arg-type]


def test_delta_is_stored_with_the_embedding(tmp_path: Path) -> None:
    case = patient(0)
    network = train_embedding([case], tmp_path, replace(SETTINGS, steps=1))
    path = tmp_path / "embedding.ckpt"
    assert load_embedding(path).delta is None
    choice = choose_delta([0.1, 0.2, 0.3], [True, True, False])
    store_delta(path, choice, "these patients")
    loaded = load_embedding(path)
    assert loaded.delta == choice
    expected = LesionEmbedding(network)(case.grid, case.labels.boxes)
    np.testing.assert_array_equal(loaded(case.grid, case.labels.boxes), expected)
    assert weights(train_embedding([case], tmp_path, replace(SETTINGS, steps=1))).keys() == weights(network).keys()
    assert load_embedding(path).delta == choice  # a training that had nothing left to do leaves it there


def test_a_file_that_is_no_embedding_is_refused(tmp_path: Path) -> None:
    torch.save({"shape": {"stem": 8}, "network": {}}, tmp_path / "lens.ckpt")
    with pytest.raises(InputError, match="no checkpoint of an embedding"):
        load_embedding(tmp_path / "lens.ckpt")
    (tmp_path / "broken.ckpt").write_bytes(b"")
    with pytest.raises(InputError, match="damaged"):
        load_embedding(tmp_path / "broken.ckpt")


def test_training_brings_views_of_a_lesion_together(tmp_path: Path) -> None:
    """After few steps the same lesion in a noisier volume of the patient is nearer than the other lesion."""
    cases = [patient(seed) for seed in range(4)]
    settings = EmbeddingSettings(steps=40, volumes=4, lesions=2, places=2)
    network = train_embedding(cases, tmp_path, settings, shape=SHAPE)
    first, second = patient(10), patient(11)
    a, b = (embed(network, of.grid, of.labels.boxes) for of in (first, second))
    distances = np.linalg.norm(a[:, None] - b[None], axis=2)
    assert distances.diagonal().max() < 0.5 * min(distances[0, 1], distances[1, 0])
