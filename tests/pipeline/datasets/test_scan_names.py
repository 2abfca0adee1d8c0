"""Lists of scans are checked while a plan is made, before anything is computed: names lie in one file beside the index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache_schemas.errors import BadInput
from pipeline.datasets.index import read_index
from pipeline.datasets.scan_names import read_scan_names
from stages.cli import main

COMMANDS = ("index", "plan", "scans", "pretrain", "finetune")


@pytest.fixture
def listed(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Finetunes on the scans that a file names, of an index that is there."""
    monkeypatch.chdir(workspace.folder)
    main(["index", "--config", "config/tiny.yaml"])

    def write(text: str) -> Path:
        (workspace.folder / "scans.txt").write_text(text)

        def change(config: dict[str, Any]) -> None:
            block = {"scans": "scans.txt", "batch": 1, "epochs": 1, "warmup_epochs": 0}
            config["finetunes"] = {"few": block}
            config["students"]["wi_tiny"]["finetunes"] = ["few"]

        workspace.edit(change)
        return workspace.work / "index" / "nuscenes"

    return write


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_does_not_exist_is_said_before_anything_is_computed(
    listed: Callable[[str], Path], capsys: Any, command: str
) -> None:
    listed("n015-2018-no-such-scan\n")
    with pytest.raises(SystemExit) as ended:
        main([command, "--config", "config/tiny.yaml"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert (
        "finetunes.few.scans: scans.txt names 1 scan(s) of 1 that have no labels in the train split" in said
    )
    assert "the first n015-2018-no-such-scan; the split begins with scene-0061/" in said
    assert not Path("work/tiny/cache").exists()


def test_a_dry_run_says_it_too(workspace: Any, listed: Callable[[str], Path]) -> None:
    listed("nobody\n")
    done = workspace.snakemake("pretrain_all", "-n", check=2)
    assert "names 1 scan(s) of 1 that have no labels" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_names_are_those_of_the_records(listed: Callable[[str], Path], workspace: Any) -> None:
    listed("x")
    index = read_index(workspace.work, "nuscenes")
    assert index is not None
    of_records = {
        entry.name: [scan.name for scan in index.load_partition(entry).scans] for entry in index.partitions
    }
    assert index.scan_names() == of_records
    assert sum(map(len, of_records.values())) == 8


def test_an_index_of_before_has_them_in_its_records(listed: Callable[[str], Path], workspace: Any) -> None:
    folder = listed("x")
    index = read_index(workspace.work, "nuscenes")
    assert index is not None
    files = [entry.file for entry in index.partitions]
    (path,) = folder.glob("scan-names.*.json")
    names = json.loads(path.read_bytes())["partitions"]
    path.unlink()
    assert read_scan_names(folder, files) == names
    with pytest.raises(BadInput, match=r"(?s)gone.json is missing.*Run `griddle index --force`"):
        read_scan_names(folder, [*files, "gone.json"])
