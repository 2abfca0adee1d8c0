"""What the runs of a plan came to: metrics of students, probes and baselines gathered into rows. No torch, no zarr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput, GriddleError
from pipeline.plan.finetunes import FinetuneRow
from pipeline.plan.labelled import LabelledRun
from pipeline.plan.parts import Run
from pipeline.plan.plan import Plan
from pipeline.plan.probes import ProbeRow
from pipeline.training.recorder import read_metrics

FORMAT = 1
"""Raised by hand when the report's files change; part of its digest, so that a report is written anew."""

LabelledRow = ProbeRow | FinetuneRow

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


@dataclass(frozen=True)
class Table:
    """One probe of one student, beside its baselines; or (`probe` None) a student's finetunings beside its probes."""

    student: str
    probe: str | None
    teacher: str
    scored_on: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """One pretraining: (step, loss) of every step; empty where it is not done.

    unreadable: files that it went without, for they could not be read when the cache was written.
    """

    student: str
    seed: int
    folder: str
    done: bool
    curve: tuple[tuple[int, float], ...]
    seconds: float
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All that is told of a plan's runs, and the id that their ids make."""

    id: str
    description: str
    tables: tuple[Table, ...]
    trainings: tuple[Training, ...]


def report_id(ids: Iterable[str]) -> str:
    """The digest of the runs, probes and baselines that are in a report."""
    return digest([FORMAT, sorted(set(ids))])


def report_marker(plan: Plan, *, finetuned: bool = False) -> str:
    """done.json of the report of all that the plan asks for, with its finetunings or without."""
    ids = [*(run.id for run in plan.runs.values()), *(probe.id for probe in plan.probe_runs.values())]
    ids += [run.id for run in plan.finetune_runs.values()] if finetuned else []
    return str(plan.experiment.workdir / "report" / report_id(ids) / "done.json")


def before_report(plan: Plan, *, finetuned: bool = False) -> list[str]:
    """The markers of all that is in a report; none once it is written, for a marker may be rewritten."""
    if Path(report_marker(plan, finetuned=finetuned)).exists():
        return []
    return [*plan.run_markers(), *plan.probe_markers(), *(plan.finetune_markers() if finetuned else [])]


def drop_stale_report(plan: Plan) -> None:
    """Remove the marker of a report that tells of something which is gone and will be computed again."""
    folders = [plan.experiment.run_path(run) for run in plan.runs.values()]
    folders += [plan.experiment.run_path(run) for run in plan.probe_runs.values()]
    finetunings = [plan.experiment.run_path(run) for run in plan.finetune_runs.values()]
    for finetuned, told_of in ((False, folders), (True, folders + finetunings)):
        if not all((f / "done.json").exists() or (f / "provenance.json").exists() for f in told_of):
            Path(report_marker(plan, finetuned=finetuned)).unlink(missing_ok=True)


def gather(plan: Plan, *, finetunings: bool = True) -> Report:
    """What is there of all that the plan asks for, with finetunings or without; what is not is named.

    Raises:
        BadInput: if no run is done yet.
        GriddleError: if a file of a run that is done cannot be read.
    """
    trainings = tuple(_training(plan, run) for run in plan.runs.values())
    finetune_rows = plan.finetune_rows if finetunings else []
    asked: list[LabelledRun] = [
        *plan.probe_runs.values(),
        *(run for row in finetune_rows for run in row.runs),
    ]
    found = {run.folder: _metrics(plan, run) for run in asked}
    if not any(t.done for t in trainings) and not any(found.values()):
        raise BadInput("nothing to report yet: no run is done. Run `snakemake pretrain_all --cores 8` first.")
    groups: dict[tuple[str, str], list[ProbeRow]] = {}
    for row in plan.probe_rows:
        groups.setdefault((row.student, row.probe), []).append(row)
    done = [run.id for run, training in zip(plan.runs.values(), trainings, strict=True) if training.done]
    probed = [run.id for run in asked if found[run.folder]]
    tables = [_table(plan, rows, found) for rows in groups.values()]
    return Report(
        id=report_id([*done, *probed]),
        description=plan.experiment.config.description,
        tables=(*tables, *(_table(plan, rows, found) for rows in _beside_probes(plan, finetune_rows))),
        trainings=trainings,
    )


def spread(values: list[float]) -> Spread | None:
    """Of values in percent; None of none."""
    return Spread(sum(values) / len(values), min(values), max(values), len(values)) if values else None


def _beside_probes(plan: Plan, finetunings: list[FinetuneRow]) -> list[list[LabelledRow]]:
    """For each student and what finetunings are scored on: those from nothing, the student's probes, the finetunings."""
    groups: dict[tuple[str, tuple[str, ...]], list[LabelledRow]] = {}
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


