"""`griddle views`: which point falls on which pixel, one point per voxel, and neighbours; and whole scans for scoring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stages.options import lot_options, lots_that_fit, make_plan

if TYPE_CHECKING:
    from pipeline.plan import Lot, Plan


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
    from functools import partial

    from cache_schemas.manifest import Manifest
    from cache_schemas.reading import PartitionReader
    from cache_schemas.scans import SCANS
    from pipeline.config.model import Points
    from pipeline.datasets.records import PartitionRecord
    from pipeline.full_scans import write_full_scans
    from pipeline.lacking import check_scans
    from pipeline.lots import do_lot
    from pipeline.streaming.opened import left_out_of
    from pipeline.unreadable import allowed
    from pipeline.views import write_views

    plan = make_plan(config_path, workdir, only)
    for lot in _lots(plan, digest, number, full_scans):
        store, traits = lot.store, plan.traits[lot.store.dataset]
        dataset = plan.config.datasets[store.dataset]
        rule, voxels = traits.mask(dataset.mask), traits.voxels(dataset.frame)
        points = store.source
        assert isinstance(points, Points)

        def compute(
            partition: PartitionRecord,
            member: str,
            folder: Path,
            *,
            store=store,
            traits=traits,
            rule=rule,
            voxels=voxels,
            points=points,
        ) -> Manifest:
            scans = PartitionReader(
                plan.cache / store.scans_folder,
                SCANS,
                partition.name,
                str(partition.member_digests()["scans"]),
            )
            allowed(plan.config.datasets, {store.dataset: left_out_of([scans])})
            if store.stage == "full_scans":
                return write_full_scans(store, points, partition, member, folder, scans, threads)
            return write_views(
                store, traits.cameras, rule, voxels, points, partition, member, folder, scans, threads
            )

        do_lot(plan, lot, compute, partial(check_scans, plan, lot))


def _lots(plan: Plan, digest: str | None, number: int | None, full_scans: bool) -> Iterator[Lot]:
    """Views, then the full scans that the plan wants; where a lot is named, that one."""
    if not full_scans:
        yield from lots_that_fit(plan, "views", digest, number)
    if full_scans or (digest is None and number is None and plan.lots("full_scans")):
        yield from lots_that_fit(plan, "full_scans", digest, number)
