"""Verifying what lies in a workdir and is believed later: the files of indices, and what finished runs recorded of themselves.

Each file has a digest: in its name, in itself, or in the done.json beside it. Files of before have none, and are counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cache_schemas.canonical import is_as_sealed
from cache_schemas.errors import BadInput, GriddleError, NoAccess
from cache_schemas.verify import Problem
from pipeline.common.log import log
from pipeline.common.run_files import DONE
from pipeline.datasets.index import Index, make_index
from pipeline.datasets.index_files import read_sealed, read_summary
from pipeline.datasets.known_contents import NAME as CONTENTS
from pipeline.datasets.scan_names import names_path
from pipeline.plan.plan import Plan
from pipeline.plan.run_record import changed_files, is_recorded


def index_problems(index: Index) -> Iterator[Problem]:
    """What of an index is not as it was written; each stands under its index.json, which is made anew with all its files."""
    summary = index.folder / "index.json"
    names = names_path(index.folder, [entry.file for entry in index.partitions])
    for path in (summary, names, index.folder / CONTENTS):
        try:
            read_summary(path)
        except BadInput as error:
            yield Problem(path, _said(error, path), summary)
    for entry in index.partitions:
        path = index.folder / entry.file
        try:
            read_sealed(path)
        except BadInput as error:
            yield Problem(path, _said(error, path), summary)


def run_problems(workdir: Path) -> tuple[list[Problem], list[Problem], int]:
    """What finished runs, probes, finetunings and imports of a workdir recorded and is not so; what the system refused to
    read of them; and how many recorded nothing.

    Each problem stands under the done.json of its folder.
    """
    problems: list[Problem] = []
    unreachable: list[Problem] = []
    silent = 0
    for place in ("runs", "imported"):
        for marker in sorted((workdir / place).rglob(DONE)):
            folder = marker.parent
            try:
                silent += not is_recorded(folder)
                problems += [
                    Problem(folder / what.split(" ")[0], what.partition(" ")[2], marker)
                    for what in changed_files(folder)
                ]
            except NoAccess as error:
                unreachable.append(Problem(folder, str(error), marker))
    return problems, unreachable, silent


def stats_problems(workdir: Path) -> Iterator[Problem]:
    """Measured intensities that are not as they were written; each stands under its own file, which is measured anew once it is
    gone."""
    for path in sorted((workdir / "stats").glob("*.json")):
        try:
            whole = is_as_sealed(json.loads(path.read_bytes()))
        except (OSError, ValueError, AttributeError, TypeError):
            whole = False
        if not whole:
            yield Problem(path, "does not agree with its own digest: it was changed", path)


def mend_index(plan: Plan, summary: Path) -> None:
    """Make an index anew, with all its files, from the dataset.

    Raises:
        BadInput: if the dataset cannot be read.
    """
    name, experiment = summary.parent.name, plan.experiment
    dataset = experiment.config.datasets[name]
    make_index(experiment.workdir, name, dataset, force=True, cache=experiment.cache)
    log(f"verify: the index of {name} was made anew")


def _said(error: GriddleError, path: Path) -> str:
    """The error's first line, without the path."""
    return str(error).splitlines()[0].removeprefix(f"{path} ")
