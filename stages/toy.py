"""`griddle toy`: recordings of a small synthetic town, in a dataset's own format, for trials without a
download."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.datasets.toys import toy_formats


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(toy_formats()),
    default="nuscenes",
    show_default=True,
    help="Whose files to write.",
)
@click.option(
    "--root", type=click.Path(file_okay=False, path_type=Path), help="Where.  [default: toy/<format>]"
)
@click.option("--train", type=int, default=10, show_default=True, help="Scenes of the train split.")
@click.option("--val", type=int, default=4, show_default=True, help="Scenes of the val split.")
@click.option("--scans", type=int, default=6, show_default=True, help="Scans a scene, about 8 m apart.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another number, another town.")
@click.option(
    "--processes", type=click.IntRange(min=1), help="Scenes rendered at once.  [default: one a core]"
)
def toy(
    form: str, root: Path | None, train: int, val: int, scans: int, seed: int, processes: int | None
) -> None:
    """Write toy recordings in a dataset's format (half a minute on two cores).

    Scenes that are there already are kept: ask for more, and only the new ones are rendered.
    """
    from pipeline.datasets.toys import toy_writer

    root = root or Path("toy") / form

    def progress(scene: str, what: str, done: int, total: int) -> None:
        if what != "kept" and (done % 4 == 0 or done == total):
            click.echo(f"  {done}/{total} scenes ({scene} {what})")

    click.echo(f"toy town: {train} train + {val} val scenes of {scans} scans, in {root}")
    made = toy_writer(form)(
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
