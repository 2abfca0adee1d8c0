"""`griddle evaluate`: score a trained probe or finetuning on any split, and write predictions in the official format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stages.options import config_option, json_option, pick_device, set_threads, workdir_option

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.plan_evaluation import Evaluation


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@config_option
@workdir_option
@click.option(
    "--dataset", metavar="NAME", help="A dataset of the config. Default: the one that it was scored on."
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
    out: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Score RUN, the folder of a probe, a baseline or a finetuning that is done.

    What the cache lacks for that (scans, labels, full scans) is computed first.
    """
    import json

    from cache_schemas.errors import BadInput
    from pipeline.config.load import load_config
    from pipeline.index import make_index
    from pipeline.plan import Plan
    from pipeline.plan_evaluation import plan_evaluation
    from pipeline.training.evaluate import evaluate as score

    config = load_config(config_path)
    folder = workdir or Path(config.workdir)
    if dataset is not None:
        if dataset not in config.datasets:
            raise BadInput(
                f"--dataset {dataset}: the config has no such dataset; it has {', '.join(config.datasets)}"
            )
        make_index(folder, dataset, config.datasets[dataset])
    plan = Plan(config, workdir, also=[dataset] if dataset else [])
    try:
        place = str(run.resolve().relative_to(plan.workdir.resolve()))
    except ValueError:
        raise BadInput(
            f"{run} does not lie in {plan.workdir}; give the folder of a probe or a finetuning"
        ) from None
    found = plan.labelled_run(place)
    wanted = plan_evaluation(plan, found, dataset or found.evaluate[0].dataset, split)  # type: ignore[arg-type]
    _prepare(plan, wanted, threads)
    set_threads(threads)
    metrics = score(plan, wanted, pick_device("evaluate"), votes=votes, out=out)
    click.echo(json.dumps(metrics, indent=1) if as_json else _table(metrics))


def _prepare(plan: Plan, wanted: Evaluation, threads: int | None) -> None:
    """Compute what the cache lacks."""
    from functools import partial

    from cache_schemas.manifest import Manifest
    from cache_schemas.reading import PartitionReader
    from cache_schemas.scans import SCANS
    from pipeline.config.model import Points
    from pipeline.datasets.readers import reader_named
    from pipeline.datasets.records import PartitionRecord
    from pipeline.full_scans import write_full_scans
    from pipeline.lots import do_lot
    from pipeline.scans import write_labels, write_scans

    dataset = plan.config.datasets[wanted.dataset]
    reader, root, skip = reader_named(dataset.reader), Path(dataset.root), dataset.on_error == "skip"
    for lot in wanted.lots:
        store = lot.store
        if store.stage != "full_scans":
            write: Any = write_labels if store.stage == "labels" else write_scans
            do_lot(plan, lot, partial(write, reader, root, store, threads=threads, skip=skip))
            continue
        points = store.source
        assert isinstance(points, Points)

        def full(
            partition: PartitionRecord, member: str, folder: Path, *, store=store, points=points
        ) -> Manifest:
            scans = PartitionReader(
                plan.cache / store.scans_folder,
                SCANS,
                partition.name,
                str(partition.member_digests()["scans"]),
            )
            return write_full_scans(store, points, partition, member, folder, scans, threads)

        do_lot(plan, lot, full)


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
