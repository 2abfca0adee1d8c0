"""Lines in a log, a bar on a terminal, and no bar left behind when a line comes."""

from __future__ import annotations

import io
import sys

import pytest

from pipeline.common import progress
from pipeline.common.log import log
from pipeline.common.progress import Progress, pause, tell


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def look_on(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in the place of standard error; not a fixture, as pytest sets that anew before a test begins."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("COLUMNS", "60")
    return found


def test_a_log_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    tell(0.5, "  half of it")
    assert plain.getvalue() == "  half of it\n"
    assert pause() == progress.SECONDS


def test_a_terminal_gets_a_bar_that_the_next_line_wipes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look_on(monkeypatch)
    assert pause() < 1
    tell(0.25, "  a quarter of it, and far more words than fit into the line of a terminal")
    bar = terminal.getvalue().removeprefix("\r\x1b[K")
    assert bar.startswith("[######..................] a quarter of it")
    assert len(bar) == 59, "a line that wrapped could not be drawn over"
    log("something else")
    assert terminal.getvalue().endswith("\r\x1b[Ksomething else\n")
    tell(1.0, "  all of it")
    assert terminal.getvalue().endswith("something else\n  all of it\n")


def test_progress_counts_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look_on(monkeypatch)
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.0)
    work = Progress(4, "images")
    work.add("scene-1", 1, 1000)
    assert "[######..................] scene-1: 1 of 4 images" in terminal.getvalue()
