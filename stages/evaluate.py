"""`griddle evaluate`: score a trained probe or finetuning on any split, and write predictions in the official format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stages.options import config_option, json_option, pick_device, set_threads, workdir_option

if TYPE_CHECKING:
    from pipeline.plan.evaluation import Evaluation
    from pipeline.plan.experiment import Experiment
    from pipeline.plan.labelled import LabelledRun
    from pipeline.plan.plan import Plan


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
@click.option("--threads", type=int, help="Threads of a CPU.")
@json_option
def evaluate(
    run: Path,
    config_path: str,
    workdir: Path | None,
    dataset: str | None,
    split: str,
    votes: int | None,
    keys: tuple[str, ...],
    out: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Score RUN: the folder of a probe, a baseline or a finetuning that is done, or of imported weights with classes.

    What the cache lacks for that (scans, labels, full scans) is computed first.
    """
    import json

    from cache_schemas.errors import BadInput
    from pipeline.config.load import load_config
    from pipeline.datasets.index import make_index
    from pipeline.plan.evaluation import imported_provenance, plan_evaluation, scored_run, scored_weights
    from pipeline.plan.plan import plan_experiment
    from pipeline.training.evaluate import evaluate as score

    config = load_config(config_path)
    folder = workdir or Path(config.workdir)
    if dataset is not None and dataset not in config.datasets:
        raise BadInput(
            f"--dataset {dataset}: the config has no such dataset; it has {', '.join(config.datasets)}"
        )
    provenance = imported_provenance(run)
    scored = scored_weights(config, run, provenance, dataset, keys) if provenance else None
    if keys and scored is None:
        raise BadInput(f"--as {keys[0]} is for imported weights; {run} is scored as it was trained to be")
    if dataset is not None:
        make_index(folder, dataset, config.datasets[dataset])
    if scored is not None:  # nothing that students of the config need has to be there
        config = config.model_copy(update={"students": {}})
    plan = plan_experiment(config, workdir, also=[dataset] if dataset else [])
    if scored is None:
        found = _run_of(plan, run, config_path)
        dataset = dataset or found.evaluate[0].dataset
        scored = scored_run(plan.experiment, found)
    experiment = plan.experiment
    wanted = plan_evaluation(experiment, scored, dataset, split)  # type: ignore[arg-type]
    _prepare(experiment, wanted, threads)
    set_threads(threads)
    metrics = score(experiment, wanted, pick_device("evaluate"), votes=votes, out=out)
    click.echo(json.dumps(metrics, indent=1) if as_json else _table(metrics))


def _run_of(plan: Plan, run: Path, config_path: str) -> LabelledRun:
    """The run in a folder; one that the config made before it was changed is told where its own config is."""
    from cache_schemas.errors import BadInput

    place = _place(run, plan.experiment.workdir)
    own = run.parent.parent / "config.yaml"  # of the pretraining that a probe or a finetuning lies in
    try:
        return plan.labelled_run(place)
    except BadInput:
        if not (run / "done.json").exists():
            raise
        made_by = f"--config {own}" if own.exists() else f"a config with the blocks in {run / 'config.yaml'}"
        raise BadInput(
            f"{config_path} does not make {place}: it, or the dataset, is another than when this was trained. Evaluate it "
            f"with the config that made it: {made_by}"
        ) from None


def _place(run: Path, workdir: Path) -> str:
    """A run's folder, relative to the workdir."""
    from cache_schemas.errors import BadInput

    try:
        return str(run.resolve().relative_to(workdir.resolve()))
    except ValueError:
        raise BadInput(
            f"{run} does not lie in {workdir}, and is no folder that `griddle weights import` wrote; give the folder of a "
            f"probe or a finetuning"
        ) from None


def _prepare(experiment: Experiment, wanted: Evaluation, threads: int | None) -> None:
    """Compute what the cache lacks, and how intensities are normalised where that is to be measured."""
    from pipeline.plan.intensity import to_measure
    from pipeline.preprocessing.fill import fill
    from pipeline.preprocessing.intensity_stats import measure
    from pipeline.preprocessing.intensity_stats import write as write_stats

    unknown = to_measure(experiment, wanted.dataset)
    if unknown is not None and not experiment.stats_path(unknown).exists():
        for lot in unknown.lots(experiment.config.lot_partitions):
            fill(experiment, lot, threads)
        spread = measure(experiment.cache, unknown, threads)
        write_stats(experiment.stats_path(unknown), unknown, spread)
    for lot in wanted.lots:
        fill(experiment, lot, threads)


def _table(metrics: dict[str, Any]) -> str:
    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.2f}"

    lines = [f"{name:<24}{percent(value):>8}" for name, value in metrics["iou"].items()]
    return "\n".join(
        [
            f"{metrics['dataset']} {metrics['split']}: {metrics['scans']} scans, {metrics['points']:,} labelled points"
            + (f", {metrics['votes']} votes" if metrics["votes"] > 1 else ""),
            *(lines if metrics["points"] else ["no labels: nothing to score"]),
            f"{'mIoU %':<24}{percent(metrics['miou']):>8}",
        ]
    )
