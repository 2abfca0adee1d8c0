"""Options that many commands take, defined once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.plan.parts import Lot
    from pipeline.plan.plan import Plan

Command = Callable[..., Any]


def _check_workdir(context: click.Context, option: click.Parameter, workdir: Path | None) -> Path | None:
    from pipeline.config.load import check_folder

    return None if workdir is None else Path(check_folder("--workdir", str(workdir)))


config_option = click.option(
    "--config",
    "-c",
    "config_path",
    default="config/demo.yaml",
    show_default=True,
    help="The experiment's config file.",
)
workdir_option = click.option(
    "--workdir",
    type=click.Path(path_type=Path),
    callback=_check_workdir,
    help="Where indices, lots and runs go; overrides the config's.",
)
only_option = click.option("--only", metavar="STUDENT", help="Only this student of the config.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def plan_options(command: Command) -> Command:
    """--config, --workdir and --only."""
    return config_option(workdir_option(only_option(command)))


def lot_options(command: Command) -> Command:
    """Which lots a stage takes: one by its digest, one by its number (for job arrays), or all."""
    command = click.option(
        "--number", type=int, help="The lot with this number, from 0: for `sbatch --array`."
    )(command)
    command = click.option("--lot", "digest", metavar="DIGEST", help="The lot with this digest.")(command)
    return plan_options(command)


def make_plan(config_path: str, workdir: Path | None, only: str | None) -> Plan:
    """The plan of a config file, from the indices that are there."""
    from pipeline.config.load import load_config
    from pipeline.plan.plan import plan_experiment

    return plan_experiment(load_config(config_path), workdir, only)


def cache_folder_of(config_path: str, workdir: Path | None) -> Path:
    from cache_schemas.errors import BadInput
    from pipeline.config.load import load_config
    from pipeline.plan.experiment import cache_folder

    config = load_config(config_path)
    folder = cache_folder(config, workdir or Path(config.workdir))
    if not folder.is_dir():
        raise BadInput(f"there is no cache in {folder} yet; `snakemake features_all` or its stages fill it")
    return folder


def open_cache_of(
    config_path: str, workdir: Path | None, named: Path | None = None
) -> tuple[Path, Plan | None]:
    """The config's cache, or the one that the user named by a path in it; and its plan, if there is an index."""
    from cache_schemas.errors import BadInput
    from pipeline.common.log import log
    from pipeline.plan.selection import NoIndex

    try:
        folder = cache_folder_of(config_path, workdir)
        if named is not None and named.resolve() != folder.resolve():
            raise BadInput(f"{named} is not the cache of {config_path}")
        return folder, make_plan(config_path, workdir, None)
    except BadInput as error:
        if named is None and not isinstance(error, NoIndex):
            raise
        log(f"cache: not compared with an index: {error}")
        return named or cache_folder_of(config_path, workdir), None


def to_type(command: str, config_path: str, workdir: Path | None) -> str:
    """A command as the user must type it, with the config and workdir of this call."""
    import shlex

    place = [] if workdir is None else ["--workdir", str(workdir)]
    return f"{command} {shlex.join(['--config', config_path, *place])}"


def chosen_lots(plan: Plan, stage: str, digest: str | None, number: int | None) -> list[Lot]:
    """The lots that `--lot` or `--number` names; all of the stage without them.

    Raises:
        BadInput: if there is none.
    """
    from cache_schemas.errors import BadInput

    if digest is not None:
        return [plan.lot(stage, digest)]
    lots = plan.lots(stage)
    if number is None:
        if not lots:
            raise BadInput(f"the plan has no lot of {stage}: the config asks for none")
        return lots
    if not 0 <= number < len(lots):
        raise BadInput(f"--number {number}: the plan has {len(lots)} lot(s) of {stage}, numbered from 0")
    return [lots[number]]


def lots_that_fit(plan: Plan, stage: str, digest: str | None, number: int | None) -> list[Lot]:
    """`chosen_lots`, of a stage that writes into the cache.

    Raises:
        GriddleError: if what is missing of them does not fit where the cache lies.
    """
    from pipeline.plan.cost.free_space import check_space

    lots = chosen_lots(plan, stage, digest, number)
    check_space(plan, lots)
    return lots


def set_threads(threads: int | None) -> None:
    """Bound torch's threads to what was asked for and what there is."""
    import os

    import torch

    torch.set_num_threads(max(1, min(threads or 4, len(os.sched_getaffinity(0)))))


def pick_device(what: str) -> Any:
    """The GPU if there is one; says so where the work runs on the CPU."""
    import torch

    from pipeline.common.log import log

    if torch.cuda.is_available():
        # `precision: float32` means that. torch keeps products in float32 by itself, and lets convolutions go through TF32.
        torch.backends.cudnn.allow_tf32 = False
        return torch.device("cuda")
    log(f"{what}: no GPU found, running on the CPU with {torch.get_num_threads()} thread(s)")
    return torch.device("cpu")
