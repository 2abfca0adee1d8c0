"""From a config to all that is to be made: stores, partitions, lots and runs, with their ids and paths.

Imports neither torch nor zarr: the Snakefile and `griddle plan` read it, in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_schemas.errors import BadInput
from pipeline import identity, intensity
from pipeline.config.model import Config, Points, Student, Teacher
from pipeline.datasets.reader import Traits
from pipeline.datasets.readers import reader_named
from pipeline.imported import imported_runs
from pipeline.index import Index, PartitionEntry
from pipeline.intensity import ToMeasure
from pipeline.plan_finetunes import FinetuneRow, FinetuneRun, plan_finetunes
from pipeline.plan_labelled import LabelledRun, before_labelled, labelled_markers
from pipeline.plan_probes import ProbeRow, ProbeRun, plan_probes
from pipeline.planned import STAGES, Identities, Lot, Reading, Run, Store, cut, identities_of, member_of
from pipeline.selection import (
    chosen_entries,
    entries_of_split,
    index_of,
    selected_students,
    wanted_datasets,
)

__all__ = ["STAGES", "Lot", "Plan", "Reading", "Run", "Store", "wanted_datasets"]


class Plan:
    """All that a config asks for. `only` names the one student that is wanted; `indices` and `traits` stand for those of
    the workdir and of the readers; `also` names datasets that no student names.

    Raises:
        BadInput: for an unknown name, a dataset that was not indexed, a split without partitions, or a selected
            partition that the index found broken.
    """

    def __init__(
        self,
        config: Config,
        workdir: Path | None = None,
        only: str | None = None,
        indices: dict[str, Index] | None = None,
        traits: dict[str, Traits] | None = None,
        also: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.workdir = workdir or Path(config.workdir)
        self.cache = Path(config.cache) if config.cache else self.workdir / "cache"
        self.students = selected_students(config.students, only)
        self._check_weights()
        names = list(dict.fromkeys([*wanted_datasets(config, only), *also]))
        self.traits: dict[str, Traits] = traits or {
            name: reader_named(config.datasets[name].reader).traits for name in names
        }
        self.indices = indices or {
            name: index_of(self.workdir, name, config.datasets[name], self.traits[name]) for name in names
        }
        self.runs = {
            name if len(student.seeds) == 1 else f"{name}, seed {run.seed}": run
            for name, student in self.students.items()
            for run in self._runs(name, student)
        }
        self.probe_rows: list[ProbeRow] = plan_probes(self)
        """The table's rows: of each student and probe the distilled student, then its baselines."""
        self.probe_runs: dict[str, ProbeRun] = {
            probe.folder: probe for row in self.probe_rows for probe in row.runs
        }
        """All trainings of the table by their folder; one that serves several rows is there once."""
        self.finetune_rows: list[FinetuneRow] = plan_finetunes(self)
        self.finetune_runs: dict[str, FinetuneRun] = {
            finetune.folder: finetune for row in self.finetune_rows for finetune in row.runs
        }
        """All finetunings by their folder, likewise."""
        self._lots: dict[str, dict[str, Lot]] = {stage: {} for stage in STAGES}
        for run in self.runs.values():
            self.add(run.lots)
        for labelled in (*self.probe_runs.values(), *self.finetune_runs.values()):
            self.add(labelled.lots)
        self.to_measure: dict[str, ToMeasure] = {one.name: one for one in intensity.all_to_measure(self)}
        """Of the datasets whose intensities are to be measured first, what is looked at."""
        for one in self.to_measure.values():
            self.add(one.lots(config.lot_partitions))

    def add(self, lots: Iterable[Lot]) -> None:
        """Plan these lots, too; one that is planned already is there once."""
        for lot in lots:
            self._lots[lot.store.stage][lot.digest] = lot

    def lots(self, stage: str) -> list[Lot]:
        return list(self._lots[stage].values())

    def lot(self, stage: str, lot_digest: str) -> Lot:
        try:
            return self._lots[stage][lot_digest]
        except KeyError:
            raise BadInput(
                f"the plan has no lot {lot_digest} of {stage}: the config or the dataset changed since it was "
                f"planned. Run the same snakemake command again, or `griddle plan --lots` for today's lots."
            ) from None

    def lot_path(self, lot: Lot) -> Path:
        """The lot manifest: what Snakemake sees of the cache."""
        return self.workdir / "lots" / lot.store.stage / f"{lot.digest}.json"

    def lot_paths(self, *stages: str) -> list[str]:
        return [str(self.lot_path(lot)) for stage in stages for lot in self.lots(stage)]

    def before(self, stage: str, lot_digest: str) -> list[str]:
        """The lot manifests that must be there before this lot: views and full scans read the scan store, labels are
        checked against it."""
        lot = self.lot(stage, lot_digest)
        if stage not in ("views", "labels", "full_scans"):
            return []
        paths = self._scans_paths
        read = [paths.get((lot.store.scans_folder, entry.name), []) for entry, _ in lot.members]
        return list(dict.fromkeys(path for found in read for path in found))

    @cached_property
    def _scans_paths(self) -> dict[tuple[str, str], list[str]]:
        """The lot manifests that each partition of each scan store is in."""
        found: dict[tuple[str, str], list[str]] = {}
        for lot in self.lots("scans"):
            for entry in lot.entries:
                found.setdefault((lot.store.folder, entry.name), []).append(str(self.lot_path(lot)))
        return found

    def run(self, run_folder_name: str) -> Run:
        """The run whose folder is named `<student>-<id>`."""
        for run in self.runs.values():
            if Path(run.folder).name == run_folder_name:
                return run
        raise BadInput(
            f"the plan has no run {run_folder_name}: the config or the dataset changed since it was planned. "
            f"Run the same snakemake command again."
        )

    def run_path(self, run: Run) -> Path:
        return self.workdir / run.folder

    def run_markers(self) -> list[str]:
        return [str(self.run_path(run) / "done.json") for run in self.runs.values()]

    def labelled_run(self, folder: str) -> LabelledRun:
        """The probe, the baseline or the finetuning that lies in `folder`, relative to the workdir."""
        found: LabelledRun | None = self.probe_runs.get(folder) or self.finetune_runs.get(folder)
        if found is None:
            raise BadInput(
                f"the plan has no {folder}: the config or the dataset changed since it was planned. Run the same "
                f"snakemake command again."
            )
        return found

    def probe_run(self, folder: str) -> ProbeRun:
        found = self.labelled_run(folder)
        assert isinstance(found, ProbeRun)
        return found

    def finetune_run(self, folder: str) -> FinetuneRun:
        found = self.labelled_run(folder)
        assert isinstance(found, FinetuneRun)
        return found

    def before_labelled(self, folder: str) -> list[str]:
        return before_labelled(self, self.labelled_run(folder))

    def probe_markers(self, *, of_done_runs: bool = False) -> list[str]:
        return labelled_markers(self, self.probe_runs.values(), of_done_runs=of_done_runs)

    def finetune_markers(self) -> list[str]:
        return labelled_markers(self, self.finetune_runs.values())

    def before_run(self, run_folder_name: str) -> list[str]:
        """The lots that a run reads; none once it is done, so that a replaced lot never reruns a finished training."""
        run = self.run(run_folder_name)
        if (self.run_path(run) / "done.json").exists():
            return []
        stats = [path for name in run.student.datasets for path in intensity.stats_path(self, name)]
        return [*(str(self.lot_path(lot)) for lot in run.lots), *stats]

    def before_stats(self, name: str) -> list[str]:
        """The lots of scans whose intensities are measured; none once they are."""
        one = self.to_measure.get(name)
        if one is None:
            raise BadInput(
                f"the plan measures no intensities {name}: the config or the dataset changed since it was planned. "
                f"Run the same snakemake command again."
            )
        if (self.workdir / one.path).exists():
            return []
        return [str(self.lot_path(lot)) for lot in one.lots(self.config.lot_partitions)]

    def _check_weights(self) -> None:
        for name in {name for student in self.students.values() for name in student.teachers}:
            weights = self.config.teachers[name].weights
            from_hub = weights == "hub" or weights.startswith("hub@")
            if not from_hub and weights != "untrained" and not Path(weights).is_file():
                raise BadInput(
                    f"teachers.{name}.weights: the file {weights} does not exist; give the path of a weights file, `hub` "
                    f"to download them, or `untrained`"
                )

    def teachers_of(self, student: Student) -> tuple[Teacher, ...]:
        return tuple(self.config.teachers[name] for name in student.teachers)

    def teacher_ids(self, student: Student) -> list[str]:
        return [identity.teacher_id(identity.teacher_identity(t)) for t in self.teachers_of(student)]

    def entries(self, where: str, dataset_name: str, split: str) -> list[PartitionEntry]:
        """The partitions that the config selects, in index order; `where` is the key that asks for the split."""
        dataset, index = self.config.datasets[dataset_name], self.indices[dataset_name]
        return entries_of_split(where, dataset_name, dataset, index, split)

    def chosen(self, dataset_name: str) -> list[PartitionEntry]:
        """The partitions of a dataset that the config selects, in index order."""
        return chosen_entries(dataset_name, self.config.datasets[dataset_name], self.indices[dataset_name])

    def scan_store(self, dataset_name: str) -> Store:
        """The scan store of a dataset, the same for all students."""
        dataset, traits = self.config.datasets[dataset_name], self.traits[dataset_name]
        scan = identity.scan_identity(dataset_name, dataset, traits)
        scans = f"scans/{identity.scan_id(dataset_name, scan)}"
        return Store("scans", dataset_name, scans, scan, None, scans)

    def stores(self, dataset_name: str, student: Student) -> dict[str, tuple[Store, ...]]:
        """The stores of a dataset that a student needs, by stage: one each, and one of features for each teacher."""
        dataset, traits = self.config.datasets[dataset_name], self.traits[dataset_name]
        scan_store = self.scan_store(dataset_name)
        scans = scan_store.folder
        scan_id = scans.removeprefix("scans/")
        view = identity.view_identity(scan_id, dataset, student.points, traits)
        full = identity.full_scan_identity(scan_id, student.points)
        label = identity.label_identity(traits)

        def store(stage: str, folder: str, what: dict[str, Any], source: Points | Teacher | None) -> Store:
            return Store(stage, dataset_name, folder, what, source, scans)

        def features(teacher: Teacher) -> Store:
            what = identity.teacher_identity(teacher)
            return store("features", f"features/{identity.teacher_id(what)}/{dataset_name}", what, teacher)

        return {
            "scans": (scan_store,),
            "labels": (store("labels", f"{scans}/labels/{identity.label_id(label)}", label, None),),
            "views": (store("views", f"views/{identity.view_id(dataset_name, view)}", view, student.points),),
            "full_scans": (
                store(
                    "full_scans",
                    f"full_scans/{identity.full_scan_id(dataset_name, full)}",
                    full,
                    student.points,
                ),
            ),
            "features": tuple(features(teacher) for teacher in self.teachers_of(student)),
        }

    def _runs(self, name: str, student: Student) -> list[Run]:
        """One run for each seed; all read the same."""
        if student.starts_from is not None:
            return imported_runs(self, name, student)
        lots: list[Lot] = []
        readings: list[Reading] = []
        scans = 0
        for dataset in student.datasets:
            stores = self.stores(dataset, student)
            made_for = identities_of(stores)
            for split in student.splits:
                entries = self.entries(f"students.{name}.splits", dataset, split)
                for stage in ("scans", "views", "features"):
                    for store in stores[stage]:
                        lots += cut(store, split, entries, self.config.lot_partitions)
                readings += [
                    _reading(dataset, split, entry, stores, made_for) for entry in entries if entry.images
                ]
                scans += sum(entry.scans for entry in entries if entry.images)
        if not readings:
            raise BadInput(f"students.{name}: none of its datasets' scans has an image to learn from")
        if scans < student.pretrain.batch:
            raise BadInput(
                f"students.{name}.pretrain.batch is {student.pretrain.batch}, but its datasets have only {scans} "
                f"scan(s) with images; write a smaller one"
            )
        reads = [[r.dataset, r.split, r.partition, r.scans, r.views, r.features] for r in readings]
        normalised = {dataset: intensity.identity_of(self, dataset) for dataset in student.datasets}
        return [
            Run(
                name,
                student,
                seed,
                identity.run_identity(student, seed, self.teacher_ids(student), normalised, reads),
                tuple(readings),
                tuple(lots),
            )
            for seed in student.seeds
        ]


def _reading(
    dataset: str,
    split: str,
    entry: PartitionEntry,
    stores: dict[str, tuple[Store, ...]],
    made_for: Identities,
) -> Reading:
    (scans,), (views,), features = (
        tuple(member_of(store, entry) for store in stores[stage]) for stage in ("scans", "views", "features")
    )
    return Reading(dataset, split, entry.name, scans, views, features, made_for)
