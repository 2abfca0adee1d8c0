"""What there is to report: the trainings of a plan, and in place of those that are not done one that is, of the same
config, from when a dataset was another: the one that read most of what the dataset has today. No torch, no zarr.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from cache_schemas.errors import BadInput
from pipeline.plan.experiment import Experiment, InFolder
from pipeline.plan.finetunes import FinetuneRun, kinds_of_finetune
from pipeline.plan.labelled import LabelledRow, LabelledRun
from pipeline.plan.parts import Run
from pipeline.plan.plan import Plan
from pipeline.plan.pretraining import run_key
from pipeline.plan.probes import ProbeRun, kinds_of_probe
from pipeline.plan.recorded_runs import RecordedRuns
from pipeline.plan.since_training import dataset_since, nearness

Item = TypeVar("Item", bound=InFolder)
Labelled = TypeVar("Labelled", ProbeRun, FinetuneRun)
Trained = TypeVar("Trained", Run, ProbeRun, FinetuneRun)
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Results:
    """Runs and rows as in a `Plan`.

    Attributes:
        since: by the folder of a run that the plan does not make, what the datasets have more or less than it read.
        problem: why today's datasets allow no plan; empty where they do.
        today: the plan of today's datasets, where they allow one.
    """

    experiment: Experiment
    runs: dict[str, Run]
    probe_rows: list[LabelledRow[ProbeRun]]
    finetune_rows: list[LabelledRow[FinetuneRun]]
    since: dict[str, tuple[str, ...]]
    problem: str = ""
    today: Plan | None = None

    @cached_property
    def probe_runs(self) -> dict[str, ProbeRun]:
        return {run.folder: run for row in self.probe_rows for run in row.runs}


def results_of(experiment: Experiment) -> Results:
    """What a config has come to.

    Raises:
        BadInput: if today's datasets allow no plan, and nothing is done from before either.
    """
    plan, problem = None, ""
    try:
        plan = Plan(experiment)
    except BadInput as error:
        problem = str(error)
    if plan is not None and _all_done(plan):
        return Results(experiment, plan.runs, plan.probe_rows, plan.finetune_rows, {}, today=plan)
    recorded = RecordedRuns(experiment)
    runs: dict[str, Run] = {}
    nearest = _nearest(experiment, recorded.pretrainings, lambda run: (run.name, run.seed))
    for name, student in experiment.students.items():
        for seed in student.seeds:
            key = run_key(name, student, seed)
            planned = plan.runs[key] if plan else None
            before = nearest.get((name, seed))
            if run := _done_or_recorded(experiment, planned, before):
                runs[key] = run
    probe_keys = [
        (name, probe, kind)
        for name, student in experiment.students.items()
        for probe in student.probes
        for kind in kinds_of_probe(experiment.config.probes[probe])
    ]
    finetune_keys = [
        (name, finetune, kind)
        for name, student in experiment.students.items()
        for finetune in student.finetunes
        for kind in kinds_of_finetune(experiment.config.finetunes[finetune])
    ]
    probe_rows = _rows(experiment, probe_keys, plan.probe_rows if plan else [], recorded.probes)
    finetune_rows = _rows(experiment, finetune_keys, plan.finetune_rows if plan else [], recorded.finetunes)
    shown: list[Run | LabelledRun] = [
        *runs.values(),
        *(run for row in (*probe_rows, *finetune_rows) for run in row.runs),
    ]
    if plan is None and not shown:
        raise BadInput(problem)
    today = set() if plan is None else {run.folder for run in _runs_of(plan)}
    since = {run.folder: tuple(dataset_since(experiment, run)) for run in shown if run.folder not in today}
    return Results(experiment, runs, probe_rows, finetune_rows, since, problem, plan)


def _rows(
    experiment: Experiment,
    keys: Iterable[tuple[str, str, str]],
    planned_rows: Iterable[LabelledRow[Labelled]],
    recorded: Sequence[Labelled],
) -> list[LabelledRow[Labelled]]:
    """Rows by student, name and kind; without those of which no run is known."""
    planned = {_key(run): run for row in planned_rows for run in row.runs}
    before = _nearest(experiment, recorded, _key)
    rows = []
    for student, name, kind in keys:
        wanted = [(student, name, kind, seed) for seed in experiment.students[student].seeds]
        runs = [_done_or_recorded(experiment, planned.get(key), before.get(key)) for key in wanted]
        known = tuple(run for run in runs if run is not None)
        if known:
            rows.append(LabelledRow(student, name, kind, known))
    return rows


def _nearest(
    experiment: Experiment, recorded: Iterable[Trained], key: Callable[[Trained], Key]
) -> dict[Key, Trained]:
    """Of the trainings with the same key the one that read most of what the datasets have today; of equal ones the last."""
    best: dict[Key, tuple[tuple[int, int], Trained]] = {}
    for run in recorded:
        near = nearness(experiment, run)
        if key(run) not in best or near >= best[key(run)][0]:
            best[key(run)] = near, run
    return {name: run for name, (_, run) in best.items()}


def _key(run: LabelledRun) -> tuple[str, str, str, int]:
    return run.run.name, run.name, run.kind, run.seed


def _done_or_recorded(experiment: Experiment, planned: Item | None, before: Item | None) -> Item | None:
    """The run of today's plan if it is done, else the one of before, else the one that is to be done."""
    if planned is not None and experiment.is_done(planned):
        return planned
    return before if before is not None else planned


def _runs_of(plan: Plan) -> list[Run | LabelledRun]:
    return [*plan.runs.values(), *plan.probe_runs.values(), *plan.finetune_runs.values()]


def _all_done(plan: Plan) -> bool:
    return all(plan.experiment.is_done(run) for run in _runs_of(plan))
