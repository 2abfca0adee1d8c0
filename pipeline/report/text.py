"""The report as text: a table for a terminal of 120 columns, Markdown, CSV, and plain values for JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from pipeline.plan.since_training import OTHER_DATA
from pipeline.report.tables import NOT_RECORDED, Report, Row, Spread, Table, Training

LABELS = {
    "distilled": ("distilled student", "distilled"),
    "calibrated": ("random student, frozen, batch norms calibrated", "calibrated"),
    "random": ("random student, frozen, untouched", "untouched"),
    "scratch": ("the same student from scratch, with labels", "scratch"),
    "inputs": ("raw point inputs", "inputs"),
    "teacher": ("teacher's own features *", "teacher *"),
}
"""Of each kind the name of its row, and a short one for the head of a column."""

FINETUNED = {
    "nothing": "no pretraining: {}",
    "distilled": "probe {}",
    "finetuned": "finetuned: {}",
}
"""The rows of a table of finetunings, with their names; their columns bear numbers."""

COLUMNS = 120
ABREAST = 6
"""Columns of values that fit beside each other."""
NONE = "–"
SHOWN = 5
"""Files that could not be read are listed on a terminal up to this number; the report's files list all."""
ONLY_BEFORE = "Only what was done before is shown. Nothing can be planned today:"
WARNINGS = "Values of the datasets that are unlikely; `allow` in a dataset's block says that they are right."
TAIL = 0.05
"""The share of a pretraining's last steps over which its final loss is averaged."""


def terminal(report: Report) -> str:
    """All tables, then all trainings, in at most 120 columns."""
    blocks = [_table_lines(table) for table in report.tables]
    lines = across(report)
    if lines:
        name, width = max(len(line[0]) for line in lines) + 2, max(14, *(len(p) + 2 for p in lines[0][1:]))
        blocks.append(
            [f"{line[0]:<{name}}" + "".join(f"{cell:>{width}}" for cell in line[1:]) for line in lines]
        )
    blocks.append([training_line(training) for training in report.trainings])
    unreadable = unreadable_lines(report)
    if unreadable:
        more = (
            [f"  ... and {len(unreadable) - 1 - SHOWN} more: results.md"]
            if len(unreadable) > 1 + SHOWN
            else []
        )
        shown = [
            line
            for entry in unreadable[: 1 + SHOWN]
            for line in wrap(
                entry,
                COLUMNS,
                initial_indent="  " if entry != unreadable[0] else "",
                subsequent_indent="    ",
            )
        ]
        blocks.append([*shown, *more])
    if report.warnings:
        blocks.append(
            [
                part
                for line in report.warnings
                for part in wrap(f"warning: {line}", COLUMNS, subsequent_indent="  ")
            ]
        )
    if report.problem:
        blocks.append(wrap(f"{ONLY_BEFORE} {report.problem}", COLUMNS))
    if not report.tables:
        blocks.append(["no student of the config names a probe, so there is no table of classes"])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def markdown(report: Report) -> str:
    """results.md: the same tables for people who read Markdown."""
    parts = ["# Results", *([report.description] if report.description else [])]
    for table in report.tables:
        parts += [f"## {title(table)}", f"Teacher: {table.teacher}."]
        parts.append(_markdown_table(summary(table)))
        parts.append(_markdown_table(class_grid(table)))
        parts += [f"- {note}" for note in notes(table)]
    if lines := across(report):
        parts += ["## All students", _markdown_table(lines)]
    parts.append("## Pretraining")
    parts += [f"- {training_line(training)}" for training in report.trainings]
    if unreadable := unreadable_lines(report):
        parts += ["## Left out", unreadable[0], *(f"- {entry}" for entry in unreadable[1:])]
    if report.warnings:
        parts += ["## Warnings", WARNINGS, *(f"- {line}" for line in report.warnings)]
    if report.problem:
        parts += ["## Today", f"{ONLY_BEFORE} {report.problem}"]
    return "\n\n".join(parts) + "\n"


def comma_separated(report: Report) -> str:
    """results.csv: one line for each row of each table, values in percent, empty where there is none."""
    classes = list(dict.fromkeys(name for table in report.tables for name in table.classes))
    columns = ["student", "probe", "kind", "teacher", "scored_on", "points", "seeds"]
    for name in ("miou", "miou_all_classes", "gap", *(f"iou_{name}" for name in classes)):
        columns += [name, f"{name}_min", f"{name}_max"]
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        for row in table.rows:
            line: dict[str, Any] = {"student": table.student, "probe": row.name, "kind": row.kind}
            line |= {"teacher": table.teacher, "scored_on": table.scored_on, "points": row.points}
            line |= {"seeds": " ".join(map(str, row.seeds))}
            values = {"miou": row.miou, "miou_all_classes": row.miou_all_classes, "gap": row.gap}
            values |= {**{f"iou_{k}": v for k, v in row.iou.items()}}
            for name, value in values.items():
                if value is not None:
                    line |= {name: value.mean, f"{name}_min": value.low, f"{name}_max": value.high}
            writer.writerow(line)
    return file.getvalue()


