"""A run's loss curve from its metrics.csv: what of it can be read, and what of it is lost, in words. No torch.

A curve is for people to look at; no score rests on it. So a file that is damaged costs its own rows, not the report.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.run_files import CURVE
from pipeline.plan.run_record import ChangedFile, mending, read_recorded


@dataclass(frozen=True)
class Curve:
    """What can be read of a metrics.csv.

    Attributes:
        loss: (step, loss) of each row.
        clock: the seconds of each row.
        lacks: what is lost or changed, in words; empty where nothing is.
    """

    loss: tuple[tuple[int, float], ...]
    clock: tuple[float, ...]
    lacks: str


def read_curve(folder: Path, steps: int | None) -> Curve:
    """The curve of a run that is done. steps: how many it took, where that was recorded; a run without steps has no curve."""
    if steps == 0:
        return Curve((), (), "")
    try:
        data, lacks = read_recorded(folder, CURVE), ""
    except ChangedFile:
        data, lacks = (folder / CURVE).read_bytes(), "it is not the one that was written"
    except OSError as error:
        return Curve(
            (),
            (),
            "" if steps is None else f"metrics.csv is lost ({error.strerror}). {mending(folder, [CURVE])}",
        )
    rows, torn = _rows(data.decode("utf-8", "replace"))
    if torn:
        lacks = f"{torn} of its rows cannot be read"
    wanted = set(range(1, steps + 1)) if steps is not None else set()
    lost = len(wanted - {step for step, _, _ in rows})
    if lost:
        lacks = f"{lost} of {steps} steps are not in it"
    elif not rows:
        lacks = "it holds no row"
    return Curve(
        tuple((step, loss) for step, loss, _ in rows),
        tuple(seconds for _, _, seconds in rows),
        f"the curve is not whole: metrics.csv is damaged, {lacks}. {mending(folder, [CURVE])}"
        if lacks
        else "",
    )


def _rows(text: str) -> tuple[list[tuple[int, float, float]], int]:
    """(step, loss, seconds) of each whole row, and how many rows are torn or garbled."""
    rows: list[tuple[int, float, float]] = []
    torn = 0
    reader = csv.reader(io.StringIO(text.replace("\0", "?")), strict=False)
    head = next(reader, [])
    for cells in reader:
        row = dict(zip(head, cells, strict=False))
        try:
            if len(cells) != len(head):
                raise ValueError("it is torn")
            step, loss, seconds = int(row["step"]), float(row["loss"]), float(row["seconds"])
        except (ValueError, KeyError):
            torn += bool(cells)
            continue
        rows.append((step, loss, seconds))
    return rows, torn
