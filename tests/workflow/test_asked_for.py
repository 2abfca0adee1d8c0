"""A call ends with 0 only if what it was asked for is there, whatever Snakemake remembers and whatever it is told to force."""

from __future__ import annotations

import shutil
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from snakemake_runs import rules_run

pytestmark = pytest.mark.whole

FROM_FEATURES_ON = {"features": 1, "pretrain": 1}


def drop_features_and_run(workspace: Any) -> None:
    """As where only scans and views are done."""
    for name in ("lots/features", "cache/features", "runs"):
        shutil.rmtree(workspace.work / name)


def scans_lot(workspace: Any) -> Path:
    """Relative to the workspace, as Snakemake knows it."""
    (path,) = (workspace.work / "lots" / "scans").glob("*.json")
    return path.relative_to(workspace.folder)


def note(workspace: Any, kind: str, lot: Path) -> Path:
    """The file in which Snakemake notes something of an output."""
    return workspace.folder / ".snakemake" / kind / urlsafe_b64encode(str(lot).encode()).decode()


@pytest.mark.parametrize("options", [[], ["--workflow-profile", "none"]], ids=["our profile", "no profile"])
def test_a_job_that_was_noted_as_cut_off_hides_no_other(finished: Any, options: list[str]) -> None:
    """As a Snakemake leaves it that was killed while its job ran to the end; its lock lies there as well."""
    drop_features_and_run(finished)
    lot = scans_lot(finished)
    note(finished, "incomplete", lot).write_text('{"external_jobid": null}')
    (finished.folder / ".snakemake" / "locks" / "0.output.lock").write_text(f"{lot}\n")
    done = finished.snakemake("pretrain_all", *options)
    assert rules_run(done) == FROM_FEATURES_ON
    assert list(finished.work.glob("runs/*/weights.safetensors"))


@pytest.mark.parametrize("target", ["the rule", "the file"])
def test_a_job_that_is_forced_hides_no_other(finished: Any, target: str) -> None:
    """Snakemake's `update_needrun` passes over what lies beyond a job that it runs for another reason than a missing file."""
    (marker,) = finished.work.glob("runs/*/done.json")
    drop_features_and_run(finished)
    asked = "pretrain_all" if target == "the rule" else str(marker.relative_to(finished.folder))
    done = finished.snakemake(asked, "--forcerun", "scans")
    assert rules_run(done) == {"scans": 1, **FROM_FEATURES_ON}
    assert marker.exists()


def test_several_rules_of_until_may_wait_for_one_another(finished: Any) -> None:
    for name in ("lots/scans", "lots/views", "lots/features", "runs"):
        shutil.rmtree(finished.work / name)
    done = finished.snakemake("pretrain_all", "--until", "scans", "views")
    assert rules_run(done) == {"scans": 1, "views": 1}


def test_all_at_once_by_force_is_all_done_in_the_end(finished: Any) -> None:
    finished.snakemake("pretrain_all", "--forceall")
    assert "Nothing to be done" in finished.snakemake("pretrain_all").stderr


def test_what_was_asked_for_and_is_not_there_is_an_error(finished: Any) -> None:
    """`--touch` makes Snakemake think that its jobs ran."""
    drop_features_and_run(finished)
    done = finished.snakemake("pretrain_all", "--touch", check=1)
    said = done.stderr
    assert (
        "griddle: Snakemake ended without an error, but 2 of 4 file(s) that were asked for are not there"
        in said
    )
    assert "/done.json" in said
    assert "Traceback" not in said
    assert 'File "' not in said


@pytest.mark.parametrize(
    "garbled", [b"\xff\x00\xab", b"[3]", b'{"rule": 3}'], ids=["bytes", "a list", "a number"]
)
def test_notes_of_snakemake_that_are_garbled_are_named_with_the_command_that_mends_it(
    finished: Any, garbled: bytes
) -> None:
    note(finished, "metadata", scans_lot(finished)).write_bytes(garbled)
    done = finished.snakemake("pretrain_all", check=1)
    assert "griddle: 1 of Snakemake's notes on earlier jobs cannot be read" in done.stderr
    assert "Delete them with `rm -r .snakemake/metadata`" in done.stderr
    assert "Traceback" not in done.stderr
    shutil.rmtree(finished.folder / ".snakemake" / "metadata")
    assert "Nothing to be done" in finished.snakemake("pretrain_all").stderr
