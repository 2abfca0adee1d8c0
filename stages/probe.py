"""`griddle probe`: linear probes of pretrained students, and of what they are compared with."""

from __future__ import annotations

from pathlib import Path

import click

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
    from pipeline.log import log
    from pipeline.plan_probes import ProbeRun
    from pipeline.training.lease import Lease
    from pipeline.training.probe_folder import is_probed, write_probe_marker

    if bool(run_name) != bool(probe_name) or (run_name and baseline):
        raise BadInput("give --run and --probe together, or --baseline alone, or none of them for all")
    plan = make_plan(config_path, workdir, only)

    def pretrained(item: ProbeRun) -> bool:
        return item.kind != "distilled" or (plan.run_path(item.run) / "done.json").exists()

    def do(item: ProbeRun) -> None:
        folder = plan.workdir / item.folder
        with Lease(folder):
            if is_probed(folder, item):
                log(f"probe {item.folder}: complete already")
                write_probe_marker(folder, item)
                return
            from pipeline.training.probe import run_probe

            set_threads(threads)
            run_probe(plan, item, pick_device("probe"))
            log(f"probe {item.folder}: done")

    if run_name:
        chosen = [plan.probe_run(f"runs/{run_name}/probe/{probe_name}")]
    elif baseline:
        chosen = [plan.probe_run(f"runs/baselines/{baseline}")]
    else:
        chosen = list(plan.probe_runs.values())
    waiting = [item for item in chosen if not pretrained(item)]
    for item in waiting:
        log(f"probe {item.folder}: not yet: griddle pretrain --run {plan.run_path(item.run).name}")
    if not chosen or len(waiting) == len(chosen):
        raise BadInput(
            "nothing to probe: "
            + ("no student is pretrained yet" if chosen else "no student of the config names a probe")
        )
    for item in chosen:
        if item not in waiting:
            do(item)
