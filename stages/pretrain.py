"""`griddle pretrain`: a student from the cache."""

from __future__ import annotations

from pathlib import Path

import click

from stages.options import make_plan, pick_device, plan_options, set_threads


@click.command()
@plan_options
@click.option(
    "--run",
    "run_name",
    metavar="RUN",
    help="The run's folder name, <student>-<id>. Default: all of the config.",
)
@click.option("--threads", type=int, help="Threads of a CPU training.")
def pretrain(
    config_path: str, workdir: Path | None, only: str | None, run_name: str | None, threads: int | None
) -> None:
    """Pretrain students from the cache; a run that was interrupted goes on from its last checkpoint."""
    from pipeline.common.log import log
    from pipeline.plan.missing import check_pretraining
    from pipeline.plan.parts import Run
    from pipeline.plan.plan import Plan
    from pipeline.training.lease import Lease
    from pipeline.training.run_faults import run_faults
    from pipeline.training.run_folder import save_config, write_marker
    from pipeline.training.weights_folder import is_complete

    plan = make_plan(config_path, workdir, only)

    def train(plan: Plan, run: Run) -> None:
        folder = plan.experiment.run_path(run)
        with run_faults(folder), Lease(folder) as lease:
            if is_complete(folder, run.id):
                log(f"pretrain {run.name}: {folder} is complete already")
                write_marker(folder, run)
                return
            check_pretraining(plan.experiment, run)
            save_config(folder, plan.experiment, run)
            if run.student.starts_from is not None:
                from pipeline.training.import_weights import adopt

                adopt(plan.experiment, run)
                log(f"pretrain {run.name}: has the weights of {run.student.starts_from} → {folder}")
                return
            from pipeline.training.pretrain import pretrain as train_student

            set_threads(threads)
            train_student(plan.experiment, run, pick_device("pretrain"), lease)
            log(f"pretrain {run.name}: done → {folder}")

    for run in [plan.run(run_name)] if run_name else plan.runs.values():
        train(plan, run)
