"""What a call costs grows with partitions and lots, never with scans or with squares. Counted, not timed."""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import load_config
from pipeline.datasets.index import is_fresh, read_index
from pipeline.plan.cost.estimate import pending
from pipeline.plan.lot_status import drop_stale_lots
from pipeline.plan.parts import STAGES
from pipeline.plan.plan import plan_experiment
from pipeline.plan.selection import wanted_datasets
from pipeline.report.gather import before_report, drop_stale_report

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "workflow_scale.py"
FILE_CALLS = ("stat", "lstat", "open", "listdir", "scandir", "access", "readlink")


@pytest.fixture(scope="module")
def benchmark_module() -> Any:
    spec = spec_from_file_location("workflow_scale", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["workflow_scale"] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Work:
    """Of one call: Python calls, calls that look at files, and what they were for."""

    calls: int
    file_calls: int
    partitions: int
    lots: int
    scans: int


def of_one_call(root: Path) -> Work:
    """What the Snakefile does while it is parsed and its jobs are laid out, and what `griddle plan` does."""
    config = load_config(root / "scale.yaml")
    with cProfile.Profile() as profile:
        for name in wanted_datasets(config):
            assert is_fresh(read_index(Path(config.workdir), name), config.datasets[name])
        plan = plan_experiment(config)
        drop_stale_report(plan)
        drop_stale_lots(plan)
        lots = [lot for stage in STAGES for lot in plan.lots(stage)]
        for lot in lots:
            plan.before(lot.store.stage, lot.digest)
        for run in plan.runs.values():
            plan.before_run(Path(run.folder).name)
        for folder in plan.probe_runs:
            plan.before_labelled(folder)
        before_report(plan)
        pending(plan, lots)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    file_calls = sum(
        count
        for (_, _, name), (_, count, *_) in stats.items()
        if any(f".{call}>" in name for call in FILE_CALLS)
    )
    return Work(
        calls=sum(count for _, count, *_ in stats.values()),
        file_calls=file_calls,
        partitions=sum(len(lot.members) for lot in lots),
        lots=len(lots),
        scans=sum(entry.scans for lot in plan.lots("scans") for entry in lot.entries),
    )


@pytest.mark.parametrize("finished", [False, True])
def test_work_grows_with_lots_and_partitions(tmp_path: Path, benchmark_module: Any, finished: bool) -> None:
    def work(times: float) -> Work:
        root = tmp_path / f"{times}"
        root.mkdir()
        plan = benchmark_module.write_experiment(root, times)
        if finished:
            benchmark_module.write_finished(plan)
        return of_one_call(root)

    small, large = work(0.1), work(0.5)
    assert large.scans == pytest.approx(5 * small.scans, rel=0.01)
    for one in (small, large):
        # For each dataset its index, cue and stores; for each lot its manifest, which the workflow looks for twice and
        # reads, and the plan reads; for each run its markers.
        assert one.file_calls < 320 + 4 * one.lots, one
        # Lists of all partitions, compared with one another, would be seen in the larger one. (A path costs more calls
        # in Python 3.12: 28,000 of them, however many partitions there are.)
        assert one.calls < 60_000 + 160 * one.partitions, one


def test_a_plan_opens_no_partition_record(
    tmp_path: Path, benchmark_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their 240 kB each would be 170 MB of JSON for nuScenes: the summary must do, but for a few scans of views,
    and of full scans in the one dataset that is probed."""
    from pipeline.datasets.index import Index

    opened: list[str] = []
    load: Callable[..., Any] = Index.load_partition
    monkeypatch.setattr(
        Index, "load_partition", lambda self, entry: opened.append(entry.name) or load(self, entry)
    )
    benchmark_module.write_experiment(tmp_path, 0.1)
    of_one_call(tmp_path)
    assert len(opened) <= 5 * 8
