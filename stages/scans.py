"""`griddle scans`: points, or with --labels the labels, of the datasets' scans."""

from __future__ import annotations

from pathlib import Path

import click

from stages.options import lot_options, lots_that_fit, make_plan


@click.command()
@lot_options
@click.option("--threads", type=int, help="Scans at a time. Default: one for each core.")
@click.option("--labels", is_flag=True, help="Write the label store instead of the scan store.")
def scans(
    config_path: str,
    workdir: Path | None,
    only: str | None,
    digest: str | None,
    number: int | None,
    threads: int | None,
    labels: bool,
) -> None:
    """Write the points (or the labels) of a lot of partitions into the scan store."""
    from pipeline.preprocessing.fill import fill

    plan = make_plan(config_path, workdir, only)
    for lot in lots_that_fit(plan, "labels" if labels else "scans", digest, number):
        fill(plan.experiment, lot, threads)
