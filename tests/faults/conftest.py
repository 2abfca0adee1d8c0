"""A tiny finished cache with every kind of store, computed in this process, to be damaged, killed and mended."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
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
