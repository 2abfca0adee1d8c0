"""Turn the one JSON into the tables of docs/gpu.md.

    python -m benchmarks.gpu.tables gpu.json

Each section has its tables; behind them stands, in words, what failed, what was wrong, what did not fit and what was left
out. Nothing is computed here that the JSON does not hold, but for ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.gpu.lines import Row
from benchmarks.gpu.markdown import all_figures, figure, named, number, percent, table
from benchmarks.gpu.results import BAD, NOT_BEGUN, NOTHING, body_of
from benchmarks.gpu.step_table import step_tables
from benchmarks.gpu.student_table import student_tables

Section = dict[str, Any]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Print the tables of FILE, which `python -m benchmarks.gpu` wrote."""
    try:
        body = body_of(file)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(all_tables(body)))


def all_tables(body: dict[str, Any]) -> list[str]:
    """Lines of markdown: what it was measured on, the tables of each section, and what is missing."""
    lines = [*headline(body), ""]
    for name, section in body["sections"].items():
        title, make = TABLES.get(name, (name, other_tables))
        lines += [f"### {title}", ""]
        try:
            rows = [row for row in section["rows"] if "status" in row]
            lines += [*(make(rows) or ["Nothing was measured.", ""]), *missing(section, rows)]
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            lines += [f"* its rows are not as a run writes them: {type(error).__name__}: {error}", ""]
    asked = body.get("asked", {}).get("only", [])
    lines += [f"* {NOT_BEGUN}: {name}" for name in asked if name not in body["sections"]]
    return lines


def headline(body: dict[str, Any]) -> list[str]:
    """The card, the date, the versions; a run on a CPU says that it says nothing of speed."""
    sections = body["sections"]
    cards = sorted({str(section["on"]) for section in sections.values() if "on" in section})
    days = sorted({str(one.get("started", body["started"]))[:10] for one in [*sections.values(), body]})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    lines = [f"Measured on {' and '.join(cards) or 'an unknown device'}, {when}."]
    if len(cards) > 1:
        on = "; ".join(
            f"{name} on {section.get('on', 'an unknown device')}" for name, section in sections.items()
        )
        lines.append(f"**More than one device**: {on}.")
    for words, key, value in (
        ("On a CPU: this shows that all of it runs, and says nothing of speed", "device", "cpu"),
        ("The smallest sizes alone", "quick", True),
    ):
        names = [name for name, one in sections.items() if _asked(one, body).get(key) == value]
        which = "" if len(names) == len(sections) else f" ({', '.join(names)})"
        lines += [f"**{words}{which}.**"] if names else []
    return lines


def _asked(section: Section, body: dict[str, Any]) -> dict[str, Any]:
    """How a section was asked for: files of several runs hold sections of each."""
    asked: dict[str, Any] = section.get("asked", body.get("asked", {}))
    return asked


def machine_tables(rows: list[Row]) -> list[str]:
    """Name and versions, then rates."""
    device = next((row for row in rows if row["what"] == "device"), {})
    versions = {name: one for name, one in device.get("versions", {}).items() if one}
    said = [
        f"{device.get('name', 'unknown')}, compute capability {device.get('capability', 'unknown')}",
        *([f"{device['gigabytes']} GB"] if "gigabytes" in device else []),
        *([f"{device['multiprocessors']} multiprocessors"] if "multiprocessors" in device else []),
        f"Python {device.get('python', 'unknown')}",
        *(f"{name} {one}" for name, one in versions.items()),
    ]
    rates = [
        (row["what"], figure(row, "tb_per_s" if row["what"] == "copy" else "tflop_per_s"))
        for row in rows
        if row["what"] != "device"
    ]
    head = ("rate that is reached", "TB/s of a copy, TFLOP/s of a product")
    return [", ".join(said) + ".", "", *table(head, rates)] if device or rates else []


def runs_tables(rows: list[Row]) -> list[str]:
    head = ("way", "result", "seconds", "figures")
    return table(
        head,
        [
            (row["what"], _status(row), number(row.get("seconds")), all_figures(row))
            for row in rows
            if not _out(row)
        ],
    )


