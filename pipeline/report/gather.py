"""What the runs of a plan came to: metrics of students, probes and baselines gathered into rows. No torch, no zarr."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput, GriddleError
from pipeline.common.run_files import ALL_CLASSES, DONE, METRICS, PROVENANCE
from pipeline.plan.finetunes import FinetuneRun
from pipeline.plan.labelled import LabelledRow, LabelledRun
from pipeline.plan.parts import Run
from pipeline.plan.plan import Plan
from pipeline.plan.run_record import mending, read_facts
from pipeline.plan.split_share import share_line
from pipeline.report.loss_curve import Curve, read_curve

FORMAT = 1
"""Raised by hand when the report's files change; part of its digest, so that a report is written anew."""

Metrics = dict[str, Any]
"""metrics.json of a probe or a finetuning."""

NOT_RECORDED = "not recorded"
"""What is said of a value that metrics of before do not hold."""

STAND_IN = "stand-in teacher (untrained)"


@dataclass(frozen=True)
class Spread:
    """A value over seeds, in percent: its mean, and how far it goes."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: of the probe or finetuning.
        miou, gap: percent; gap is to the calibrated random student of the same seed, of a finetuning to the same without
            pretraining. None where there is none.
        iou: percent for each class; None for a class in neither truth nor predictions of any seed.
        points: labelled points that it was scored on.
        miou_all_classes: percent; mIoU over all classes, where those that do not occur count as 0. None where a seed's metrics
            are from before it was recorded.
        missing: folders of seeds that are not done yet.
    """

    kind: str
    name: str
    seeds: tuple[int, ...]
    miou: Spread | None
    gap: Spread | None
    iou: dict[str, Spread | None]
    points: int
    missing: tuple[str, ...]
    miou_all_classes: Spread | None = None


@dataclass(frozen=True)
class Table:
    """One probe of one student, beside its baselines; or (`probe` None) a student's finetunings beside its probes.

    Attributes:
        shares: on how much of the scored split its numbers stand, in words, for each dataset and where rows differ each.
    """

    student: str
    probe: str | None
    teacher: str
    scored_on: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    unreadable: tuple[str, ...]
    shares: tuple[str, ...] = ()


@dataclass(frozen=True)
class Training:
    """One pretraining: (step, loss) of every step; empty where it is not done.

    unreadable: files that it went without, for they could not be read when the cache was written.
    curve_lacks: what of the curve is lost or changed, in words; empty where nothing is.
    """

    student: str
    seed: int
    folder: str
    done: bool
    curve: tuple[tuple[int, float], ...]
    seconds: float
    unreadable: tuple[str, ...]
    curve_lacks: str = ""


@dataclass(frozen=True)
class Report:
    """All that is reported of a plan's runs; its id is the digest of their ids."""

    id: str
    description: str
    tables: tuple[Table, ...]
    trainings: tuple[Training, ...]


def report_id(ids: Iterable[str]) -> str:
    """The digest of the runs, probes and baselines that are in a report."""
    return digest([FORMAT, sorted(set(ids))])


def report_marker(plan: Plan, *, finetuned: bool = False) -> str:
    """The marker of the report of all that the plan asks for, with its finetunings or without."""
    ids = [*(run.id for run in plan.runs.values()), *(probe.id for probe in plan.probe_runs.values())]
    ids += [run.id for run in plan.finetune_runs.values()] if finetuned else []
    return str(plan.experiment.workdir / "report" / report_id(ids) / DONE)


def before_report(plan: Plan, *, finetuned: bool = False) -> list[str]:
    """The markers of all that is in a report, which must be there when it is written, also when it is written again."""
    return [*plan.run_markers(), *plan.probe_markers(), *(plan.finetune_markers() if finetuned else [])]


def drop_stale_report(plan: Plan) -> None:
    """Remove the marker of a report if a run in it is gone and will be computed again."""
    experiment = plan.experiment
    runs: list[Run | LabelledRun] = [*plan.runs.values(), *plan.probe_runs.values()]
    for finetuned, reported in ((False, runs), (True, [*runs, *plan.finetune_runs.values()])):
        if not all(
            experiment.is_done(run) or (experiment.run_path(run) / PROVENANCE).exists() for run in reported
        ):
            Path(report_marker(plan, finetuned=finetuned)).unlink(missing_ok=True)


