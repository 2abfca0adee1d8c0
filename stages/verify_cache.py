"""`griddle cache verify`: every byte of the cache, its values computed again, and the files that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stages.options import config_option, json_option, open_cache_of, to_type, workdir_option

if TYPE_CHECKING:
    from pipeline.cache.recompute import Recomputed
    from pipeline.cache.verify import Verification
    from pipeline.cache.verify_sources import ComparedSources
    from pipeline.plan.plan import Plan


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--sample", type=click.IntRange(min=1), help="Only so many partitions, drawn at random.")
@click.option(
    "--recompute",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also compute N random images, and N random scans of each kind of store, again, and compare.",
)
@click.option(
    "--sources",
    is_flag=True,
    help="Also read all files of the datasets, and compare them with what the cache was made of.",
)
@click.option("--repair", "mend", is_flag=True, help="Remove what is broken, so that it is computed anew.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@config_option
@workdir_option
@json_option
def verify(
    paths: tuple[Path, ...],
    sample: int | None,
    recompute: int | None,
    sources: bool,
    mend: bool,
    threads: int,
    config_path: str,
    workdir: Path | None,
    as_json: bool,
) -> None:
    """Check every byte of the cache, or of PATHS: stores, or partitions by their manifest; without PATHS also the files of
    the workdir that are believed later: those of indices, and those that finished runs recorded.

    Recounts, checks names, sizes, SHA-256 and the checksum of every chunk, and compares with the index. Ends with exit
    code 1 if anything is damaged and was not removed by --repair, or could not be read, or if --sources sees files that
    were changed. What could not be read may be sound: it is never removed. Nor is what was made of files that were changed.
    """
    import json

    from pipeline.cache.verify import cache_of, repair, verify_cache

    folder, plan = open_cache_of(config_path, workdir, cache_of(paths[0]) if paths else None)
    result = verify_cache(folder, plan, paths, sample=sample, threads=threads)
    recomputed = _recompute(plan, paths, recompute, result) if recompute else []
    index = to_type("griddle index", config_path, workdir)
    compared = _compare_sources(plan, paths, threads, index) if sources else None
    if mend:
        repair(result, [plan.experiment.workdir] if plan is not None else [], plan)
    facts = {
        "cache": str(folder),
        "compared_with_index": result.compared,
        "stores": result.stores,
        "problems": [
            {"path": str(p.path), "what": p.what, "manifest": str(p.manifest)} for p in result.problems
        ],
        "unreachable": [{"manifest": str(p.manifest), "what": p.what} for p in result.unreachable],
        "workdir_files": [
            {"path": str(p.path), "what": p.what, "under": str(p.manifest)} for p in result.workdir_files
        ],
        "unrecorded_runs": result.unrecorded,
        "missing": [str(path) for path in result.missing],
        "leftovers": result.leftovers,
        "recomputed": [item.facts() for item in recomputed],
        "sources": compared.facts() if compared is not None else None,
        "repaired": [str(path) for path in result.repaired],
    }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        mending = to_type("griddle cache verify --repair", config_path, workdir)
        _print_verified(result, recomputed, mending, to_type("griddle index --force", config_path, workdir))
        if compared is not None:
            _print_sources(compared, to_type("griddle index --force", config_path, workdir))
    left = [p for p in (*result.problems, *result.workdir_files) if p.manifest not in result.repaired]
    changed = any(item.result in ("source changed", "not computed") for item in recomputed)
    if result.unreachable or left or changed or (compared is not None and not compared.all_same):
        raise SystemExit(1)


def _recompute(
    plan: Plan | None, paths: tuple[Path, ...], count: int, result: Verification
) -> list[Recomputed]:
    from cache_schemas.errors import BadInput
    from pipeline.cache.recompute import made_from_wrong_scans, recompute
    from stages.options import pick_device

    if plan is None:
        raise BadInput("--recompute needs the datasets: give the --config that this cache was computed with")
    items = recompute(plan, paths, count, lambda: pick_device("recompute"))
    result.problems += [item.problem for item in items if item.problem is not None]
    result.problems += [problem for item in items for problem in made_from_wrong_scans(plan, item)]
    return items


def _compare_sources(plan: Plan | None, paths: tuple[Path, ...], threads: int, index: str) -> ComparedSources:
    from cache_schemas.errors import BadInput
    from pipeline.cache.verify_sources import compare_sources

    if plan is None:
        raise BadInput(
            f"--sources needs the index of the datasets: run `{index}` first, with the config that this cache was computed with"
        )
    return compare_sources(plan, paths, threads)


def _print_verified(
    result: Verification, recomputed: list[Recomputed], repairing: str, indexing: str
) -> None:
    """repairing, indexing: the commands, as they must be typed."""
    from pipeline.common.log import bytes_in_words

    for folder, row in result.stores.items():
        click.echo(
            f"{row['stage']:<12}{row['partitions']:>7,} partition(s){row['broken']:>7} broken{row['files']:>9,} files"
            f"{row['chunks']:>11,} chunks{bytes_in_words(row['bytes']):>12}  {folder}"
        )
    for item in recomputed:
        detail = item.unread or item.damaged or f"{item.measure} {item.agreement:.6f}"
        click.echo(f"recomputed {item.what}: {item.result} ({detail})")
    changed = [item.what for item in recomputed if item.result == "source changed"]
    if changed:
        click.echo(
            f"{len(changed)} of them differ because their files hold something else now; `{indexing}` looks at all files that were "
            f"touched since, and `griddle cache verify --sources` at every file"
        )
    for problem in (*result.problems, *result.workdir_files):
        click.echo(f"damaged: {problem}")
    _print_workdir(result, repairing, indexing)
    if result.missing:
        click.echo(f"{len(result.missing)} partition(s) of this config are not computed yet")
    if result.leftovers:
        click.echo(f"{result.leftovers} leftover(s); `griddle cache gc` lists those that can go")
    for problem in result.unreachable:
        click.echo(f"not checked: {problem.what}")
    if result.unreachable:
        click.echo(f"{len(result.unreachable)} partition(s) could not be read and were left as they are")
    if not result.problems:
        if not result.unreachable:
            click.echo(f"{result.partitions:,} partition(s) verified, all sound")
    elif result.repaired:
        click.echo(
            f"removed {len(result.repaired)} of them; run the same snakemake command again: it computes just these"
        )
    else:
        broken = len({problem.manifest for problem in result.problems})
        click.echo(
            f"{broken} broken. `{repairing}` removes them (with the stores or options of this call); then run the same snakemake "
            f"command again: it computes just these"
        )
    left = {p.path for p in result.workdir_files if p.manifest not in result.repaired}
    if left:
        click.echo(f"{len(left)} file(s) of the workdir are damaged; what mends each stands above")


def _print_workdir(result: Verification, repairing: str, indexing: str) -> None:
    """What mends files of the workdir: one line for an index, one for a run."""
    from pipeline.plan.run_record import mending

    if result.unrecorded:
        click.echo(
            f"{result.unrecorded} finished run(s) were made by an older Griddle: of their files only weights and scores have a "
            f"digest, the others are read unchecked"
        )
    for marker in dict.fromkeys(
        p.manifest for p in result.workdir_files if p.manifest not in result.repaired
    ):
        if marker.name == "index.json":
            click.echo(f"{marker}: `{repairing}` or `{indexing}` makes this index anew")
        elif marker.parent.name == "stats":
            click.echo(f"{marker}: delete it and run the same snakemake command again: it is measured anew")
        else:
            names = [p.path.name for p in result.workdir_files if p.manifest == marker]
            click.echo(f"{marker.parent}: {mending(marker.parent, names)}")


def _print_sources(compared: ComparedSources, indexing: str) -> None:
    """What the files of the datasets hold, beside what the cache was made of."""
    from pipeline.common.log import bytes_in_words

    for path, stores in compared.changed.items():
        click.echo(f"changed: {path} holds something else than {', '.join(stores)} was made of")
    for path, why in compared.lost.items():
        click.echo(f"lost: {path} cannot be read: {why}")
    for what in compared.other_records:
        click.echo(f"the index is out of date: {what}")
    if compared.unrecorded:
        newer = f"; {compared.newer:,} of their files are newer than they are" if compared.newer else ""
        click.echo(
            f"{len(compared.unrecorded)} partition(s) were made by an older Griddle, which did not record what files held{newer}; "
            f"`--recompute N` compares values of them"
        )
    if compared.unnoted:
        click.echo(f"what was seen could not be noted for `{indexing}`: {compared.unnoted}")
    files = f"sources: of {compared.files:,} file(s) ({bytes_in_words(compared.bytes)}) that {compared.partitions} partition(s) were made of"
    if compared.all_same:
        click.echo(f"{files} all are unchanged" if compared.files else "sources: no file could be compared")
        return
    click.echo(
        f"{files} {len(compared.changed):,} changed and {len(compared.lost):,} are lost; {len(compared.other_records)} partition(s) are "
        f"not as the index says"
    )
    if compared.lost:
        click.echo("Put lost files back first, or leave their partitions out (`leave_out` in the config).")
    click.echo(
        f"Then `{indexing}` and the same snakemake command compute anew what was made of what has changed."
    )
