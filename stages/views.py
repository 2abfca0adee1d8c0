"""`griddle views`: which point falls on which pixel, one point per voxel, and neighbours; and whole scans for scoring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stages.options import lot_options, lots_that_fit, make_plan

if TYPE_CHECKING:
    from pipeline.plan.parts import Lot
    from pipeline.plan.plan import Plan


@click.command()
@lot_options
@click.option("--threads", type=int, help="Scans at a time. Default: one for each core.")
@click.option(
    "--full-scans",
    is_flag=True,
    help="Only the full scans that probes are scored on; --lot and --number then name a lot of these.",
)
def views(
    config_path: str,
    workdir: Path | None,
    only: str | None,
    digest: str | None,
    number: int | None,
    threads: int | None,
    full_scans: bool,
) -> None:
    """Write the views of a lot of partitions, from the scan store; without a lot also the full scans of evaluated splits."""
    from pipeline.preprocessing.fill import fill

    plan = make_plan(config_path, workdir, only)
    for lot in _lots(plan, digest, number, full_scans):
        fill(plan.experiment, lot, threads)


def _lots(plan: Plan, digest: str | None, number: int | None, full_scans: bool) -> Iterator[Lot]:
    """Views, then the full scans that the plan wants; where a lot is named, that one."""
    if not full_scans:
        yield from lots_that_fit(plan, "views", digest, number)
    if full_scans or (digest is None and number is None and plan.lots("full_scans")):
        yield from lots_that_fit(plan, "full_scans", digest, number)