def gather(plan: Plan, *, finetunings: bool = True) -> Report:
    """The results of all runs of the plan that are done, with finetunings or without; the others are named.

    Raises:
        BadInput: if no run is done yet.
        GriddleError: if a file of a run that is done cannot be read.
    """
    trainings = tuple(_training(plan, run) for run in plan.runs.values())
    finetune_rows = plan.finetune_rows if finetunings else []
    labelled: list[LabelledRun] = [
        *plan.probe_runs.values(),
        *(run for row in finetune_rows for run in row.runs),
    ]
    metrics = {run.folder: value for run in labelled if (value := _metrics(plan, run)) is not None}
    if not any(training.done for training in trainings) and not metrics:
        raise BadInput("nothing to report yet: no run is done. Run `snakemake pretrain_all --cores 8` first.")
    groups: dict[tuple[str, str], list[LabelledRow[LabelledRun]]] = {}
    for row in plan.probe_rows:
        groups.setdefault((row.student, row.name), []).append(row)
    done = [run.id for run, training in zip(plan.runs.values(), trainings, strict=True) if training.done]
    scored = [run.id for run in labelled if run.folder in metrics]
    probe_tables = [_table(plan, rows, metrics, probe) for (_, probe), rows in groups.items()]
    finetune_tables = [_table(plan, rows, metrics, None) for rows in _beside_probes(plan, finetune_rows)]
    return Report(
        id=report_id([*done, *scored]),
        description=plan.experiment.config.description,
        tables=(*probe_tables, *finetune_tables),
        trainings=trainings,
    )


def spread(values: list[float]) -> Spread | None:
    """Of values in percent; None of none."""
    return Spread(sum(values) / len(values), min(values), max(values), len(values)) if values else None


def _beside_probes(
    plan: Plan, finetunings: list[LabelledRow[FinetuneRun]]
) -> list[list[LabelledRow[LabelledRun]]]:
    """For each student and what finetunings are scored on: those from nothing, the student's probes, the finetunings."""
    groups: dict[tuple[str, tuple[str, ...]], list[LabelledRow[LabelledRun]]] = {}
    for row in finetunings:
        groups.setdefault((row.student, _scored_on(row)), []).append(row)
    for (student, scored_on), rows in groups.items():
        rows += [
            row
            for row in plan.probe_rows
            if row.kind == "distilled" and (row.student, _scored_on(row)) == (student, scored_on)
        ]
        rows.sort(key=lambda row: ("nothing", "distilled", "finetuned").index(row.kind))
    return list(groups.values())


def _scored_on(row: LabelledRow[LabelledRun]) -> tuple[str, ...]:
    first = row.runs[0]
    return (*sorted({reading.dataset for reading in first.evaluate}), first.block.evaluate)


def _table(
    plan: Plan, rows: Sequence[LabelledRow[LabelledRun]], metrics: dict[str, Metrics], probe: str | None
) -> Table:
    """The table of a probe's rows, or (`probe` None) of finetunings; `metrics` by the folder of a run that is done."""
    first = rows[0].runs[0]
    classes = plan.experiment.traits[first.train[0].dataset].classes
    floor_kind = "nothing" if probe is None else "calibrated"
    floor = {
        (row.name, run.seed): metrics[run.folder]["miou"]
        for row in rows
        if row.kind == floor_kind
        for run in row.runs
        if run.folder in metrics and metrics[run.folder]["miou"] is not None
    }
    datasets = sorted({reading.dataset for reading in first.evaluate})
    teachers = [
        f"{teacher.model}, {STAND_IN if teacher.weights == 'untrained' else f'weights: {teacher.weights}'}"
        for teacher in plan.experiment.teachers_of(first.student)
    ]
    runs = [run for row in rows for run in row.runs]
    left_out = dict.fromkeys(name for run in runs for name in run.left_out)
    unreadable = dict.fromkeys(
        line for run in runs for line in metrics.get(run.folder, {}).get("unreadable", [])
    )
    return Table(
        student=rows[0].student,
        probe=probe,
        teacher="; ".join(teachers) or f"weights: {first.student.starts_from}",
        scored_on=f"{', '.join(datasets)} {first.block.evaluate}",
        classes=classes,
        rows=tuple(_row(row, classes, metrics, floor) for row in rows),
        left_out=tuple(left_out),
        unreadable=tuple(unreadable),
        shares=tuple(dict.fromkeys(line for run in runs for line in _shares(metrics.get(run.folder)))),
    )


