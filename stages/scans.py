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
    from functools import partial

    from pipeline.datasets.readers import reader_named
    from pipeline.lots import do_lot
    from pipeline.scans import write_labels, write_scans

    plan = make_plan(config_path, workdir, only)
    for lot in lots_that_fit(plan, "labels" if labels else "scans", digest, number):
        dataset = plan.config.datasets[lot.store.dataset]
        write = write_labels if labels else write_scans
        reader, skip = reader_named(dataset.reader), dataset.on_error == "skip"
        compute = partial(write, reader, Path(dataset.root), lot.store, threads=threads, skip=skip)
        do_lot(plan, lot, compute)
