"""`griddle cache`: what lies in the cache, how much, whether it is sound, and what of it can go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stages.options import config_option, json_option, workdir_option

if TYPE_CHECKING:
    from pipeline.cache.verify import Verification
    from pipeline.plan.plan import Plan


@click.group()
def cache() -> None:
    """List, measure, verify and clean the cache."""


@cache.command()
@config_option
@workdir_option
@json_option
def ls(config_path: str, workdir: Path | None, as_json: bool) -> None:
    """List the stores, and how many of their partitions this config wants."""
    import json

    from pipeline.cache.listing import list_cache
    from pipeline.common.log import bytes_in_words

    folder, plan = _open(config_path, workdir)
    rows = list_cache(folder, plan)
    if as_json:
        click.echo(json.dumps({"cache": str(folder), "stores": rows}, indent=1))
        return
    click.echo(f"{'stage':<12}{'partitions':>11}{'wanted':>8}{'files':>8}{'size':>12}  store")
    for row in rows:
        wanted = "?" if row["wanted"] is None else row["wanted"]
        click.echo(
            f"{row['stage']:<12}{row['partitions']:>11,}{wanted:>8}{row['files']:>8,}{bytes_in_words(row['bytes']):>12}  "
            f"{row['store']}: {', '.join(f'{n:,} {name}' for name, n in row['counts'].items()).replace('_', ' ')}"
            + (f", {row['left_out']} left out" if row["left_out"] else "")
            + (f", {row['leftovers']} leftover(s)" if row["leftovers"] else "")
        )
    click.echo(f"{len(rows)} store(s) in {folder}")


@cache.command()
@config_option
@workdir_option
@json_option
def du(config_path: str, workdir: Path | None, as_json: bool) -> None:
    """Measure what lies in each store, leftovers included, and the free space."""
    import json

    from pipeline.cache.listing import measure_cache
    from pipeline.common.log import bytes_in_words

    sizes = measure_cache(_cache_folder(config_path, workdir))
    if as_json:
        click.echo(json.dumps(sizes, indent=1))
        return
    for row in sizes["stores"]:
        click.echo(f"{bytes_in_words(row['bytes']):>12}{row['files']:>8,} files  {row['store']}")
    click.echo(
        f"{bytes_in_words(sizes['bytes']):>12}{sizes['files']:>8,} files  {sizes['cache']} in all; free there: "
        f"{bytes_in_words(sizes['free_bytes'])}"
    )


@cache.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--sample", type=click.IntRange(min=1), help="Only so many partitions, drawn at random.")
@click.option(
    "--recompute",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also run the teacher again on N random images, and compare.",
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
    mend: bool,
    threads: int,
    config_path: str,
    workdir: Path | None,
    as_json: bool,
) -> None:
    """Check every byte of the cache, or of PATHS: stores, or partitions by their manifest; without PATHS also the files of
    the workdir that are believed later: those of indices, and those that finished runs recorded.

    Recounts, checks names, sizes, SHA-256 and the checksum of every chunk, and compares with the index. Ends with exit
    code 1 if anything is damaged and was not removed by --repair, or could not be read. What could not be read may be
    sound: it is never removed.
    """
    import json

    from pipeline.cache.verify import cache_of, repair, verify_cache

    folder, plan = _open(config_path, workdir, cache_of(paths[0]) if paths else None)
    result = verify_cache(folder, plan, paths, sample=sample, threads=threads)
    recomputed = _recompute(plan, paths, recompute, result) if recompute else []
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
        "recomputed": recomputed,
        "repaired": [str(path) for path in result.repaired],
    }
    click.echo(json.dumps(facts, indent=1)) if as_json else _print_verified(result, recomputed)
    left = [p for p in (*result.problems, *result.workdir_files) if p.manifest not in result.repaired]
    if result.unreachable or left:
        raise SystemExit(1)


@cache.command()
@click.option(
    "--config",
    "-c",
    "config_paths",
    multiple=True,
    default=["config/demo.yaml"],
    show_default=True,
    help="A config that uses this cache; give all of them.",
)
@workdir_option
@click.option("--delete", is_flag=True, help="Delete it. Without this nothing is changed.")
@click.option(
    "--older-than",
    type=float,
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Age from which unfinished work goes whose writer may still run on another host.",
)
@json_option
def gc(
    config_paths: tuple[str, ...], workdir: Path | None, delete: bool, older_than: float, as_json: bool
) -> None:
    """List what none of the configs refers to, and what is left over; with --delete remove it."""
    import json

    from cache_schemas.errors import BadInput
    from pipeline.cache.garbage import delete_unreferenced, unreferenced
    from pipeline.common.log import bytes_in_words
    from stages.options import make_plan

    plans = [make_plan(path, workdir, None) for path in config_paths]
    caches = {plan.experiment.cache.resolve(): plan.experiment.cache for plan in plans}
    if len(caches) != 1:
        raise BadInput(
            f"these configs use {len(caches)} caches ({', '.join(map(str, caches.values()))}); clean one at a time"
        )
    folder = plans[0].experiment.cache
    items = unreferenced(folder, plans, older_than)
    freed = (sum(item.bytes for item in items), sum(item.files for item in items))
    if delete:
        freed = delete_unreferenced(folder, items, [plan.experiment.workdir for plan in plans])
    facts = [
        {"kind": i.kind, "store": i.store.folder, "path": str(i.path), "bytes": i.bytes, "files": i.files}
        for i in items
    ]
    if as_json:
        click.echo(
            json.dumps({"deleted": delete, "bytes": freed[0], "files": freed[1], "items": facts}, indent=1)
        )
        return
    for item in items:
        click.echo(f"{item.kind:<12}{bytes_in_words(item.bytes):>12}{item.files:>6,} files  {item.path}")
    outcome = "deleted" if delete else "can go; --delete removes it" if items else "nothing can go"
    click.echo(f"{len(items)} item(s), {freed[1]:,} file(s), {bytes_in_words(freed[0])}: {outcome}")


def _cache_folder(config_path: str, workdir: Path | None) -> Path:
    from cache_schemas.errors import BadInput
    from pipeline.config.load import load_config
    from pipeline.plan.experiment import cache_folder

    config = load_config(config_path)
    folder = cache_folder(config, workdir or Path(config.workdir))
    if not folder.is_dir():
        raise BadInput(f"there is no cache in {folder} yet; `snakemake features_all` or its stages fill it")
    return folder


def _open(config_path: str, workdir: Path | None, named: Path | None = None) -> tuple[Path, Plan | None]:
    """The config's cache, or the one that the user named by a path in it; and its plan, if there is an index."""
    from cache_schemas.errors import BadInput
    from pipeline.common.log import log
    from pipeline.plan.selection import NoIndex
    from stages.options import make_plan

    try:
        folder = _cache_folder(config_path, workdir)
        if named is not None and named.resolve() != folder.resolve():
            raise BadInput(f"{named} is not the cache of {config_path}")
        return folder, make_plan(config_path, workdir, None)
    except BadInput as error:
        if named is None and not isinstance(error, NoIndex):
            raise
        log(f"cache: not compared with an index: {error}")
        return named or _cache_folder(config_path, workdir), None


