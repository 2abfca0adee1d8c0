"""One lot of features: a teacher is loaded only where images are to be computed, and once for many lots."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

from cache_schemas.manifest import Manifest
from pipeline.common.progress import Progress
from pipeline.config.model import Teacher
from pipeline.datasets.records import PartitionRecord
from pipeline.plan.lot_status import is_done
from pipeline.plan.parts import Lot
from pipeline.plan.plan import Plan
from pipeline.preprocessing.features import FeatureWriter
from pipeline.preprocessing.lots import do_lot
from pipeline.teachers.loaded import LoadedTeacher
from pipeline.teachers.same_features import check_unchanged
from pipeline.teachers.weights_lock import check_weights


def fill_features(plan: Plan, lot: Lot, load: Callable[[Teacher], LoadedTeacher]) -> Path:
    """Compute what is missing of a lot of features, and write its manifest; returns the manifest's path.

    Args:
        load: gives a teacher with its weights, the same object each time; not called where nothing is missing.

    Raises:
        BadInput: for partitions that could not be computed, when the others are.
        CannotWrite: for a disk that is full or may only be read.
        GriddleError: if the teacher's weights, or the features that it computes here, are not those of the cache.
    """
    experiment, store = plan.experiment, lot.store
    config, dataset = store.source, experiment.config.datasets[store.dataset]
    assert isinstance(config, Teacher)
    folder, root = experiment.store_path(store), Path(dataset.root)
    name = next(name for name, teacher in experiment.config.teachers.items() if teacher == config)
    writers: list[FeatureWriter] = []

    with ExitStack() as opened:

        def prepare() -> None:
            teacher = load(config)
            check_weights(experiment.cache, experiment.workdir, store.id, teacher.weights_digest)
            lots = [other for other in plan.lots("features") if other.store == store]
            members = [member for other in lots for member in other.members]
            check_unchanged(teacher, folder, root, members, experiment.indices[store.dataset].load_partition)
            images = sum(
                entry.images
                for entry, member in lot.members
                if not is_done(experiment, store, entry.name, member)
            )
            progress = Progress(images, "images")
            writer = FeatureWriter(teacher, name, progress, skip=dataset.on_error == "skip")
            writers.append(opened.enter_context(writer))

        def compute(partition: PartitionRecord, member: str, folder: Path) -> Future[Manifest]:
            return writers[0].write(root, store, partition, member, folder)

        return do_lot(experiment, lot, compute, prepare)
