"""done.json records a digest of each file that is read again; a file that was changed since is named, with what mends it."""

from __future__ import annotations

import json
import shlex
from hashlib import sha256
from pathlib import Path

import pytest

from cache_schemas.errors import NoAccess
from pipeline.common.run_files import CONFIG, CURVE, DONE, METRICS, PROVENANCE, WEIGHTS
from pipeline.plan.run_record import (
    ChangedFile,
    changed_files,
    forget_record,
    is_recorded,
    mending,
    read_facts,
    read_recorded,
    write_record,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "s-0123456789"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("a: 1\n")
    (folder / "provenance.json").write_text('{"run_id": "0123456789", "imported_by": 3}')
    (folder / "metrics.csv").write_text("step,loss\n1,2\n")
    write_record(folder, {"kind": "pretrain", "run_id": "0123456789"})
    return folder


def test_what_is_recorded(folder: Path) -> None:
    body = json.loads((folder / "done.json").read_text())
    assert (body["griddle"], body["kind"]) == ("griddle run", "pretrain")
    assert sorted(body["files"]) == ["config.yaml", "metrics.csv", "provenance.json"]
    assert changed_files(folder) == []
    assert read_facts(folder, "provenance.json")["run_id"] == "0123456789"


@pytest.mark.parametrize("name", ["config.yaml", "provenance.json", "metrics.csv"])
def test_every_bit_of_a_file_counts(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for place in range(len(whole)):
        for bit in (0, 6):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            (folder / name).write_bytes(data)
            with pytest.raises(ChangedFile, match="was changed"):
                read_recorded(folder, name)
    assert changed_files(folder) == [f"{name} is not the one that was written (SHA-256)"]
    (folder / name).unlink()
    assert changed_files(folder) == [f"{name} is missing"]
    with pytest.raises(FileNotFoundError):
        read_recorded(folder, name)


def test_no_bit_of_done_json_makes_a_changed_file_pass(folder: Path) -> None:
    """Whichever bit of the record changes: nothing is believed that was not written."""
    (folder / "config.yaml").write_text("a: 2\n")
    whole = (folder / "done.json").read_bytes()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1
        (folder / "done.json").write_bytes(data)
        with pytest.raises(ChangedFile):
            read_recorded(folder, "config.yaml")
    for damage in (b"", whole[:20], b"[]", b"null"):
        (folder / "done.json").write_bytes(damage)
        with pytest.raises(ChangedFile, match=r"done.json.*\nRun `rm -f [^ ]*done.json`"):
            read_recorded(folder, "config.yaml")
        assert is_recorded(folder)


def test_a_marker_that_is_written_again_believes_nothing_new(folder: Path) -> None:
    (folder / "metrics.csv").write_text("step,loss\n")
    write_record(folder, {"kind": "pretrain", "run_id": "0123456789"})
    assert changed_files(folder) == ["metrics.csv is not the one that was written (SHA-256)"]
    forget_record(folder)
    write_record(folder, {"kind": "pretrain", "run_id": "0123456789"})
    assert changed_files(folder) == []


def test_a_run_of_before_has_nothing_recorded(folder: Path) -> None:
    (folder / "done.json").write_text('{"griddle": "griddle run", "kind": "pretrain"}')
    (folder / "config.yaml").write_text("a: 2\n")
    assert read_recorded(folder, "config.yaml") == b"a: 2\n"
    assert (changed_files(folder), is_recorded(folder)) == ([], False)


def test_an_import_is_mended_by_importing_again(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text('{"imported": {"file": "a.pth"}}')
    write_record(tmp_path, {"kind": "imported"})
    (tmp_path / "provenance.json").write_text('{"imported": {"file": "b.pth"}}')
    with pytest.raises(ChangedFile, match=r"griddle weights import FILE --out "):
        read_facts(tmp_path, "provenance.json")


def removed_by(sentence: str) -> list[str]:
    """The arguments of the first command in a sentence, as a shell splits them."""
    return shlex.split(sentence.split("`")[1])


def test_the_command_that_mends_is_whole_in_a_folder_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "de mo" / "runs" / "s'-1"
    folder.mkdir(parents=True)
    for names, removed in (
        ([CONFIG], [PROVENANCE, DONE]),
        ([CURVE], ["resume", PROVENANCE, DONE]),
        ([DONE], [DONE]),
    ):
        command, _, *paths = removed_by(mending(folder, names))
        assert command == "rm"
        assert paths == [str(folder / name) for name in removed]
    assert "goes on from the last checkpoint" not in mending(folder, [CONFIG]), "there is none"
    (folder / "resume").mkdir()
    assert "goes on from the last checkpoint" in mending(folder, [CONFIG])


def test_a_run_of_before_is_held_against_its_provenance(tmp_path: Path) -> None:
    """It has no digests in done.json; those of weights and scores were always in the provenance."""
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    (tmp_path / METRICS).write_text('{"miou": 0.35}')
    digests = {
        "weights_sha256": sha256(b"weights").hexdigest(),
        "metrics_sha256": sha256(b'{"miou": 0.35}').hexdigest(),
    }
    (tmp_path / PROVENANCE).write_text(json.dumps(digests))
    (tmp_path / DONE).write_text('{"griddle": "griddle run"}')
    assert changed_files(tmp_path) == []
    (tmp_path / METRICS).write_text('{"miou": 0.95}')
    assert changed_files(tmp_path) == [f"{METRICS} is not the one that was written (SHA-256)"]
    with pytest.raises(ChangedFile, match=r"metrics\.json is not the one"):
        read_facts(tmp_path, METRICS)
    (tmp_path / METRICS).unlink()
    (tmp_path / WEIGHTS).write_bytes(b"weightS")
    assert len(changed_files(tmp_path)) == 2
    (tmp_path / PROVENANCE).unlink()
    (tmp_path / PROVENANCE).symlink_to(PROVENANCE)
    with pytest.raises(NoAccess, match="Too many levels of symbolic links"):
        changed_files(tmp_path)
