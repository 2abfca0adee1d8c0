"""Every file of a finished cache, damaged in every way, read by `verify`, through Zarr and by the trainer.

Never a silently other value; always an error that names the file and the command that mends it. `pytest -n 0 -m slow -s`
runs all of it and prints the counts.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from read_view import read_view

from cache_schemas.checked_store import CheckedStore
from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import Manifest, read_manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.stores import schema_of
from pipeline.cache.verify import verify_cache
from pipeline.plan.plan import Plan
from pipeline.streaming.scan_source import ScanSource
from pipeline.streaming.seen_points import SeenSource
from pipeline.streaming.view_source import ViewSource

MINE, OTHER = "scene-0061", "scene-0655"
DAMAGES = ("flip", "truncate", "empty", "delete", "swap")
READERS = ("verify", "zarr", "xarray", "partition reader", "trainer")

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class File:
    """One file of the partition, its counterpart of the other partition, and the manifest of each."""

    path: Path
    counterpart: Path
    manifest: Path
    other_manifest: Path


@dataclass(frozen=True)
class Sweep:
    """The cache that is damaged file by file, and what it holds."""

    plan: Plan
    files: list[File]
    manifests: list[Manifest]
    written: dict[str, Values]

    def read(self, reader: str, file: File) -> Values:
        """All that a reader can read of the damaged partition, by name.

        Raises:
            DamagedCache: naming the file, as a user would see it.
        """
        if reader == "verify":
            found = verify_cache(self.plan.experiment.cache, self.plan, [file.manifest], threads=1)
            if not found.problems:
                return {}
            raise DamagedCache("\n".join(map(str, found.problems)) + "\ngriddle cache verify --repair")
        if reader == "trainer":
            return trainer_values(self.plan)
        manifest = next(m for m in self.manifests if m.path == file.manifest)
        schema = schema_of(manifest)
        if reader == "partition reader":
            opened = PartitionReader(manifest.path.parent, schema, manifest.partition, manifest.member_digest)
            values = {s.name: opened.read(s.name) for s in schema.arrays}
            return values | {"attributes": np.array(str(sorted(opened.attributes.items())))}
        if reader == "zarr":
            group = zarr.open_group(CheckedStore(manifest.path), mode="r")
            values = {s.name: np.asarray(group[s.name]) for s in schema.arrays}
            return values | {"attributes": np.array(str(sorted(group.attrs.items())))}
        with xarray.open_zarr(CheckedStore(manifest.path)) as dataset:
            values = {str(name): dataset[name].values for name in dataset.data_vars}
            return values | {"attributes": np.array(str(sorted(dataset.attrs.items())))}


def trainer_values(plan: Plan) -> Values:
    """What pretraining, a student's probe and the teacher's probe read of the partition, on their own paths."""
    run = plan.runs["wi_tiny"]
    teacher = plan.experiment.config.teachers["tiny"]
    views = ViewSource(plan.experiment.cache, [r for r in run.readings if r.partition == MINE], [teacher])
    values: Values = {}
    for place in views.scans()[0]:
        for view in place.views:
            for variant in range(2):
                read = read_view(views, place.reading, view, variant)
                for name in ("xyz", "intensity", "pixel", "neighbours", "original"):
                    values[f"{place.name} {view} {variant} {name}"] = np.asarray(getattr(read, name))
                values[f"{place.name} {view} {variant} grid"] = read.grids[0].values
    (probe,) = (p for p in plan.probe_runs.values() if p.kind == "distilled")
    scans = ScanSource(plan.experiment.cache, [r for r in probe.train if r.partition == MINE])
    for labelled in scans.scans():
        points = scans.read(labelled)
        values |= {f"{labelled.name} {n}": getattr(points, n) for n in ("xyz", "intensity", "label")}
    scored = ScanSource(plan.experiment.cache, [r for r in probe.evaluate if r.partition == MINE])
    for labelled in scored.scans():
        full = scored.full(labelled)
        values |= {f"{labelled.name} scored {n}": getattr(full, n) for n in ("kept", "neighbours", "nearest")}
    (probe,) = (p for p in plan.probe_runs.values() if p.kind == "teacher")
    seen = SeenSource(
        plan.experiment.cache,
        [r for r in probe.train if r.partition == MINE],
        teachers=[teacher],
        sampling="published",
    )
    batch = seen.read(seen.scans())
    (target,) = batch.targets
    values |= {f"seen {n}": np.asarray(getattr(batch, n)) for n in ("view", "labels")}
    return values | {f"seen {n}": np.asarray(getattr(target, n)) for n in ("values", "coordinates")}


@pytest.fixture(scope="module")
def sweep(filled_master: Any, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    filled = filled_master.copy(tmp_path_factory.mktemp("sweep") / "copy")
    plan = filled.workspace.plan()
    files, manifests = [], []
    for path in sorted(filled.cache.glob(f"*/**/{MINE}.*.json")):
        mine = read_manifest(path)
        other = read_manifest(next(path.parent.glob(f"{OTHER}.*.json")))
        manifests.append(mine)
        pairs = [(mine.path, other.path), (mine.sidecar, other.sidecar)]
        pairs += [(mine.store / name, other.store / name) for name in mine.body["files"]]
        files += [File(*pair, mine.path, other.path) for pair in pairs]
    swept = Sweep(plan, files, manifests, {})
    for file in files:
        for reader in READERS if file.path == file.manifest else ():
            swept.written[f"{reader} {file.manifest}"] = swept.read(reader, file)
    return swept


@contextmanager
def damaged(file: File, damage: str, rng: random.Random) -> Iterator[bool]:
    """The file, damaged; False where a swap changes nothing, for arrays of one shape have one zarr.json."""
    data, counterpart = file.path.read_bytes(), file.counterpart.read_bytes()
    if damage == "flip":
        place = rng.randrange(len(data))
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        file.path.write_bytes(changed)
    elif damage == "truncate":
        file.path.write_bytes(data[: rng.randrange(1, len(data))])
    elif damage == "empty":
        file.path.write_bytes(b"")
    elif damage == "delete":
        file.path.unlink()
    else:
        aside = file.path.with_name(".swapping")
        os.rename(file.path, aside)
        os.rename(file.counterpart, file.path)
        os.rename(aside, file.counterpart)
    yield damage != "swap" or counterpart != data
    file.path.write_bytes(data)
    file.counterpart.write_bytes(counterpart)


def outcome(sweep: Sweep, reader: str, file: File, *, said: Callable[[str], bool]) -> str:
    """`refused`, or `same values`; fails on other values and on errors that do not help."""
    message = None
    try:
        found = sweep.read(reader, file)
    except DamagedCache as error:
        message = str(error)
    if message is not None:
        assert said(message), f"{reader}: {file.path}:\n{message}"
        assert "griddle cache verify --repair" in message
        return "refused"
    written = sweep.written[f"{reader} {file.manifest}"]
    assert found.keys() == written.keys()
    for name, values in written.items():
        np.testing.assert_array_equal(found[name], values, err_msg=f"{reader}: {name}, {file.path}")
    return "same values"


def run_sweep(sweep: Sweep, cases: list[tuple[File, str]], seed: int) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    rng = random.Random(seed)
    for file, damage in cases:
        with damaged(file, damage, rng) as is_damage:
            for reader in READERS if is_damage else ():
                found = outcome(sweep, reader, file, said=lambda text, path=file.path: str(path) in text)
                counts[reader, found] += 1
                # These read everything; a trainer reads no depth, for instance.
                assert found == "refused" or reader == "trainer", (reader, damage, file.path)
            counts["cases", "damaged" if is_damage else "same bytes"] += 1
    for file in sweep.files:
        for reader in READERS if file.path == file.manifest else ():
            assert outcome(sweep, reader, file, said=lambda _: False) == "same values"
    return counts


def test_the_cache_has_all_kinds_of_files(sweep: Sweep) -> None:
    kinds = Counter(
        f"{file.manifest.relative_to(sweep.plan.experiment.cache).parts[0]} "
        f"{'shard' if '/c/' in str(file.path) else file.path.suffix}"
        for file in sweep.files
    )
    assert kinds["scans shard"] == 3 + 2  # points and labels
    assert kinds["views shard"] == 10
    assert kinds["full_scans shard"] == 5
    assert kinds["features shard"] == 1
    assert {kinds[f"{store} .crc"] for store in ("scans", "views", "full_scans", "features")} == {2, 1}


def test_each_file_damaged_in_one_way_and_each_way(sweep: Sweep) -> None:
    """One case a file; `-m slow` runs all."""
    cases = [(file, DAMAGES[number % len(DAMAGES)]) for number, file in enumerate(sweep.files)]
    counts = run_sweep(sweep, cases, seed=0)
    assert counts["cases", "damaged"] >= 40
    assert counts["trainer", "refused"] > counts["trainer", "same values"]


@pytest.mark.slow
def test_each_file_damaged_in_every_way(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [(file, damage) for file in sweep.files for damage in DAMAGES]
    cases += [(file, damage) for file in sweep.files for damage in ("flip", "truncate") for _ in range(9)]
    counts = run_sweep(sweep, cases, seed=1)
    with capsys.disabled():
        print(f"\ndamage sweep: {len(sweep.files)} files, {len(cases)} cases")
        for (who, what), count in sorted(counts.items()):
            print(f"  {who:<18}{what:<12}{count:>6}")
    assert counts["cases", "damaged"] > 900
