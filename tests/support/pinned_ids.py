"""The ids that configs had on the day they were pinned: `python tests/support/pinned_ids.py NAME` pins
those of config/NAME.yaml.

People's caches and months of training lie under these ids. A pinned file is never made again: a change of the code that
changes an id must keep the old one for what was there before (docs/stores.md).

The datasets are made up, so that the ids hang on no toy town and no processor: their partitions' names and member
digests are closed formulas, their numbers of scans and cameras those of the published datasets.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from pipeline.config.load import load_config
from pipeline.datasets.index import Index
from pipeline.plan.parts import STAGES
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.selection import wanted_datasets

REPOSITORY = Path(__file__).resolve().parents[2]
PINNED = REPOSITORY / "tests" / "golden" / "_ids"

SCANS = {
    "nuscenes": {"train": (28_130, 6), "val": (6_019, 6), "test": (6_008, 6)},
    "semantic_kitti": {"train": (19_130, 1), "val": (4_071, 1), "test": (20_351, 1)},
    "pandaset64": {"train": (3_920, 6), "val": (1_600, 6)},
    "pandasetgt": {"train": (3_920, 1), "val": (1_600, 1)},
}
"""Scans and cameras of each split, by reader."""
OTHER = {"train": (120, 1), "val": (80, 1)}
"""Of a reader that is not in the package."""
PARTITION = 40
"""Scans of a made-up partition."""


def published_index(dataset: str, reader: str) -> Index:
    """A made-up index with the published numbers of scans and cameras."""
    partitions: list[dict[str, Any]] = []
    for split, (scans, cameras) in SCANS.get(reader, OTHER).items():
        for number, first in enumerate(range(0, scans, PARTITION)):
            name, size = f"{dataset}-{split}-{number:04d}", min(PARTITION, scans - first)
            partitions.append(
                {
                    "name": name,
                    "split": split,
                    "scans": size,
                    "images": size * cameras,
                    "points": size * 30_000,
                    "members": {
                        store: digest([name, store]) for store in ("scans", "labels", "views", "features")
                    },
                    "file": f"{name}.json",
                    "problem": None,
                }
            )
    return Index(
        Path("made-up"), {"dataset": dataset, "partitions": partitions, "absent": [], "left_out": []}
    )


def plan_of(name: str) -> Plan:
    """The plan of config/NAME.yaml, or of NAME.yaml beside the pinned ids, on made-up datasets. Called in the
    repository's folder: a config names files in it."""
    beside = PINNED / f"{name}.yaml"
    config = load_config(beside if beside.exists() else f"config/{name}.yaml", keep_unset=True)
    wanted = wanted_datasets(config)
    indices = {dataset: published_index(dataset, config.datasets[dataset].reader) for dataset in wanted}
    return plan_experiment(config, Path("work"), indices=indices)


def ids_of(plan: Plan) -> dict[str, Any]:
    """All ids of a plan, kind by kind, in its order; of lots, which are many, how many and one digest of all."""
    lots = {stage: plan.lots(stage) for stage in STAGES}
    return {
        "stores": {stage: list(dict.fromkeys(lot.store.folder for lot in lots[stage])) for stage in STAGES},
        "lots": {stage: [len(lots[stage]), digest([lot.digest for lot in lots[stage]])] for stage in STAGES},
        "stats": list(plan.to_measure),
        "runs": [run.folder for run in plan.runs.values()],
        "probes": list(plan.probe_runs),
        "finetunings": list(plan.finetune_runs),
    }


if __name__ == "__main__":
    os.chdir(REPOSITORY)
    for asked in sys.argv[1:]:
        path = PINNED / f"{asked}.json"
        if path.exists():
            raise SystemExit(f"{path} is there: pinned ids are never made again")
        path.write_text(json.dumps(ids_of(plan_of(asked)), indent=1) + "\n")
        print(path)
