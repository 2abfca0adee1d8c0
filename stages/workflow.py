"""What the Snakefile needs: the plan of the one config file, a fresh index, and what the machine offers."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache_schemas.errors import BadInput, GriddleError
from pipeline.common.log import log
from pipeline.config.load import check_folder, load_config
from pipeline.config.model import Config
from pipeline.datasets.index import is_fresh, sound_index
from pipeline.plan.contents_read import of_other_content
from pipeline.plan.lot_status import drop_stale_lots
from pipeline.plan.parts import STAGES
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.selection import wanted_datasets
from pipeline.report.gather import drop_stale_report

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

DEFAULT_CONFIG = "config/demo.yaml"
RULES = Path(__file__).resolve().parent / "rules"
"""Further rules, wherever the Snakefile is called from."""


@dataclass(frozen=True)
class OpenedWorkflow:
    """What the rules refer to.

    Attributes:
        arguments: of every griddle command: config, workdir, student.
        gpu: GPUs that a heavy job asks for, 0 or 1.
        rules: the folder of further rules.
    """

    plan: Plan
    arguments: str
    workdir: str
    gpu: int
    rules: str = str(RULES)


def open_workflow(workflow: Workflow) -> OpenedWorkflow:
    """Validate the config and plan its jobs; in the main process also refresh indices and drop stale lot manifests.

    Ends Snakemake with our message and exit code where the user's input cannot be used.
    """
    try:
        opened = _open(workflow)
        if workflow.is_main_process:
            _guard(workflow, opened.plan)
        return opened
    except GriddleError as error:
        # Snakemake would print a traceback of the Snakefile around it.
        log(f"griddle: {error}")
        sys.stdout.flush()
        os._exit(error.exit_code)


def before_jobs_start(workflow: Workflow, plan: Plan) -> None:
    """Say what the jobs that this call will run are going to write, or refuse if it does not fit.

    `--until` with several rules: Snakemake (9.27.1, `DAG.finish`) never starts a job of one of them after a job of another,
    and ends with "BUG: Out of jobs". What lies beyond them is out of the DAG by now, so their names are dropped here.

    Raises:
        WorkflowError: which Snakemake prints without a traceback, and ends with exit code 1.
    """
    from snakemake.exceptions import WorkflowError

    from pipeline.plan.cost.free_space import check_space

    workflow.dag.untilrules.clear()
    workflow.dag.untilfiles.clear()
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name in STAGES]
    try:
        forecast = check_space(plan, [plan.lot(job.rule.name, job.wildcards.lot) for job in jobs])
    except GriddleError as error:
        raise WorkflowError(f"griddle: {error}") from None
    if forecast:
        log(f"griddle: {forecast}")


def _guard(workflow: Workflow, plan: Plan) -> None:
    """Whatever the profile and the options: what is done is told by the files that are there, and a call ends without an
    error only if the files that it was asked for are there.

    Around Snakemake's `execute`, for its hooks are not called where it finds nothing to do.
    """
    execute = workflow.execute

    def guarded(*arguments: Any, **options: Any) -> None:
        from snakemake.settings.enums import RerunTrigger

        # Snakemake's notes of jobs that were cut off, its locks, and what it remembers of code and parameters: outputs are
        # published whole, a run folder has its own lease, and identity is in the paths. A job that Snakemake runs for
        # another reason than a file that is missing hides from it the jobs that wait for this one.
        workflow.execution_settings.ignore_incomplete = True
        workflow.execution_settings.lock = False
        workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})
        try:
            try:
                execute(*arguments, **options)
            except ValueError:
                _check_memory()
                raise
            if not (workflow.dryrun or workflow.remote_execution_settings.immediate_submit):
                _check_made(workflow)
                _check_content(plan)
        except GriddleError as error:
            log(f"griddle: {error}")
            raise SystemExit(error.exit_code) from None  # of another exception Snakemake prints the traceback

    workflow.execute = guarded


def _check_made(workflow: Workflow) -> None:
    """
    Raises:
        GriddleError: if a file that this call was asked for is not there, though Snakemake ended without an error.
    """
    asked = {str(path) for job in workflow.dag.targetjobs for path in (job.output or job.input)}
    missing = sorted(path for path in asked if not Path(path).exists())
    if missing:
        raise GriddleError(
            f"Snakemake ended without an error, but {len(missing)} of {len(asked)} file(s) that were asked for are "
            f"not there: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}. It may pass jobs over when a call "
            f"forces or selects some (--touch, --forcerun, --allowed-rules). Give the same command without such options."
        )


def _check_content(plan: Plan) -> None:
    """
    Raises:
        GriddleError: if a finished training was made of other content of the files than the cache holds now.
    """
    folders = of_other_content(plan)
    if folders:
        raise GriddleError(
            f"{len(folders)} finished training(s) were made of files that held something else than those that the cache was made of "
            f"since: {', '.join(map(str, folders[:3]))}{', ...' if len(folders) > 3 else ''}. They were not trained anew. Put the files "
            f"back that were there; or move these folders away, and give the same command again."
        )


def _check_memory() -> None:
    """
    Raises:
        GriddleError: naming the command that mends it, if what Snakemake remembers of earlier jobs cannot be read.
    """
    from snakemake.persistence import MetadataRecord

    folder = Path(".snakemake") / "metadata"
    broken = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            MetadataRecord.model_validate(json.loads(path.read_bytes()))
        except ValueError:
            broken.append(path)
    if broken:
        raise GriddleError(
            f"{len(broken)} of Snakemake's notes on earlier jobs cannot be read, the first is {broken[0]}. No result "
            f"depends on them. Delete them with `rm -r {folder}`, and give the same command again."
        )


def _open(workflow: Workflow) -> OpenedWorkflow:
    config_path = _config_path([str(path) for path in workflow.configfiles])
    overrides = _overrides(dict(workflow.config_settings.config or {}))
    config = load_config(config_path)
    only = overrides.get("only")
    workdir = Path(check_folder("workdir", overrides.get("workdir", config.workdir)))
    if workflow.is_main_process:
        _refresh_indices(config, config_path, workdir, only)
    plan = plan_experiment(config, workdir, only)
    if workflow.is_main_process:
        drop_stale_report(plan)
        dropped = drop_stale_lots(plan)
        if dropped:
            log(f"griddle: {len(dropped)} lot(s) lost partitions, which will be computed again")
    arguments = ["--config", config_path, "--workdir", str(workdir)]
    if only:
        arguments += ["--only", only]
    return OpenedWorkflow(plan, shlex.join(arguments), str(workdir), _gpus(workflow))


def _config_path(given: list[str]) -> str:
    if len(given) > 1:
        raise BadInput(
            f"give one --configfile, not {len(given)}: an experiment is one file ({', '.join(given)})"
        )
    return given[0] if given else DEFAULT_CONFIG


def _overrides(given: dict[str, Any]) -> dict[str, str]:
    unknown = sorted(set(given) - {"only", "workdir"})
    if unknown:
        raise BadInput(
            f"--config {unknown[0]}=...: only `only=STUDENT` and `workdir=FOLDER` can be given there; all else is in "
            f"the config file"
        )
    return {key: str(value) for key, value in given.items()}


def _refresh_indices(config: Config, config_path: str, workdir: Path, only: str | None) -> None:
    """In a process of its own: a devkit may take gigabytes, and Snakemake stays for hours."""
    names = wanted_datasets(config, only)
    if all(is_fresh(sound_index(workdir, name), config.datasets[name]) for name in names):
        return
    command = [
        sys.executable,
        "-m",
        "stages.cli",
        "index",
        "--config",
        config_path,
        "--workdir",
        str(workdir),
    ]
    done = subprocess.run(command + (["--only", only] if only else []), check=False)
    if done.returncode:
        sys.stdout.flush()
        os._exit(done.returncode)


def _gpus(workflow: Workflow) -> int:
    """1 where heavy jobs are to ask for a GPU: where a profile or the command line offers any, or this machine has."""
    if "gpu" in workflow.global_resources:
        return 1
    gpus = count_gpus()
    workflow.register_resource("gpu", gpus)
    if not gpus and workflow.is_main_process:
        log("griddle: no GPU found; teacher and students run on the CPU")
    return min(1, gpus)


def count_gpus() -> int:
    """NVIDIA GPUs that this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
