"""The report as files: results.csv, results.md, a page that needs nothing beside it, and the marker, written last."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from cache_schemas.manifest import made
from cache_schemas.publish import write_bytes, write_json
from pipeline.common.run_files import DONE
from pipeline.report.curve import line_chart
from pipeline.report.tables import Report, Spread, Table
from pipeline.report.text import (
    NONE,
    ONLY_BEFORE,
    WARNINGS,
    class_grid,
    comma_separated,
    markdown,
    notes,
    summary,
    title,
    training_line,
    unreadable_lines,
)

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
tr.first td { font-weight: 600; }
svg { width: 100%; max-width: 40rem; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
.note, footer { color: #666; font-size: .875rem; }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd; } th, td { border-color: #444; } .note, footer { color: #aaa; }
}
"""


def write_report(workdir: Path, report: Report) -> Path:
    """Write report/<digest>/ and let report/index.html point to it; returns the folder."""
    folder = workdir / "report" / report.id
    write_bytes(folder / "results.csv", comma_separated(report).encode())
    write_bytes(folder / "results.md", markdown(report).encode())
    write_bytes(folder / "index.html", page(report).encode())
    write_bytes(workdir / "report" / "index.html", _pointer(report.id).encode())
    write_json(
        folder / DONE,
        {
            "griddle": "griddle report",
            "report_id": report.id,
            "files": ["index.html", "results.csv", "results.md"],
            "made": made(),
        },
    )
    return folder


def page(report: Report) -> str:
    """index.html: the tables and the loss curves, whole in one file."""
    body = [f"<h1>Results</h1><p>{escape(report.description)}</p>"]
    for table in report.tables:
        body += _table(table)
    if not report.tables:
        body.append("<p>No student of the config names a probe.</p>")
    body.append("<h2>Pretraining</h2>")
    curves = {f"{t.student}, seed {t.seed}": t.curve for t in report.trainings}
    body.append(line_chart(curves, "step", "loss"))
    body.append("<ul>" + "".join(f"<li>{escape(training_line(t))}</li>" for t in report.trainings) + "</ul>")
    if unreadable := unreadable_lines(report):
        listed = "".join(f"<li>{escape(entry)}</li>" for entry in unreadable[1:])
        body.append(f"<h2>Left out</h2><p>{escape(unreadable[0])}</p><ul>{listed}</ul>")
    if report.warnings:
        listed = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
        body.append(f"<h2>Warnings</h2><p>{escape(WARNINGS)}</p><ul>{listed}</ul>")
    if report.problem:
        body.append(f"<p>{ONLY_BEFORE} {escape(report.problem)}</p>")
    body.append(f"<footer>report {report.id}; the same numbers: results.csv, results.md</footer>")
    return _document("Griddle: results", "\n".join(body))


def _table(table: Table) -> list[str]:
    heads, *rows = summary(table, _cell)
    lines = [
        f'<tr class="{"first" if not number else ""}">' + _cells("td", [escape(name), *values]) + "</tr>"
        for number, (name, *values) in enumerate(rows)
    ]
    head, *grid = class_grid(table)
    return [
        f"<h2>{escape(title(table))}</h2><p>Teacher: {escape(table.teacher)}</p>",
        f"<table><tr>{_cells('th', heads)}</tr>{''.join(lines)}</table>",
        f"<table><tr>{_cells('th', map(escape, head))}</tr>",
        *(f"<tr>{_cells('td', map(escape, line))}</tr>" for line in grid),
        "</table>",
        *(f'<p class="note">{escape(note)}</p>' for note in notes(table)),
    ]


def _cell(value: Spread | None, form: str) -> str:
    if value is None:
        return NONE
    spread = f" <small>({value.low:{form}} to {value.high:{form}})</small>" if value.count > 1 else ""
    return f"{value.mean:{form}}{spread}"


def _cells(tag: str, cells: Iterable[str]) -> str:
    return "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)


def _pointer(digest: str) -> str:
    link = f'<p>The latest report: <a href="{digest}/index.html">{digest}</a></p>'
    return _document(
        "Griddle: latest report", link, f'<meta http-equiv="refresh" content="0; url={digest}/index.html">'
    )


def _document(name: str, body: str, head: str = "") -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>{head}'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n{body}\n'
        f"</body></html>\n"
    )
