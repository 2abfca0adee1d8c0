"""A real Snakemake run with finetunings: `pretrain_all` leaves them out, `finetune_all` adds their rows to the table."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any


def rules_run(done: Any) -> Counter[str]:
    return Counter(
        re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", done.stdout + done.stderr, re.MULTILINE)
    )


def with_finetunings(config: dict[str, Any]) -> None:
    config["probes"] = {"p": {"epochs": 1, "batch": 2, "warmup_epochs": 0}}
    few = {"epochs": 1, "batch": 1, "every": 2, "starts": ["nothing", "pretrained"]}
    config["finetunes"] = {"few": few}
    config["students"]["wi_tiny"] |= {"probes": ["p"], "finetunes": ["few"]}


def test_finetunings_are_a_target_of_their_own(workspace: Any) -> None:
    workspace.edit(with_finetunings)
    ran = rules_run(workspace.snakemake("pretrain_all"))
    assert {"probe", "report"} <= set(ran)
    assert not {"finetune", "from_nothing"} & set(ran)
    done = workspace.snakemake("finetune_all")
    ran = rules_run(done)
    assert ran == {"finetune": 1, "from_nothing": 1, "report_finetuned": 1, "finetune_all": 1}
    said = done.stdout + done.stderr
    for words in ("(1) no pretraining: few", "(2) probe p", "(3) finetuned: few"):
        assert words in said
    for target in ("finetune_all", "pretrain_all"):
        again = workspace.snakemake(target)
        assert "Nothing to be done" in again.stdout + again.stderr
    folder = next(Path(workspace.work).glob("runs/*/finetune/few-*"))
    assert {
        "weights.safetensors",
        "metrics.csv",
        "metrics.json",
        "provenance.json",
        "done.json",
        "resume",
    } <= {path.name for path in folder.iterdir()}
