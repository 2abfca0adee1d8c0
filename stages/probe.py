"""`griddle probe`: linear probes of pretrained students, and of what they are compared with."""

from __future__ import annotations

from pathlib import Path

import click

from stages.labelled import train_each
from stages.options import make_plan, pick_device, plan_options, set_threads


@click.command()
@plan_options
@click.option("--run", "run_name", metavar="RUN", help="Probe this run, <student>-<id>; with --probe.")
@click.option("--probe", "probe_name", metavar="PROBE", help="The probe's folder name, <probe>-<id>.")
@click.option("--baseline", metavar="BASELINE", help="Only this baseline, <kind>-<id>.")
@click.option("--threads", type=int, help="Threads of a CPU training.")
def probe(
    config_path: str,
    workdir: Path | None,
    only: str | None,
    run_name: str | None,
    probe_name: str | None,
    baseline: str | None,
    threads: int | None,
) -> None:
    """Train a linear layer on frozen features, and score it on whole scans of the evaluated split.

    Without --run or --baseline: all of the config whose student is pretrained.
    """
    from cache_schemas.errors import BadInput
    from pipeline.plan.probes import ProbeRun
    from pipeline.training.lease import Lease

    if bool(run_name) != bool(probe_name) or (run_name and baseline):
        raise BadInput("give --run and --probe together, or --baseline alone, or none of them for all")
    plan = make_plan(config_path, workdir, only)

    def train(item: ProbeRun, lease: Lease) -> None:
        from pipeline.training.probe import run_probe

        set_threads(threads)
        run_probe(plan.experiment, item, pick_device("probe"), lease)

    if run_name:
        chosen = [plan.probe_run(f"runs/{run_name}/probe/{probe_name}")]
    elif baseline:
        chosen = [plan.probe_run(f"runs/baselines/{baseline}")]
    else:
        chosen = list(plan.probe_runs.values())
    train_each(plan, "probe", chosen, train)
