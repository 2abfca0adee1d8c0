"""The sections in order of worth: what each is about, its share of the time, and its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.gpu.cells import Cells


@dataclass(frozen=True)
class Section:
    """One section; its module is imported when it runs."""

    module: str
    about: str
    share: float
    needs_packed: bool = False

    @property
    def run(self) -> Callable[[Cells], None]:
        found: Callable[[Cells], None] = import_module(f"benchmarks.gpu.sections.{self.module}").run
        return found


SECTIONS = {
    "machine": Section("machine", "what the device is, and the rates that it reaches", 0.05),
    "runs": Section(
        "runs",
        "does every way run: decode, teacher, training, probe, evaluation, resume",
        0.22,
        needs_packed=True,
    ),
    "correct": Section(
        "correct",
        "are all backends right, forward and gradients; are two runs the same",
        0.15,
        needs_packed=True,
    ),
    "student": Section(
        "student", "the student's step beside the authors', and its products alone", 0.2, needs_packed=True
    ),
    "teacher": Section(
        "teacher", "the features stage beside the bare forward pass and decoding", 0.15, needs_packed=True
    ),
    "step": Section("step", "a whole pretraining step from a cache, and online", 0.15, needs_packed=True),
    "choices": Section(
        "choices",
        "is `auto` the fastest backend; CUDA graphs and compiling the whole",
        0.08,
        needs_packed=True,
    ),
}


def shares_of(names: Sequence[str]) -> list[float]:
    """The shares of these sections, of what is left for them: one in all."""
    whole = sum(SECTIONS[name].share for name in names)
    return [SECTIONS[name].share / whole for name in names]
