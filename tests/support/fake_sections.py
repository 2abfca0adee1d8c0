"""Sections of `benchmarks.gpu` that die, hang and are cut off, in the place of the real ones.

python fake_sections.py section NAME …     one section, as `python -m benchmarks.gpu.section` runs the real ones
python fake_sections.py …                  all that is asked for, as `python -m benchmarks.gpu` does
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.gpu import follow, sections
from benchmarks.gpu.cells import Cells, Wrong
from benchmarks.gpu.follow import SPOILT


def good(cells: Cells) -> None:
    for name in ("one", "two"):
        cells.run(name, lambda name=name: {"figure": float(len(name)), "nothing": float("nan")})


def bad(cells: Cells) -> None:
    def fail() -> dict[str, object]:
        raise ValueError("as it was told to")

    def wrong() -> dict[str, object]:
        raise Wrong("off by one", difference=1.0)

    cells.run("fails", fail)
    cells.run("wrong", wrong)
    cells.leave_out("dear", "it costs too much")
    cells.run("needs", dict, needs=1e6)
    cells.run("long", lambda: {"text": ["x" * 700] * 100})
    cells.run("after", lambda: {"figure": 1})


def dies(cells: Cells) -> None:
    """Dies in one cell, in the middle of a line; spoils its GPU in another; leaves a file for the process behind it."""

    def die() -> dict[str, object]:
        (cells.scratch / "left").write_text("here")
        with open(cells.lines, "a") as file:
            file.write('{"what": "half a li')
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    def spoil() -> dict[str, object]:
        cells.tell({"what": "spoils", "status": "failed", "why": "an illegal address"})
        raise SystemExit(SPOILT)

    cells.run("before", lambda: {"figure": 1})
    cells.run("dies", die)
    cells.run("spoils", spoil)
    cells.run("behind", lambda: {"left": (cells.scratch / "left").read_text()})


def hangs(cells: Cells) -> None:
    cells.run("before", dict)
    cells.run("hangs", lambda: time.sleep(600) or {}, most=1.0)
    cells.run("behind", dict)


def endless(cells: Cells) -> None:
    cells.run("before", dict)
    cells.run("endless", lambda: time.sleep(600) or {}, most=600.0)


def many(cells: Cells) -> None:
    for number in range(400):
        cells.run(f"row {number}", lambda: {"text": ["x" * 600] * 30})


def leaves(cells: Cells) -> None:
    """Ends well in the middle, as a library may that calls `exit`."""
    cells.run("before", dict)
    cells.run("leaves", lambda: os._exit(0) or {})
    cells.run("behind", lambda: {"status": "fine", "what": "another"})


def poor(cells: Cells) -> None:
    cells.leave_out("all", "there is no time")


def broken(cells: Cells) -> None:
    raise RuntimeError("it cannot even begin")


FAKES: tuple[Callable[[Cells], None], ...] = (good, bad, dies, hangs, endless, many, leaves, poor, broken)


def install() -> None:
    """Put the fakes in the place of the real sections."""
    sections.SECTIONS.clear()
    for fake in FAKES:
        module = ModuleType(f"benchmarks.gpu.sections.{fake.__name__}")
        module.run = fake  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
        sections.SECTIONS[fake.__name__] = sections.Section(fake.__name__, "a fake", 1.0)


if __name__ == "__main__":
    install()
    if sys.argv[1:2] == ["section"]:
        del sys.argv[1]
        from benchmarks.gpu.section import main
    else:
        follow.STARTER = (sys.executable, __file__, "section")
        follow.GRACE, follow.WORTH = 1.0, 0.2
        from benchmarks.gpu.__main__ import main
    main()
