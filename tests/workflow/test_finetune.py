"""A real Snakemake run with finetunings: `finetune_all` adds their rows to the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from snakemake_runs import rules_run

pytestmark = pytest.mark.whole


def test_finetunings_are_a_target_of_their_own(probed: Any) -> None:
    done = probed.snakemake("finetune_all")
    assert rules_run(done) == {"finetune": 1, "from_nothing": 1, "report_finetuned": 1}
    said = done.stdout + done.stderr
    for words in ("(1) no pretraining: few", "(2) probe p", "(3) finetuned: few"):
        assert words in said
    for target in ("finetune_all", "pretrain_all"):
        again = probed.snakemake(target)
        assert "Nothing to be done" in again.stdout + again.stderr
    folder = next(Path(probed.work).glob("runs/*/finetune/few-*"))
    assert {
        "weights.safetensors",
        "metrics.csv",
        "metrics.json",
        "provenance.json",
        "done.json",
        "resume",
    } <= {path.name for path in folder.iterdir()}
