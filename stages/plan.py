"""`griddle plan`: what would be computed, read and written, before anything is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.options import json_option, make_plan, plan_options


@click.command()
@plan_options
@click.option("--lots", is_flag=True, help="Also list every lot, numbered as --number counts them.")
@click.option(
    "--images-per-second",
    type=click.FloatRange(min=0, min_open=True),
    help="Of the teacher, for the GPU-hours. Default: what its features in the cache record.",
)
@click.option(
    "--assume",
    metavar="NAME=SCANSxCAMERAS,…",
    help="Plan these datasets as if they were there, without any of their files.",
)
@json_option
def plan(
    config_path: str,
    workdir: Path | None,
    only: str | None,
    lots: bool,
    images_per_second: float | None,
    assume: str | None,
    as_json: bool,
) -> None:
    """Say what would be computed, read and written: partitions, images, files, gigabytes, hours, free disk.

    All but `there` counts what is still to be done. With --assume no dataset and no index is needed, for instance
    --assume nuscenes=28130x6,semantic_kitti=19130x1,pandaset64=3920x6,pandasetgt=3920x1.
    """
    import json

    from pipeline.config.load import load_config
    from pipeline.plan.cost.assumed import assume as as_if
    from pipeline.plan.cost.assumed import parse_assumed
    from pipeline.plan.cost.estimate import estimate

    shares = None
    if assume is None:
        made = make_plan(config_path, workdir, only)
    else:
        datasets = parse_assumed(assume)
        made = as_if(load_config(config_path, keep_unset=True), datasets, workdir, only)
        shares = {dataset.name: dataset.shares for dataset in datasets}
    facts = estimate(made, images_per_second=images_per_second, shares=shares)
    if assume is not None:
        facts["runs"] = {}  # of data that is not there
    if lots:
        facts["lots"] = {
            stage: [
                {"number": number, "digest": lot.digest, "partitions": [entry.name for entry in lot.entries]}
                for number, lot in enumerate(made.lots(stage))
            ]
            for stage in dict.fromkeys(store["stage"] for store in facts["stores"])
        }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    _print(facts)


def _print(facts: dict[str, Any]) -> None:
    from pipeline.common.log import bytes_in_words

    _print_stores(facts["stores"])
    if facts["files"]:
        click.echo(
            f"to be written to {facts['cache']}: about {bytes_in_words(facts['bytes'])} in {facts['files']:,} files; "
            f"free there: {bytes_in_words(facts['free_bytes'])}"
        )
    elif not facts["unknown"]:
        click.echo(f"the cache in {facts['cache']} is complete")
    if facts["unknown"]:
        click.echo(
            f"not counted: {', '.join(facts['unknown'])}; the teacher's name does not say its channels"
        )
    if facts["bytes"] > facts["free_bytes"]:
        click.echo(
            "this does not fit: free some space, or write `cache: FOLDER` of a larger disk in the config"
        )
    for stage, source in dict.fromkeys((r["stage"], r["source"]) for r in facts["stores"] if r["source"]):
        click.echo(f"{stage}: {source}")
    for teaching in facts["teachers"]:
        click.echo(_teaching(teaching))
    for name, run in facts["runs"].items():
        click.echo(f"run {name}: {'done' if run['done'] else 'to do'} → {run['folder']}")
    if facts["probes"]:
        done = sum(facts["probes"].values())
        click.echo(f"probes and baselines: {len(facts['probes'])}, {done} done")
    if facts["finetunings"]:
        done = sum(facts["finetunings"].values())
        click.echo(f"finetunings: {len(facts['finetunings'])}, {done} done")
    for line in facts["warnings"]:
        click.echo(f"warning: {line}")
    for stage, rows in facts.get("lots", {}).items():
        for row in rows:
            click.echo(f"{stage} {row['number']} {row['digest']}: {', '.join(row['partitions'])}")


def _print_stores(stores: list[dict[str, Any]]) -> None:
    from pipeline.common.log import bytes_in_words

    wide = max([len(row["dataset"]) for row in stores] + [7]) + 2
    titles = "".join(
        f"{title:>{width}}"
        for title, width in (
            ("lots", 6),
            ("there", 8),
            ("to do", 8),
            ("scans", 10),
            ("images", 10),
            ("files", 9),
            ("about", 12),
        )
    )
    click.echo(f"{'stage':<12}{'dataset':<{wide}}{titles}")
    for row in stores:
        size = (
            "unknown" if row["bytes"] is None else bytes_in_words(row["bytes"]) if row["to_compute"] else "–"
        )
        click.echo(
            f"{row['stage']:<12}{row['dataset']:<{wide}}{row['lots']:>6}{row['there']:>8}{row['to_compute']:>8}"
            f"{row['scans']:>10,}{row['images']:>10,}{row['files']:>9,}{size:>12}"
        )


def _teaching(teaching: dict[str, Any]) -> str:
    what = f"{teaching['teacher']}: {teaching['images']:,} images"
    rate = teaching["rate"]
    if rate is None:
        return f"{what}; GPU-hours unmeasured, give --images-per-second"
    unit = "hours" if rate["device"] == "cpu" else "GPU-hours"
    return (
        f"{what} at {rate['images_per_second']:,.4g} a second ({teaching['source']}): "
        f"{teaching['hours']:,.2g} {unit}"
    )
