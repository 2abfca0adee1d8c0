"""Griddle's own commands on the packed toy, called in this process: what a stage raises, the caller gets.

Each experiment has a workdir of its own, since backends and workers enter no id; all of them share one cache.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.gpu.cells import Cells, Wrong
from benchmarks.gpu.lines import Row
from benchmarks.gpu.packed import TOY, Packed
from cache_schemas.features import features_schema
from cache_schemas.reading import PartitionReader
from cache_schemas.storage import decode
from pipeline.config.model import Teacher
from pipeline.plan.parts import Run
from pipeline.plan.plan import Plan
from stages.cli import griddle
from stages.options import make_plan

NETWORK: dict[str, Any] = {"width": 64, "depth": 3}
"""Of the students: one layer on each plane."""
PRETRAIN: dict[str, Any] = {"epochs": 2, "batch": 2, "warmup": 1}
"""The toy has six scans to learn from: six steps."""
ON_CPU: dict[str, dict[str, Any]] = {
    "network": {"width": 8},
    "pretrain": {"epochs": 1},
    "points": {"cell": 2.0, "max_points": 400},
}
"""What is smaller on a CPU, for which float16 and dense planes are dear."""
CLOSE = {"float32": 1e-3, "bfloat16": 0.03, "float16": 0.03}
"""By how much of it the first loss may differ from that of the plainest run; the section `correct` looks closer."""


@dataclass(frozen=True)
class Experiment:
    """One config file of the toy."""

    config: Path
    workdir: Path

    def stage(self, *arguments: str) -> None:
        """Run a command of Griddle with this config."""
        griddle.main(
            args=[*arguments, "--config", str(self.config)], prog_name="griddle", standalone_mode=False
        )

    @property
    def plan(self) -> Plan:
        return make_plan(str(self.config), None, None)

    @property
    def run(self) -> Run:
        """The one pretraining."""
        (run,) = self.plan.runs.values()
        return run

    @property
    def run_folder(self) -> Path:
        return self.workdir / self.run.folder

    def metrics(self) -> list[dict[str, float]]:
        """Of every step of the pretraining."""
        with open(self.run_folder / "metrics.csv") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


class ToyRuns:
    """Experiments on the packed toy, in a section's folder."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self.packed = Packed(cells.packed)

    @cached_property
    def cache(self) -> Path:
        return self.packed.toy_cache(self._cells.scratch / "cache")

    def experiment(self, name: str, **blocks: Any) -> Experiment:
        """A config of these blocks, in a workdir of this name."""
        workdir = self._cells.scratch / "work" / name
        blocks = self.packed.toy_experiment(workdir, self.cache, **blocks)
        path = workdir / "config.yaml"
        path.write_text(yaml.safe_dump(blocks))
        return Experiment(path, workdir)

    def student(
        self, precision: str = "float32", network: dict[str, Any] | None = None, **student: Any
    ) -> dict[str, Any]:
        """The block of one student of the toy."""
        less = {} if self._cells.on_gpu else ON_CPU
        return {
            "datasets": [TOY],
            "teacher": "tiny",
            "points": less.get("points", {}),
            "network": {**NETWORK, **less.get("network", {}), **(network or {})},
            "pretrain": {**PRETRAIN, **less.get("pretrain", {}), "precision": precision},
            **student,
        }

    def pretrain(self, name: str, student: dict[str, Any], compare: bool = True, **blocks: Any) -> Row:
        """Pretrain a student anew. compare: its first loss with that of the plainest run, where that is known.

        Raises:
            Wrong: if a loss is not finite, or not what it must be.
        """
        experiment = self.experiment(name.replace(" ", "-"), students={"student": student}, **blocks)
        if self._cells.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        experiment.stage("pretrain")
        steps = experiment.metrics()
        losses = [step["loss"] for step in steps]
        row: Row = {"losses": [round(loss, 5) for loss in losses], "s_a_step": _pace(steps)}
        if self._cells.on_gpu:
            row["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
        if not np.isfinite(losses).all():
            raise Wrong("a loss is not finite", **row)
        if compare:
            self._check_first(losses[0], student["pretrain"]["precision"], row)
        return row

    def _check_first(self, loss: float, precision: str, row: Row) -> None:
        known = self._cells.scratch / "first_loss"
        if not known.exists():
            known.write_text(repr(loss))
            return
        plain = float(known.read_text())
        if abs(loss - plain) > CLOSE[precision] * plain:
            raise Wrong(f"the first loss is {loss:.5f}, that of the plainest run {plain:.5f}", **row)

    def features(self, name: str, teacher: dict[str, Any]) -> Row:
        """Run a teacher over the toy's training images; how far its features are from those of the teacher `exact`."""
        experiment = self.experiment(
            f"features-{name}",
            teachers={name: teacher},
            students={"student": self.student(teacher=name)},
        )
        experiment.stage("features")
        found = np.concatenate(list(stored(experiment.plan, Teacher.model_validate(teacher))))
        row: Row = {"images": len(found), "grid": list(found.shape[1:])}
        exact = self._cells.scratch / "exact.npy"
        if not np.isfinite(found).all():
            raise Wrong("features that are not finite", **row)
        if name == "exact":
            np.save(exact, found)
        elif exact.exists():
            row["cosine_to_exact"] = _cosines(found, np.load(exact))
        return row


def stored(plan: Plan, teacher: Teacher) -> Iterator[np.ndarray]:
    """Of each partition the patch grids (images, rows, cols, C) that lie in the cache, decoded."""
    schema = features_schema(teacher.storage)
    for lot in plan.lots("features"):
        for entry, member in lot.members:
            reader = PartitionReader(plan.experiment.store_path(lot.store), schema, entry.name, member)
            scales = reader.read("scales") if reader.has("scales") else None
            yield decode(reader.read("features"), scales)


def _cosines(found: np.ndarray, exact: np.ndarray) -> Row:
    """Mean, and the least."""
    one, other = (values.reshape(-1, values.shape[-1]).astype(np.float64) for values in (found, exact))
    cosines = (one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return {"mean": round(float(cosines.mean()), 6), "least": round(float(cosines.min()), 6)}


def _pace(steps: list[dict[str, float]]) -> float:
    """Seconds a step of the second half: what is compiled is compiled by then."""
    half = steps[(len(steps) - 1) // 2 :]
    return round((half[-1]["seconds"] - half[0]["seconds"]) / max(1, len(half) - 1), 4)
