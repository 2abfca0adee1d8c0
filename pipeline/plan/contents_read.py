"""What the files held that a training was made of, so that a finished one is not taken for one of other content.

Member digests hold names and sizes, and content where it is known to have changed. Where a cache was deleted, and files were
replaced before it was filled again, nobody knows any more that they changed: but the run does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from cache_schemas.canonical import digest
from pipeline.common.run_files import MADE_OF, PROVENANCE
from pipeline.plan.experiment import Experiment
from pipeline.plan.labelled import LabelledRun
from pipeline.plan.lot_status import read_lot
from pipeline.plan.parts import Run
from pipeline.plan.plan import Plan
from pipeline.plan.run_record import read_facts

Contents = dict[tuple[str, str, str], str | None]
"""By store folder, partition and member digest, what a lot manifest says of the files that a partition was made of."""


def contents_digest(
    experiment: Experiment,
    run: Run | LabelledRun,
    contents_of: Callable[[Path], Contents] | None = None,
) -> str | None:
    """A digest of the contents of all files that the partitions were made of which a training reads, as its lot manifests say;
    None where some of that was not recorded, or its lots are not there.

    Args:
        contents_of: reads a lot manifest; given where many runs read the same ones.

    Raises:
        NoAccess: if the system refuses to read a lot manifest.
    """
    readings = run.readings if isinstance(run, Run) else (*run.train, *run.evaluate)
    wanted = {
        (folder, reading.partition, member) for reading in readings for _, (folder, member) in reading.members
    }
    contents: Contents = {}
    for lot in run.lots:
        contents |= (contents_of or _contents_of)(experiment.lot_path(lot))
    rows = [[*member, contents.get(member)] for member in sorted(wanted)]
    return digest(rows) if rows and all(row[-1] is not None for row in rows) else None


def _contents_of(lot: Path) -> Contents:
    body = read_lot(lot)
    if body is None:
        return {}
    return {
        (body["store"], part["name"], part["member_digest"]): part.get("sources")
        for part in body["partitions"]
    }


def of_other_content(plan: Plan) -> list[Path]:
    """The folders of finished trainings of a plan that were made of other content than the cache holds now.

    Raises:
        NoAccess: if the system refuses to read a file.
    """
    experiment, contents_of = plan.experiment, cache(_contents_of)  # a sweep's students share their lots
    folders = []
    runs: list[Run | LabelledRun] = [
        *plan.runs.values(),
        *plan.probe_runs.values(),
        *plan.finetune_runs.values(),
    ]
    for run in runs:
        folder = experiment.run_path(run)
        if not experiment.is_done(run):
            continue
        try:
            recorded = read_facts(folder, PROVENANCE).get(MADE_OF)
        except (OSError, ValueError):
            continue  # `griddle cache verify` says so
        if recorded is not None and contents_digest(experiment, run, contents_of) not in (None, recorded):
            folders.append(folder)
    return folders
