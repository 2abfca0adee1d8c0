"""The finetunings of a plan: what each reads, its id and folder, and the rows of the table. No torch, no zarr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.training import Finetune
from pipeline.plan.experiment import Experiment
from pipeline.plan.identity import finetune_identity
from pipeline.plan.intensity import intensity_identities
from pipeline.plan.labelled import LabelledRow, LabelledRun, Readings, labelled_readings
from pipeline.plan.parts import Run

KIND_OF_START = {"nothing": "nothing", "pretrained": "finetuned"}
"""The kind of a finetuning by what it starts from, in the order of the table."""


@dataclass(frozen=True)
class FinetuneRun(LabelledRun):
    """One finetuning: of a pretrained student (`kind` finetuned), or of the same at its random start (`nothing`)."""

    what = "finetune"

    block: Finetune

    @property
    def trains_student(self) -> bool:
        return True

    @property
    def stochastic_depth(self) -> float:
        return self.block.stochastic_depth

    @property
    def folder(self) -> str:
        """Relative to the workdir. A finetuning from nothing belongs to no pretraining: students with the same network share
        it."""
        if self.kind == "finetuned":
            return f"{self.run.folder}/finetune/{self.name}-{self.id}"
        return f"runs/from_nothing/{self.name}-{self.id}"


def plan_finetunes(experiment: Experiment, runs: Sequence[Run]) -> list[LabelledRow[FinetuneRun]]:
    """The rows that the config asks for: of each student and finetuning from nothing, then from the pretrained student.

    Raises:
        BadInput: if a dataset has no labels in a split that is needed, or fewer scans than a batch.
    """
    rows: list[LabelledRow[FinetuneRun]] = []
    for student_name, student in experiment.students.items():
        seeds = [run for run in runs if run.name == student_name]
        for name in student.finetunes:
            block = experiment.config.finetunes[name]
            datasets = student.datasets if block.datasets is None else block.datasets
            readings = labelled_readings(
                experiment, seeds[0], f"finetunes.{name}", block, datasets, images=False
            )
            for kind in kinds_of_finetune(block):
                row = tuple(_run(experiment, kind, name, run, readings, datasets) for run in seeds)
                rows.append(LabelledRow(student_name, name, kind, row))
    return rows


def kinds_of_finetune(block: Finetune) -> list[str]:
    """What a finetuning starts from, in the order of the table."""
    return [kind for start, kind in KIND_OF_START.items() if start in block.starts]


def _run(
    experiment: Experiment, kind: str, name: str, run: Run, readings: Readings, datasets: list[str]
) -> FinetuneRun:
    block = experiment.config.finetunes[name]
    scaled = intensity_identities(experiment, datasets)
    what = finetune_identity(kind, block, run, scaled, readings.identity())
    return FinetuneRun(
        kind, name, block, run, what, readings.train, readings.evaluate, readings.left_out, readings.lots
    )
