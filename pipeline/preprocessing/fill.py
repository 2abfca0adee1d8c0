"""Filling one lot of scans, labels, views or full scans: which function computes its partitions, and from what.

Features have a file of their own (`fill_features.py`): their teacher is loaded once for many lots.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cache_schemas.manifest import Manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from pipeline.config.model import Points
from pipeline.datasets.readers import reader_named
from pipeline.plan.experiment import Experiment
from pipeline.plan.left_out import check_left_out, left_out_of
from pipeline.plan.missing import check_scans
from pipeline.plan.parts import Lot
from pipeline.preprocessing.full_scans import write_full_scans
from pipeline.preprocessing.lots import do_lot
from pipeline.preprocessing.scans import write_labels, write_scans
from pipeline.preprocessing.target import Target
from pipeline.preprocessing.views import write_views


def fill(experiment: Experiment, lot: Lot, threads: int | None = None) -> Path:
    """Compute what is missing of a lot, and write its manifest; returns the manifest's path.

    Args:
        threads: scans at a time. Default: one for each core.

    Raises:
        BadInput: for partitions that could not be computed, when the others are; or if the scan store, from which views
            and full scans are computed, lacks some.
        CannotWrite: for a disk that is full or may only be read.
    """
    if lot.store.stage in ("views", "full_scans"):
        return _from_scans(experiment, lot, threads)
    dataset = experiment.config.datasets[lot.store.dataset]
    write = write_labels if lot.store.stage == "labels" else write_scans
    compute = partial(
        write,
        reader=reader_named(dataset.reader),
        root=Path(dataset.root),
        threads=threads,
        skip=dataset.on_error == "skip",
        dataset=dataset,
    )
    return do_lot(experiment, lot, compute)


def _from_scans(experiment: Experiment, lot: Lot, threads: int | None) -> Path:
    store, traits = lot.store, experiment.traits[lot.store.dataset]
    dataset, points = experiment.config.datasets[store.dataset], store.source
    assert isinstance(points, Points)
    scans_member = {entry.name: str(entry.members["scans"]) for entry in lot.entries}

    def compute(target: Target) -> Manifest:
        name = target.partition.name
        scans = PartitionReader(experiment.store_path(store.scans), SCANS, name, scans_member[name])
        check_left_out(experiment.config.datasets, {store.dataset: left_out_of([scans])})
        if store.stage == "full_scans":
            return write_full_scans(target, scans, points, threads)
        rule, voxels = traits.mask(dataset.mask), traits.voxels(dataset.frame)
        return write_views(target, scans, points, traits.cameras, rule, voxels, threads, dataset.allow)

    return do_lot(experiment, lot, compute, partial(check_scans, experiment, lot))