def plain(report: Report) -> dict[str, Any]:
    """For JSON; the loss curves are left in the runs' metrics.csv."""
    value = asdict(report)
    for training, whole in zip(value["trainings"], report.trainings, strict=True):
        training["steps"] = len(training.pop("curve"))
        training["final_loss"] = final_loss(whole)
    return value


def unreadable_lines(report: Report) -> list[str]:
    """The files that trainings and probes went without: a line with their number, then each; none where all was read."""
    lists = [part.unreadable for part in report.tables] + [part.unreadable for part in report.trainings]
    entries = dict.fromkeys(entry for names in lists for entry in names)
    if not entries:
        return []
    return [f"left out: {len(entries)} file(s) that could not be read (on_error: skip):", *entries]


def title(table: Table) -> str:
    what = f"probe {table.probe}" if table.probe else "finetuning"
    return f"{what} of student {table.student}, scored on {table.scored_on}"


def row_label(table: Table, number: int) -> tuple[str, str]:
    """The name of a row, and the head of its column in the table of classes."""
    row = table.rows[number]
    if table.probe is not None:
        return LABELS[row.kind]
    return f"({number + 1}) {FINETUNED[row.kind].format(row.name)}", f"({number + 1})"


def notes(table: Table) -> list[str]:
    """What a reader must know to read the table; nothing is skipped silently."""
    lines: list[str] = []
    distilled = table.rows[0]
    if distilled.points:
        lines.append(f"mIoU over {distilled.points:,} labelled points of whole scans, every one of them")
    for number, row in enumerate(table.rows):
        if row.kind == "teacher":
            lines.append(
                f"* scored on the {row.points:,} labelled points that cameras see (one that two cameras see counts "
                f"twice); no ceiling for a student: patches are coarse"
            )
        for folder in row.missing:
            lines.append(f"not done yet: {row_label(table, number)[0].removesuffix(' *')}: {folder}")
        for seed in row.apart:
            lines.append(
                f"in no mean, for it was scored on other partitions than the other seeds: "
                f"{row_label(table, number)[0].removesuffix(' *')}: {seed}"
            )
    if table.probe is not None and not any(row.kind == "calibrated" for row in table.rows):
        lines.append(f"no gap is given: `calibrated` is not among probes.{table.probe}.baselines")
    if any(value is None for row in table.rows if row.seeds for value in row.iou.values()):
        lines.append(f"{NONE} the class is in neither truth nor predictions; mIoU is over the others")
        lines.append(
            f"mIoU over all {len(table.classes)} classes, those that do not occur as 0 (as semantic-kitti-api counts): "
            + ", ".join(
                f"{row_label(table, number)[1].removesuffix(' *')} {_all_classes(row)}"
                for number, row in enumerate(table.rows)
                if row.miou is not None
            )
        )
    lines += [f"{OTHER_DATA}, and scored so: {line}" for line in table.since]
    lines += [f"scored on {share}" for share in table.shares if share != NOT_RECORDED]
    if NOT_RECORDED in table.shares:
        lines.append(f"on how much of {table.scored_on} older rows were scored: {NOT_RECORDED}")
    if table.too_small:
        shown = ", ".join(table.too_small[:3]) + (" ..." if len(table.too_small) > 3 else "")
        lines.append(f"skipped: batches of fewer than 2 points, of {len(table.too_small)} scan(s): {shown}")
    if table.left_out:
        shown = ", ".join(table.left_out[:3]) + (" ..." if len(table.left_out) > 3 else "")
        lines.append(f"left out: {len(table.left_out)} partition(s) without labels: {shown}")
    return lines


def _all_classes(row: Row) -> str:
    return NOT_RECORDED if row.miou_all_classes is None else f"{row.miou_all_classes.mean:.1f}"


def class_grid(table: Table) -> list[list[str]]:
    """IoU in percent: a line for each class, a column for each row of the table; the head line first."""
    head = ["IoU %", *(row_label(table, number)[1] for number in range(len(table.rows)))]
    return [head, *([name, *(_mean(row.iou[name]) for row in table.rows)] for name in table.classes)]


