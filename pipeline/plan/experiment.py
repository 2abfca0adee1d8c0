"""What a config asks for and what there is of it: students, datasets with their indices, and where all of it lies.

All that a plan is made of is computed from one `Experiment`. Imports neither torch nor zarr.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from cache_schemas.errors import BadInput
from pipeline.common.run_files import DONE
from pipeline.config.model import Config, Points, Student, Teacher
from pipeline.config.teacher import is_hub
from pipeline.datasets.index import Index, PartitionEntry
from pipeline.datasets.reader import Traits
from pipeline.datasets.readers import reader_named
from pipeline.plan import identity, teacher_weights
from pipeline.plan.parts import Lot, Store
from pipeline.plan.selection import (
    chosen_entries,
    entries_of_split,
    index_of,
    selected_students,
    wanted_datasets,
)


class InFolder(Protocol):
    """A training, of whichever kind: it has a folder, relative to the workdir."""

    @property
    def folder(self) -> str: ...


class Measured(Protocol):
    """What is to be measured once: it has a file, relative to the workdir."""

    @property
    def path(self) -> str: ...


@dataclass(frozen=True)
class Experiment:
    """One config on the datasets that are there.

    Attributes:
        cache: where the stores lie.
        students: those that are wanted, by name.
        traits: of the readers of their datasets, by the dataset's name.
        indices: of these datasets, likewise.
    """

    config: Config
    workdir: Path
    cache: Path
    students: dict[str, Student]
    traits: dict[str, Traits]
    indices: dict[str, Index]

    def lot_path(self, lot: Lot) -> Path:
        """The lot manifest: what Snakemake sees of the cache."""
        return self.workdir / lot.path

    def run_path(self, run: InFolder) -> Path:
        """The folder of a pretraining, a probe, a baseline or a finetuning."""
        return self.workdir / run.folder

    def marker(self, run: InFolder) -> Path:
        """The file that says that a training is done."""
        return self.run_path(run) / DONE

    def is_done(self, run: InFolder) -> bool:
        return self.marker(run).exists()

    def stats_path(self, measured: Measured) -> Path:
        """Where the outcome of measuring a dataset's intensities lies."""
        return self.workdir / measured.path

    def store_path(self, store: Store) -> Path:
        """The folder of a store's partitions."""
        return self.cache / store.folder

    def teachers_of(self, student: Student) -> tuple[Teacher, ...]:
        return tuple(self.config.teachers[name] for name in student.teachers)

    def teacher_ids(self, student: Student) -> list[str]:
        return [identity.teacher_id(self.teacher_identity(teacher)) for teacher in self.teachers_of(student)]

    def teacher_identity(self, teacher: Teacher) -> dict[str, Any]:
        """What makes a teacher's id. A file of weights is in it with its tensors; with its name, where it was used so before.

        Raises:
            BadInput: if the file holds no tensors, or is damaged.
        """
        before = identity.teacher_identity(teacher)
        if not teacher_weights.is_file(teacher):
            return before
        known, key = self._teachers_of_files, identity.teacher_id(before) + teacher.weights
        if key not in known:
            used = teacher_weights.was_used(identity.teacher_id(before), self.cache, self.workdir)
            file = None if used else teacher_weights.by_tensors(teacher, self.workdir)
            known[key] = identity.teacher_identity(teacher, file)
        return known[key]

    @cached_property
    def _teachers_of_files(self) -> dict[str, dict[str, Any]]:
        """Identities that were looked up: one experiment does not change its mind."""
        return {}

    def entries(self, where: str, dataset_name: str, split: str) -> list[PartitionEntry]:
        """The partitions that the config selects, in index order; `where` is the key that asks for the split."""
        dataset, index = self.config.datasets[dataset_name], self.indices[dataset_name]
        return entries_of_split(where, dataset_name, dataset, index, split)

    def chosen(self, dataset_name: str) -> list[PartitionEntry]:
        """The partitions of a dataset that the config selects, in index order."""
        return chosen_entries(dataset_name, self.config.datasets[dataset_name], self.indices[dataset_name])

    def scan_store(self, dataset_name: str) -> Store:
        """The scan store of a dataset, the same for all students."""
        what = identity.scan_identity(
            dataset_name, self.config.datasets[dataset_name], self.traits[dataset_name]
        )
        return Store("scans", dataset_name, identity.store_id(dataset_name, what), what)

    def stores(self, dataset_name: str, student: Student) -> dict[str, tuple[Store, ...]]:
        """The stores of a dataset that a student needs, by stage: one each, and one of features for each teacher."""
        dataset, traits = self.config.datasets[dataset_name], self.traits[dataset_name]
        scans = self.scan_store(dataset_name)
        label = identity.label_identity(dataset, traits)
        view = identity.view_identity(scans.id, dataset, student.points, traits)
        full = identity.full_scan_identity(scans.id, student.points)

        def store(stage: str, store_id: str, what: dict[str, Any], source: Points | Teacher | None) -> Store:
            return Store(stage, dataset_name, store_id, what, source, scans)

        def features(teacher: Teacher) -> Store:
            what = self.teacher_identity(teacher)
            return store("features", identity.teacher_id(what), what, teacher)

        return {
            "scans": (scans,),
            "labels": (store("labels", identity.store_id(traits.reader, label), label, None),),
            "views": (store("views", identity.store_id(dataset_name, view), view, student.points),),
            "full_scans": (store("full_scans", identity.store_id(dataset_name, full), full, student.points),),
            "features": tuple(features(teacher) for teacher in self.teachers_of(student)),
        }


def open_experiment(
    config: Config,
    workdir: Path | None = None,
    only: str | None = None,
    *,
    indices: Mapping[str, Index] | None = None,
    traits: Mapping[str, Traits] | None = None,
    also: Iterable[str] = (),
) -> Experiment:
    """A config with the indices that are there.

    Args:
        workdir: instead of the config's.
        only: the one student that is wanted.
        indices, traits: by dataset, instead of those of the workdir and of the readers.
        also: datasets that no student names.

    Raises:
        BadInput: for an unknown name, a dataset that was not indexed, or weights that are not there.
    """
    workdir = workdir or Path(config.workdir)
    students = selected_students(config.students, only)
    _check_weights(config, [name for student in students.values() for name in student.teachers])
    names = list(dict.fromkeys([*wanted_datasets(config, only), *also]))
    known = dict(traits or {name: reader_named(config.datasets[name].reader).traits for name in names})
    return Experiment(
        config,
        workdir,
        cache_folder(config, workdir),
        students,
        known,
        dict(
            indices or {name: index_of(workdir, name, config.datasets[name], known[name]) for name in names}
        ),
    )


def cache_folder(config: Config, workdir: Path) -> Path:
    """Where the stores of a config lie."""
    return Path(config.cache) if config.cache else workdir / "cache"


def _check_weights(config: Config, teachers: Sequence[str]) -> None:
    for name in dict.fromkeys(teachers):
        weights = config.teachers[name].weights
        if not is_hub(weights) and weights != "untrained" and not Path(weights).is_file():
            raise BadInput(
                f"teachers.{name}.weights: the file {weights} does not exist; give the path of a weights file, `hub` "
                f"to download them, or `untrained`"
            )
