"""From an experiment to all that is to be made: runs, probes, finetunings and lots.

The Snakefile and `griddle plan` read a plan, so it takes a fraction of a second and imports neither torch nor zarr.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from cache_schemas.errors import BadInput
from pipeline.config.model import Config
from pipeline.plan.experiment import Experiment, open_experiment
from pipeline.plan.finetunes import FinetuneRun, plan_finetunes
from pipeline.plan.intensity import ToMeasure, all_to_measure, before_intensity
from pipeline.plan.labelled import LabelledRow, LabelledRun, before_labelled, labelled_markers
from pipeline.plan.parts import STAGES, Lot, Run
from pipeline.plan.pretraining import plan_runs
from pipeline.plan.probes import ProbeRun, plan_probes

Item = TypeVar("Item")


def plan_experiment(
    config: Config, workdir: Path | None = None, only: str | None = None, **given: Any
) -> Plan:
    """The plan of a config; for the arguments, and what is raised, see `open_experiment` and `Plan`."""
    return Plan(open_experiment(config, workdir, only, **given))


class Plan:
    """All that an experiment asks for.

    Attributes:
        runs: pretrainings, by name and seed.
        probe_rows: the table's rows: of each student and probe the distilled student, then its baselines.
        probe_runs: all trainings of these rows by their folder; one that serves several rows is listed once.
        finetune_rows, finetune_runs: of the finetunings, likewise.
        to_measure: the datasets whose intensities must be measured first, by the name of the measurement.

    Raises:
        BadInput: for a split without partitions or labels, or a selected partition that the index found broken.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.runs = plan_runs(experiment)
        runs = list(self.runs.values())
        self.probe_rows: list[LabelledRow[ProbeRun]] = plan_probes(experiment, runs)
        self.probe_runs: dict[str, ProbeRun] = {
            probe.folder: probe for row in self.probe_rows for probe in row.runs
        }
        self.finetune_rows: list[LabelledRow[FinetuneRun]] = plan_finetunes(experiment, runs)
        self.finetune_runs: dict[str, FinetuneRun] = {
            finetune.folder: finetune for row in self.finetune_rows for finetune in row.runs
        }
        self._lots: dict[str, dict[str, Lot]] = {stage: {} for stage in STAGES}
        for run in runs:
            self.add(run.lots)
        for labelled in (*self.probe_runs.values(), *self.finetune_runs.values()):
            self.add(labelled.lots)
        self.to_measure: dict[str, ToMeasure] = {
            measured.name: measured for measured in all_to_measure(experiment, experiment.traits)
        }
        for measured in self.to_measure.values():
            self.add(measured.lots(experiment.config.lot_partitions))

    def add(self, lots: Iterable[Lot]) -> None:
        """Plan these lots, too; a lot that is planned already is kept once."""
        for lot in lots:
            self._lots[lot.store.stage][lot.digest] = lot

    def lots(self, stage: str) -> list[Lot]:
        return list(self._lots[stage].values())

    def lot(self, stage: str, lot_digest: str) -> Lot:
        hint = ", or `griddle plan --lots` for today's lots"
        return _planned(self._lots[stage], lot_digest, f"lot {lot_digest} of {stage}", hint)

    def lot_paths(self, *stages: str) -> list[str]:
        return [str(self.experiment.lot_path(lot)) for stage in stages for lot in self.lots(stage)]

    def before(self, stage: str, lot_digest: str) -> list[str]:
        """The manifests of other lots that must exist before this lot: views and full scans are made from the scan store,
        labels are checked against it. None once it is done."""
        lot = self.lot(stage, lot_digest)
        if stage not in ("views", "labels", "full_scans") or self.experiment.lot_path(lot).exists():
            return []
        folder = lot.store.scans.folder
        paths = [path for entry, _ in lot.members for path in self._scans_paths.get((folder, entry.name), [])]
        return list(dict.fromkeys(paths))

    @cached_property
    def _scans_paths(self) -> dict[tuple[str, str], list[str]]:
        """The lot manifests that name a partition of a scan store, by the store's folder and the partition's name."""
        paths: dict[tuple[str, str], list[str]] = {}
        for lot in self.lots("scans"):
            path = str(self.experiment.lot_path(lot))
            for entry in lot.entries:
                paths.setdefault((lot.store.folder, entry.name), []).append(path)
        return paths

    def run(self, run_folder_name: str) -> Run:
        """The run whose folder is named `<student>-<id>`."""
        by_name = {Path(run.folder).name: run for run in self.runs.values()}
        return _planned(by_name, run_folder_name, f"run {run_folder_name}")

    def run_markers(self) -> list[str]:
        return [str(self.experiment.marker(run)) for run in self.runs.values()]

    def labelled_run(self, folder: str) -> LabelledRun:
        """The probe, the baseline or the finetuning that lies in `folder`, relative to the workdir."""
        return _planned({**self.probe_runs, **self.finetune_runs}, folder, folder)

    def probe_run(self, folder: str) -> ProbeRun:
        return _planned(self.probe_runs, folder, folder)

    def finetune_run(self, folder: str) -> FinetuneRun:
        return _planned(self.finetune_runs, folder, folder)

    def before_labelled(self, folder: str) -> list[str]:
        return before_labelled(self.experiment, self.labelled_run(folder))

    def probe_markers(self, *, startable: bool = False) -> list[str]:
        return labelled_markers(self.experiment, self.probe_runs.values(), startable=startable)

    def finetune_markers(self) -> list[str]:
        return labelled_markers(self.experiment, self.finetune_runs.values())

    def before_run(self, run_folder_name: str) -> list[str]:
        """The lots that a run reads; none once it is done, so that a lot that is replaced never reruns a finished training."""
        run = self.run(run_folder_name)
        if self.experiment.is_done(run):
            return []
        lots = [str(self.experiment.lot_path(lot)) for lot in run.lots]
        return lots + before_intensity(self.experiment, run.student.datasets)

    def before_stats(self, name: str) -> list[str]:
        """The lots of scans whose intensities are measured; none once they are."""
        measured = _planned(self.to_measure, name, f"intensities {name} to measure")
        if self.experiment.stats_path(measured).exists():
            return []
        lots = measured.lots(self.experiment.config.lot_partitions)
        return [str(self.experiment.lot_path(lot)) for lot in lots]


def _planned(items: Mapping[str, Item], key: str, what: str, hint: str = "") -> Item:
    """The item of a plan that has this key.

    Raises:
        BadInput: if the plan has none; `what` says of what, `hint` what else to run.
    """
    if key not in items:
        raise BadInput(
            f"the plan has no {what}: the config or the dataset changed since it was planned. Run the same snakemake "
            f"command again{hint}."
        )
    return items[key]
