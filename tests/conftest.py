"""Shared by all tests: real samples where there are any, one tiny toy tree, and a workspace to run griddle in."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[1]

# Kernels of triton run in its interpreter, on the CPU; which of the two it is, triton asks once, when it is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two cores, many tests: torch must not start a thread per core in each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real recordings of the datasets, named by $GRIDDLE_SAMPLES; they are under their own terms and not ours to ship."""
    folder = os.environ.get("GRIDDLE_SAMPLES")
    if not folder:
        pytest.skip("real recordings are needed: set GRIDDLE_SAMPLES to the folder that holds nuscenes/")
    return Path(folder)


BuiltOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> BuiltOnce:
    """(name, build) -> a folder that the first of pytest's processes builds, and that all of them read."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all processes of this run

    def folder_of(name: str, build: Callable[[Path], None]) -> Path:
        folder, ready = base / name, base / f"{name}.ready"
        with FileLock(base / f"{name}.lock"):
            if not ready.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                folder.mkdir()
                build(folder)
                ready.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def toy_master(built_once: BuiltOnce) -> Path:
    """A toy tree in nuScenes format: 3 train and 1 val scenes of 2 scans. Do not write into it."""
    from pipeline.datasets.nuscenes.toy import write_toy

    def build(folder: Path) -> None:
        size: dict[str, Any] = {"image": (56, 112), "beams": 16, "azimuths": 180}
        write_toy(folder / "nuscenes", train=3, val=1, scans=2, processes=1, **size)

    return built_once("toy", build) / "nuscenes"


@pytest.fixture
def toy(toy_master: Path, tmp_path: Path) -> Path:
    """A copy of the toy tree that a test may break."""
    root = tmp_path / "toy" / "tiny"
    shutil.copytree(toy_master, root)
    return root


@dataclass
class Workspace:
    """A folder in which griddle and snakemake are run as a user would, on config/tiny.yaml and a toy tree."""

    folder: Path
    prefix: tuple[str, ...] = ()
    """Of every command: what makes its world another one, such as a file system that is read-only."""

    @property
    def config_path(self) -> Path:
        return self.folder / "config" / "tiny.yaml"

    @property
    def work(self) -> Path:
        return self.folder / "work" / "tiny"

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the config file."""
        config = yaml.safe_load(self.config_path.read_text())
        change(config)
        self.config_path.write_text(yaml.safe_dump(config, sort_keys=False))

    def griddle(self, *arguments: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stages.cli", *arguments]
        return self._run(command, check)

    def snakemake(self, *arguments: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        command = [
            *(sys.executable, "-m", "snakemake", *arguments, "--cores", "2"),
            *("--snakefile", str(REPOSITORY / "Snakefile"), "--configfile", "config/tiny.yaml"),
        ]
        return self._run(command, check)

    def _run(self, command: list[str], check: int | None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            [*self.prefix, *command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        if check is not None:
            assert done.returncode == check, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def plan(self) -> Any:
        """The plan of the config, read in this process."""
        from pipeline.config.load import load_config
        from pipeline.plan.plan import plan_experiment

        config = load_config(self.config_path)
        here = {
            name: dataset.model_copy(update={"root": str(self.folder / dataset.root)})
            for name, dataset in config.datasets.items()
        }
        return plan_experiment(config.model_copy(update={"datasets": here}), self.work)


@pytest.fixture(scope="session")
def make_workspace(toy_master: Path) -> Callable[[Path], Workspace]:
    """Turns an empty folder into a workspace with config/tiny.yaml and its own copy of the toy tree."""

    def make(folder: Path) -> Workspace:
        (folder / "config").mkdir()
        shutil.copy(REPOSITORY / "config" / "tiny.yaml", folder / "config")
        if not (folder / "toy" / "tiny").exists():
            shutil.copytree(toy_master, folder / "toy" / "tiny")
        return Workspace(folder)

    return make


@pytest.fixture
def workspace(toy: Path, tmp_path: Path, make_workspace: Callable[[Path], Workspace]) -> Workspace:
    """A fresh workspace; `toy` is its tree."""
    return make_workspace(tmp_path)


@pytest.fixture(scope="session")
def finished_master(built_once: BuiltOnce, make_workspace: Callable[[Path], Workspace]) -> Workspace:
    """A workspace in which the whole way was gone once, with one scene. Do not write into it."""

    def build(folder: Path) -> None:
        workspace = make_workspace(folder)
        workspace.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=["scene-0061"]))
        workspace.snakemake("pretrain_all")

    return Workspace(built_once("finished", build))


@pytest.fixture
def finished(finished_master: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace, every file with its old time."""
    shutil.copytree(finished_master.folder, tmp_path / "copy")
    return Workspace(tmp_path / "copy")


CACHE_COMMANDS = ("scans", "scans --labels", "views", "features")
TWO_SCENES = ["scene-0061", "scene-0655"]


def add_probe(config: dict[str, Any]) -> None:
    """Two scenes with labels, whose probe is the teacher's, so that every store is read by someone."""
    config["datasets"]["nuscenes"]["partitions"] = list(TWO_SCENES)
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
        from stages.cli import main

        with contextlib.chdir(self.folder):
            try:
                main([*arguments, "--config", "config/tiny.yaml"])
            except SystemExit as end:
                return int(end.code or 0)
        return 0

    def compute(self, *stages: str) -> None:
        for stage in stages or CACHE_COMMANDS:
            assert self.griddle(*stage.split()) == 0

    def copy(self, to: Path) -> Filled:
        shutil.copytree(self.folder, to, symlinks=True)
        return Filled(type(self.workspace)(to))


@pytest.fixture(scope="session")
def filled_master(built_once: BuiltOnce, make_workspace: Callable[[Path], Workspace]) -> Filled:
    """Do not write into it."""

    def build(folder: Path) -> None:
        workspace = make_workspace(folder)
        workspace.edit(add_probe)
        Filled(workspace).compute("index", *CACHE_COMMANDS)

    return Filled(Workspace(built_once("filled", build)))


@pytest.fixture
def filled(filled_master: Filled, tmp_path: Path) -> Filled:
    """A copy that may be broken."""
    return filled_master.copy(tmp_path / "copy")


@pytest.fixture
def interpreter_on_any_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton 3.6's interpreter makes whole numbers of arrays of one number, which numpy 2.4 refuses (triton issue 9171)."""
    from triton.runtime import interpreter

    patch_tensor = interpreter._patch_lang_tensor

    def patch(tensor: Any, scope: Any) -> None:
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch)
