"""Real processes that are started, killed and compared; and a world of four scenes for the state machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import LABELS, SCANS
from pipeline.config.load import load_config
from pipeline.config.model import Config
from pipeline.datasets.index import make_index
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.preprocessing.fill import fill

SERVER = """
import json, os, sys
import numpy, scipy.spatial, zarr
import pipeline.datasets.nuscenes.reader, pipeline.preprocessing.full_scans, pipeline.preprocessing.lots, pipeline.preprocessing.scans, pipeline.preprocessing.views
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
    """Starts griddle commands in real processes, forked from one that has imported all but torch already."""

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


@dataclass(frozen=True)
class World:
    """A dataset of four scenes, its index, and what an undisturbed computation of scans, labels and full scans gives.

    Attributes:
        values: by (stage, scene), the arrays of the partition.
    """

    config: Config
    index: Path
    scenes: list[str]
    values: dict[tuple[str, str], dict[str, np.ndarray]]

    def plan(self, work: Path, scenes: list[str]) -> Plan:
        """As if the config selected these scenes."""
        dataset = self.config.datasets["nuscenes"].model_copy(update={"partitions": scenes})
        return plan_experiment(self.config.model_copy(update={"datasets": {"nuscenes": dataset}}), work)

    @staticmethod
    def compute(plan: Plan, stage: str, *, all_lots: bool) -> None:
        """A stage as Snakemake calls it (only lots whose manifest is gone), or as one calls it by hand."""
        for lot in plan.lots(stage):
            if all_lots or not plan.experiment.lot_path(lot).exists():
                fill(plan.experiment, lot)

    @staticmethod
    def members(plan: Plan, stage: str) -> dict[str, tuple[Path, str]]:
        """By scene, its store folder and member digest."""
        return {
            entry.name: (plan.experiment.store_path(lot.store), member)
            for lot in plan.lots(stage)
            for entry, member in lot.members
        }


@pytest.fixture(scope="session")
def world(make_workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> World:
    workspace = make_workspace(tmp_path_factory.mktemp("machine"))
    workspace.edit(lambda c: c["students"]["wi_tiny"].update(splits=["train", "val"], probes=["p", "q"]))
    probes = {"p": {"batch": 1, "evaluate": "val"}, "q": {"batch": 1, "evaluate": "train"}}
    workspace.edit(lambda c: c.update(probes=probes, lot_partitions=2))
    config = load_config(workspace.config_path)
    dataset = config.datasets["nuscenes"]
    dataset = dataset.model_copy(update={"root": str(workspace.folder / dataset.root)})
    config = config.model_copy(update={"datasets": {"nuscenes": dataset}})
    make_index(workspace.work, "nuscenes", dataset)
    plan = plan_experiment(config, workspace.work)
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for stage, schema in (("scans", SCANS), ("labels", LABELS), ("full_scans", FULL_SCANS)):
        World.compute(plan, stage, all_lots=True)
        for scene, (folder, member) in World.members(plan, stage).items():
            reader = PartitionReader(folder, schema, scene, member)
            found[stage, scene] = {s.name: np.array(reader.read(s.name)) for s in schema.arrays}
    scenes = [entry.name for entry in plan.experiment.indices["nuscenes"].partitions]
    return World(config, workspace.work / "index", scenes, found)
