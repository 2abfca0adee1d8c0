"""Whatever process of a workflow is killed, and however: the same command, given once, ends with undisturbed bytes.

`pytest -m slow -n 0 -s tests/faults/test_workflow_kills.py` kills fifty times, and prints a table.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load

REPOSITORY = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KINDS = ("driver", "stage", "worker", "group")
"""Snakemake; a griddle command that it started; a process of a DataLoader; all of them, as a terminal signals them."""
STARTS = {
    "nothing": ("cache", "lots", "logs", "runs", "report"),
    "scans": ("lots/views", "lots/features", "cache/views", "cache/features", "logs", "runs", "report"),
    "cache": ("logs", "runs", "report"),
}
"""What is there when the workflow starts, and what is removed for it."""
OWN_TIME = (
    "made",
    "seconds",
    "hours",
    "commit",
    "weights_sha256",
    "metrics_sha256",
    "cache",
    "files",
    "digest",
)
"""What two undisturbed runs do not share. safetensors spells its header in a random order, so tensors are compared."""


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    words: tuple[str, ...]


def processes_below(pid: int) -> list[Process]:
    """The processes that a process started, with theirs, as far as they still run."""
    everyone: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                words = tuple((entry / "cmdline").read_text().split("\0"))
            except OSError:
                continue
            if fields[0] not in ("Z", "X"):
                process = Process(int(entry.name), int(fields[1]), words)
                everyone.setdefault(process.parent, []).append(process)
    below, todo = [], [pid]
    while todo:
        children = everyone.get(todo.pop(), [])
        below += children
        todo += [child.pid for child in children]
    return below


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def is_stage(process: Process) -> bool:
    return "--log" in process.words and "-c" not in process.words[:2]


def results(work: Path, tree_of: Callable[[Path], dict[str, bytes]]) -> dict[str, Any]:
    """All that a workflow leaves, without times of day and durations."""
    kept: dict[str, Any] = {}
    for top in ("cache", "lots"):
        kept |= {f"{top}/{name}": data for name, data in tree_of(work / top).items()}
    for name, data in tree_of(work / "runs").items():
        path = work / "runs" / name
        if "tensorboard" in name or path.suffix == ".pt":
            continue
        if path.name == "metrics.csv":
            rows = list(csv.DictReader(path.read_text().splitlines()))
            kept[f"runs/{name}"] = [(row["step"], row["loss"], row["lr"], row["points"]) for row in rows]
        elif path.suffix == ".json":
            body = json.loads(data)
            kept[f"runs/{name}"] = {key: value for key, value in body.items() if key not in OWN_TIME}
        elif path.suffix == ".safetensors":
            tensors = load(data)
            kept[f"runs/{name}"] = {key: (t.dtype, t.shape, t.tobytes()) for key, t in tensors.items()}
        else:
            kept[f"runs/{name}"] = data
    return kept


class Bench:
    """A workspace in which the workflow is killed again and again."""

    def __init__(self, workspace: Any, tree_of: Callable[[Path], dict[str, bytes]]) -> None:
        self.workspace, self.tree_of = workspace, tree_of
        self.tally: dict[str, Counter[str]] = {}
        self.finished = workspace.folder.with_name("finished")
        workspace.snakemake("pretrain_all")
        shutil.copytree(workspace.work, self.finished)
        self.wanted = results(self.finished, tree_of)
        self.duration_of = {start: self.undisturbed(start) for start in STARTS}

    def begin(self, start: str) -> subprocess.Popen[bytes]:
        work = self.workspace.work
        shutil.rmtree(work)
        shutil.copytree(self.finished, work)
        for name in STARTS[start]:
            shutil.rmtree(work / name, ignore_errors=True)
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "pretrain_all", "--cores", "2", "--snakefile",
             str(REPOSITORY / "Snakefile"), "--configfile", "config/tiny.yaml"],
            cwd=self.workspace.folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                 "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def undisturbed(self, start: str) -> float:
        """The seconds that the workflow takes from there."""
        begun = time.monotonic()
        assert self.begin(start).wait(300) == 0
        assert results(self.workspace.work, self.tree_of) == self.wanted
        return time.monotonic() - begun

    def hit(
        self, driver: subprocess.Popen[bytes], kind: str, what: signal.Signals, rng: random.Random
    ) -> bool:
        """Signal one of that kind, as soon as there is one; False if the workflow ended first."""
        while driver.poll() is None:
            below = processes_below(driver.pid)
            stages = [process for process in below if is_stage(process)]
            if kind == "driver":
                os.kill(driver.pid, what)
                return True
            if kind == "group":
                os.killpg(driver.pid, what)
                return True
            numbers = {stage.pid for stage in stages}
            victims = stages if kind == "stage" else [p for p in below if p.parent in numbers]
            if victims:
                try:
                    os.kill(rng.choice(victims).pid, what)
                except ProcessLookupError:
                    continue
                return True
            time.sleep(0.02)
        return False

    def kill(self, kind: str, what: signal.Signals, rng: random.Random) -> None:
        """Start, kill, wait for Snakemake (and by half also for what it left), call once, compare."""
        start = "cache" if kind == "worker" else rng.choice(list(STARTS))
        moment, orphans_end, hit = rng.random(), rng.random() < 0.5, False
        while not hit:
            driver = self.begin(start)
            time.sleep(moment * (0.6 if kind == "worker" else 0.95) * self.duration_of[start])
            below = processes_below(driver.pid)
            hit = self.hit(driver, kind, what, rng)
            moment *= 1 if hit else 0.7
        driver.wait(300)
        while orphans_end and any(runs(one.pid) for one in below if is_stage(one)):
            time.sleep(0.05)
        tally = self.tally.setdefault(f"{kind} by {what.name[3:]}", Counter())
        tally["tried"] += 1
        again = self.workspace.snakemake("pretrain_all", check=None)
        said = again.stdout + again.stderr
        same = results(self.workspace.work, self.tree_of) == self.wanted
        outcome = (
            "fine" if again.returncode == 0 and same else "silent" if again.returncode == 0 else "unclear"
        )
        tally[outcome] += 1
        print(
            f"  {kind:<7} {what.name:<8} from {start:<8} at {moment:.2f}, what was left {'ended' if orphans_end else 'ran on'}: "
            f"{outcome}",
            flush=True,
        )
        if outcome != "fine":
            left = results(self.workspace.work, self.tree_of)
            names = sorted(n for n in {*left, *self.wanted} if left.get(n) != self.wanted.get(n))
            pytest.fail(
                f"{kind} {what.name} from {start} at {moment:.2f}: {outcome}, differ: {names}\n{said[-4000:]}"
            )

    def table(self) -> str:
        lines = ["kind | tried | silent | unclear | fine"]
        for kind, tally in sorted(self.tally.items()):
            lines.append(
                " | ".join([kind, *(str(tally[key]) for key in ("tried", "silent", "unclear", "fine"))])
            )
        return "\n".join(lines)


@pytest.fixture
def bench(make_workspace: Any, tmp_path: Path, tree_of: Any) -> Bench:
    (tmp_path / "space").mkdir()
    workspace = make_workspace(tmp_path / "space")
    workspace.edit(lambda c: c["datasets"]["nuscenes"].update(partitions=["scene-0061", "scene-0655"]))
    workspace.edit(lambda c: c.update(workers=2, checkpoint_minutes=0.001))
    probe = {"epochs": 1, "batch": 2, "warmup_epochs": 0, "evaluate": "train"}
    workspace.edit(lambda c: c.update(probes={"p": probe}))
    workspace.edit(lambda c: c["students"]["wi_tiny"].update(probes=["p"]))
    return Bench(workspace, tree_of)


@pytest.mark.whole
def test_five_kills(bench: Bench) -> None:
    rng = random.Random(0)
    bench.kill("driver", signal.SIGKILL, rng)
    for kind in KINDS:
        bench.kill(kind, rng.choice(SIGNALS), rng)


@pytest.mark.slow
def test_fifty_kills(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """$GRIDDLE_SEED and $GRIDDLE_KILLS give other ones, or more."""
    rng = random.Random(int(os.environ.get("GRIDDLE_SEED", "1")))
    pairs = [(kind, what) for kind in KINDS for what in SIGNALS]
    with capsys.disabled():
        for number in range(int(os.environ.get("GRIDDLE_KILLS", "50"))):
            bench.kill(*pairs[number % len(pairs)], rng)
        print(f"\n{bench.table()}")
