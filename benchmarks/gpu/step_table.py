"""The tables of whole pretraining steps: from a cache, with the teacher in the loop, and as published, side by side."""

from __future__ import annotations

from benchmarks.gpu.lines import Row
from benchmarks.gpu.markdown import all_figures, figure, named, number, percent, table

PROFILE = "profile of "


def step_tables(rows: list[Row]) -> list[str]:
    """Steps a row, with what a profile of the same step says; then the kernels that took longest; then the rest."""
    profiles = {row["what"].removeprefix(PROFILE): row for row in rows if row["what"].startswith(PROFILE)}
    steps = [row for row in rows if " workers" in row["what"]]
    rest = [row for row in rows if row not in steps and not row["what"].startswith(PROFILE)]
    head = (
        "step",
        "samples/s",
        "ms a step",
        "waiting for data",
        "GPU busy, profiled",
        "launches a step",
        "copies a step",
        "peak, GB",
    )
    found = []
    for row in steps:
        profile = profiles.get(row["what"].partition(",")[0], {})
        busy = None
        if "busy_ms_a_step" in profile and "ms_a_step" in row:
            busy = min(1.0, profile["busy_ms_a_step"] / row["ms_a_step"])
        found.append(
            (
                named(row),
                figure(row, "samples_per_s"),
                number(row.get("ms_a_step")),
                percent(row.get("data_wait_share")),
                percent(busy),
                number(profile.get("launches_a_step")),
                number(profile.get("copies_a_step")),
                number(row.get("peak_gb")),
            )
        )
    kernels = [
        (name, kernel, number(ms))
        for name, profile in profiles.items()
        for kernel, ms in profile.get("kernels_ms_a_step", {}).items()
    ]
    left = [(named(row), all_figures(row)) for row in rest if row["status"] != "left out"]
    lines = table(head, [row for row in found if row[1] != "left out"])
    return [*lines, *table(("step", "kernel", "ms a step"), kernels), *table(("beside it", "figures"), left)]
