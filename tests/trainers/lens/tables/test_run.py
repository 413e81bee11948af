"""Every row of every table from a tiny simulated set to its result, and what is not made twice."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lnsdk.trainers.common.patients import PatientSetPlan
from lnsdk.trainers.common.patients import plan as planning
from lnsdk.trainers.lens import organs, settings
from lnsdk.trainers.lens.embedding.train import EmbeddingSettings
from lnsdk.trainers.lens.fpr import settings as fpr_settings
from lnsdk.trainers.lens.fpr.settings import edge as reduction
from lnsdk.trainers.lens.mining.mine import MiningSettings
from lnsdk.trainers.lens.organs import OrganSettings
from lnsdk.trainers.lens.settings import edge
from lnsdk.trainers.lens.tables import experiment, run, scale
from lnsdk.trainers.lens.tables.recipes import TABLES
from lnsdk.trainers.lens.tables.results import read_result
from lnsdk.trainers.lens.tables.run import run_tables
from tests.trainers.lens.fpr.tiny import TINY as TINY_FPR
from tests.trainers.lens.tiny import TINY


@pytest.fixture
def tiny_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse phantoms and networks that learn nothing in two steps."""
    monkeypatch.setattr(planning, "PHANTOM_SIZE", 160)
    monkeypatch.setattr(planning, "PHANTOM_PIXELS_MM", (2.3, 2.5))
    monkeypatch.setattr(planning, "PHANTOM_LENGTHS_MM", (60.0, 70.0))
    tiny = scale.Scale(
        PatientSetPlan(patients=3, single=1, validation=1, test=2, lesions=6, reach_mm=20.0),
        edge(shape=TINY, steps=2, batch=1, crop=64, warmup=0),
        EmbeddingSettings(steps=2),
        reduction(shape=TINY_FPR, epochs=1, cuts=(), warmup=0, theta=0.1, theta_fp=0.1),
        OrganSettings(phantoms=1, steps=2, batch=1, crop=64),
    )
    everywhere = {"pre_nms": 5000, "post_nms": 300, "iou": 0.7, "min_score": 0.0}
    every_box = {"iou": 0.5, "per_slice": 300, "min_score": 0.0, "stack_iou": 0.3}
    monkeypatch.setattr(settings, "EDGE_RUNTIME", settings.Runtime(everywhere, every_box))
    monkeypatch.setattr(organs, "PHANTOM_SLICES", 6)
    monkeypatch.setattr(organs, "in_parallel", lambda title, task, items: list(map(task, items)))
    monkeypatch.setattr(experiment, "MiningSettings", partial(MiningSettings, sigma=1.0))
    monkeypatch.setattr(fpr_settings, "EDGE_BOXES", 5000)
    monkeypatch.setattr(scale, "SCALES", {"tiny": tiny})
    monkeypatch.setattr(run, "SCALES", {"tiny": tiny})


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_scale")
def test_every_row_runs_and_none_twice(tmp_path: Path) -> None:
    results = tmp_path / "results"
    run_tables(list(TABLES), "tiny", tmp_path, results, seeds=[0])
    for number, table in TABLES.items():
        text = (results / f"table_{number}.md").read_text()
        assert "not run" not in text
        for row in table.rows:
            result = read_result(results / f"{row.name}.seed0.json")
            assert 0 <= result.mean_sensitivity <= 1
            assert len(result.draws) > 900
    made = {path: path.stat().st_mtime_ns for path in results.iterdir()}
    run_tables(list(TABLES), "tiny", tmp_path, results, seeds=[0])
    assert made == {path: path.stat().st_mtime_ns for path in results.iterdir()}
    assert np.isfinite([row.paper for row in TABLES["II"].rows]).all()
