"""Trainings that are done and that today's plan does not make, for the dataset was another when they were trained.

Such a training lies in its folder as before: its id holds the partitions that it read. What it recorded of itself, its
identity, is compared with what the config makes of the same partitions. If the digests are the same, it is a training of this
config, and it is given as the plan would give it. No index is needed for that. No torch, no zarr.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from cache_schemas.canonical import digest
from cache_schemas.errors import GriddleError
from pipeline.common.log import log
from pipeline.common.run_files import DONE, METRICS, PROVENANCE
from pipeline.config.model import Student
from pipeline.config.training import Labelled
from pipeline.plan.experiment import Experiment
from pipeline.plan.finetunes import FinetuneRun, kinds_of_finetune
from pipeline.plan.identity import finetune_identity, imported_identity, probe_identity, run_identity
from pipeline.plan.labelled import LabelledReading, LabelledRun, points_of
from pipeline.plan.parts import Identities, Member, Reading, Run, identities_of
from pipeline.plan.probes import ProbeRun, kinds_of_probe
from pipeline.plan.run_record import read_facts

Facts = dict[str, Any]
AnyLabelled = TypeVar("AnyLabelled", ProbeRun, FinetuneRun)

NOT_RECORDED: Member = ("", "")
"""In place of the scans of a probe of the teacher: it reads none, and records none."""


@dataclass(frozen=True)
class RecordedRuns:
    """All trainings in the workdir that are done and that a config makes, whatever the datasets were.

    Attributes:
        pretrainings, probes, finetunes: of two of the same name and seed, the one that was made last comes last.
    """

    experiment: Experiment

    @cached_property
    def pretrainings(self) -> list[Run]:
        runs = []
        for name, student in self.experiment.students.items():
            for folder, facts in self._done(self.experiment.workdir / "runs", f"{name}-*"):
                run = _pretraining(self.experiment, name, student, facts["identity"])
                if run is not None and Path(run.folder).name == folder.name:
                    runs.append(run)
        return runs

    @cached_property
    def probes(self) -> list[ProbeRun]:
        """Probes and baselines."""
        runs: list[ProbeRun] = []
        for student_name, student in self.experiment.students.items():
            for name in student.probes:
                for kind in kinds_of_probe(self.experiment.config.probes[name]):
                    for folder, facts, run in self._candidates(
                        student_name, "probe", name, f"baselines/{kind}", apart=kind != "distilled"
                    ):
                        runs += self._same(folder, _probe(self.experiment, kind, name, run, facts))
        return runs

    @cached_property
    def finetunes(self) -> list[FinetuneRun]:
        runs: list[FinetuneRun] = []
        for student_name, student in self.experiment.students.items():
            for name in student.finetunes:
                for kind in kinds_of_finetune(self.experiment.config.finetunes[name]):
                    for folder, facts, run in self._candidates(
                        student_name, "finetune", name, f"from_nothing/{name}", apart=kind == "nothing"
                    ):
                        runs += self._same(folder, _finetune(self.experiment, kind, name, run, facts))
        return runs

    def in_folder(self, folder: str) -> LabelledRun | None:
        """The probe, the baseline or the finetuning in a folder, relative to the workdir."""
        return next((run for run in (*self.probes, *self.finetunes) if run.folder == folder), None)

    def _candidates(
        self, student_name: str, what: str, name: str, shared: str, *, apart: bool
    ) -> Iterator[tuple[Path, Facts, Run]]:
        """Folders of trainings, what they recorded, and the pretraining that they belong to, or what stands for it.

        Args:
            what: the folder in a pretraining's folder.
            shared: where those lie that belong to no pretraining (`apart`), with the beginning of their names.
        """
        student = self.experiment.students[student_name]
        if apart:
            for folder, facts in self._done(self.experiment.workdir / "runs", f"{shared}-*"):
                for run in _starts(self.experiment, student_name, student, facts["identity"]):
                    yield folder, facts["identity"], run
            return
        for run in self.pretrainings:
            if run.name == student_name:
                for folder, facts in self._done(self.experiment.run_path(run) / what, f"{name}-*"):
                    yield folder, facts["identity"], run

    def _same(self, folder: Path, run: AnyLabelled | None) -> list[AnyLabelled]:
        return [run] if run is not None and self.experiment.run_path(run) == folder else []

    def _done(self, parent: Path, pattern: str) -> list[tuple[Path, Facts]]:
        """The folders that hold a training that is done, with its provenance, by the time at which they were made."""
        known = [
            (folder, facts)
            for folder in parent.glob(pattern)
            if (folder / DONE).is_file() and (facts := _facts(folder, PROVENANCE)) is not None
        ]
        return sorted(known, key=lambda item: (str(item[1].get("made", {}).get("time", "")), item[0].name))


def _facts(folder: Path, name: str) -> Facts | None:
    """A file of a run as it was written; None, and a line in the log, where it cannot be used."""
    try:
        facts = read_facts(folder, name)
        if name == PROVENANCE and not isinstance(facts["identity"], dict):
            raise ValueError("it has no identity")
    except (OSError, ValueError, KeyError, GriddleError) as error:
        log(f"{folder} is passed over: {name} cannot be used ({str(error).splitlines()[0]})")
        return None
    return facts


def _pretraining(experiment: Experiment, name: str, student: Student, recorded: Facts) -> Run | None:
    """The run of a student that has this identity; None where the config makes another of it."""
    seed = _seed(student, recorded.get("student", {}).get("seed"))
    if seed is None:
        return None
    if student.starts_from is not None:
        what = imported_identity(student, seed, recorded.get("intensity", {}), recorded.get("weights", ""))
        return Run(name, student, seed, what, (), ()) if digest(what) == digest(recorded) else None
    reads = recorded.get("reads", [])
    what = run_identity(student, seed, experiment.teacher_ids(student), recorded.get("intensity", {}), reads)
    if digest(what) != digest(recorded) or not _of_datasets(student.datasets, recorded):
        return None
    made_for = _made_for(experiment, student, None, {row[0] for row in reads})
    readings = tuple(
        Reading(
            row[0], row[1], row[2], _member(row[3]), _member(row[4]), tuple(map(_member, row[5])), made_for
        )
        for row in reads
    )
    return Run(name, student, seed, what, readings, ()) if _is_known(readings, made_for) else None


def _starts(experiment: Experiment, name: str, student: Student, recorded: Facts) -> Iterator[Run]:
    """What stands for the pretraining of a training that knows none: the student and seed, and the batches of a
    calibration."""
    seed = _seed(student, recorded.get("seed"))
    if seed is None:
        return
    calibration = recorded.get("calibration", {"intensity": {}, "reads": []})
    made_for = _made_for(experiment, student, None, {row[0] for row in calibration["reads"]})
    readings = tuple(
        Reading(row[0], row[1], row[2], _member(row[3]), _member(row[4]), (), made_for)
        for row in calibration["reads"]
    )
    if _is_known(readings, made_for):
        yield Run(name, student, seed, {"intensity": calibration["intensity"]}, readings, ())


def _probe(experiment: Experiment, kind: str, name: str, run: Run, recorded: Facts) -> ProbeRun | None:
    if recorded.get("kind") != kind:
        return None
    block, reads = experiment.config.probes[name], recorded.get("reads", [])
    teachers, intensity = experiment.teacher_ids(run.student), recorded.get("intensity", {})
    what = probe_identity(kind, block, run, teachers, intensity, reads)
    if digest(what) != digest(recorded):
        return None
    return _labelled(ProbeRun(kind, name, block, run, what, (), (), (), ()), experiment)


def _finetune(experiment: Experiment, kind: str, name: str, run: Run, recorded: Facts) -> FinetuneRun | None:
    block = experiment.config.finetunes[name]
    what = finetune_identity(kind, block, run, recorded.get("intensity", {}), recorded.get("reads", []))
    if recorded.get("kind") != kind or digest(what) != digest(recorded):
        return None
    return _labelled(FinetuneRun(kind, name, block, run, what, (), (), (), ()), experiment)


def _labelled(run: AnyLabelled, experiment: Experiment) -> AnyLabelled | None:
    """The same with what it read; None where the stores that it read are no longer those that the config names."""
    block, seen = run.block, run.kind == "teacher"
    rows = run.identity["reads"]
    if not _of_datasets(block.datasets or run.student.datasets, run.identity):
        return None
    made_for = _made_for(experiment, run.student, block, {row[0] for row in rows})
    readings = [_labelled_reading(row, made_for, seen=seen) for row in rows]
    if not _is_known(readings, made_for):
        return None
    # The evaluated split comes last. Of the teacher nothing else tells it from a split that is learnt from, too.
    scored = sum(reading.split == block.evaluate for reading in readings)
    if block.evaluate in block.splits:
        scored //= 2
    train, evaluate = readings[: len(readings) - scored], readings[len(readings) - scored :]
    metrics = _facts(experiment.run_path(run), METRICS) or {}
    return replace(
        run, train=tuple(train), evaluate=tuple(evaluate), left_out=tuple(metrics.get("left_out", ()))
    )


def _labelled_reading(row: list[Any], made_for: Identities, *, seen: bool) -> LabelledReading:
    dataset, split, partition, labels, first, *rest = row
    if seen:
        features = tuple(map(_member, rest[0]))
        return LabelledReading(
            dataset,
            split,
            partition,
            NOT_RECORDED,
            _member(labels),
            views=_member(first),
            features=features,
            identities=made_for,
        )
    full = _member(rest[0]) if rest else None
    return LabelledReading(
        dataset, split, partition, _member(first), _member(labels), full, identities=made_for
    )


def _made_for(
    experiment: Experiment, student: Student, block: Labelled | None, datasets: Iterable[str]
) -> Identities:
    """By folder, what the stores of some datasets were made for, also those of a block's own field of view."""
    made_for: dict[str, Any] = {}
    points = student.points if block is None else points_of(block, student)
    for dataset in datasets:
        if dataset in experiment.traits:
            made_for |= identities_of(experiment.stores(dataset, student))
            seen_as = student.model_copy(update={"points": points})
            made_for |= identities_of(experiment.stores(dataset, seen_as))
    return made_for


def _of_datasets(named: Iterable[str], recorded: Facts) -> bool:
    """Whether a training is of just the datasets that the config names for it: an id holds none of their names but in what was
    read."""
    read = recorded.get("intensity") or {row[0]: None for row in recorded.get("reads", [])}
    return set(read) == set(named)


def _is_known(readings: Iterable[Reading | LabelledReading], made_for: Identities) -> bool:
    """Whether the config names all the stores that were read: their folders hold what they were made for."""
    return all(member[0] in made_for for reading in readings for _, member in reading.members if member[0])


def _member(recorded: list[str]) -> Member:
    folder, member = recorded
    return folder, member


def _seed(student: Student, seed: Any) -> int | None:
    return seed if seed in student.seeds else None
