"""`griddle finetune`: students learn from labels, from their pretraining or from nothing."""

from __future__ import annotations

from pathlib import Path

import click

from stages.labelled import train_each
from stages.options import make_plan, pick_device, plan_options, set_threads


@click.command()
@plan_options
@click.option("--run", "run_name", metavar="RUN", help="Finetune this run, <student>-<id>; with --finetune.")
@click.option(
    "--finetune", "finetune_name", metavar="NAME", help="The finetuning's folder name, <name>-<id>."
)
@click.option("--from-nothing", "nothing", metavar="NAME", help="Only this one from nothing, <name>-<id>.")
@click.option("--threads", type=int, help="Threads of a CPU training.")
def finetune(
    config_path: str,
    workdir: Path | None,
    only: str | None,
    run_name: str | None,
    finetune_name: str | None,
    nothing: str | None,
    threads: int | None,
) -> None:
    """Train a student and a head with labels, and score it on whole scans; an interrupted one goes on.

    Without --run or --from-nothing: all of the config whose student is pretrained, or needs no pretraining.
    """
    from cache_schemas.errors import BadInput
    from pipeline.plan.finetunes import FinetuneRun
    from pipeline.training.lease import Lease

    if bool(run_name) != bool(finetune_name) or (run_name and nothing):
        raise BadInput("give --run and --finetune together, or --from-nothing alone, or none of them for all")
    plan = make_plan(config_path, workdir, only)

    def train(item: FinetuneRun, lease: Lease) -> None:
        from pipeline.training.finetune import finetune as train_and_score

        set_threads(threads)
        train_and_score(plan.experiment, item, pick_device("finetune"), lease)

    if run_name:
        chosen = [plan.finetune_run(f"runs/{run_name}/finetune/{finetune_name}")]
    elif nothing:
        chosen = [plan.finetune_run(f"runs/from_nothing/{nothing}")]
    else:
        chosen = list(plan.finetune_runs.values())
    train_each(plan, "finetune", chosen, train)
