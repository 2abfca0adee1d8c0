"""Several students beside each other: one line a student, one column a probe, as tables of papers are."""

from __future__ import annotations

from pipeline.report import Report, Row, Table

NONE = "–"


def across(report: Report) -> list[list[str]]:
    """The head line, then mIoU in percent of every student under every probe; empty where there is nothing to compare.

    Untrained students stand below, where they were asked for: with the same network they are the same for all.
    """
    probes = list(dict.fromkeys(table.probe for table in report.tables))
    students = list(dict.fromkeys(table.student for table in report.tables))
    if len(students) < 2:
        return []
    lines = [["mIoU %", *probes]]
    for student in students:
        of = {table.probe: table for table in report.tables if table.student == student}
        lines.append([student, *(_cell(of.get(probe), "distilled") for probe in probes)])
    for kind, name in (("random", "random, untouched"), ("scratch", "from scratch, with labels")):
        cells = [_same(report, probe, kind) for probe in probes]
        if any(cell != NONE for cell in cells):
            lines.append([name, *cells])
    return lines


def _cell(table: Table | None, kind: str) -> str:
    row = _row(table, kind)
    return f"{row.miou.mean:.1f}" if row is not None and row.miou is not None else NONE


def _row(table: Table | None, kind: str) -> Row | None:
    return next((row for row in table.rows if row.kind == kind), None) if table else None


def _same(report: Report, probe: str, kind: str) -> str:
    """A baseline's value, if it is one for all students; else how far it goes."""
    cells = {_cell(table, kind) for table in report.tables if table.probe == probe} - {NONE}
    values = sorted(cells, key=float)
    return NONE if not values else values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"
