"""What a training reports while it runs: log lines for people, metrics.csv and TensorBoard for programs.

Reading a metrics.csv imports no torch.
"""

from __future__ import annotations

import csv
import io
import math
import os
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache_schemas.errors import GriddleError
from cache_schemas.publish import write_bytes
from pipeline.common.progress import SECONDS, pause, tell
from pipeline.common.run_files import CURVE

if TYPE_CHECKING:
    from pipeline.streaming.scan_batches import ScanBatch
    from pipeline.streaming.view_batches import PretrainBatch
    from pipeline.training.lease import Lease

COLUMNS = ("step", "epoch", "loss", "lr", "points", "seconds", "samples_per_second", "data_wait_share")


@dataclass
class _Pace:
    seconds: float = 0.0
    waited: float = 0.0
    samples: int = 0


class Recorder:
    """Writes log lines, metrics.csv and TensorBoard, as long as it holds the folder's lease.

    teachers: their names if there are several. what: `pretrain` or `finetune`. skips: whether steps can be skipped; they are
    then counted.
    """

    def __init__(
        self,
        folder: Path,
        lease: Lease,
        first: int,
        total: int,
        per_epoch: int,
        teachers: Sequence[str] = (),
        what: str = "pretrain",
        skips: bool = False,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._first, self._total, self._per_epoch = first, total, per_epoch
        more = [*(f"loss_{name}" for name in teachers), *(["skipped"] if skips else [])]
        lease.check()
        self._lease = lease
        self._metrics = MetricsFile(folder / CURVE, first, more)
        self._what = what
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1)
        self._started = self._last_step = time.monotonic()
        self._last_line = 0.0
        self._pace = _Pace()

    @property
    def hours(self) -> float:
        return (time.monotonic() - self._started) / 3600

    def step(
        self,
        done: int,
        loss: float,
        rate: float,
        batch: PretrainBatch | ScanBatch,
        waited: float,
        parts: Mapping[str, float] | None = None,
        skipped: int | None = None,
    ) -> None:
        """Record a finished step.

        loss: NaN of a batch that was too small to learn from. parts: the loss of each teacher by name, if there are several. skipped: how many of all steps so far were skipped.

        Raises:
            GriddleError: if another trainer took the folder over, or put another metrics.csv there.
        """
        self._lease.check()
        now = time.monotonic()
        self._pace.seconds += now - self._last_step
        self._pace.waited += waited
        self._pace.samples += batch.clouds.count
        self._last_step = now
        seconds = max(self._pace.seconds, 1e-9)
        row = {
            "step": done,
            "epoch": (done - 1) // self._per_epoch,
            "loss": loss,
            "lr": rate,
            "points": len(batch.clouds.features),
            "seconds": round(now - self._started, 3),
            "samples_per_second": round(self._pace.samples / seconds, 3),
            "data_wait_share": round(self._pace.waited / seconds, 4),
        }
        row |= {f"loss_{name}": value for name, value in (parts or {}).items()}
        row |= {} if skipped is None else {"skipped": skipped}
        self._metrics.write(row)
        if not math.isnan(loss):
            self._board.add_scalar(f"{self._what}/loss", loss, done)
        self._board.add_scalar(f"{self._what}/lr", rate, done)
        if now - self._last_line > pause() or done == self._total:
            self._last_line = now
            left = (now - self._started) / (done - self._first) * (self._total - done)
            tell(
                done / self._total,
                f"  step {done}/{self._total}  loss {loss:.4f}  lr {rate:.2e}  "
                f"{row['samples_per_second']:.1f} samples/s  data wait {row['data_wait_share']:.0%}  "
                f"peak memory {_peak_gb():.1f} GB  {_clock(left)} left"
                + (f"  {skipped} steps skipped (float16)" if skipped else ""),
            )
            if (
                self._pace.seconds > SECONDS
            ):  # a bar is drawn often, but its rates are means over some seconds
                self._pace = _Pace()

    def close(self) -> None:
        self._metrics.close()
        self._board.close()


class MetricsFile:
    """Appends rows of COLUMNS and `more`; numbers are written so that they read back the same.

    It begins as a new file with the rows up to `first_step`, which takes the old one's place by renaming. A trainer that was
    stopped, taken for dead, and goes on still has the old file open: it cannot write into this one.
    """

    def __init__(self, path: Path, first_step: int, more: Sequence[str] = ()) -> None:
        kept = [row for row in read_metrics(path) if int(row["step"]) <= first_step] if path.exists() else []
        self._path = path
        self._columns = [*COLUMNS, *more]
        write_bytes(path, self._lines(kept, header=True))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, row: dict[str, float | int]) -> None:
        """Append a row, whole or not at all.

        Raises:
            GriddleError: if the file was removed or another one is in its place.
        """
        here = os.fstat(self._file)
        try:
            same = os.path.samestat(here, os.stat(self._path))
        except FileNotFoundError:
            same = False
        if not same:
            raise GriddleError(
                f"{self._path} was removed or replaced while this training wrote it; it stops. The same command goes on from "
                f"its last checkpoint"
            )
        line = self._lines([row])
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError:
            os.ftruncate(self._file, here.st_size)
            raise

    def close(self) -> None:
        os.close(self._file)

    def _lines(self, rows: Sequence[Mapping[str, object]], *, header: bool = False) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv that are whole; a line that was cut off or garbled is dropped."""
    with open(path, newline="", errors="replace") as file:
        return [row for row in csv.DictReader(file) if row and None not in row.values() and _is_whole(row)]


def _is_whole(row: dict[str, str]) -> bool:
    try:
        step, _ = int(row["step"]), float(row["loss"])
    except (ValueError, KeyError, TypeError):
        return False
    return None not in row and step > 0


def _peak_gb() -> float:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
