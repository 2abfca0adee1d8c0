"""Real processes that are started, killed and compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

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