def _recompute(plan: Plan | None, paths: tuple[Path, ...], count: int, result: Verification) -> list[Any]:
    from cache_schemas.errors import BadInput
    from pipeline.cache.recompute import recompute_images
    from stages.options import pick_device

    if plan is None:
        raise BadInput("--recompute needs the images: give the --config that this cache was computed with")
    images = recompute_images(plan, paths, count, pick_device("recompute"))
    result.problems += [image.problem for image in images if image.problem is not None]
    return [image.facts() for image in images]


def _print_verified(result: Verification, recomputed: list[Any]) -> None:
    from pipeline.common.log import bytes_in_words

    for folder, row in result.stores.items():
        click.echo(
            f"{row['stage']:<12}{row['partitions']:>7,} partition(s){row['broken']:>7} broken{row['files']:>9,} files"
            f"{row['chunks']:>11,} chunks{bytes_in_words(row['bytes']):>12}  {folder}"
        )
    for item in recomputed:
        click.echo(
            f"recomputed {item['image']}: {item['result']} (lowest cosine {item['lowest_cosine']:.6f})"
        )
    for problem in (*result.problems, *result.workdir_files):
        click.echo(f"damaged: {problem}")
    _print_workdir(result)
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
            f"{broken} broken. `griddle cache verify --repair` with the same options removes them; then run the "
            f"same snakemake command again: it computes just these"
        )
    left = {p.path for p in result.workdir_files if p.manifest not in result.repaired}
    if left:
        click.echo(f"{len(left)} file(s) of the workdir are damaged; what mends each stands above")


def _print_workdir(result: Verification) -> None:
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
            click.echo(
                f"{marker}: `griddle cache verify --repair` or `griddle index --force`, with the same options, makes this "
                f"index anew"
            )
        elif marker.parent.name == "stats":
            click.echo(f"{marker}: delete it and run the same snakemake command again: it is measured anew")
        else:
            names = [p.path.name for p in result.workdir_files if p.manifest == marker]
            click.echo(f"{marker.parent}: {mending(marker.parent, names)}")
