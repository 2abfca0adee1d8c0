"""What the runs of a plan came to: metrics of students, probes and baselines gathered into rows. No torch, no zarr."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput, GriddleError
from pipeline.common.run_files import ALL_CLASSES, DONE, METRICS, PROVENANCE
from pipeline.plan.data_warnings import warnings_of
from pipeline.plan.finetunes import FinetuneRun
from pipeline.plan.labelled import LabelledRow, LabelledRun
from pipeline.plan.parts import Run
from pipeline.plan.plan import Plan
from pipeline.plan.results import Results
from pipeline.plan.run_record import mending, read_facts
from pipeline.plan.split_share import share_line
from pipeline.report.loss_curve import Curve, read_curve
from pipeline.report.tables import NOT_RECORDED, Report, Row, Spread, Table, Training

FORMAT = 1
"""Raised by hand when the report's files change; part of its digest, so that a report is written anew."""

Metrics = dict[str, Any]
"""metrics.json of a probe or a finetuning."""

STAND_IN = "stand-in teacher (untrained)"


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


def gather(results: Results, *, finetunings: bool = True) -> Report:
    """The results of all runs that are done, with finetunings or without; the others are named.

    Raises:
        BadInput: if no run is done yet.
        GriddleError: if a file of a run that is done cannot be read.
    """
    since, today = results.since, results.today
    trainings = tuple(_training(results, run, since.get(run.folder, ())) for run in results.runs.values())
    finetune_rows = results.finetune_rows if finetunings else []
    labelled: list[LabelledRun] = [
        *results.probe_runs.values(),
        *(run for row in finetune_rows for run in row.runs),
    ]
    metrics = {run.folder: value for run in labelled if (value := _metrics(results, run)) is not None}
    if not any(training.done for training in trainings) and not metrics:
        raise BadInput("nothing to report yet: no run is done. Run `snakemake pretrain_all --cores 8` first.")
    groups: dict[tuple[str, str], list[LabelledRow[LabelledRun]]] = {}
    for row in results.probe_rows:
        groups.setdefault((row.student, row.name), []).append(row)
    done = [run.id for run, training in zip(results.runs.values(), trainings, strict=True) if training.done]
    scored = [run.id for run in labelled if run.folder in metrics]
    probe_tables = [_table(results, rows, metrics, probe) for (_, probe), rows in groups.items()]
    finetune_tables = [
        _table(results, rows, metrics, None) for rows in _beside_probes(results, finetune_rows)
    ]
    return Report(
        id=report_id([*done, *scored]),
        description=results.experiment.config.description,
        tables=(*probe_tables, *finetune_tables),
        trainings=trainings,
        warnings=tuple(warnings_of(today)) if today is not None else (),
        problem=results.problem,
    )


def spread(values: list[float]) -> Spread | None:
    """Of values in percent; None of none."""
    return Spread(sum(values) / len(values), min(values), max(values), len(values)) if values else None


def _beside_probes(
    results: Results, finetunings: list[LabelledRow[FinetuneRun]]
) -> list[list[LabelledRow[LabelledRun]]]:
    """For each student and what finetunings are scored on: those from nothing, the student's probes, the finetunings."""
    groups: dict[tuple[str, tuple[str, ...]], list[LabelledRow[LabelledRun]]] = {}
    for row in finetunings:
        groups.setdefault((row.student, _scored_on(row)), []).append(row)
    for (student, scored_on), rows in groups.items():
        rows += [
            row
            for row in results.probe_rows
            if row.kind == "distilled" and (row.student, _scored_on(row)) == (student, scored_on)
        ]
        rows.sort(key=lambda row: ("nothing", "distilled", "finetuned").index(row.kind))
    return list(groups.values())


def _scored_on(row: LabelledRow[LabelledRun]) -> tuple[str, ...]:
    first = row.runs[0]
    return (*sorted({reading.dataset for reading in first.evaluate}), first.block.evaluate)


