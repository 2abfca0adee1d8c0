"""A tiny finished cache with every kind of store, computed in this process, to be damaged, killed and mended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.cli import main

STAGES = ("scans", "scans --labels", "views", "features")
SCENES = ["scene-0061", "scene-0655"]


def add_probe(config: dict[str, Any]) -> None:
    """Two scenes with labels, whose probe is the teacher's, so that every store is read by someone."""
    config["datasets"]["nuscenes"]["partitions"] = list(SCENES)
    config["probes"] = {
        "p": {"epochs": 1, "batch": 2, "warmup_epochs": 0, "evaluate": "train", "baselines": ["teacher"]}
    }
    config["students"]["wi_tiny"]["probes"] = ["p"]


@dataclass(frozen=True)
class Filled:
    """A workspace whose stores are all computed."""

    workspace: Any

    @property
    def folder(self) -> Path:
        return self.workspace.folder

    @property
    def cache(self) -> Path:
        return self.workspace.work / "cache"

    def griddle(self, *arguments: str) -> int:
        """Run a command in this process, in the workspace; its exit code."""
        with contextlib.chdir(self.folder):
            try:
                main([*arguments, "--config", "config/tiny.yaml"])
            except SystemExit as end:
                return int(end.code or 0)
        return 0

    def compute(self, *stages: str) -> None:
        for stage in stages or STAGES:
            assert self.griddle(*stage.split()) == 0

    def copy(self, to: Path) -> Filled:
        shutil.copytree(self.folder, to, symlinks=True)
        return Filled(type(self.workspace)(to))


@pytest.fixture(scope="session")
def filled_master(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Any]) -> Filled:
    """Do not write into it."""
    filled = Filled(make_workspace(tmp_path_factory.mktemp("filled")))
    filled.workspace.edit(add_probe)
    filled.compute("index", *STAGES)
    return filled


@pytest.fixture
def filled(filled_master: Filled, tmp_path: Path) -> Filled:
    """A copy that may be broken."""
    return filled_master.copy(tmp_path / "copy")


SERVER = """
import json, os, sys
import numpy, scipy.spatial, torch, timm, zarr
import pipeline.features, pipeline.lots, pipeline.scans, pipeline.teachers.vit, pipeline.views
from stages.cli import main

def work(folder, arguments):
    os.chdir(folder)
    log = os.open("jobs.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    code = 1
    try:
        main(arguments)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        os._exit(code)

print("ready", flush=True)
for line in sys.stdin:
    folder, arguments = json.loads(line)
    tell, told = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.setsid()
        worker = os.fork()
        if worker == 0:
            work(folder, arguments)
        os.write(told, str(worker).encode())
        os._exit(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) % 256)
    print(parent, int(os.read(tell, 20)), flush=True)
    os.close(tell), os.close(told)
"""


@dataclass(frozen=True)
class Job:
    """A command as Snakemake runs it: a parent that leads a process group, and the worker that does it."""

    parent: int
    worker: int

    def wait(self) -> None:
        for pid in (self.worker, self.parent):
            while is_running(pid):
                time.sleep(0.002)


class Jobs:
    """Starts griddle commands in real processes, forked from one that has imported everything already."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == "ready\n"

    def start(self, folder: Path, *arguments: str) -> Job:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(
            json.dumps([str(folder), [*arguments, "--config", "config/tiny.yaml"]]) + "\n"
        )
        self._server.stdin.flush()
        parent, worker = map(int, self._server.stdout.readline().split())
        return Job(parent, worker)

    def stop(self) -> None:
        self._server.communicate("")


@pytest.fixture(scope="session")
def jobs() -> Iterator[Jobs]:
    server = Jobs()
    yield server
    server.stop()


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, hidden ones too; manifests without the section `made`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".json" and path.name != "zarr.json":
                body = json.loads(data)
                data = json.dumps({key: value for key, value in body.items() if key != "made"}).encode()
            found[str(path.relative_to(folder))] = data
        elif not any(path.iterdir()):
            found[str(path.relative_to(folder))] = b"an empty folder"
    return found


@pytest.fixture
def tree_of() -> Callable[[Path], dict[str, bytes]]:
    return tree
