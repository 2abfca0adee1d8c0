"""`griddle views`: which point falls on which pixel, one point per voxel, and neighbours."""

from __future__ import annotations

from pathlib import Path

import click

from stages.options import lot_options, lots_that_fit, make_plan


@click.command()
@lot_options
@click.option("--threads", type=int, help="Scans at a time. Default: one for each core.")
def views(
    config_path: str,
    workdir: Path | None,
    only: str | None,
    digest: str | None,
    number: int | None,
    threads: int | None,
) -> None:
    """Write the views of a lot of partitions, from the scan store."""
    from cache_schemas.manifest import Manifest
    from cache_schemas.reading import PartitionReader
    from cache_schemas.scans import SCANS
    from pipeline.config.model import Points
    from pipeline.datasets.records import PartitionRecord
    from pipeline.lots import do_lot
    from pipeline.streaming.opened import left_out_of
    from pipeline.unreadable import allowed
    from pipeline.views import write_views

    plan = make_plan(config_path, workdir, only)
    for lot in lots_that_fit(plan, "views", digest, number):
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
            return write_views(
                store, traits.cameras, rule, voxels, points, partition, member, folder, scans, threads
            )

        do_lot(plan, lot, compute)
