"""The command line called in this process, in a workspace whose cache is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stages.cli import main

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def full(filled: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With every kind of store of two scenes; it is the current folder."""
    monkeypatch.chdir(filled.folder)
    return filled.workspace


@pytest.fixture
def run(full: Any, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; its exit code and what it printed."""

    def call(*arguments: str, config: str = "config/tiny.yaml") -> tuple[int, str]:
        capfd.readouterr()
        try:
            main([*arguments, "--config", config])
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
        said = capfd.readouterr()
        return code, said.out if "--json" in arguments else said.out + said.err

    return call
