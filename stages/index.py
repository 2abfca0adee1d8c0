"""`griddle index`: what the datasets hold, and what of it cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stages.options import config_option, json_option, only_option, workdir_option

if TYPE_CHECKING:
    from pipeline.config.model import Config, Dataset
    from pipeline.datasets.index import Index
    from pipeline.datasets.look import Looked

SHOWN = 5


@click.command()
@config_option
@workdir_option
@only_option
@click.option("--force", is_flag=True, help="Look again even if nothing seems to have changed.")
@click.option(
    "--look",
    "scans",
    metavar="N",
    type=click.IntRange(min=1),
    help="Also look at N scans of each partition, with their images: can their values be right?",
)
@json_option
def index(
    config_path: str, workdir: Path | None, only: str | None, force: bool, scans: int | None, as_json: bool
) -> None:
    """Find out what the datasets of the config hold.

    Snakemake does this by itself, when a folder or a table has another time. Use --force for files that were overwritten in
    place. Files whose time is not the one that the cache recorded are read and compared: what was made of changed ones is
    computed anew, and nothing else. `griddle cache verify --sources` compares all files, whatever their times.
    """
    import json
    from dataclasses import asdict

    from cache_schemas.errors import GriddleError
    from pipeline.common.log import log
    from pipeline.config.load import load_config
    from pipeline.datasets.index import make_index
    from pipeline.datasets.look import look
    from pipeline.plan.experiment import cache_folder
    from pipeline.plan.plan import plan_experiment
    from pipeline.plan.selection import wanted_datasets

    config = load_config(config_path)
    folder = workdir or Path(config.workdir)
    report: dict[str, dict[str, Any]] = {}
    looks: dict[str, Looked] = {}
    indices: dict[str, Index] = {}
    for name in wanted_datasets(config, only):
        log(f"index {name}: reading {config.datasets[name].root}")
        dataset_index, made_anew = make_index(
            folder, name, config.datasets[name], force=force, cache=cache_folder(config, folder)
        )
        entries = dataset_index.partitions
        report[name] = {
            "made_anew": made_anew,
            "partitions": len(entries),
            "scans": sum(entry.scans for entry in entries),
            "images": sum(entry.images for entry in entries),
            "labelled_partitions": sum(entry.members["labels"] is not None for entry in entries),
            "absent": dataset_index.absent,
            "left_out": dataset_index.left_out,
            "copies": dataset_index.copies,
            "broken": {entry.name: entry.problem for entry in entries if entry.problem},
        }
        indices[name] = dataset_index
        _print(name, config.datasets[name], dataset_index, report[name])
        if scans is not None:
            looked = look(name, config.datasets[name], dataset_index, scans)
            report[name]["look"] = asdict(looked)
            looks[name] = looked
            log(f"  {name}: {looked.cost()}")
            for line in looked.warnings:
                log(f"  warning: {line}")
    if as_json:
        click.echo(json.dumps(report, indent=1))
    refusal = ""
    try:
        _refuse(config, looks)
        plan_experiment(config, folder, only)  # refuses what the config selects and the index found broken
    except GriddleError as error:
        refusal = str(error)
        raise
    finally:
        _print_broken(config, indices, refusal)


def _print(name: str, dataset: Dataset, dataset_index: Index, facts: dict[str, Any]) -> None:
    from pipeline.common.log import log
    from pipeline.datasets.copies import about_copies
    from pipeline.datasets.index import why_absent

    log(
        f"  {name}: {facts['partitions']} partition(s), {facts['scans']:,} scans, {facts['images']:,} images, "
        f"{facts['labelled_partitions']} with labels" + ("" if facts["made_anew"] else " (unchanged)")
    )
    if facts["absent"]:
        log(f"  {name}: left out: {why_absent(facts['absent'])}")
    if facts["left_out"]:
        shown = ", ".join(facts["left_out"][:5]) + (" ..." if len(facts["left_out"]) > 5 else "")
        log(f"  {name}: left out: {len(facts['left_out'])} scan(s) that `splits` does not name: {shown}")
    splits = {entry.name: entry.split for entry in dataset_index.partitions if not entry.problem}
    copies = about_copies(dataset_index.copies, splits, lambda partition: dataset.uses(partition))
    if copies:
        log(f"  {name}: {copies}")


def _print_broken(config: Config, indices: dict[str, Index], refusal: str) -> None:
    """Name the partitions that cannot be used, but those that an error names.

    Args:
        refusal: the error that comes next, or nothing.
    """
    from pipeline.common.log import log

    for name, dataset_index in indices.items():
        named = refusal.startswith(f"dataset {name}: ")
        broken = [
            entry
            for entry in dataset_index.partitions
            if entry.problem and not (named and config.datasets[name].uses(entry.name))
        ]
        for entry in broken[:SHOWN]:
            log(f"  {name}: cannot be used: {entry.name}: {entry.problem}")


def _refuse(config: Config, looks: dict[str, Looked]) -> None:
    """Say what cannot be read or cannot be right; an error but where the dataset says `on_error: skip`.

    Args:
        looks: by dataset.

    Raises:
        BadInput: with the first five of a dataset; for a mistake of its reader in any case.
    """
    from cache_schemas.errors import BadInput
    from pipeline.common.log import log

    for name, looked in looks.items():
        lines, block = looked.problems, config.datasets[name]
        if not lines:
            continue
        more = [f"  ... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        text = "\n".join(
            [
                f"{name}: {looked.cannot_be_used()}:",
                *(f"  {line}" for line in lines[:SHOWN]),
                *more,
                *([f"Mend the reader {block.reader}: no file is at fault."] if looked.mistaken else []),
            ]
        )
        if looked.mistaken or block.on_error == "raise":
            raise BadInput(text)
        log(text)
