"""Where the numbers that normalise intensities come from, and measuring them: exact, whatever the number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cache_schemas.errors import BadInput
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from pipeline.plan import intensity
from pipeline.plan.plan import Plan
from pipeline.preprocessing import intensity_stats as measured_intensity
from pipeline.preprocessing.intensity_stats import measure

OWN = "my/same.py"
READER = """
import griddle
like = griddle.reader_named("nuscenes")
class Reader(type(like)):
    traits = griddle.Traits("mine", 1, like.traits.frame, like.traits.classes, like.traits.cameras)
"""


@pytest.fixture
def unpublished(filled: Any) -> Any:
    """The filled workspace, its dataset read by a reader that knows no published numbers."""
    folder = filled.folder
    (folder / "my").mkdir()
    (folder / OWN).write_text(READER)
    filled.workspace.edit(lambda c: c["datasets"]["nuscenes"].update(reader=f"{OWN}:Reader"))
    filled.compute("index", "scans")
    return filled


def plan_of(filled: Any, monkeypatch: pytest.MonkeyPatch, **dataset: Any) -> Plan:
    monkeypatch.chdir(filled.folder)
    if dataset:
        filled.workspace.edit(lambda c: c["datasets"]["nuscenes"].update(**dataset))
    return filled.workspace.plan()


def test_all_points_of_the_train_split_and_nothing_else(
    unpublished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(unpublished, monkeypatch)
    (one,) = plan.to_measure.values()
    folder = plan.experiment.store_path(one.store)
    values = np.concatenate(
        [
            PartitionReader(folder, SCANS, e.name, str(e.members["scans"])).read("intensity")
            for e in one.entries
        ]
    ).astype(np.float64)
    assert {entry.split for entry in one.entries} == {"train"}
    found = measure(plan.experiment.cache, one, threads=1)
    assert found.points == len(values)
    np.testing.assert_allclose([found.mean, found.deviation], [values.mean(), values.std()], rtol=1e-13)
    monkeypatch.setattr(measured_intensity, "STEP", 1000)
    pieces = [measure(plan.experiment.cache, one, threads=threads) for threads in (1, 3)]
    assert pieces[0] == pieces[1]
    np.testing.assert_allclose(
        [pieces[0].mean, pieces[0].deviation], [values.mean(), values.std()], rtol=1e-13
    )


def test_what_was_measured_is_used_and_what_was_not_is_said(
    unpublished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(unpublished, monkeypatch)
    with pytest.raises(
        BadInput, match=r"(?s)nobody published.*griddle stats.*datasets.nuscenes.intensity: \[MEAN"
    ):
        intensity.intensity_of(plan.experiment, "nuscenes")
    assert plan.before_stats(next(iter(plan.to_measure)))
    assert unpublished.griddle("stats") == 0
    mean, deviation = intensity.intensity_of(plan.experiment, "nuscenes")
    assert 0 < mean < 255
    assert deviation > 0
    assert plan.before_stats(next(iter(plan.to_measure))) == []
    path = plan.experiment.workdir / next(iter(plan.to_measure.values())).path
    path.write_text("{}")
    with pytest.raises(BadInput, match=r"does not hold what was measured"):
        intensity.intensity_of(plan.experiment, "nuscenes")


def test_the_configs_numbers_come_before_all_others(
    unpublished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plan_of(unpublished, monkeypatch).runs
    plan = plan_of(unpublished, monkeypatch, intensity=[10.0, 2.0])
    assert intensity.intensity_of(plan.experiment, "nuscenes") == (10.0, 2.0)
    assert not plan.to_measure
    assert {run.id for run in plan.runs.values()} != {run.id for run in before.values()}


def test_published_numbers_need_no_measuring(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(filled, monkeypatch)
    assert intensity.intensity_of(plan.experiment, "nuscenes") == (18.742355, 22.04632)
    assert not plan.to_measure


def test_intensities_that_are_all_the_same_cannot_be_normalised_by_their_spread(
    unpublished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(unpublished, monkeypatch)
    (one,) = plan.to_measure.values()
    monkeypatch.setattr(
        PartitionReader, "read", lambda self, name, start, stop: np.full(stop - start, 7, np.float32)
    )
    with pytest.raises(BadInput, match=r"are 7, and cannot be normalised.*intensity: \[7, 1.0\]"):
        measure(plan.experiment.cache, one)
