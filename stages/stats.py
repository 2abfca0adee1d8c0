"""`griddle stats`: how a dataset's intensities are spread, where nobody published it."""

from __future__ import annotations

from pathlib import Path

import click

from stages.options import json_option, make_plan, plan_options


@click.command()
@plan_options
@click.option(
    "--stats", "name", metavar="NAME", help="Only these, <dataset>-<digest>. Default: all of the config."
)
@click.option("--threads", type=int, help="Threads that read. Default: one for each core.")
@json_option
def stats(
    config_path: str,
    workdir: Path | None,
    only: str | None,
    name: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Say how each dataset's intensities are normalised; measure it where it is neither published nor configured.

    Looks at all points of the train split, in the scan store. Snakemake does this by itself.
    """
    import json

    from cache_schemas.errors import BadInput
    from pipeline.common.log import log
    from pipeline.plan.intensity import given, intensity_of
    from pipeline.preprocessing.intensity_stats import measure_if_missing

    plan = make_plan(config_path, workdir, only)
    if name is not None and name not in plan.to_measure:
        raise BadInput(
            f"--stats {name}: the plan measures no such thing; run the same snakemake command again"
        )
    experiment = plan.experiment
    for measured in [plan.to_measure[name]] if name is not None else plan.to_measure.values():
        spread = measure_if_missing(experiment, measured, threads)
        if spread is not None:
            log(
                f"stats {measured.dataset}: {spread.points:,} points of {len(measured.entries)} partition(s) → "
                f"{experiment.stats_path(measured)}"
            )
    report = {}
    for dataset in [plan.to_measure[name].dataset] if name is not None else list(experiment.traits):
        mean, deviation = intensity_of(experiment, dataset)
        source = "the config's" if experiment.config.datasets[dataset].intensity else "published"
        source = "measured" if given(experiment, dataset) is None else source
        report[dataset] = {"mean": mean, "deviation": deviation, "source": source}
        if not as_json:
            click.echo(f"{dataset}: intensity {mean:.6g} ± {deviation:.6g} ({source})")
    if as_json:
        click.echo(json.dumps(report, indent=1))