def _table(
    results: Results,
    rows: Sequence[LabelledRow[LabelledRun]],
    metrics: dict[str, Metrics],
    probe: str | None,
) -> Table:
    """The table of a probe's rows, or (`probe` None) of finetunings; `metrics` by the folder of a run that is done."""
    first = rows[0].runs[0]
    since = results.since
    classes = results.experiment.traits[first.train[0].dataset].classes
    floor_kind = "nothing" if probe is None else "calibrated"
    floor = {
        _compared(row, run, since): metrics[run.folder]["miou"]
        for row in rows
        if row.kind == floor_kind
        for run in row.runs
        if run.folder in metrics and metrics[run.folder]["miou"] is not None
    }
    datasets = sorted({reading.dataset for reading in first.evaluate})
    teachers = [
        f"{teacher.model}, {STAND_IN if teacher.weights == 'untrained' else f'weights: {teacher.weights}'}"
        for teacher in results.experiment.teachers_of(first.student)
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
        rows=tuple(_row(row, classes, metrics, floor, since) for row in rows),
        left_out=tuple(left_out),
        unreadable=tuple(unreadable),
        since=_since(rows, since),
        too_small=tuple(
            dict.fromkeys(
                name
                for run in runs
                for name in metrics.get(run.folder, {}).get("too_small", {}).get("scans", [])
            )
        ),
        shares=tuple(dict.fromkeys(line for run in runs for line in _shares(metrics.get(run.folder)))),
    )


def _since(rows: Sequence[LabelledRow[LabelledRun]], since: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Each line once, with the kinds of the rows that it is about, unless it is about all of them."""
    kinds: dict[str, dict[str, None]] = {}
    for row in rows:
        for run in row.runs:
            for line in since.get(run.folder, ()):
                kinds.setdefault(line, {})[row.kind] = None
    everywhere = len({row.kind for row in rows})
    return tuple(
        line if len(names) == everywhere else f"{line}: {', '.join(names)}" for line, names in kinds.items()
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
    floor: dict[Hashable, float],
    since: Collection[str],
) -> Row:
    """floor: mIoU, from 0 to 1, that the gap is counted from, by what may be compared."""
    together, apart = _scored_together([run for run in row.runs if run.folder in metrics], since)
    done = {run.seed: metrics[run.folder] for run in together}
    miou = {seed: run["miou"] for seed, run in done.items() if run["miou"] is not None}
    compared = {run.seed: _compared(row, run, since) for run in row.runs}
    gaps = [100 * (value - floor[compared[seed]]) for seed, value in miou.items() if compared[seed] in floor]
    iou = {name: [run["iou"][name] for run in done.values()] for name in classes}
    scored = [run for run in done.values() if run["miou"] is not None]
    over_all = [100 * run[ALL_CLASSES] for run in scored if ALL_CLASSES in run]
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
        apart=tuple(f"{run.folder}, mIoU {_percent(metrics[run.folder]['miou'])}" for run in apart),
        miou_all_classes=spread(over_all) if len(over_all) == len(scored) else None,
    )


def _scored_together(
    runs: Sequence[LabelledRun], since: Collection[str]
) -> tuple[list[LabelledRun], list[LabelledRun]]:
    """Those of which a mean says something, for they were scored on the same partitions: those of today's plan, or where none
    is done the most; and the others."""
    groups: dict[Hashable, list[LabelledRun]] = {}
    for run in runs:
        groups.setdefault(_scored_partitions(run), []).append(run)
    together = max(
        groups.values(),
        key=lambda group: (any(run.folder not in since for run in group), len(group)),
        default=[],
    )
    return together, [run for run in runs if run not in together]


def _scored_partitions(run: LabelledRun) -> Hashable:
    return frozenset((r.dataset, r.partition, r.labels) for r in run.evaluate)


def _percent(miou: float | None) -> str:
    return "not known" if miou is None else f"{100 * miou:.1f} %"


def _compared(row: LabelledRow[LabelledRun], run: LabelledRun, since: Collection[str]) -> Hashable:
    """What two rows must have in common before one is subtracted from the other. since: runs of before the datasets
    changed: these must be scored on the same partitions; all runs of today's plan are."""
    if run.folder not in since:
        return row.name, run.seed
    return row.name, run.seed, _scored_partitions(run)


def _metrics(results: Results, run: LabelledRun) -> Metrics | None:
    """metrics.json of a probe or a finetuning that is done, or None."""
    if not results.experiment.is_done(run):
        return None
    folder = results.experiment.run_path(run)
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


def _training(results: Results, run: Run, since: tuple[str, ...]) -> Training:
    folder = results.experiment.run_path(run)
    done = results.experiment.is_done(run)
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
        since=since,
    )


def _seconds(clock: Sequence[float]) -> float:
    """Time spent in all: the clock of metrics.csv starts at 0 again where a run went on from a checkpoint."""
    ends = [now for now, after in zip(clock, [*clock[1:], 0.0], strict=False) if after < now]
    return sum(ends)