def training_line(training: Training) -> str:
    where = f"pretraining of {training.student}, seed {training.seed}"
    if not training.done:
        return f"{where}: not done yet: {training.folder}"
    loss = final_loss(training)
    if loss is None:
        return f"{where}: done, {training.curve_lacks or 'without metrics.csv'}: {training.folder}"
    return (
        f"{where}: loss {training.curve[0][1]:.3f} → {loss:.3f} in {training.curve[-1][0]} steps, "
        f"{training.seconds / 60:.1f} min"
        + (f", without {len(training.unreadable)} unreadable file(s)" if training.unreadable else "")
        + (f"; {training.curve_lacks}" if training.curve_lacks else "")
        + "".join(f"; {OTHER_DATA}: {line}" for line in training.since)
        + f": {training.folder}"
    )


def final_loss(training: Training) -> float | None:
    """The mean loss of the last steps."""
    last = [loss for _, loss in training.curve[-max(1, round(TAIL * len(training.curve))) :]]
    return sum(last) / len(last) if last else None


def _table_lines(table: Table) -> list[str]:
    lines = [title(table), f"teacher: {table.teacher}", ""]
    lines += [f"{a:<48}{b:<22}{c:<26}{d}".rstrip() for a, b, c, d in summary(table)]
    grid = class_grid(table)
    for first in range(1, len(grid[0]), ABREAST):
        part = [(name, cells[first - 1 : first - 1 + ABREAST]) for name, *cells in grid]
        lines += ["", *(f"{name:<24}" + "".join(f"{cell:>14}" for cell in cells) for name, cells in part)]
    lines += [""]
    return lines + [line for note in notes(table) for line in wrap(note, COLUMNS, subsequent_indent="  ")]


def summary(table: Table, cell: Callable[[Spread | None, str], str] | None = None) -> list[list[str]]:
    """Head line, then of each row its name, mIoU, gap and seeds; `cell` writes a value and its range."""
    write = cell or _with_range
    floor, words = (
        ("calibrated", "calibrated random") if table.probe is not None else ("nothing", "no pretraining")
    )
    lines = [["", "mIoU %", f"gap to {words}", "seeds"]]
    for number, row in enumerate(table.rows):
        gap = NONE if row.kind == floor else write(row.gap, "+.1f")
        seeds = ", ".join(map(str, row.seeds)) or NONE
        lines.append([row_label(table, number)[0], write(row.miou, ".1f"), gap, seeds])
    return lines


def _with_range(value: Spread | None, form: str) -> str:
    if value is None:
        return NONE
    if value.count == 1:
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} ({value.low:{form}} to {value.high:{form}})"


def _mean(value: Spread | None) -> str:
    return NONE if value is None else f"{value.mean:.1f}"


def _markdown_table(lines: list[list[str]]) -> str:
    head, *body = lines
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))


def across(report: Report) -> list[list[str]]:
    """The head line, then mIoU in percent of every student under every probe; empty where there is nothing to compare.

    Untrained students stand below, where they were asked for: with the same network they are the same for all.
    """
    probes = list(dict.fromkeys(table.probe for table in report.tables if table.probe is not None))
    finetunings = list(
        dict.fromkeys(row.name for table in report.tables for row in table.rows if row.kind == "finetuned")
    )
    students = list(dict.fromkeys(table.student for table in report.tables))
    if len(students) < 2:
        return []
    lines = [["mIoU %", *probes, *(f"finetuned: {name}" for name in finetunings)]]
    for student in students:
        tables = [table for table in report.tables if table.student == student]
        by_probe = {table.probe: table for table in tables}
        rows = {row.name: row for table in tables for row in table.rows if row.kind == "finetuned"}
        lines.append(
            [
                student,
                *(_cell(_row(by_probe.get(probe), "distilled")) for probe in probes),
                *(_cell(rows.get(name)) for name in finetunings),
            ]
        )
    for kind, name in (("random", "random, untouched"), ("scratch", "from scratch, with labels")):
        cells = [_same(report, probe, kind) for probe in probes]
        if any(cell != NONE for cell in cells):
            lines.append([name, *cells, *[NONE] * len(finetunings)])
    return lines


def _cell(row: Row | None) -> str:
    return f"{row.miou.mean:.1f}" if row is not None and row.miou is not None else NONE


def _row(table: Table | None, kind: str) -> Row | None:
    return next((row for row in table.rows if row.kind == kind), None) if table else None


def _same(report: Report, probe: str, kind: str) -> str:
    """A baseline's value, if it is one for all students; else how far it goes."""
    cells = {_cell(_row(table, kind)) for table in report.tables if table.probe == probe} - {NONE}
    values = sorted(cells, key=float)
    return NONE if not values else values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"
