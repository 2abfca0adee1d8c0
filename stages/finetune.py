"""`griddle finetune`: students learn from labels, from their pretraining or from nothing."""

from __future__ import annotations

from pathlib import Path

import click

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
    from pipeline.log import log
    from pipeline.plan_finetunes import FinetuneRun
    from pipeline.training.lease import Lease
    from pipeline.training.probe_folder import is_probed, write_probe_marker

    if bool(run_name) != bool(finetune_name) or (run_name and nothing):
        raise BadInput("give --run and --finetune together, or --from-nothing alone, or none of them for all")
    plan = make_plan(config_path, workdir, only)

    def can_start(item: FinetuneRun) -> bool:
        return item.kind == "nothing" or (plan.run_path(item.run) / "done.json").exists()

    def do(item: FinetuneRun) -> None:
        folder = plan.workdir / item.folder
        with Lease(folder) as lease:
            if is_probed(folder, item):
                log(f"finetune {item.folder}: complete already")
                write_probe_marker(folder, item)
                return
            from pipeline.training.finetune import finetune as train

            set_threads(threads)
            train(plan, item, pick_device("finetune"), lease)
            log(f"finetune {item.folder}: done")

    if run_name:
        chosen = [plan.finetune_run(f"runs/{run_name}/finetune/{finetune_name}")]
    elif nothing:
        chosen = [plan.finetune_run(f"runs/from_nothing/{nothing}")]
    else:
        chosen = list(plan.finetune_runs.values())
    waiting = [item for item in chosen if not can_start(item)]
    for item in waiting:
        log(f"finetune {item.folder}: not yet: griddle pretrain --run {plan.run_path(item.run).name}")
    if not chosen or len(waiting) == len(chosen):
        raise BadInput(
            "nothing to finetune: "
            + ("no student is pretrained yet" if chosen else "no student of the config names a finetuning")
        )
    for item in chosen:
        if item not in waiting:
            do(item)
