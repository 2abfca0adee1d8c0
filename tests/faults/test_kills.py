"""SIGKILL at random moments of a running stage, then the same command: as if nothing had happened.

`pytest -n 0 -m slow -s` kills fifty times and prints at which moments.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
Tree = Callable[[Path], dict[str, bytes]]

COMMANDS = {
    "scans": (["scans"], "cache/scans"),
    "labels": (["scans", "--labels"], "cache/scans"),
    "views": (["views"], "cache/views"),
    "full_scans": (["views", "--full-scans"], "cache/full_scans"),
    "features": (["features"], "cache/features"),
}


class Bench:
    """One workspace in which a stage is killed again and again, and what it must leave in the end."""

    def __init__(self, filled: Any, jobs: Any, tree_of: Tree) -> None:
        self.filled, self.jobs, self.tree_of = filled, jobs, tree_of
        self.work: Path = filled.workspace.work
        self.reference = {"cache": tree_of(self.work / "cache"), "lots": tree_of(self.work / "lots")}
        self.seconds: dict[str, float] = {}
        self.moments: Counter[str] = Counter()

    def clear(self, stage: str) -> None:
        """As before the stage was ever run."""
        shutil.rmtree(self.work / "lots" / stage)
        for folder in (self.work / COMMANDS[stage][1]).glob("*/labels" if stage == "labels" else "*"):
            if stage != "scans":
                shutil.rmtree(folder)
                continue
            for path in folder.iterdir():
                if path.name != "labels":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def start(self, stage: str) -> Any:
        return self.jobs.start(self.filled.folder, *COMMANDS[stage][0])

    def undisturbed(self, stage: str) -> float:
        """How long the stage takes."""
        if stage not in self.seconds:
            self.clear(stage)
            begun = time.monotonic()
            self.start(stage).wait()
            self.seconds[stage] = time.monotonic() - begun
            self.check(stage)
        return self.seconds[stage]

    def kill(self, stage: str, moment: float, *, orphan: bool) -> None:
        """Kill it, run the same command again (an orphan still writing), compare."""
        seconds = self.undisturbed(stage)
        self.clear(stage)
        job = self.start(stage)
        time.sleep(moment * seconds)
        if orphan:
            os.kill(job.parent, signal.SIGKILL)
        else:
            os.killpg(job.parent, signal.SIGKILL)
            job.wait()
        self.moments[f"{'orphan' if orphan else 'group'}, {self.what_is_there(stage)}"] += 1
        again = self.start(stage)
        again.wait()
        job.wait()
        self.check(stage)

    def what_is_there(self, stage: str) -> str:
        names = [p.name for p in (self.work / COMMANDS[stage][1]).rglob("*.zarr")]
        names += [p.name for p in (self.work / COMMANDS[stage][1]).rglob(".writing-*")]
        done = list((self.work / "lots" / stage).glob("*.json"))
        unfinished = any(name.startswith(".writing") for name in names)
        stores = sum(not name.startswith(".writing") for name in names) - (2 if stage == "labels" else 0)
        return "all done" if done else f"{stores} store(s){' and one unfinished' if unfinished else ''}"

    def check(self, stage: str) -> None:
        log = (self.filled.folder / "jobs.log").read_text()
        assert self.tree_of(self.work / "lots") == self.reference["lots"], f"{stage}\n{log[-3000:]}"
        found = self.tree_of(self.work / "cache")
        assert found.keys() == self.reference["cache"].keys(), f"{stage}\n{log[-3000:]}"
        assert found == self.reference["cache"]


@pytest.fixture
def bench(filled: Any, jobs: Any, tree_of: Tree) -> Bench:
    return Bench(filled, jobs, tree_of)


def test_killed_at_random_moments(bench: Bench) -> None:
    """Six of them: the process group, or the parent alone so that an orphan writes beside the new one."""
    rng = random.Random(0)
    for number, stage in enumerate(("views", "scans", "views", "labels", "full_scans", "full_scans")):
        bench.kill(stage, rng.uniform(0.05, 0.95), orphan=number % 2 == 0)


@pytest.mark.slow
def test_killed_fifty_times(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(1)
    for number in range(55):
        stage = list(COMMANDS)[number % 5]
        bench.kill(stage, rng.uniform(0.0, 1.05), orphan=number // 5 % 2 == 0)
    with capsys.disabled():
        print(f"\nkilled {sum(bench.moments.values())} times, when there was:")
        for moment, count in sorted(bench.moments.items()):
            print(f"  {count:>3} × {moment}")
    assert len(bench.moments) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("orphans", [True, False], ids=["snakemake alone", "the whole group"])
def test_snakemake_killed_and_called_again(filled: Any, tree_of: Tree, orphans: bool) -> None:
    """Its jobs go on writing while the second call's jobs write the same."""
    workspace = filled.workspace

    def features_all() -> dict[str, bytes]:
        found = {
            f"{top}/{n}": d for top in ("cache", "lots") for n, d in tree_of(workspace.work / top).items()
        }
        return {n: data for n, data in found.items() if "labels" not in n and "full_scans" not in n}

    wanted = features_all()
    rng = random.Random(2)
    for _ in range(3):
        for name in ("cache", "lots"):
            shutil.rmtree(workspace.work / name)
        first = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "features_all", "--cores", "2", "--snakefile",
             str(REPOSITORY / "Snakefile"), "--configfile", "config/tiny.yaml"],
            cwd=filled.folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        while not list((workspace.work / "logs").glob("*/*.log")) and first.poll() is None:
            time.sleep(0.05)
        shutil.rmtree(workspace.work / "logs", ignore_errors=True)
        time.sleep(rng.uniform(0.0, 4.0))
        os.kill(first.pid, signal.SIGKILL) if orphans else os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        workspace.snakemake("features_all")
        while members_of_group(first.pid):
            time.sleep(0.05)
        assert features_all().keys() == wanted.keys()
        assert features_all() == wanted


def members_of_group(group: int) -> list[int]:
    """The processes of a process group that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] not in ("Z", "X"):
                found.append(int(entry.name))
    return found


def test_two_processes_at_once_both_succeed_and_leave_one_copy(bench: Bench) -> None:
    for stage in ("scans", "full_scans"):
        bench.clear(stage)
        log = bench.filled.folder / "jobs.log"
        log.unlink(missing_ok=True)
        for job in [bench.start(stage), bench.start(stage)]:
            job.wait()
        assert log.read_text().count("2 of 2 partition(s) to compute") == 2  # both did the work
        assert "griddle:" not in log.read_text()
        bench.check(stage)
