"""Ids, lots and what changes them. The index is made up: no dataset is needed to plan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up_index import DATASET, entry, write_index

from cache_schemas.errors import BadInput
from pipeline.config.model import Config, Dataset, Points, Teacher
from pipeline.datasets.index import Index
from pipeline.datasets.nuscenes.reader import TRAITS
from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
from pipeline.geometry.calibration import RigidStep
from pipeline.plan import identity
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.selection import entries_of_split

CONFIG: dict[str, Any] = {
    "lot_partitions": 4,
    "datasets": {"nuscenes": DATASET},
    "teachers": {"t": {"model": "vit_tiny_patch16_224", "weights": "untrained"}},
    "students": {"s": {"datasets": ["nuscenes"], "teacher": "t"}},
}


def plan_of(
    workdir: Path, entries: list[dict[str, Any]], config: dict[str, Any] = CONFIG, **kwargs: Any
) -> Plan:
    write_index(workdir, "nuscenes", entries)
    return plan_experiment(Config.model_validate(config), workdir, **kwargs)


def changed(**students: Any) -> dict[str, Any]:
    return {**CONFIG, "students": {"s": {**CONFIG["students"]["s"], **students}}}


NAMES = [f"scene-{number:04d}" for number in range(200)]


def test_lots_hold_every_partition_once_and_in_order(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [entry(name) for name in NAMES])
    for stage in ("scans", "views", "features"):
        lots = plan.lots(stage)
        assert [e.name for lot in lots for e in lot.entries] == NAMES
        assert 200 / 4 * 0.5 < len(lots) < 200 / 4 * 2


@pytest.mark.parametrize("place", [0, 57, 123, 199])
def test_one_more_partition_changes_one_lot_or_splits_it(tmp_path: Path, place: int) -> None:
    before = plan_of(tmp_path, [entry(name) for name in NAMES[:place] + NAMES[place + 1 :]])
    after = plan_of(tmp_path, [entry(name) for name in NAMES])
    for stage in ("scans", "views", "features"):
        old = {lot.digest for lot in before.lots(stage)}
        new = [lot for lot in after.lots(stage) if lot.digest not in old]
        assert 1 <= len(new) <= 2
        assert NAMES[place] in {e.name for lot in new for e in lot.entries}


def test_a_changed_partition_changes_its_lot_only(tmp_path: Path) -> None:
    before = plan_of(tmp_path, [entry(name) for name in NAMES])
    entries = [entry(name, member="new" if name == NAMES[80] else "m") for name in NAMES]
    after = plan_of(tmp_path, entries)
    old = {lot.digest for lot in before.lots("views")}
    assert len([lot for lot in after.lots("views") if lot.digest not in old]) == 1


def test_views_wait_for_the_scans_they_read(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [entry(name) for name in NAMES])
    for lot in plan.lots("views"):
        names = {e.name for e in lot.entries}
        needed = [s for s in plan.lots("scans") if names & {e.name for e in s.entries}]
        assert plan.before("views", lot.digest) == [str(plan.experiment.lot_path(s)) for s in needed]
    assert plan.before("features", plan.lots("features")[0].digest) == []


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"width": 32}},
        {"points": {"voxel": 0.2}},
        {"points": {"field_of_view": [[-32, 32], [-32, 32], [-8, 8]]}},
        {"augment": {"scale": 0.0}},
        {"pretrain": {"lr": 1e-3}},
        {"seeds": [1]},
        {"sampling": "subpixel"},
    ],
)
def test_what_can_change_results_changes_the_run(tmp_path: Path, change: dict[str, Any]) -> None:
    entries = [entry("scene-0001")]
    old = plan_of(tmp_path, entries).runs["s"].id
    assert plan_of(tmp_path, entries, changed(**change)).runs["s"].id != old


def test_names_and_descriptions_change_nothing(tmp_path: Path) -> None:
    entries = [entry("scene-0001")]
    old = plan_of(tmp_path, entries).runs["s"].id
    renamed = {
        **CONFIG,
        "description": "x",
        "workers": 7,
        "teachers": {"other": {**CONFIG["teachers"]["t"], "images_per_batch": 1}},
        "students": {"s": {"datasets": ["nuscenes"], "teacher": "other", "description": "y"}},
    }
    assert plan_of(tmp_path, entries, renamed).runs["s"].id == old


def test_a_network_changes_no_store_and_a_voxel_changes_views_alone(tmp_path: Path) -> None:
    entries = [entry("scene-0001")]

    def folders(config: dict[str, Any]) -> dict[str, str]:
        plan = plan_of(tmp_path, entries, config)
        return {stage: plan.lots(stage)[0].store.folder for stage in ("scans", "views", "features")}

    old = folders(CONFIG)
    assert folders(changed(network={"width": 32})) == old
    new = folders(changed(points={"voxel": 0.2}))
    assert new["views"] != old["views"]
    assert {**new, "views": old["views"]} == old


def test_an_index_of_another_version_is_not_taken(tmp_path: Path) -> None:
    other = {**DATASET, "version": "v1.0-mini"}
    with pytest.raises(BadInput, match=r"is of v1\.0-trainval in .*, the config names v1\.0-mini"):
        plan_of(tmp_path, [entry("scene-0001")], {**CONFIG, "datasets": {"nuscenes": other}})


@pytest.mark.parametrize(("version", "words"), [("v1.0-mini", r"d \(v1\.0-mini\) has"), ("", "d has")])
def test_a_dataset_is_named_with_the_version_that_it_has(version: str, words: str, tmp_path: Path) -> None:
    dataset = Dataset(reader="nuscenes", root=".", version=version)
    index = Index(tmp_path, {"partitions": [], "absent": []})
    with pytest.raises(BadInput, match=f"students.s.splits: dataset {words} no partition in split val"):
        entries_of_split("students.s.splits", "d", dataset, index, "val")


def test_a_finished_run_waits_for_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [entry("scene-0001")])
    run = plan.runs["s"]
    name = Path(run.folder).name
    assert len(plan.before_run(name)) == 3
    (tmp_path / run.folder).mkdir(parents=True)
    (tmp_path / run.folder / "done.json").write_text("{}")
    assert plan.before_run(name) == []


def test_broken_partitions_are_refused_only_when_selected(tmp_path: Path) -> None:
    entries = [entry("scene-0001"), entry("scene-0002", problem="3 of its files are missing")]
    with pytest.raises(
        BadInput, match=r"1 of 2 partition\(s\) cannot be used:\n  scene-0002: 3 of its files"
    ):
        plan_of(tmp_path, entries)
    dataset = {**DATASET, "leave_out": ["scene-0002"]}
    plan = plan_of(tmp_path, entries, {**CONFIG, "datasets": {"nuscenes": dataset}})
    assert [e.name for lot in plan.lots("scans") for e in lot.entries] == ["scene-0001"]


def test_a_lot_or_run_that_is_not_planned_says_what_to_do(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [entry("scene-0001")])
    with pytest.raises(BadInput, match="Run the same snakemake command again"):
        plan.lot("views", "0123456789")
    with pytest.raises(BadInput, match="Run the same snakemake command again"):
        plan.run("s-0123456789")


IMAGE = ImageRecord("CAM", "a.jpg", 10, 9, 16, (1.0,) * 9, (RigidStep((1.0, 0.0, 0.0, 0.0), (0.0,) * 3),))
SCAN = ScanRecord("s", "r", "a.bin", 40, "a.label", 2, (IMAGE,))


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        ({"path": "b.bin"}, {"scans", "views"}),
        ({"bytes": 60}, {"scans", "views"}),
        ({"label_bytes": 3}, {"labels"}),
        ({"images": (ImageRecord(**{**IMAGE.__dict__, "bytes": 11}),)}, {"features"}),
        ({"images": (ImageRecord(**{**IMAGE.__dict__, "width": 17}),)}, {"views"}),
        ({"images": (ImageRecord(**{**IMAGE.__dict__, "intrinsics": (2.0,) * 9}),)}, {"views"}),
        ({"name": "t"}, {"scans", "labels", "views"}),
        ({"images": (ImageRecord(**{**IMAGE.__dict__, "path": "b.jpg"}),)}, {"views", "features"}),
    ],
)
def test_member_digests_hold_only_what_their_store_reads(change: dict[str, Any], changes: set[str]) -> None:
    def digests(scan: ScanRecord) -> dict[str, str | None]:
        return PartitionRecord("p", "train", (scan,)).member_digests()

    old, new = digests(SCAN), digests(ScanRecord(**{**SCAN.__dict__, **change}))
    assert {stage for stage in old if old[stage] != new[stage]} == changes


def test_ids_are_what_they_were() -> None:
    """Whoever changes these numbers makes every cache of every user anew: say so in the version, and mean it."""
    dataset = Dataset(reader="nuscenes", root="x", version="v1.0-trainval")
    scan = identity.scan_identity("nuscenes", dataset, TRAITS)
    scan_id = identity.store_id("nuscenes", scan)
    view = identity.view_identity(scan_id, dataset, Points(), TRAITS)
    teacher = identity.teacher_identity(Teacher(model="vit_small_patch14_dinov2.lvd142m"))
    assert scan_id == "nuscenes-20c52df484"
    assert identity.store_id("nuscenes", view) == "nuscenes-65906d005b"
    assert identity.teacher_id(teacher) == "vit_small_patch14_dinov2-bc0f7a0064"


def test_the_command_line_and_the_plan_import_neither_torch_nor_zarr() -> None:
    code = (
        "import sys, time; start = time.process_time()\n"
        "import stages.cli, stages.workflow\n"
        "took = time.process_time() - start\n"
        "heavy = {'torch', 'zarr', 'scipy', 'timm', 'nuscenes', 'dask', 'pandas'} & set(sys.modules)\n"
        "print(took, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.split(" ", 1)
    assert heavy.strip() == "[]"
    assert float(seconds) < 0.5
