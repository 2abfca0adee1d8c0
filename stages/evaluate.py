"""`griddle evaluate`: score a trained probe or finetuning on any split, and write predictions in the official format."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from stages.options import config_option, json_option, pick_device, set_threads, workdir_option

if TYPE_CHECKING:
    from pipeline.config.training import Split
    from pipeline.plan.whole_split import Commands


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@config_option
@workdir_option
@click.option(
    "--dataset",
    metavar="NAME",
    help="A dataset of the config. Default: the one that a run was scored on; imported weights know none.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="val",
    show_default=True,
    help="Which split.",
)
@click.option(
    "--votes", type=click.IntRange(min=1), help="Passes over each scan. Default: as the config says."
)
@click.option(
    "--as",
    "keys",
    metavar="KEY",
    multiple=True,
    help="Imported weights: score them with the points of students.NAME, or the field of view, precision and votes of "
    "probes.NAME or finetunes.NAME of the config. Default: as ScaLR does on nuScenes.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write predictions in the dataset's official format there."
)
@click.option(
    "--partial",
    is_flag=True,
    help="With --out: write predictions also where scans of the split are not there, are left out by the config, or could "
    "not be read. No official evaluation takes them.",
)
@click.option("--threads", type=int, help="Threads of a CPU.")
@json_option
def evaluate(
    run: Path,
    config_path: str,
    workdir: Path | None,
    dataset: str | None,
    split: Split,
    votes: int | None,
    keys: tuple[str, ...],
    out: Path | None,
    partial: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Score RUN: the folder of a probe, a baseline or a finetuning that is done, or of imported weights with classes.

    What the cache lacks for that (scans, labels, full scans) is computed first.
    """
    import json
    from dataclasses import replace

    from cache_schemas.errors import BadInput
    from pipeline.plan.open_evaluation import open_evaluation
    from pipeline.plan.whole_split import check_whole
    from pipeline.preprocessing.fill import fill
    from pipeline.preprocessing.intensity_stats import measure_if_missing
    from pipeline.training.evaluate import evaluate as score
    from pipeline.training.run_faults import run_faults

    if partial and out is None:
        raise BadInput("--partial is for --out: a score alone says on how much of the split it stands")
    experiment, evaluation = open_evaluation(config_path, workdir, run, dataset, split, keys)
    evaluation = replace(evaluation, commands=_commands(click.get_current_context(), config_path, workdir))
    if out is not None and not partial:
        check_whole(evaluation.share, experiment.config.datasets[evaluation.dataset], evaluation.commands)
    for lot in evaluation.lots:
        fill(experiment, lot, threads)
    if evaluation.to_measure is not None:
        measure_if_missing(experiment, evaluation.to_measure, threads)
    set_threads(threads)
    with run_faults(out or experiment.workdir):
        metrics = score(
            experiment, evaluation, pick_device("evaluate"), votes=votes, out=out, partial=partial
        )
    click.echo(json.dumps(metrics, indent=1) if as_json else _table(metrics))


def _commands(context: click.Context, config_path: str, workdir: Path | None) -> Commands:
    """Commands for messages: of the index, and this one as it was given."""
    from pipeline.plan.whole_split import Commands

    where = ["--config", config_path, *(["--workdir", str(workdir)] if workdir is not None else [])]
    given = [str(context.params["run"]), *where]
    for name, option in (
        ("dataset", "--dataset"),
        ("split", "--split"),
        ("votes", "--votes"),
        ("out", "--out"),
    ):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            given += [option, str(context.params[name])]
    for key in context.params["keys"]:
        given += ["--as", key]
    return Commands(shlex.join(["griddle", "index", *where]), shlex.join(["griddle", "evaluate", *given]))


def _table(metrics: dict[str, Any]) -> str:
    from pipeline.common.run_files import ALL_CLASSES
    from pipeline.plan.split_share import share_line

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.2f}"

    lines = [f"{name:<44}{percent(value):>8}" for name, value in metrics["iou"].items()]
    absent = sum(value is None for value in metrics["iou"].values())
    return "\n".join(
        [
            f"{metrics['dataset']} {metrics['split']}: {metrics['scans']} scans, {metrics['points']:,} labelled points"
            + (f", {metrics['votes']} votes" if metrics["votes"] > 1 else ""),
            *(f"on {share_line(share)}" for share in metrics["shares"]),
            *(lines if metrics["points"] else ["no labels: nothing to score"]),
            f"{'mIoU %, over the classes that occur':<44}{percent(metrics['miou']):>8}",
            f"{'mIoU %, over all, those that do not occur 0':<44}{percent(metrics[ALL_CLASSES]):>8}",
            *(
                [f"{absent} of {len(metrics['iou'])} classes are in neither truth nor predictions"]
                if absent and metrics["points"]
                else []
            ),
        ]
    )
