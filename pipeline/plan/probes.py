"""The probes and baselines of a plan: what each reads, its id and folder, and the rows of the table.

Imports neither torch nor zarr.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cache_schemas.errors import BadInput
from pipeline.config.model import Student
from pipeline.config.training import Probe
from pipeline.plan.experiment import Experiment
from pipeline.plan.identity import probe_identity
from pipeline.plan.intensity import intensity_identities
from pipeline.plan.labelled import LabelledRow, LabelledRun, Readings, labelled_readings
from pipeline.plan.parts import Run

BASELINES = ("calibrated", "random", "scratch", "inputs", "teacher")
"""What a distilled student is compared with, in the order of the table."""


@dataclass(frozen=True)
class ProbeRun(LabelledRun):
    """One training of a probe: on a distilled student, or on a baseline (`kind`)."""

    what = "probe"

    block: Probe

    @property
    def folder(self) -> str:
        """Relative to the workdir. A baseline belongs to no student: several students may share it."""
        if self.kind == "distilled":
            return f"{self.run.folder}/probe/{self.name}-{self.id}"
        return f"runs/baselines/{self.kind}-{self.id}"

    @property
    def trains_student(self) -> bool:
        return self.kind == "scratch"

    @property
    def head(self) -> Literal["linear", "mlp"]:
        return self.block.head

    @property
    def calibration_batches(self) -> int:
        return self.block.calibration_batches if self.kind == "calibrated" else 0

    @property
    def epochs(self) -> int:
        """Passes over all scans."""
        from_scratch = self.block.scratch_epochs if self.kind == "scratch" else None
        return from_scratch or self.block.epochs

    @property
    def lr(self) -> float:
        """At the end of the warm-up."""
        return self.block.scratch_lr if self.kind == "scratch" else self.block.lr


def plan_probes(experiment: Experiment, runs: Sequence[Run]) -> list[LabelledRow[ProbeRun]]:
    """The rows that the config asks for: of each student and probe the distilled student, then its baselines.

    Raises:
        BadInput: if a dataset has no labels in a split that a probe needs, or fewer scans than a batch.
    """
    rows: list[LabelledRow[ProbeRun]] = []
    for name, student in experiment.students.items():
        seeds = [run for run in runs if run.name == name]
        for probe_name in student.probes:
            probe = experiment.config.probes[probe_name]
            datasets = student.datasets if probe.datasets is None else probe.datasets
            key = f"probes.{probe_name}"
            _check_baselines(name, student, probe_name, probe)
            points = labelled_readings(experiment, seeds[0], key, probe, datasets, images=False)
            pixels = points
            if "teacher" in probe.baselines:
                pixels = labelled_readings(experiment, seeds[0], key, probe, datasets, images=True)
            for kind in kinds_of_probe(probe):
                readings = pixels if kind == "teacher" else points
                row = [_probe_run(experiment, kind, probe_name, run, readings, datasets) for run in seeds]
                rows.append(LabelledRow(name, probe_name, kind, tuple(row)))
    return rows


def kinds_of_probe(probe: Probe) -> list[str]:
    """What a probe is trained on, in the order of the table."""
    return ["distilled", *(kind for kind in BASELINES if kind in probe.baselines)]


def _probe_run(
    experiment: Experiment, kind: str, probe_name: str, run: Run, readings: Readings, datasets: list[str]
) -> ProbeRun:
    probe = experiment.config.probes[probe_name]
    what = probe_identity(
        kind,
        probe,
        run,
        experiment.teacher_ids(run.student),
        intensity_identities(experiment, datasets),
        readings.identity(),
    )
    calibrating = [lot for lot in run.lots if lot.store.stage != "features"] if kind == "calibrated" else []
    lots = (*readings.lots, *calibrating)
    return ProbeRun(
        kind, probe_name, probe, run, what, readings.train, readings.evaluate, readings.left_out, lots
    )


def _check_baselines(name: str, student: Student, probe_name: str, probe: Probe) -> None:
    """Weights come without the batches that a calibration sees, and maybe without a teacher."""
    lacking = {"calibrated": student.starts_from is not None, "teacher": not student.teachers}
    refused = [kind for kind in probe.baselines if lacking.get(kind)]
    if refused:
        raise BadInput(
            f"students.{name} starts from weights, and has no {'pretraining' if 'calibrated' in refused else 'teacher'} "
            f"to compare with: take {', '.join(refused)} out of probes.{probe_name}.baselines, or give it a probe of "
            f"its own"
        )
