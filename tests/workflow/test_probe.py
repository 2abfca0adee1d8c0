"""A real Snakemake run with a probe: labels, baselines and the table come with it, and nothing comes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from snakemake_runs import rules_run

pytestmark = pytest.mark.whole


def test_a_probe_brings_labels_baselines_and_the_table(probed_master: Any) -> None:
    """And no finetuning: `pretrain_all` leaves them out."""
    assert rules_run(probed_master.done) == {
        **{"scans": 2, "labels": 2, "views": 1, "full_scans": 1, "features": 1, "pretrain": 1},
        **{"probe": 1, "baseline": 1, "report": 1},
    }
    said = probed_master.done.stdout + probed_master.done.stderr
    assert "distilled student" in said
    assert "stand-in teacher (untrained)" in said


def test_a_lost_marker_is_written_again(probed: Any) -> None:
    """The weights are there, so nothing is trained and no table is made anew."""
    again = probed.snakemake("pretrain_all")
    assert "Nothing to be done" in again.stdout + again.stderr
    marker = next(Path(probed.work).glob("runs/*/probe/*/done.json"))
    marker.unlink()
    assert set(rules_run(probed.snakemake("probe_all"))) == {"probe"}
    assert marker.exists()
    again = probed.snakemake("pretrain_all")
    assert "Nothing to be done" in again.stdout + again.stderr
