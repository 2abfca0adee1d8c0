"""`griddle plan`: what would be computed, read and written, before anything is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.options import json_option, make_plan, plan_options


@click.command()
@plan_options
@click.option("--lots", is_flag=True, help="Also list every lot, numbered as --number counts them.")
@json_option
def plan(config_path: str, workdir: Path | None, only: str | None, lots: bool, as_json: bool) -> None:
    """Say what would be computed, read and written: partitions, images, gigabytes, free disk."""
    import json

    from pipeline.estimate import estimate

    made = make_plan(config_path, workdir, only)
    facts = estimate(made)
    if lots:
        facts["lots"] = {
            stage["stage"]: [
                {"number": number, "digest": lot.digest, "partitions": [entry.name for entry in lot.entries]}
                for number, lot in enumerate(made.lots(stage["stage"]))
            ]
            for stage in facts["stages"]
        }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    _print(facts)


def _print(facts: dict[str, Any]) -> None:
    click.echo(f"{'stage':<10}{'lots':>6}{'there':>8}{'to do':>8}{'scans':>10}{'images':>10}{'about':>12}")
    total = 0
    for row in facts["stages"]:
        size = "unknown" if row["bytes"] is None else f"{row['bytes'] / 1e9:.2f} GB"
        total += row["bytes"] or 0
        click.echo(
            f"{row['stage']:<10}{row['lots']:>6}{row['there']:>8}{row['to_compute']:>8}"
            f"{row['scans']:>10,}{row['images']:>10,}{size:>12}"
        )
    click.echo(
        f"to be written to {facts['cache']}: about {total / 1e9:.2f} GB; "
        f"free there: {facts['free_bytes'] / 1e9:.0f} GB"
    )
    for name, run in facts["runs"].items():
        click.echo(f"run {name}: {'done' if run['done'] else 'to do'} → {run['folder']}")
    if facts["probes"]:
        done = sum(facts["probes"].values())
        click.echo(f"probes and baselines: {len(facts['probes'])}, {done} done")
    for stage, rows in facts.get("lots", {}).items():
        for row in rows:
            click.echo(f"{stage} {row['number']} {row['digest']}: {', '.join(row['partitions'])}")
