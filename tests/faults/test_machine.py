"""Random sequences of all that can happen to a cache, against a plain dict of what it must hold.

A small run by default; `pytest -n 0 -m slow -s tests/faults/test_machine.py` does more than a thousand steps and prints
how many of each.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cache_schemas.contents import NAME
from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.manifest import Manifest, manifest_path, read_manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.stores import schema_of
from pipeline.cache.garbage import delete_unreferenced, unreferenced
from pipeline.cache.verify import repair, verify_cache
from pipeline.plan.lot_status import drop_stale_lots
from pipeline.plan.plan import Plan

SCENES = ["scene-0061", "scene-0103", "scene-0553", "scene-0655"]
STAGES = ("scans", "labels", "full_scans")
Key = tuple[str, str]
"""(stage, scene)"""

STOPPED = (BadInput, DamagedCache)
"""What a stage says of the scan store that it reads: a partition is not there, or not whole."""


class CacheMachine(RuleBasedStateMachine):
    """`model` says of each partition that is there whether it is whole; what is not in it is not there."""

    world: ClassVar[Any]
    steps: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.work = Path(tempfile.mkdtemp(prefix="griddle-machine-"))
        shutil.copytree(self.world.index, self.work / "index")
        self.model: dict[Key, str] = {}
        """`whole`; or `damaged` where only its bytes tell, `resized` where sizes tell, `torn` where names do."""

    @initialize(first=st.data())
    def begin(self, first: st.DataObject) -> None:
        splits = {
            e.name: e.split
            for e in self.world.plan(self.work, self.world.scenes).experiment.indices["nuscenes"].partitions
        }
        train = [s for s in self.world.scenes if splits[s] == "train"]
        self.val = [s for s in self.world.scenes if splits[s] == "val"]
        self.chosen = [first.draw(st.sampled_from(train)), *self.val]
        self.train = train

    # What the user does.

    @rule()
    def call_snakemake(self) -> None:
        self.count("snakemake")
        plan = self.plan()
        drop_stale_lots(plan)
        for stage in STAGES:
            lots = [lot for lot in plan.lots(stage) if not plan.experiment.lot_path(lot).exists()]
            self.compute(plan, stage, [entry.name for lot in lots for entry in lot.entries], all_lots=False)

    @rule(stage=st.sampled_from(STAGES))
    def call_a_stage(self, stage: str) -> None:
        self.count("stage by hand")
        self.compute(self.plan(), stage, self.chosen, all_lots=True)

    @precondition(lambda self: self.to_compute())
    @rule(stage=st.sampled_from(STAGES), event=st.integers(1, 250))
    def kill(self, stage: str, event: int) -> None:
        """SIGKILL itself at that event: a file opened, renamed or removed."""
        plan = self.plan()
        child = os.fork()
        if child == 0:
            try:
                left = [event]

                def die(name: str, _: Any) -> None:
                    if name in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"):
                        left[0] -= 1
                        if left[0] == 0:
                            os.kill(os.getpid(), signal.SIGKILL)

                sys.addaudithook(die)
                self.world.compute(plan, stage, all_lots=True)
                os._exit(0)
            except STOPPED:
                os._exit(3)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL) or (code == 3 and self.lacks_scans(stage))
        self.count("kill, in time" if code == -signal.SIGKILL else "kill, too late")
        self.learn(stage)

    @precondition(lambda self: len(self.chosen) < len(self.world.scenes))
    @rule(data=st.data())
    def add_a_scene(self, data: st.DataObject) -> None:
        self.count("add a scene")
        self.chosen.append(data.draw(st.sampled_from([s for s in self.train if s not in self.chosen])))

    @precondition(lambda self: len(self.chosen) > 2)
    @rule(data=st.data())
    def leave_out_a_scene(self, data: st.DataObject) -> None:
        self.count("leave out a scene")
        self.chosen.remove(data.draw(st.sampled_from([s for s in self.chosen if s in self.train])))

    @precondition(lambda self: "whole" in self.model.values())
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(k for k, state in self.model.items() if state == "whole")))
        manifest = self.manifest(key)
        names = [
            manifest.path,
            manifest.sidecar,
            *(manifest.store / n for n in sorted(manifest.body["files"])),
        ]
        path = data.draw(st.sampled_from(names))
        how = data.draw(st.sampled_from(["flip", "truncate", "delete", "swap"]))
        others = [k for k, s in self.model.items() if s == "whole" and k[0] == key[0] and k != key]
        self.count(f"damage: {how}")
        content = path.read_bytes()
        if how == "swap" and others:
            other = self.manifest(data.draw(st.sampled_from(sorted(others))))
            beside = {manifest.path: other.path, manifest.sidecar: other.sidecar}.get(path)
            beside = beside or other.store / path.relative_to(manifest.store)
            theirs = beside.read_bytes()
            path.write_bytes(theirs)
            beside.write_bytes(content)
            if theirs != content:
                state = (
                    "resized"
                    if len(theirs) != len(content) or (path.suffix == ".json" and path == manifest.path)
                    else "damaged"
                )
                self.model[key] = self.model[key[0], other.partition] = state
        elif how == "delete":
            path.unlink()
            # Only what lies in the store's folder has a name that Snakemake misses.
            self.model[key] = "torn" if path.parent == manifest.path.parent else "resized"
        else:
            place = data.draw(st.integers(0, len(content) - 1))
            changed = bytearray(content)
            changed[place] ^= 1 << place % 8
            path.write_bytes(content[:place] if how == "truncate" else changed)
            self.model[key] = "resized" if how == "truncate" or path == manifest.path else "damaged"

    @rule(mend=st.booleans())
    def verify(self, mend: bool) -> None:
        self.count("repair" if mend else "verify")
        result = verify_cache(self.work / "cache", self.plan(), threads=1)
        broken = {p.manifest.absolute() for p in result.problems if NAME.fullmatch(p.manifest.name)}
        told = {key for key in self.model if self.path(key) in broken}
        damaged = {key for key, state in self.model.items() if state != "whole"}
        # A partition without its manifest is missed only by a lot that lists it.
        without = {key for key in damaged if not self.path(key).exists()}
        assert damaged - without <= told <= damaged, (damaged, told, [str(p) for p in result.problems])
        gone = broken - {self.path(key) for key in told}
        assert not any(path.exists() for path in gone)
        if mend:
            repair(result, [self.work])
            for key in damaged - (without - told):
                del self.model[key]
            again = verify_cache(self.work / "cache", self.plan(), threads=1)
            assert again.problems == []

    @rule(delete=st.booleans())
    def gc(self, delete: bool) -> None:
        self.count("gc --delete" if delete else "gc")
        plan = self.plan()
        before = self.names()
        items = unreferenced(plan.experiment.cache, [plan], older_than_hours=-1)
        assert self.names() == before
        listed = {(i.store.stage, i.path.name.split(".")[0]) for i in items if i.kind == "partition"}
        there = {key for key in self.model if self.path(key).exists()}
        assert listed == {key for key in there if key[1] not in self.chosen}
        if delete:
            delete_unreferenced(plan.experiment.cache, items, [self.work])
            for key in list(self.model):
                if key[1] not in self.chosen or not self.path(key).exists():
                    del self.model[key]
            stages = {name.split(".")[0] for name in self.names()}
            assert stages <= set(self.chosen)
            assert unreferenced(plan.experiment.cache, [plan], older_than_hours=-1) == []

    @rule()
    def read(self) -> None:
        self.count("read")
        for key, state in self.model.items():
            if state == "whole":
                found = self.values(key)
                for name, values in self.world.values[key].items():
                    np.testing.assert_array_equal(found[name], values)
            else:
                with pytest.raises(DamagedCache, match="griddle cache verify --repair"):
                    self.values(key)

    # What must always be so.

    @invariant()
    def nothing_is_there_that_is_not_in_the_dict(self) -> None:
        if hasattr(self, "chosen"):
            manifests = {name.split(".")[0] for name in self.names() if name.endswith(".json")}
            assert manifests <= {scene for _, scene in self.model}

    def teardown(self) -> None:
        if hasattr(self, "chosen"):
            self.verify(mend=True)
            self.call_snakemake()
            self.gc(delete=True)
            self.read()
            assert set(self.model) == {(stage, scene) for stage in STAGES for scene in self.chosen}
            assert set(self.model.values()) == {"whole"}
            assert len(self.names()) == 3 * len(self.model)
        shutil.rmtree(self.work)

    # Helpers.

    def to_compute(self) -> bool:
        """Whether a killed stage would have had something to do."""
        return any(self.model.get((stage, scene)) != "whole" for stage in STAGES for scene in self.chosen)

    def count(self, what: str) -> None:
        type(self).steps[what] += 1

    def plan(self) -> Plan:
        return self.world.plan(self.work, self.chosen)

    def all_members(self, stage: str) -> dict[str, tuple[Path, str]]:
        return self.world.members(self.world.plan(self.work, self.world.scenes), stage)

    def path(self, key: Key) -> Path:
        folder, member = self.all_members(key[0])[key[1]]
        return manifest_path(folder, key[1], member).absolute()

    def manifest(self, key: Key) -> Manifest:
        return read_manifest(self.path(key))

    def values(self, key: Key) -> dict[str, np.ndarray]:
        schema = {"scans": SCANS, "labels": LABELS, "full_scans": FULL_SCANS}[key[0]]
        folder, member = self.all_members(key[0])[key[1]]
        reader = PartitionReader(folder, schema, key[1], member)
        assert schema_of(reader.manifest) == schema
        return {spec.name: reader.read(spec.name) for spec in schema.arrays}

    def compute(self, plan: Plan, stage: str, scenes: list[str], *, all_lots: bool) -> None:
        """As a stage, which stops at a scan store that is not whole where it reads one."""
        try:
            self.world.compute(plan, stage, all_lots=all_lots)
        except STOPPED:
            assert self.lacks_scans(stage)
            self.count("stopped: scans not whole")
            self.learn(stage)
        else:
            self.computed(stage, scenes)

    def lacks_scans(self, stage: str) -> bool:
        """Whether the stage reads the scan store and will not find all of it whole."""
        return stage == "full_scans" and any(
            self.model.get(("scans", scene)) != "whole" for scene in self.chosen
        )

    def computed(self, stage: str, scenes: list[str]) -> None:
        """What a computation mends: what is not there, and what names or sizes tell."""
        for scene in scenes:
            if self.model.get((stage, scene)) != "damaged":
                self.model[stage, scene] = "whole"

    def learn(self, stage: str) -> None:
        """After a kill each partition is what it was, or whole."""
        for scene in self.chosen:
            key = (stage, scene)
            if self.model.get(key) in ("whole", "damaged"):
                continue
            try:
                self.values(key)
            except DamagedCache:
                continue
            self.model[key] = "whole"

    def names(self) -> list[str]:
        """All names in the store folders, hidden ones too."""
        found: list[str] = []
        for level in ("scans/*", "scans/*/labels/*", "full_scans/*"):
            for folder in sorted((self.work / "cache").glob(level)):
                found += [name for name in os.listdir(folder) if name != "labels"]
        return sorted(found)


def run(world: Any, examples: int, steps: int) -> Counter[str]:
    CacheMachine.world = world
    CacheMachine.steps = Counter()
    run_state_machine_as_test(
        CacheMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            print_blob=False,
            phases=[Phase.generate],  # shrinking takes long, and a failure comes again as it is
            suppress_health_check=list(HealthCheck),
        ),
    )
    return CacheMachine.steps


def test_a_short_life(world: Any) -> None:
    counts = run(world, examples=3, steps=10)
    assert sum(counts.values()) > 25


@pytest.mark.slow
def test_a_long_life(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    counts = run(world, examples=80, steps=25)
    with capsys.disabled():
        print(f"\nstate machine: {sum(counts.values())} steps")
        for what, count in sorted(counts.items()):
            print(f"  {count:>5} × {what}")
    assert sum(counts.values()) > 1000
    assert counts["kill, in time"] > 50
