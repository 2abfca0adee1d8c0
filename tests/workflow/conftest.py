"""A workspace in which a student was pretrained and probed, for all tests that go on from there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Probed:
    """The workspace, and what the call printed that went the whole way."""

    workspace: Any
    done: subprocess.CompletedProcess[str]


def with_probe_and_finetuning(config: dict[str, Any]) -> None:
    config["probes"] = {"p": {"epochs": 2, "batch": 2, "warmup_epochs": 0, "baselines": ["random"]}}
    few = {"epochs": 1, "batch": 1, "every": 2, "starts": ["nothing", "pretrained"]}
    config["finetunes"] = {"few": few}
    config["students"]["wi_tiny"] |= {"probes": ["p"], "finetunes": ["few"]}


@pytest.fixture(scope="session")
def probed_master(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Any]) -> Probed:
    """After `pretrain_all`. Do not write into it."""
    workspace = make_workspace(tmp_path_factory.mktemp("probed"))
    workspace.edit(with_probe_and_finetuning)
    return Probed(workspace, workspace.snakemake("pretrain_all"))


@pytest.fixture
def probed(probed_master: Probed, tmp_path: Path) -> Any:
    """A copy of the workspace, every file with its old time."""
    shutil.copytree(probed_master.workspace.folder, tmp_path / "copy")
    return type(probed_master.workspace)(tmp_path / "copy")