def correct_tables(rows: list[Row]) -> list[str]:
    """Backends; then two runs beside each other; then the rest."""
    twice = [row for row in rows if str(row["what"]).startswith("twice, ")]
    backends = [row for row in rows if "arithmetic" in row and row not in twice]
    rest = [row for row in rows if row not in twice and row not in backends]
    keys = ("output", "output_bound", "gradient", "gradient_bound", "of_reference")
    lines = [
        "Distance from the dense reference in float64, as a share of the norm, in the batch where it is largest:",
        "",
    ]
    lines += table(
        (
            "backend, arithmetic",
            "output",
            "allowed",
            "gradients",
            "allowed",
            "times what the reference loses",
        ),
        [(named(row), *(figure(row, key, 2) for key in keys)) for row in backends],
    )
    keys = ("same_bits", "differ", "first", "ms", "ms_deterministic", "cost")
    lines += table(
        (
            "three runs of a training",
            "same bits",
            "tensors that differ",
            "the first of them",
            "ms a step",
            "with deterministic algorithms",
            "times as long",
        ),
        [
            (named(row, row["what"][7:]), *(figure(row, key) for key in keys))
            for row in twice
            if not _out(row)
        ],
    )
    return lines + _plain(rest)


def teacher_tables(rows: list[Row]) -> list[str]:
    stages = [row for row in rows if "images_per_s" in row or str(row["what"]).startswith("ViT-")]
    head = (
        "teacher, image size, precision, batch",
        "stage, images/s",
        "bare forward, images/s",
        "decoding, images/s",
        "stage of the smaller",
        "bound by",
        "TFLOP/s",
        "of the peak",
        "bare, of the peak",
    )
    found = [
        (
            named(row),
            figure(row, "images_per_s"),
            *(number(row.get(key)) for key in ("bare_per_s", "decode_per_s")),
            percent(row.get("share_of_ceiling")),
            str(row.get("bound_by", "")),
            number(row.get("tflop_per_s")),
            percent(row.get("share_of_peak")),
            percent(row.get("bare_share_of_peak")),
        )
        for row in stages
        if not _out(row)
    ]
    return table(head, found) + _plain([row for row in rows if row not in stages])


def choices_tables(rows: list[Row]) -> list[str]:
    auto = [row for row in rows if str(row["what"]).startswith("auto, ")]
    head = ("step", "torch, ms", "triton, ms", "auto", "fastest", "auto takes so many times as long")
    keys = ("torch_ms", "triton_ms", "auto", "fastest", "auto_behind")
    lines = table(
        head,
        [(named(row, row["what"][6:]), *(figure(row, key) for key in keys)) for row in auto if not _out(row)],
    )
    return lines + _plain([row for row in rows if row not in auto])


def other_tables(rows: list[Row]) -> list[str]:
    """Of a section that has no tables of its own: each row's figures in words."""
    return _plain(rows)


TABLES: dict[str, tuple[str, Callable[[list[Row]], list[str]]]] = {
    "machine": ("The machine", machine_tables),
    "runs": ("Does it run", runs_tables),
    "correct": ("Is it right", correct_tables),
    "student": ("The student", student_tables),
    "teacher": ("The teacher", teacher_tables),
    "step": ("A whole step", step_tables),
    "choices": ("What `auto` takes, graphs, compiling the whole", choices_tables),
}


def missing(section: Section, rows: list[Row]) -> list[str]:
    """What needs a look, and what was not measured, in words; then how the section ended, if not well."""
    told = [row for row in rows if row["status"] in BAD or row["status"] == "out of memory" or _out(row)]
    lines = [f"* {row['status']}: {row['what']}: {row.get('why', 'nobody said why')}" for row in told]
    if section["status"] not in ("ok", "failed"):
        after = f", after {number(section['seconds'])} s" if "seconds" in section else ""
        state = {"running": "was running when the file was last written", NOTHING: "measured nothing"}
        words = state.get(section["status"], f"was {section['status']}")
        lines.append(f"* the section {words}{after}")
    if "error" in section:
        lines.append(f"* the section's process: {section['error']}")
    if section.get("not_kept"):
        lines.append(f"* {section['not_kept']} rows were not kept: the file was full")
    return [*lines, ""] if lines else []


def _plain(rows: list[Row]) -> list[str]:
    found = [(row["what"], _status(row), all_figures(row)) for row in rows if not _out(row)]
    return table(("what", "result", "figures"), found)


def _status(row: Row) -> str:
    return "ok" if row["status"] == "ok" else f"**{row['status']}**"


def _out(row: Row) -> bool:
    return bool(row["status"] == "left out")


if __name__ == "__main__":
    main()
