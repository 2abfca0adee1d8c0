"""`griddle toy`: recordings of a small synthetic town, in a dataset's own format, for trials without a
download."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("toy/nuscenes"),
    show_default=True,
)
@click.option("--train", type=int, default=10, show_default=True, help="Scenes of the official train list.")
@click.option("--val", type=int, default=4, show_default=True, help="Scenes of the official val list.")
@click.option("--scans", type=int, default=6, show_default=True, help="Scans a scene, about 8 m apart.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another number, another town.")
@click.option(
    "--processes", type=click.IntRange(min=1), help="Scenes rendered at once.  [default: one a core]"
)
def toy(root: Path, train: int, val: int, scans: int, seed: int, processes: int | None) -> None:
    """Write toy recordings in nuScenes' format (half a minute on two cores).

    Scenes that are there already are kept: ask for more, and only the new ones are rendered.
    """
    from pipeline.datasets.nuscenes.toy import write_toy

    def progress(scene: str, what: str, done: int, total: int) -> None:
        if what != "kept" and (done % 4 == 0 or done == total):
            click.echo(f"  {done}/{total} scenes ({scene} {what})")

    click.echo(f"toy town: {train} train + {val} val scenes of {scans} scans, in {root}")
    made = write_toy(
        root, train=train, val=val, scans=scans, seed=seed, processes=processes, progress=progress
    )
    click.echo(
        f"{root}: {made.scenes} scenes, {made.scans} scans, {made.images} images, {made.points:,} points, "
        f"{made.bytes / 1e6:.1f} MB"
    )
    click.echo(
        f"{len(made.written)} scenes written, {len(made.reused)} were there already; {made.seconds:.1f} s"
    )
    click.echo("next: snakemake pretrain_all --cores 8")
