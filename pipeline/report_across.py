"""Several students beside each other: one line a student, one column a probe or finetuning, as tables of papers are."""

from __future__ import annotations

from pipeline.report import Report, Row, Table

NONE = "–"


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
        its = [table for table in report.tables if table.student == student]
        of = {table.probe: table for table in its}
        rows = {row.name: row for table in its for row in table.rows if row.kind == "finetuned"}
        lines.append(
            [
                student,
                *(_cell(_row(of.get(probe), "distilled")) for probe in probes),
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
