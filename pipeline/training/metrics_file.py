"""metrics.csv of a run: one row per logged step, cut back to the checkpoint when a run goes on from it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

COLUMNS = ("step", "epoch", "loss", "lr", "points", "seconds", "samples_per_second", "data_wait_share")


class MetricsFile:
    """Appends rows of COLUMNS and `more`; numbers are written so that they read back the same."""

    def __init__(self, path: Path, first_step: int, more: Sequence[str] = ()) -> None:
        kept = [row for row in read_metrics(path) if int(row["step"]) <= first_step] if path.exists() else []
        self._file = open(path, "w", newline="", buffering=1)  # noqa: SIM115 - open as long as the run
        self._writer = csv.DictWriter(self._file, [*COLUMNS, *more])
        self._writer.writeheader()
        self._writer.writerows(kept)

    def write(self, row: dict[str, float | int]) -> None:
        self._writer.writerow(row)

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv; a last line that was cut off is dropped."""
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if row and None not in row.values() and None not in row]
