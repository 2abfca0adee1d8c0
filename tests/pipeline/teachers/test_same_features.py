"""Other versions and devices: four stored images are computed again before anything is added to a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cache_schemas.errors import GriddleError
from cache_schemas.features import features_schema
from cache_schemas.manifest import made, read_manifest, seal
from cache_schemas.publish import write_json
from cache_schemas.reading import PartitionReader
from pipeline.config.model import Teacher
from pipeline.plan.plan import Plan
from pipeline.teachers import same_features
from pipeline.teachers.loaded import LoadedTeacher, load_teacher
from pipeline.teachers.same_features import (
    CLOSE,
    Compared,
    check_unchanged,
    compare,
    computed_with,
    lowest_cosine,
)


@dataclass
class Other:
    """A teacher that computes something else: `change` of its features. Counts its batches."""

    teacher: LoadedTeacher
    change: Any = None
    batches: int = 0

    @property
    def config(self) -> Teacher:
        return self.teacher.config

    @property
    def device(self) -> torch.device:
        return self.teacher.device

    def features(self, images: torch.Tensor) -> np.ndarray:
        self.batches += 1
        values = self.teacher.features(images)
        return self.change(values) if self.change else values


@pytest.fixture(scope="module")
def teacher(filled_master: Any) -> LoadedTeacher:
    return load_teacher(
        filled_master.workspace.plan().experiment.config.teachers["tiny"], torch.device("cpu")
    )


class Bench:
    def __init__(self, filled: Any) -> None:
        self.plan: Plan = filled.workspace.plan()
        (lot,) = self.plan.lots("features")
        self.members = lot.members
        self.folder = self.plan.experiment.store_path(lot.store)
        self.root = Path(self.plan.experiment.config.datasets["nuscenes"].root)
        self.load = self.plan.experiment.indices["nuscenes"].load_partition

    def check(self, teacher: Any) -> list[Compared]:
        return check_unchanged(teacher, self.folder, self.root, self.members, self.load)

    def compare(self, teacher: Any, number: int) -> Compared:
        entry, member = self.members[0]
        return compare(teacher, self.folder, self.root, self.load(entry), member, number)

    def made_with(self, number: int, **changes: Any) -> None:
        """Let a partition say that it was computed with something."""
        entry, member = self.members[number]
        manifest = read_manifest(self.folder / f"{entry.name}.{member}.json")
        sealed = ("griddle", "format", "digest", "made")
        body = {key: value for key, value in manifest.body.items() if key not in sealed}
        write_json(manifest.path, seal(body, changes))


@pytest.fixture
def bench(filled: Any) -> Bench:
    return Bench(filled)


def test_nothing_is_computed_where_nothing_has_changed(bench: Bench, teacher: LoadedTeacher) -> None:
    for number in (0, 1):
        bench.made_with(number, **computed_with(teacher))
    same = Other(teacher)
    assert bench.check(same) == []
    assert same.batches == 0


def test_one_partition_of_todays_is_enough(bench: Bench, teacher: LoadedTeacher) -> None:
    """It was added after the check."""
    bench.made_with(0, **computed_with(teacher), versions={**made()["versions"], "torch": "1.0"})
    bench.made_with(1, **computed_with(teacher))
    assert bench.check(Other(teacher)) == []


def test_nothing_is_computed_for_an_empty_store(bench: Bench, teacher: LoadedTeacher) -> None:
    for path in bench.folder.glob("*.json"):
        path.unlink()
    assert bench.check(Other(teacher, lambda values: values * 0)) == []


@pytest.mark.parametrize("what", ["torch", "timm", "device", "cuda"])
def test_four_images_are_computed_again_where_something_has_changed(
    bench: Bench, teacher: LoadedTeacher, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 1):
        changed = (
            {"versions": {**made()["versions"], what: "1.0"}} if what in ("torch", "timm") else {what: "old"}
        )
        bench.made_with(number, **{**computed_with(teacher), **changed})
    same = Other(teacher)
    compared = bench.check(same)
    assert same.batches == len(compared) == 4
    assert all(one.equal and not one.as_then for one in compared)
    assert f'{what} is "{"1.0" if what in ("torch", "timm") else "old"}", now' in capfd.readouterr().err


def test_other_features_are_refused_with_what_has_changed(bench: Bench, teacher: LoadedTeacher) -> None:
    for number in (0, 1):
        bench.made_with(number, **{**computed_with(teacher), "device": "NVIDIA Nothing"})
    noise = np.random.default_rng(0)

    def other(values: np.ndarray) -> np.ndarray:
        return (values + 0.05 * values.std() * noise.normal(size=values.shape)).astype(values.dtype)

    with pytest.raises(GriddleError, match=r"lowest cosine of 4 images .* 0\.9999 is needed") as refusal:
        bench.check(Other(teacher, other))
    assert 'device is "NVIDIA Nothing", now "cpu' in str(refusal.value)
    # What differs by rounding alone goes on.
    assert (
        len(bench.check(Other(teacher, lambda values: (values * np.float32(1.0001)).astype(values.dtype))))
        == 4
    )


def test_an_image_is_compared_in_the_batch_that_it_was_computed_in(
    bench: Bench, teacher: LoadedTeacher
) -> None:
    """Its batch is computed, and of that its own row is compared. Bits are not asked for: what is stored was computed
    alone, and on some processors the bits of an image hang on how many it is computed with."""
    bench.made_with(0, **{**computed_with(teacher), "images_per_batch": 5})
    entry, member = bench.members[0]
    stored = PartitionReader(bench.folder, features_schema("float16"), entry.name, member).read("features")
    batches = []

    def note(values: np.ndarray) -> np.ndarray:
        batches.append(values.astype(np.float16))
        return values

    for number in (0, 6, 11):
        found = bench.compare(Other(teacher, note), number)
        rows = [lowest_cosine(row, stored[number]) for row in batches[-1]]
        assert found.cosine == rows[number % 5] == max(rows) > CLOSE
    assert [len(batch) for batch in batches] == [5, 5, 2]


def test_rounding_is_no_damage(bench: Bench, teacher: LoadedTeacher) -> None:
    """`verify --repair` removes what differs: a sound store must not, whatever a processor's kernels round by."""

    def nearly(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[..., 0] *= np.float32(1 + 2**-9)  # a bit or two of float16
        return changed

    bench.made_with(0, **computed_with(teacher))
    assert bench.compare(teacher, 3).equal
    found = bench.compare(Other(teacher, nearly), 3)
    assert found.as_then
    assert not found.equal
    assert found.cosine > CLOSE
    assert found.same
    bench.made_with(0, **{**computed_with(teacher), "device": "another"})
    assert bench.compare(Other(teacher, nearly), 3).same


def test_images_are_loaded_by_as_many_threads_as_they_were(
    bench: Bench, teacher: LoadedTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one: torch's resize rounds otherwise with several."""
    threads = []
    sound = same_features.load_input

    def load(*given: Any) -> torch.Tensor:
        threads.append(torch.get_num_threads())
        return sound(*given)

    monkeypatch.setattr(same_features, "load_input", load)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        bench.compare(teacher, 3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}


def test_the_cosine_is_that_of_the_worst_patch() -> None:
    grid = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float16)
    other = grid.copy()
    other[1, 2] = -other[1, 2]
    assert lowest_cosine(grid, grid) == pytest.approx(1)
    assert lowest_cosine(grid, other) == pytest.approx(-1)
    assert lowest_cosine(grid, grid * 2) == pytest.approx(1)
    assert lowest_cosine(grid, grid[:1]) == -1
    zero = np.zeros_like(grid)
    assert lowest_cosine(zero, zero) == 1
    assert lowest_cosine(zero, grid) == 0
    other[0, 0, 0] = np.nan
    assert lowest_cosine(grid, other) == -1
