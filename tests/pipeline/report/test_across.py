"""Students beside each other: the same numbers as in their own tables, and nothing where there is one student."""

from __future__ import annotations

from pipeline.report.tables import Report, Row, Spread, Table
from pipeline.report.text import across, markdown, terminal


def table(student: str, probe: str, **miou: float | None) -> Table:
    rows = [
        Row(kind, probe, (0,), None if value is None else Spread(value, value, value, 1), None, {}, 5, ())
        for kind, value in miou.items()
    ]
    return Table(student, probe, "t", "toy val", (), tuple(rows), (), ())


REPORT = Report(
    "id",
    "",
    (
        table("on_a", "a", distilled=34.56, random=12.0, scratch=20.0),
        table("on_a", "b", distilled=None),
        table("on_b", "a", distilled=30.0, random=12.0, scratch=22.0),
    ),
    (),
)


def test_one_line_a_student_one_column_a_probe() -> None:
    assert across(REPORT) == [
        ["mIoU %", "a", "b"],
        ["on_a", "34.6", "–"],
        ["on_b", "30.0", "–"],
        ["random, untouched", "12.0", "–"],
        ["from scratch, with labels", "20.0 to 22.0", "–"],
    ]
    assert "on_b                                 30.0             –" in terminal(REPORT)
    assert "| on_a | 34.6 | – |" in markdown(REPORT)


def test_one_student_needs_no_such_table() -> None:
    assert across(Report("id", "", REPORT.tables[:1], ())) == []
