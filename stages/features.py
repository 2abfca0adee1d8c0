"""`griddle features`: the teacher's patch grids."""

from __future__ import annotations

from pathlib import Path

import click

from stages.options import lot_options, lots_that_fit, make_plan, pick_device, set_threads


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
    from cache_schemas.manifest import Manifest
    from pipeline.config.model import Teacher
    from pipeline.datasets.records import PartitionRecord
    from pipeline.features import write_features
    from pipeline.lots import do_lot
    from pipeline.teachers.vit import LoadedTeacher, load_teacher
    from pipeline.teachers.weights_lock import check_weights

    plan = make_plan(config_path, workdir, only)
    loaded: dict[Teacher, LoadedTeacher] = {}
    for lot in lots_that_fit(plan, "features", digest, number):
        store = lot.store
        config = store.source
        assert isinstance(config, Teacher)
        root = Path(plan.config.datasets[store.dataset].root)

        def prepare(*, store=store, config=config) -> None:
            # Only where something is to be computed, and once: a lot that is all there loads no teacher.
            if config not in loaded:
                set_threads(threads)
                teacher = load_teacher(config, pick_device("features"))
                check_weights(
                    plan.cache, plan.workdir, Path(store.folder).parent.name, teacher.weights_digest
                )
                loaded[config] = teacher

        def compute(
            partition: PartitionRecord, member: str, folder: Path, *, store=store, config=config, root=root
        ) -> Manifest:
            return write_features(loaded[config], root, store, partition, member, folder)

        do_lot(plan, lot, compute, prepare)