def _shares(metrics: Metrics | None) -> list[str]:
    """On how much of the scored split a number stands; metrics of before that was recorded say so."""
    if metrics is None:
        return []
    recorded = metrics.get("shares")
    return [NOT_RECORDED] if recorded is None else [share_line(share) for share in recorded]


def _row(
    row: LabelledRow[LabelledRun],
    classes: tuple[str, ...],
    metrics: dict[str, Metrics],
    floor: dict[tuple[str, int], float],
) -> Row:
    """floor: mIoU, from 0 to 1, that the gap is counted from, by the row's name and the seed."""
    done = {run.seed: metrics[run.folder] for run in row.runs if run.folder in metrics}
    miou = {seed: run["miou"] for seed, run in done.items() if run["miou"] is not None}
    gaps = [
        100 * (value - floor[row.name, seed]) for seed, value in miou.items() if (row.name, seed) in floor
    ]
    iou = {name: [run["iou"][name] for run in done.values()] for name in classes}
    scored = [run for run in done.values() if run["miou"] is not None]
    recorded = [100 * run[ALL_CLASSES] for run in scored if ALL_CLASSES in run]
    return Row(
        kind=row.kind,
        name=row.name,
        seeds=tuple(done),
        miou=spread([100 * value for value in miou.values()]),
        gap=spread(gaps),
        iou={
            name: spread([100 * value for value in values if value is not None])
            for name, values in iou.items()
        },
        points=next((run["points"] for run in done.values()), 0),
        missing=tuple(run.folder for run in row.runs if run.folder not in metrics),
        miou_all_classes=spread(recorded) if len(recorded) == len(scored) else None,
    )


def _metrics(plan: Plan, run: LabelledRun) -> Metrics | None:
    """metrics.json of a probe or a finetuning that is done, or None."""
    if not plan.experiment.is_done(run):
        return None
    folder = plan.experiment.run_path(run)
    metrics = _read(folder, METRICS)
    if metrics.get("probe_id") != run.id:
        raise GriddleError(
            f"{folder / METRICS} belongs to {metrics.get('probe_id')}, not to {run.id}; it was copied here. "
            f"Delete {folder} and run the same snakemake command again."
        )
    return metrics


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run that is done, if it is the one that was written."""
    try:
        return read_facts(folder, name)
    except (OSError, ValueError) as error:
        raise GriddleError(f"{folder / name} cannot be read ({error}).\n{mending(folder, [name])}") from error


def _training(plan: Plan, run: Run) -> Training:
    folder = plan.experiment.run_path(run)
    done = plan.experiment.is_done(run)
    provenance = _read(folder, PROVENANCE) if done and (folder / PROVENANCE).exists() else {}
    curve = read_curve(folder, provenance.get("steps")) if done else Curve((), (), "")
    return Training(
        student=run.name,
        seed=run.seed,
        folder=run.folder,
        done=done,
        curve=curve.loss,
        seconds=_seconds(curve.clock),
        unreadable=tuple(provenance.get("unreadable", [])),
        curve_lacks=curve.lacks,
    )


def _seconds(clock: Sequence[float]) -> float:
    """Time spent in all: the clock of metrics.csv starts at 0 again where a run went on from a checkpoint."""
    ends = [now for now, after in zip(clock, [*clock[1:], 0.0], strict=False) if after < now]
    return sum(ends)
