"""The full-scan set: planned for evaluated splits alone, and read as what a search in the loader would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.spatial import cKDTree

from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.reading import PartitionReader
from pipeline.config.load import load_config
from pipeline.config.model import Points
from pipeline.datasets.index import make_index
from pipeline.geometry.full_scan import full_scan
from pipeline.geometry.grid import Grid
from pipeline.plan.cost.estimate import estimate, pending
from pipeline.plan.plan import plan_experiment
from pipeline.streaming.scan_batches import SCORED_TOGETHER, EvaluationScans
from pipeline.streaming.scan_source import LabelledPlace, ScanPoints, ScanSource
from pipeline.students.packed import Cloud, pack
from stages.cli import griddle

REPOSITORY = Path(__file__).resolve().parents[3]
SCENE = "scene-0061"


def searched(scan: ScanPoints, points: Points, intensity: tuple[float, float]) -> tuple[Cloud, np.ndarray]:
    """As the published validation searches, step by step, with float64 only where it has it; and the nearest kept."""
    cells = ((scan.xyz - scan.xyz.min(axis=0, keepdims=True)) / np.float32(points.voxel)).astype(np.int64)
    kept = np.unique(cells, axis=0, return_index=True)[1]
    (x0, x1), (y0, y1), (z0, z1) = points.field_of_view
    low, high = np.array([x0, y0, z0]) + 1e-4, np.array([x1, y1, z1]) - 1e-4
    at = scan.xyz[kept]
    kept = kept[((at > low.astype(np.float32)) & (at < high.astype(np.float32))).all(axis=1)]
    xyz = scan.xyz[kept]
    tree = cKDTree(xyz)
    near = tree.query(xyz, k=points.neighbours + 1)[1][:, 1:]
    mean, deviation = (np.float32(value) for value in intensity)
    radius = np.sqrt(xyz[:, 0] * xyz[:, 0] + xyz[:, 1] * xyz[:, 1] + xyz[:, 2] * xyz[:, 2])
    features = np.column_stack([(scan.intensity[kept] - mean) / deviation, xyz, radius])
    grid = Grid.with_cells((x0, y0, z0), (x1, y1, z1), points.cell)
    return Cloud(features, near, grid.cells(xyz)), tree.query(scan.xyz)[1]


def test_batches_are_bit_for_bit_those_of_a_search_in_the_loader(filled_master: Any) -> None:
    plan = filled_master.workspace.plan()
    (probe,) = (p for p in plan.probe_runs.values() if p.kind == "distilled")
    points, intensity = probe.student.points, {"nuscenes": plan.experiment.traits["nuscenes"].intensity}
    source = ScanSource(plan.experiment.cache, probe.evaluate)
    places = source.scans()
    batches = EvaluationScans(source, places, points=points, intensity=intensity)
    assert len(places) == 4
    for number in range(len(batches)):
        batch = batches[number]
        scans = [source.read(place) for place in places[number * SCORED_TOGETHER :][:SCORED_TOGETHER]]
        found = [searched(scan, points, intensity["nuscenes"]) for scan in scans]
        clouds = pack([cloud for cloud, _ in found])
        for name in ("features", "neighbours", "cells", "offsets"):
            wanted = getattr(clouds, name)
            assert getattr(batch.clouds, name).dtype == wanted.dtype
            assert torch.equal(getattr(batch.clouds, name), wanted), name
        starts = clouds.offsets.tolist()
        nearest = np.concatenate([near + start for (_, near), start in zip(found, starts, strict=False)])
        assert torch.equal(batch.nearest, torch.from_numpy(nearest))
        assert batch.labels.tolist() == np.concatenate([scan.label for scan in scans]).tolist()


def test_row_numbers_do_not_wrap_where_a_batch_is_larger_than_they_count() -> None:
    """Rows are stored in 16 bits; those of a batch need more."""
    rng = np.random.default_rng(0)
    points = Points(voxel=0.01, neighbours=2)
    scans = [ScanPoints(rng.normal(size=(30_000, 3)).astype(np.float32) * 10, np.zeros(30_000, np.float32),
                        np.zeros(30_000, np.uint8)) for _ in range(4)]  # fmt: skip

    class Memory:
        def read(self, place: LabelledPlace) -> ScanPoints:
            return scans[place.row]

        def full(self, place: LabelledPlace) -> Any:
            found = full_scan(scans[place.row].xyz, points)
            assert found.nearest.dtype == np.uint16
            return found

    places = [LabelledPlace(0, row, "d", f"scan-{row}") for row in range(4)]
    batches = EvaluationScans(Memory(), places, points=points, intensity={"d": (0.0, 1.0)})  # type: ignore[arg-type]
    batch = batches[0]
    assert int(batch.clouds.offsets[-1]) > 2**16
    of_cloud = batch.clouds.cloud_of_row()
    assert torch.equal(of_cloud[batch.nearest], torch.arange(4).repeat_interleave(30_000))
    assert torch.equal(of_cloud[batch.clouds.neighbours[:, 0]], of_cloud)


@pytest.mark.parametrize("evaluate", ["val", "train"])
def test_it_is_planned_for_the_evaluated_split_alone(workspace: Any, evaluate: str) -> None:
    def with_probe(config: dict[str, Any]) -> None:
        config["probes"] = {"p": {"batch": 1, "evaluate": evaluate}}
        config["students"]["wi_tiny"]["probes"] = ["p"]
        twin = {**config["students"]["wi_tiny"], "points": {**config["students"]["wi_tiny"]["points"]}}
        twin["points"].update(seed=9, variants=1, cell=4.0, spares=0)  # what a full scan does not hang on
        narrow = {**twin, "points": {**twin["points"], "field_of_view": [[-32, 32], [-32, 32], [-8, 8]]}}
        config["students"] |= {"twin": twin, "narrow": narrow}

    dataset = load_config(workspace.config_path).datasets["nuscenes"]
    root = str(workspace.folder / dataset.root)
    make_index(workspace.work, "nuscenes", dataset.model_copy(update={"root": root}))
    assert not workspace.plan().lots("full_scans"), "no probe, no full scans"
    workspace.edit(with_probe)
    plan = workspace.plan()
    lots = plan.lots("full_scans")
    assert {lot.split for lot in lots} == {evaluate}
    assert len({lot.store.folder for lot in lots}) == 2, "one for each field of view"
    for lot in lots:
        scans = [s for s in plan.lots("scans") if {e.name for e in s.entries} & {e.name for e in lot.entries}]
        assert plan.before("full_scans", lot.digest) == [str(plan.experiment.lot_path(s)) for s in scans]
    for probe in plan.probe_runs.values():
        assert all(reading.full is None for reading in probe.train)
        assert all(reading.full is not None for reading in probe.evaluate)
        marker = [path for path in plan.before_labelled(probe.folder) if "/lots/full_scans/" in path]
        assert len(marker) == 1


def test_by_hand_views_make_both_kinds_and_full_scans_can_be_asked_for_alone(filled: Any) -> None:
    plan = filled.workspace.plan()
    markers = {stage: [Path(path) for path in plan.lot_paths(stage)] for stage in ("views", "full_scans")}
    for path in (*markers["views"], *markers["full_scans"]):
        path.unlink()
    assert filled.griddle("views", "--lot", plan.lots("views")[0].digest) == 0
    assert [path.exists() for path in (*markers["views"], *markers["full_scans"])] == [True, False]
    assert filled.griddle("views", "--full-scans", "--number", "0") == 0
    assert markers["full_scans"][0].exists()
    assert filled.griddle("views", "--full-scans", "--number", "1") == 2
    filled.workspace.edit(lambda config: config["students"]["wi_tiny"].update(probes=[]))
    assert filled.griddle("views") == 0
    assert filled.griddle("views", "--full-scans") == 2, "nothing to do is said"


def test_a_scan_outside_the_field_of_view_is_refused_by_name(filled: Any, capsys: Any) -> None:
    """Before anything is trained that could not be scored."""
    far = [[500.0, 564.0], [500.0, 564.0], [-8.0, 8.0]]
    filled.workspace.edit(lambda config: config["students"]["wi_tiny"]["points"].update(field_of_view=far))
    assert filled.griddle("views", "--full-scans") == 2
    said = capsys.readouterr().err
    assert "nuscenes scan" in said
    assert "lies in points.field_of_view" in said
    assert "write a wider one" in said


def test_real_scans_take_what_was_planned(samples: Path, tmp_path: Path) -> None:
    """One of these two frames keeps more points than 16 bits count, so the rows of both take 32."""
    body = yaml.safe_load((REPOSITORY / "config" / "samples.yaml").read_text())
    path = tmp_path / "samples.yaml"
    path.write_text(yaml.safe_dump({**body, "workdir": str(tmp_path / "work")}))
    config = load_config(path)
    make_index(tmp_path / "work", "pandaset64", config.datasets["pandaset64"])
    plan = plan_experiment(config, only="wi_pandaset64")
    (told,) = (row for row in estimate(plan)["stores"] if row["stage"] == "full_scans")
    assert told["source"] == "measured on 2 scan(s), right to 15 %"
    options = ["--config", str(path), "--only", "wi_pandaset64"]
    griddle.main(["scans", *options], standalone_mode=False)
    griddle.main(["views", "--full-scans", *options], standalone_mode=False)
    folder = plan.experiment.cache / told["folder"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert told["files"] == len(files) <= 25
    assert told["bytes"] == pytest.approx(sum(path.stat().st_size for path in files), rel=0.15)
    (entry, member) = plan.lots("full_scans")[0].members[0]
    reader = PartitionReader(folder, FULL_SCANS, entry.name, member)
    assert reader.dtype("nearest") == np.dtype("uint32")
    assert reader.read("nearest").max() >= 2**16
    rest = pending(plan, plan.lots("full_scans"))
    assert [row.to_compute for row in rest] == [0]
