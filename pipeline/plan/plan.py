"""From an experiment to all that is to be made: runs, probes, finetunings and lots. No torch, no zarr: the Snakefile and
`griddle plan` read it, in a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_schemas.errors import BadInput
from pipeline.config.model import Config
from pipeline.plan.experiment import Experiment, open_experiment
from pipeline.plan.finetunes import FinetuneRow, FinetuneRun, plan_finetunes
from pipeline.plan.intensity import ToMeasure, all_to_measure, before_intensity
from pipeline.plan.labelled import LabelledRun, before_labelled, labelled_markers
from pipeline.plan.parts import STAGES, Lot, Run
from pipeline.plan.pretraining import plan_runs
from pipeline.plan.probes import ProbeRow, ProbeRun, plan_probes


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
        probe_runs: all trainings of these rows by their folder; one that serves several rows is there once.
        finetune_rows, finetune_runs: of the finetunings, likewise.
        to_measure: of the datasets whose intensities are to be measured first, what is looked at.

    Raises:
        BadInput: for a split without partitions or labels, or a selected partition that the index found broken.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.runs = plan_runs(experiment)
        runs = list(self.runs.values())
        self.probe_rows: list[ProbeRow] = plan_probes(experiment, runs)
        self.probe_runs: dict[str, ProbeRun] = {
            probe.folder: probe for row in self.probe_rows for probe in row.runs
        }
        self.finetune_rows: list[FinetuneRow] = plan_finetunes(experiment, runs)
        self.finetune_runs: dict[str, FinetuneRun] = {
            finetune.folder: finetune for row in self.finetune_rows for finetune in row.runs
        }
        self._lots: dict[str, dict[str, Lot]] = {stage: {} for stage in STAGES}
        for run in runs:
            self.add(run.lots)
        for labelled in (*self.probe_runs.values(), *self.finetune_runs.values()):
            self.add(labelled.lots)
        self.to_measure: dict[str, ToMeasure] = {one.name: one for one in all_to_measure(experiment)}
        for one in self.to_measure.values():
            self.add(one.lots(experiment.config.lot_partitions))

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

    def lot_paths(self, *stages: str) -> list[str]:
        return [str(self.experiment.lot_path(lot)) for stage in stages for lot in self.lots(stage)]

    def before(self, stage: str, lot_digest: str) -> list[str]:
        """The lot manifests that must be there before this lot: views and full scans read the scan store, labels are
        checked against it."""
        lot = self.lot(stage, lot_digest)
        if stage not in ("views", "labels", "full_scans"):
            return []
        paths = self._scans_paths
        read = [paths.get((lot.store.scans.folder, entry.name), []) for entry, _ in lot.members]
        return list(dict.fromkeys(path for found in read for path in found))

    @cached_property
    def _scans_paths(self) -> dict[tuple[str, str], list[str]]:
        """The lot manifests that each partition of each scan store is in."""
        found: dict[tuple[str, str], list[str]] = {}
        for lot in self.lots("scans"):
            for entry in lot.entries:
                found.setdefault((lot.store.folder, entry.name), []).append(
                    str(self.experiment.lot_path(lot))
                )
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

    def run_markers(self) -> list[str]:
        return [str(self.experiment.run_path(run) / "done.json") for run in self.runs.values()]

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
        return before_labelled(self.experiment, self.labelled_run(folder))

    def probe_markers(self, *, of_done_runs: bool = False) -> list[str]:
        return labelled_markers(self.experiment, self.probe_runs.values(), of_done_runs=of_done_runs)

    def finetune_markers(self) -> list[str]:
        return labelled_markers(self.experiment, self.finetune_runs.values())

    def before_run(self, run_folder_name: str) -> list[str]:
        """The lots that a run reads; none once it is done, so that a replaced lot never reruns a finished training."""
        run = self.run(run_folder_name)
        if (self.experiment.run_path(run) / "done.json").exists():
            return []
        stats = [path for name in run.student.datasets for path in before_intensity(self.experiment, name)]
        return [*(str(self.experiment.lot_path(lot)) for lot in run.lots), *stats]

    def before_stats(self, name: str) -> list[str]:
        """The lots of scans whose intensities are measured; none once they are."""
        one = self.to_measure.get(name)
        if one is None:
            raise BadInput(
                f"the plan measures no intensities {name}: the config or the dataset changed since it was planned. "
                f"Run the same snakemake command again."
            )
        if self.experiment.stats_path(one).exists():
            return []
        return [str(self.experiment.lot_path(lot)) for lot in one.lots(self.experiment.config.lot_partitions)]
