"""Hostile tables, recordings and configs, by the command that anyone can run; and a reader's file that ends the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cache_schemas.errors import BadInput, GriddleError
from pipeline.config.limits import check_yaml
from pipeline.datasets.fence import fenced, reading

REPOSITORY = Path(__file__).resolve().parents[2]


def run_hostile(kind: str, count: int) -> str:
    """The line of a kind."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults.hostile", "--kinds", kind, "--count", str(count), "--show"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    problems = [line for line in lines if line.startswith(("  silent", "  unclear"))]
    assert not problems, "\n".join(problems)
    return lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("tables", 230), ("files", 90), ("configs", 30)])
def test_every_attack_ends_with_the_same_index_or_a_clear_error(kind: str, count: int) -> None:
    assert run_hostile(kind, count) == f"{kind} | {count} | 0 | 0 | {count}"


@pytest.mark.whole
def test_every_table_attack_once() -> None:
    assert run_hostile("tables", 23) == "tables | 23 | 0 | 0 | 23"


OWN = """
import sys
import griddle
{outside}
class Reader(griddle.Reader):
    traits = griddle.Traits("own", 1, "lidar")
    def partitions(self, root, version):
        {inside}
        yield griddle.PartitionRecord({name!r}, "train", (griddle.ScanRecord("s", "s", "a.bin", 1, None, None, ()),))
    def read_points(self, root, scan):
        raise NotImplementedError
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outside": "sys.exit(0)"}, "cannot be loaded: it ended the program (sys.exit(0))"),
        ({"inside": "sys.exit(0)"}, "it ended the program (sys.exit(0)) (own.py, line"),
        ({"inside": "[][1]"}, "IndexError: list index out of range (own.py, line"),
        ({"name": "a.b"}, "partition 'a.b': a name is of letters, digits, `_` and `-`"),
        ({"name": "n" * 101}, "at most 100 of them"),
    ],
)
def test_a_reader_of_ones_own_that_is_wrong(
    workspace: Any, monkeypatch: Any, capfd: Any, change: dict[str, str], words: str
) -> None:
    from stages.cli import main

    own = {"outside": "", "inside": "pass", "name": "a"} | change
    (workspace.folder / "own.py").write_text(OWN.format(**own))
    workspace.edit(lambda c: c["datasets"]["nuscenes"].update(reader="own.py:Reader", version=""))
    monkeypatch.chdir(workspace.folder)
    with pytest.raises(SystemExit) as end:
        main(["index", "--config", "config/tiny.yaml"])
    assert end.value.code == 2
    said = capfd.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_sys_exit_anywhere_is_no_success(monkeypatch: Any, capfd: Any) -> None:
    from stages import cli

    monkeypatch.setattr(cli.griddle, "main", lambda **_: sys.exit(0))
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 1
    assert "it is not done" in capfd.readouterr().err


def test_the_fence() -> None:
    with pytest.raises(BadInput, match=r"row 7: KeyError: 'x' \(.*test_hostile\.py, line"), reading("row 7"):
        {}["x"]
    with pytest.raises(BadInput, match=r"^as it is$"), reading("row 7"):
        raise BadInput("as it is")
    with pytest.raises(GriddleError, match="does not fit into the memory"), reading("row 7"):
        raise MemoryError
    assert list(fenced(iter("abc"), "letters")) == list("abc")
    with pytest.raises(BadInput, match="letters: TypeError"):
        list(fenced(None, "letters"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: " + "{b: " * 19 + "1" + "}" * 19, ""),
        ("a: " + "{b: " * 20 + "1" + "}" * 20, "deep"),
        ("[" + "1, " * 9_998 + "]", ""),
        ("[" + "1, " * 10_000 + "]", "10,000 values"),
        ("- &a [" + "1, " * 3000 + "]\n- [*a, *a, *a]", "10,000 values"),
        ("- &a [" + "1, " * 3000 + "]\n- [*a, *a]", ""),
        ("- &a [[[[[1]]]]]\n" + "- " + "[" * 15 + "*a" + "]" * 15, "deep"),
        ("&a [*a]", "within"),
    ],
)
def test_how_large_a_config_may_be(text: str, word: str) -> None:
    if word:
        with pytest.raises(ValueError, match=word):
            check_yaml(text)
    else:
        check_yaml(text)
