"""What a section is made of: cells, each run once, within the section's time, whose result is told the moment it is there."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.follow import SPOILT
from benchmarks.gpu.lines import Row, append, begin, told_in

MOST = {"cuda": 60.0, "cpu": 600.0}
"""Seconds that a cell may take, unless it needs more: where a minute has a price, and where nobody waits."""


class Wrong(Exception):
    """A result that is not what it must be; its figures are told all the same."""

    def __init__(self, why: str, **figures: Any) -> None:
        super().__init__(why)
        self.figures = figures


@dataclass
class Cells:
    """A section on its way.

    Attributes:
        device: that everything runs on.
        quick: whether only the smallest sizes are asked for.
        packed: what `pack.sh` made.
        waffleiron, scalr: checkouts of the authors' code, or None.
        scratch: a folder of the section's own; a process that goes on behind a dead one finds what that one left.
    """

    device: torch.device
    quick: bool
    packed: Path
    scratch: Path
    ends: float
    lines: Path
    waffleiron: Path | None = None
    scalr: Path | None = None
    _told: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._told = told_in(self.lines)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def ran_out(self, what: str) -> bool:
        """Whether a cell, perhaps of a process before this one, found too little memory."""
        return self._told.get(what) == "out of memory"

    def left(self) -> float:
        """Seconds until the section's time is over."""
        return self.ends - time.monotonic()

    def run(
        self, what: str, cell: Callable[[], Row], *, needs: float = 2.0, most: float | None = None
    ) -> Row | None:
        """Run a cell, unless one process before this has told of it or less than `needs` seconds are left.

        A cell that takes longer than `most` seconds (by default `MOST`, or three times what it needs) is taken for hung:
        its process is ended, and another one goes on behind it.

        What it returns is told with status `ok`; what it raises is told, too: `wrong`, `out of memory` or `failed`, with
        the last places of the traceback. Returns the figures of a cell that is ok.
        """
        if what in self._told:
            return None
        if self.left() < needs:
            self.leave_out(what, f"{max(0.0, self.left()):.1f} s were left, it needs about {needs:.0f}")
            return None
        begin(self.lines, what, max(MOST[self.device.type], 3 * needs) if most is None else most)
        started = time.monotonic()
        row: Row
        try:
            row = {**cell(), "what": what, "status": "ok"}
        except Wrong as error:
            row = {"what": what, "status": "wrong", "why": str(error), **error.figures}
        except torch.cuda.OutOfMemoryError:
            row = {"what": what, "status": "out of memory", "why": "the device's memory is full"}
        except Exception as error:
            row = {"what": what, "status": "failed", "why": _told(error)}
        self.tell({**row, "seconds": round(time.monotonic() - started, 2)})
        if row["status"] != "ok":
            self._stop_where_spoilt()
        return row if row["status"] == "ok" else None

    def leave_out(self, what: str, why: str) -> None:
        """Tell, in words, of a cell that was not run."""
        if what not in self._told:
            self.tell({"what": what, "status": "left out", "why": why})

    def tell(self, row: Row) -> None:
        """Add a row to what is known."""
        self._told[str(row.get("what"))] = str(row.get("status"))
        append(self.lines, row)

    def _stop_where_spoilt(self) -> None:
        """One CUDA fault fails all that follows in a process."""
        if not self.on_gpu:
            return
        gc.collect()  # what failed held its tensors
        try:
            torch.cuda.synchronize()
            torch.ones(1, device=self.device).sum().item()
            torch.cuda.empty_cache()
        except Exception:
            raise SystemExit(SPOILT) from None


def _told(error: Exception, most: int = 4) -> str:
    """What an exception says, and the last places of its traceback, the innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-most:]
    places = [
        f"{'/'.join(Path(one.filename).parts[-2:])}:{one.lineno} {one.name}" for one in reversed(frames)
    ]
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:450]} (at {', '.join(places)[:300]})"
