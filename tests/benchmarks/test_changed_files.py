"""The benchmark of replaced files runs, and finds the scenes that it replaced."""

from __future__ import annotations

from click.testing import CliRunner

from benchmarks.changed_files import main


def test_it_finds_what_was_replaced() -> None:
    said = CliRunner().invoke(main, ["--scenes", "2", "--megabytes", "1"], catch_exceptions=False).output
    assert "2 scenes, 640 files, 10 manifests" in said
    assert "all times as recorded" in said
    assert "1 scene(s) changed, 320 files read" in said
