"""Our trainings against what the authors' code says of the same: 20 steps each of pretraining, probe and finetuning.

The expected numbers are theirs, from `python -m benchmarks.proof --published ... --waffleiron ... --write
tests/pipeline/training/published_losses.json`: weights and data are drawn by numpy, so that no version of torch changes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.proof_authors import their_name  # noqa: E402
from benchmarks.proof_cases import STEPS, TINY, Case, ours  # noqa: E402

EXPECTED: dict[str, Any] = json.loads((Path(__file__).parent / "published_losses.json").read_text())

torch.set_num_threads(1)


CASES = [(case, "torch") for case in TINY] + [(TINY[0], "reference")]


@pytest.mark.parametrize(("case", "backend"), CASES, ids=lambda value: getattr(value, "name", value))
def test_losses_rates_and_groups_are_the_authors(case: Case, backend: str) -> None:
    from dataclasses import replace

    case, start = replace(case, backend=backend), None
    for phase in case.phases:
        expected = EXPECTED["cases"][case.name][phase]
        found = ours(case, phase, start, torch.float64)
        assert len(expected["losses"]) == STEPS
        assert found.losses == pytest.approx(expected["losses"], rel=1e-9)
        assert found.rates == expected["rates"], "to the last digit"
        head = f"{case.recipe} pretrain" if phase == "pretrain" else "labels"
        groups = {their_name(name, head): list(values) for name, values in found.groups.items()}
        assert groups == expected["groups"]
        if phase == "pretrain":
            start = found.weights
            assert max(expected["losses"]) - min(expected["losses"]) > 1e-2, "something moved"


def test_it_is_known_whose_numbers_these_are() -> None:
    assert set(EXPECTED["commits"]) == {"scalr", "scalr_plus"}
    assert set(EXPECTED["cases"]) == {case.name for case in TINY}
