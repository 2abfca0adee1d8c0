"""`griddle cache`: what lies in the cache, how much, whether it is sound, and what of it can go."""

from __future__ import annotations

from pathlib import Path

import click

from stages.options import cache_folder_of, config_option, json_option, open_cache_of, workdir_option
from stages.verify_cache import verify


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

    folder, plan = open_cache_of(config_path, workdir)
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

    sizes = measure_cache(cache_folder_of(config_path, workdir))
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


cache.add_command(verify)