def _scored_on(row: LabelledRow) -> tuple[str, ...]:
    first = row.runs[0]
    return (*sorted({reading.dataset for reading in first.evaluate}), first.block.evaluate)


def _table(plan: Plan, rows: Sequence[LabelledRow], found: dict[str, dict[str, Any] | None]) -> Table:
    first: LabelledRun = rows[0].runs[0]
    finetunings = any(isinstance(row, FinetuneRow) for row in rows)
    classes = plan.experiment.traits[first.train[0].dataset].classes
    floor_kind = "nothing" if finetunings else "calibrated"
    floor = {
        (row.runs[0].name, run.seed): metrics["miou"]
        for row in rows
        if row.kind == floor_kind
        for run in row.runs
        if (metrics := found[run.folder]) and metrics["miou"] is not None
    }
    datasets = sorted({reading.dataset for reading in first.evaluate})
    teachers = plan.experiment.teachers_of(first.student)
    of_weights = f"weights: {first.student.starts_from}"
    notes = [STAND_IN if t.weights == "untrained" else f"weights: {t.weights}" for t in teachers]
    left_out = dict.fromkeys(name for row in rows for run in row.runs for name in run.left_out)
    unreadable = dict.fromkeys(
        told for row in rows for run in row.runs for told in (found[run.folder] or {}).get("unreadable", [])
    )
    return Table(
        student=rows[0].student,
        probe=rows[0].probe if isinstance(rows[0], ProbeRow) and not finetunings else None,
        teacher="; ".join(f"{t.model}, {note}" for t, note in zip(teachers, notes, strict=True))
        or of_weights,
        scored_on=f"{', '.join(datasets)} {first.block.evaluate}",
        classes=classes,
        rows=tuple(_row(row, classes, found, floor) for row in rows),
        left_out=tuple(left_out),
        unreadable=tuple(unreadable),
    )


def _row(
    row: LabelledRow,
    classes: tuple[str, ...],
    found: dict[str, dict[str, Any] | None],
    floor: dict[tuple[str, int], float],
) -> Row:
    name = row.runs[0].name
    there = [(run.seed, metrics) for run in row.runs if (metrics := found[run.folder])]
    scored = [(seed, metrics) for seed, metrics in there if metrics["miou"] is not None]
    return Row(
        kind=row.kind,
        name=name,
        seeds=tuple(seed for seed, _ in there),
        miou=spread([100 * metrics["miou"] for _, metrics in scored]),
        gap=spread(
            [100 * (metrics["miou"] - floor[name, seed]) for seed, metrics in scored if (name, seed) in floor]
        ),
        iou={
            one: spread([100 * m["iou"][one] for _, m in there if m["iou"][one] is not None])
            for one in classes
        },
        points=there[0][1]["points"] if there else 0,
        missing=tuple(run.folder for run in row.runs if not found[run.folder]),
    )


def _metrics(plan: Plan, probe: LabelledRun) -> dict[str, Any] | None:
    """metrics.json of a probe or a finetuning that is done, or None."""
    folder = plan.experiment.run_path(probe)
    if not (folder / "done.json").exists():
        return None
    metrics = _read(folder / "metrics.json")
    if metrics.get("probe_id") != probe.id:
        raise GriddleError(
            f"{folder / 'metrics.json'} belongs to {metrics.get('probe_id')}, not to {probe.id}; it was copied here. "
            f"Delete {folder} and run the same snakemake command again."
        )
    return metrics


def _read(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise GriddleError(
            f"{path} cannot be read ({error}). Delete {path.parent} and run the same snakemake command again."
        ) from error
    return value


def _training(plan: Plan, run: Run) -> Training:
    folder = plan.experiment.run_path(run)
    done = (folder / "done.json").exists()
    rows = read_metrics(folder / "metrics.csv") if done and (folder / "metrics.csv").exists() else []
    provenance = _read(folder / "provenance.json") if done and (folder / "provenance.json").exists() else {}
    return Training(
        student=run.name,
        seed=run.seed,
        folder=run.folder,
        done=done,
        curve=tuple((int(row["step"]), float(row["loss"])) for row in rows),
        seconds=_seconds([float(row["seconds"]) for row in rows]),
        unreadable=tuple(provenance.get("unreadable", [])),
    )


def _seconds(clock: list[float]) -> float:
    """Time spent in all: the clock of metrics.csv starts anew wherever a run went on from a checkpoint."""
    ends = [now for now, after in zip(clock, [*clock[1:], 0.0], strict=False) if after < now]
    return sum(ends)
