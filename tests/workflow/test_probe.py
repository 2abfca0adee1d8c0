"""A real Snakemake run with a probe: labels, baselines and the table come with it, and nothing comes twice."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any


def rules_run(done: Any) -> Counter[str]:
    return Counter(
        re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", done.stdout + done.stderr, re.MULTILINE)
    )


def with_probe(config: dict[str, Any]) -> None:
    config["probes"] = {"p": {"epochs": 2, "batch": 2, "warmup_epochs": 0, "baselines": ["random"]}}
    config["students"]["wi_tiny"]["probes"] = ["p"]


def test_a_probe_brings_labels_baselines_and_the_table(workspace: Any) -> None:
    workspace.edit(with_probe)
    done = workspace.snakemake("pretrain_all")
    ran = rules_run(done)
    assert ran.pop("pretrain_all") == 1
    assert ran == {"scans": 2, "labels": 2, "views": 1, "full_scans": 1, "features": 1, "pretrain": 1, "probe": 1,
                   "baseline": 1, "report": 1}  # fmt: skip
    said = done.stdout + done.stderr
    assert "distilled student" in said
    assert "stand-in teacher (untrained)" in said
    again = workspace.snakemake("pretrain_all")
    assert "Nothing to be done" in again.stdout + again.stderr

    # A lost marker is written again; the weights are there, so nothing is trained and no table is made anew.
    marker = next(Path(workspace.work).glob("runs/*/probe/*/done.json"))
    marker.unlink()
    ran = rules_run(workspace.snakemake("probe_all"))
    assert {rule for rule in ran if rule != "probe_all"} == {"probe"}
    assert marker.exists()
    again = workspace.snakemake("pretrain_all")
    assert "Nothing to be done" in again.stdout + again.stderr
