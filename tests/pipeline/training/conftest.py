"""A pretrained student on a tiny cache, with all that its probes and finetunings need."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.config.load import load_config
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.probes import BASELINES
from stages.cli import main


@pytest.fixture(scope="session")
def config_path(toy_master: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a pretrained student and all the stores that its probes and finetunings need."""
    folder = tmp_path_factory.mktemp("labelled")
    config = {
        "workdir": str(folder / "work"),
        "workers": 0,
        "datasets": {"toy": {"reader": "nuscenes", "root": str(toy_master), "version": "v1.0-trainval"}},
        "teachers": {
            "t": {"model": "vit_tiny_patch16_224", "weights": "untrained", "image_size": [32, 64]}
        },
        "students": {
            "s": {
                "datasets": ["toy"],
                "teacher": "t",
                "points": {"neighbours": 4, "spares": 2, "cell": 4.0},
                "network": {"width": 8, "depth": 3, "norm": "batch", "stochastic_depth": 0.2},
                "pretrain": {"epochs": 2, "batch": 2, "warmup": 1},
                "probes": ["p"],
                "finetunes": ["all", "half"],
            }
        },
        "probes": {
            "p": {"epochs": 3, "batch": 3, "lr": 0.05, "warmup_epochs": 0.5, "calibration_batches": 4,
                  "baselines": list(BASELINES)}
        },
        "finetunes": {
            "all": {"epochs": 3, "batch": 2, "lr": 0.02, "layer_decay": 0.8, "warmup_epochs": 1,
                    "starts": ["nothing", "pretrained"]},
            "half": {"epochs": 2, "batch": 1, "lr": 0.02, "every": 2, "votes": 2},
        },
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    for command in (["index"], ["scans"], ["scans", "--labels"], ["views"], ["features"], ["pretrain"]):
        main([*command, "--config", str(path)])
    return path


@pytest.fixture(scope="session")
def plan(config_path: Path) -> Plan:
    return plan_experiment(load_config(config_path))
