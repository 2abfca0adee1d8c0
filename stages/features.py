"""`griddle features`: the teacher's patch grids."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stages.options import lot_options, lots_that_fit, make_plan, pick_device, set_threads

if TYPE_CHECKING:
    from pipeline.config.model import Teacher
    from pipeline.teachers.loaded import LoadedTeacher


@click.command()
@lot_options
@click.option("--threads", type=int, help="Threads of a CPU forward pass.")
def features(
    config_path: str,
    workdir: Path | None,
    only: str | None,
    digest: str | None,
    number: int | None,
    threads: int | None,
) -> None:
    """Run the teacher once over every image of a lot of partitions."""
    plan = make_plan(config_path, workdir, only)
    lots = lots_that_fit(plan, "features", digest, number)

    from pipeline.preprocessing.fill_features import fill_features
    from pipeline.teachers.loaded import load_teacher

    @cache
    def load(teacher: Teacher) -> LoadedTeacher:
        set_threads(threads)
        return load_teacher(teacher, pick_device("features"))

    for lot in lots:
        fill_features(plan, lot, load)
