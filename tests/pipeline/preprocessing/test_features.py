"""The features stage: the same bytes however it is run, and what is lost where it fails."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from cache_schemas.errors import BadInput, GriddleError
from cache_schemas.manifest import Manifest
from pipeline.common.progress import SECONDS, Progress
from pipeline.config.load import load_config
from pipeline.datasets.index import make_index
from pipeline.plan.parts import Lot
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.preprocessing.features import FeatureWriter
from pipeline.preprocessing.lots import do_lot
from pipeline.teachers.images import load_input
from pipeline.teachers.loaded import LoadedTeacher, load_teacher

CPU = torch.device("cpu")


@pytest.fixture
def plan(workspace: Any) -> Plan:
    """Three partitions of twelve images in one lot, indexed."""
    workspace.edit(lambda config: config.update(lot_partitions=1000))
    dataset = load_config(workspace.config_path).datasets["nuscenes"]
    root = {"root": str(workspace.folder / dataset.root)}
    make_index(workspace.work, "nuscenes", dataset.model_copy(update=root))
    return workspace.plan()


@pytest.fixture
def lot(plan: Plan) -> Lot:
    (lot,) = plan.lots("features")
    assert len(lot.members) == 3
    return lot


def compute(plan: Plan, lot: Lot, teacher: LoadedTeacher, progress: Progress | None = None) -> None:
    root = Path(plan.experiment.config.datasets[lot.store.dataset].root)
    with FeatureWriter(teacher, "tiny", progress) as writer:
        do_lot(plan.experiment, lot, partial(writer.write, root))


def contents(plan: Plan, lot: Lot) -> dict[str, str]:
    """Content digest of every partition that is published."""
    found = sorted((plan.experiment.store_path(lot.store)).glob("*.json"))
    return {path.name.split(".")[0]: json.loads(path.read_bytes())["content_digest"] for path in found}


def changed(plan: Plan, lot: Lot, cache: Path, **choices: Any) -> tuple[Plan, LoadedTeacher]:
    """The same plan with a cache of its own, and its teacher with other choices."""
    other = plan_experiment(plan.experiment.config, plan.experiment.workdir)
    other.cache = cache
    return other, load_teacher(lot.store.source.model_copy(update=choices), CPU)


def test_the_same_bytes_for_any_batch_size_any_threads_and_again(
    plan: Plan, lot: Lot, tmp_path: Path
) -> None:
    seen = []
    try:
        for number, (threads, batch) in enumerate([(1, 8), (1, 8), (1, 1), (1, 5), (2, 8), (3, 2)]):
            torch.set_num_threads(threads)
            other, teacher = changed(plan, lot, tmp_path / str(number), images_per_batch=batch)
            compute(other, lot, teacher)
            seen.append(contents(other, lot))
    finally:
        torch.set_num_threads(1)
    assert len(seen[0]) == 3
    assert seen == seen[:1] * 6


def test_the_store_holds_what_the_teacher_gives_for_each_image_in_order(plan: Plan, lot: Lot) -> None:
    teacher = load_teacher(lot.store.source, CPU)
    compute(plan, lot, teacher)
    entry, member = lot.members[1]
    partition = plan.experiment.indices[lot.store.dataset].load_partition(entry)
    manifest = next((plan.experiment.store_path(lot.store)).glob(f"{entry.name}.{member}.json"))
    stored = zarr.open_array(
        manifest.with_name(f"{entry.name}.{contents(plan, lot)[entry.name]}.zarr") / "features"
    )[:]
    root, config = Path(plan.experiment.config.datasets[lot.store.dataset].root), teacher.config
    assert len(stored) == len(partition.images) == 12
    for row, image in zip(stored, partition.images, strict=True):
        alone = load_input(root, image, config.image_size, config.antialias)[None]
        np.testing.assert_array_equal(row, teacher.features(alone)[0].astype(config.storage))


def test_a_manifest_says_how_fast_it_was_made_outside_its_digest(
    plan: Plan, lot: Lot, tmp_path: Path
) -> None:
    _, teacher = changed(plan, lot, tmp_path)
    compute(plan, lot, teacher)
    path = next((plan.experiment.store_path(lot.store)).glob("*.json"))
    body = json.loads(path.read_bytes())
    made = body["made"]
    assert made["device"].startswith("cpu ")
    assert made["images_per_batch"] == 1
    assert made["images_per_second"] == pytest.approx(12 / made["seconds"], rel=0.01)
    assert "seconds" not in {key for key in body if key != "made"}


def test_a_bad_image_costs_its_partition_and_no_other(
    plan: Plan, lot: Lot, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [entry.name for entry, _ in lot.members]
    partition = plan.experiment.indices[lot.store.dataset].load_partition(lot.members[1][0])
    bad = Path(plan.experiment.config.datasets[lot.store.dataset].root) / partition.images[3].path
    bad.write_bytes(bad.read_bytes()[::-1])
    teacher = load_teacher(lot.store.source, CPU)
    with pytest.raises(BadInput, match=f"{names[1]}: .*{bad.name} is no image that can be read"):
        compute(plan, lot, teacher)
    assert sorted(contents(plan, lot)) == sorted([names[0], names[2]])
    assert [
        path.name for path in (plan.experiment.store_path(lot.store)).iterdir() if "writing" in path.name
    ] == []
    assert f"{names[1]}: cannot be computed" in capsys.readouterr().err


class Failing:
    """A teacher that has not the memory for the images after the first so many."""

    def __init__(self, teacher: LoadedTeacher, images: int) -> None:
        self._teacher, self._left = teacher, images

    def __getattr__(self, name: str) -> Any:
        return getattr(self._teacher, name)

    def features(self, images: torch.Tensor) -> np.ndarray:
        self._left -= len(images)
        if self._left < 0:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 2147483648 bytes."
            )
        return self._teacher.features(images)


def test_out_of_memory_loses_what_is_in_flight_and_the_same_command_goes_on(
    plan: Plan, lot: Lot, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = load_teacher(lot.store.source, CPU)
    failing: Any = Failing(teacher, 12 + 5)
    with pytest.raises(GriddleError, match="ran out of memory on teacher tiny") as caught:
        compute(plan, lot, failing)
    assert not isinstance(caught.value, BadInput)
    first, *rest = (entry.name for entry, _ in lot.members)
    before = contents(plan, lot)
    assert list(before) == [first]
    assert [
        path.name for path in (plan.experiment.store_path(lot.store)).iterdir() if "writing" in path.name
    ] == []
    capsys.readouterr()
    compute(plan, lot, teacher)
    assert "2 of 3 partition(s) to compute" in capsys.readouterr().err
    assert contents(plan, lot).items() > before.items()
    assert sorted(contents(plan, lot)) == sorted([first, *rest])


def test_one_partition_is_published_while_the_next_is_computed(
    plan: Plan, lot: Lot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cache_schemas.writing import PartitionWriter

    teacher = load_teacher(lot.store.source, CPU)
    computed: list[torch.Tensor] = []
    meanwhile: list[int] = []
    """For each partition, how many images were computed while it was published."""
    features, publish = LoadedTeacher.features, PartitionWriter.publish

    def slowly(self: PartitionWriter, **given: Any) -> Manifest:
        earlier, begun = len(computed), time.monotonic()
        while not meanwhile and len(computed) < earlier + 6 and time.monotonic() < begun + 60:
            time.sleep(0.01)
        meanwhile.append(len(computed) - earlier)
        return publish(self, **given)

    def noted(self: LoadedTeacher, images: torch.Tensor) -> np.ndarray:
        computed.append(images)
        return features(self, images)

    monkeypatch.setattr(PartitionWriter, "publish", slowly)
    monkeypatch.setattr(LoadedTeacher, "features", noted)
    compute(plan, lot, teacher)
    assert meanwhile[0] >= 6


def test_progress_says_rates_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("pipeline.common.progress.time.monotonic", lambda: now)
    progress = Progress(100, "images")
    for _ in range(20):
        now += 0.5
        progress.add("scene-0061", 1, 2_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "  scene-0061: 10 of 100 images, 2.0 images/s, 4.0 MB/s, 45 s left",
        "  scene-0061: 20 of 100 images, 2.0 images/s, 4.0 MB/s, 40 s left",
    ]
    assert SECONDS == 5.0
