"""`griddle features`: the teacher's patch grids."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stages.options import lot_options, lots_that_fit, make_plan, pick_device, set_threads

if TYPE_CHECKING:
    from cache_schemas.manifest import Manifest
    from pipeline.config.model import Teacher
    from pipeline.plan.parts import Lot
    from pipeline.plan.plan import Plan
    from pipeline.preprocessing.target import Target
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
    loaded: dict[Teacher, LoadedTeacher] = {}
    for lot in lots_that_fit(plan, "features", digest, number):
        _do(plan, lot, loaded, threads)


def _do(plan: Plan, lot: Lot, loaded: dict[Teacher, LoadedTeacher], threads: int | None) -> None:
    """One lot; teachers that are in memory already are in `loaded`."""
    from pipeline.common.progress import Progress
    from pipeline.config.model import Teacher
    from pipeline.plan.lot_status import is_done
    from pipeline.preprocessing.features import FeatureWriter
    from pipeline.preprocessing.lots import do_lot
    from pipeline.teachers.loaded import load_teacher
    from pipeline.teachers.same_features import check_unchanged
    from pipeline.teachers.weights_lock import check_weights

    store, config = lot.store, lot.store.source
    assert isinstance(config, Teacher)
    folder, root = (
        plan.experiment.store_path(store),
        Path(plan.experiment.config.datasets[store.dataset].root),
    )
    name = next(name for name, teacher in plan.experiment.config.teachers.items() if teacher == config)
    writers: list[FeatureWriter] = []

    with ExitStack() as opened:

        def prepare() -> None:
            # Only where something is to be computed, and once: a lot that is all there loads no teacher.
            if config not in loaded:
                set_threads(threads)
                teacher = load_teacher(config, pick_device("features"))
                check_weights(
                    plan.experiment.cache,
                    plan.experiment.workdir,
                    store.id,
                    teacher.weights_digest,
                )
                loaded[config] = teacher
            of_store = [m for other in plan.lots("features") if other.store == store for m in other.members]
            load = plan.experiment.indices[store.dataset].load_partition
            check_unchanged(loaded[config], folder, root, of_store, load)
            missing = [
                entry
                for entry, member in lot.members
                if not is_done(plan.experiment, store, entry.name, member)
            ]
            progress = Progress(sum(entry.images for entry in missing), "images")
            skip = plan.experiment.config.datasets[store.dataset].on_error == "skip"
            writers.append(opened.enter_context(FeatureWriter(loaded[config], name, progress, skip=skip)))

        def compute(target: Target) -> Future[Manifest]:
            return writers[0].write(root, target)

        do_lot(plan.experiment, lot, compute, prepare)
