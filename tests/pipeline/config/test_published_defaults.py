"""A recipe that says nothing is ScaLR's: every default of its blocks, written down from the paper and its public code.

Sources: Puy et al., CVPR 2024 (sections 4.1 and 4.2, supplement B.2 to B.4), and the configs and code of valeoai/ScaLR at
53c474d. Where these disagree, docs/recipes.md says which of them is the default, by the D numbers below.
"""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.blocks import Block
from pipeline.config.model import Augment, Finetune, Network, Optimiser, Points, Probe

SIDES = [[-64.0, 64.0], [-64.0, 64.0], [-8.0, 8.0]]

AUGMENT = {"rotate": True, "flip": True, "scale": 0.1}  # datasets/im_pc_dataset.py; the scale is D2
LABELLED: dict[str, Any] = {
    "batch": 8,  # supplement B.3 and B.4
    "augment": {**AUGMENT, "rule": "paper"},  # section 4.2; D3
    # Of ours: which scans are learnt from and scored, and how. None of these moves a published number.
    **{"datasets": None, "splits": ["train"], "evaluate": "val", "every": 1, "scans": None},
    **{"field_of_view": None, "precision": "float32", "votes": 1},  # None: the student's own, D6
}
DEFAULTS: dict[type[Block], dict[str, Any]] = {
    Optimiser: {
        **{"epochs": 25, "batch": 8},  # supplement B.2, all datasets together
        **{"schedule": "cosine", "lr": 2e-3, "min_lr": 1e-5, "warmup": 3500},  # section 4.2, supplement B.2
        "weight_decay": 0.03,  # configs/pretrain/WI_768_pretrain.yaml; the supplement's 3e-4 is D1
        **{"timescale": 0.45, "cooldown_epoch": None},  # of ScaLR+'s schedule alone
        **{"warmup_epochs": None, "precision": "float32"},
    },
    Probe: {
        **LABELLED,
        # Section 4.2, supplement B.3, configs/downstream/*/WI_768_linprob.yaml
        **{"epochs": 20, "lr": 1e-3, "min_lr": 1e-5, "weight_decay": 3e-3, "warmup_epochs": 2.0},
        "head": "linear",
        **{"baselines": [], "calibration_batches": 80, "scratch_lr": 1e-3, "scratch_epochs": None},  # of ours
    },
    Finetune: {
        **LABELLED,
        # Supplement B.4, configs/downstream; epochs are D4, the warm-up D5, the rate of ScaLR+ D9
        **{"epochs": 25, "lr": 2e-3, "min_lr": 0.0, "weight_decay": 0.0, "warmup_epochs": "released"},
        **{"layer_decay": 0.99, "stochastic_depth": 0.2},
        "starts": ["pretrained"],  # of ours
    },
    Augment: AUGMENT,
    Points: {
        **{"voxel": 0.1, "neighbours": 16, "max_points": 20_000},  # configs/pretrain
        **{
            "field_of_view": SIDES,
            "cell": 0.5,
        },  # supplement B.2: 64 m to each side, 8 m in height, cells of 0.5 m
        **{"spares": 64, "variants": 2, "seed": 0},  # of the cache
    },
    Network: {
        **{"kind": "waffleiron", "width": 768, "depth": 48, "norm": "layer"},  # section 4.1
        **{
            "activation": "relu",
            "averaging": "scalr",
            "stochastic_depth": 0.0,
        },  # waffleiron/, distill.py; D10
        **{"head": None, "head_width": None},  # by the number of teachers: section 3.2, supplement B.2
        **{"backend": "auto", "checkpointing": False, "padding_aware": False},  # of ours
    },
}


@pytest.mark.parametrize("block", DEFAULTS, ids=lambda block: block.__name__)
def test_defaults_are_the_published_ones(block: type[Block]) -> None:
    assert block().model_dump(mode="json") == DEFAULTS[block]


def test_words_stand_for_the_numbers_of_their_sources() -> None:
    """D1 and D2: `paper` is what the supplement says, `released` what the released code has."""
    for words, weight_decay, scale in (("paper", 3e-4, 0.0), ("released", 0.03, 0.1)):
        assert Optimiser.model_validate({"weight_decay": words}).weight_decay == weight_decay
        assert Augment.model_validate({"scale": words}).scale == scale


@pytest.mark.parametrize(
    ("words", "epochs", "warmup"),
    [("paper", 25, 2.5), ("paper", 45, 4.5), ("released", 25, 2), ("released", 45, 4), ("released", 10, 1)],
)
def test_warmups_of_finetunings_are_those_of_their_sources(words: str, epochs: int, warmup: float) -> None:
    """D5: the first tenth of the epochs; in the configs 2 of 25, 4 of 45 and 1 of 10."""
    assert Finetune.model_validate({"epochs": epochs, "warmup_epochs": words}).warmup == warmup
