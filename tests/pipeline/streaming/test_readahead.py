"""Readahead is advice: each step is announced once, where reading waits, and no batch changes for it."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.streaming import readahead
from pipeline.streaming.readahead import ReadAhead


class Spy:
    def __init__(self) -> None:
        self.announced: list[tuple[int, int, int]] = []

    def advise(self, reading: int, view: int, variant: int) -> None:
        self.announced.append((reading, view, variant))


def draws_of(step: int) -> list[Any]:
    """Two samples a step, the later one on the disk first."""
    return [SimpleNamespace(scan=SimpleNamespace(reading=step), view=view, variant=1) for view in (9, 4)]


def read(ahead: ReadAhead, step: int, wait: bool) -> None:
    with ahead.reading(step):
        for _ in range(readahead.WAITS + 3 if wait else 0):
            time.sleep(1e-4)  # gives up the processor, as a read from a disk does


def test_nothing_is_announced_where_nothing_waits() -> None:
    spy: Any = Spy()
    ahead = ReadAhead(spy, draws_of, 4)
    for step in range(20):
        read(ahead, step, wait=False)
    assert spy.announced == []


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_each_step_is_announced_once_and_in_the_order_of_the_disk(workers: int) -> None:
    spies: list[Any] = [Spy() for _ in range(workers)]
    ahead = [ReadAhead(spy, draws_of, 6) for spy in spies]
    for step in range(30):
        read(ahead[step % workers], step, wait=step < workers)
    steady = range(6 + 2 * workers, 30)  # the first ones are announced by every worker as it finds out
    for step in steady:
        found = [entry for spy in spies for entry in spy.announced if entry[0] == step]
        assert found == [(step, 4, 1), (step, 9, 1)]
    assert max(entry[0] for spy in spies for entry in spy.announced) == 29 + 6


def test_announcing_ends_and_begins_again_when_reading_waits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, "STEPS_ON", 3)
    spy: Any = Spy()
    ahead = ReadAhead(spy, draws_of, 2)
    for step in range(40):
        read(ahead, step, wait=step in (0, 20))
    announced = sorted({entry[0] for entry in spy.announced})
    assert announced == [1, 2, 3, 4, 21, 22, 23, 24]
