"""A lot is one process, and loads its teacher once: for all its partitions, and not at all where nothing is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline.teachers.loaded as loaded
from pipeline.plan.plan import Plan
from stages.cli import griddle


@pytest.fixture
def features(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[str]]]:
    """Runs `griddle features`; how often a teacher was loaded, and the partitions that were computed."""
    monkeypatch.chdir(workspace.folder)
    loads: list[str] = []
    load = loaded.load_teacher
    monkeypatch.setattr(
        loaded, "load_teacher", lambda config, *rest: loads.append(config.model) or load(config, *rest)
    )
    griddle.main(["index", "--config", "config/tiny.yaml"], standalone_mode=False)

    def run(*arguments: str) -> tuple[int, list[str]]:
        before = manifests(workspace.work)
        loads.clear()
        griddle.main(["features", "--config", "config/tiny.yaml", *arguments], standalone_mode=False)
        return len(loads), sorted(set(manifests(workspace.work)) - set(before))

    return run


def manifests(work: Path) -> dict[str, Path]:
    found = (work / "cache" / "features").glob("*/*/*.json")
    return {path.name.split(".")[0]: path for path in found}


def plan_of(workspace: Any) -> Plan:
    return workspace.plan()


def test_once_for_all_partitions_of_a_lot(
    workspace: Any, features: Callable[..., tuple[int, list[str]]]
) -> None:
    (lot,) = plan_of(workspace).lots("features")
    assert len(lot.entries) == 3
    assert features("--lot", lot.digest) == (1, sorted(entry.name for entry in lot.entries))
    assert features("--lot", lot.digest) == (0, [])
    gone = manifests(workspace.work)[lot.entries[1].name]
    gone.unlink()
    assert features("--lot", lot.digest) == (1, [lot.entries[1].name])


def test_once_for_all_lots_of_one_process(
    workspace: Any, features: Callable[..., tuple[int, list[str]]]
) -> None:
    workspace.edit(lambda config: config.update(lot_partitions=1))
    assert len(plan_of(workspace).lots("features")) == 3
    loads, computed = features()
    assert (loads, len(computed)) == (1, 3)
