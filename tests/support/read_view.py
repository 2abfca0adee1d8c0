"""One view as a training reads it: its patch grids into memory of their own."""

from __future__ import annotations

from pipeline.streaming.view_source import ViewPoints, ViewSource


def read_view(source: ViewSource, reading: int, view: int, variant: int) -> ViewPoints:
    return source.read(reading, view, variant, source.grid_memory(reading, 1).places()[0])
