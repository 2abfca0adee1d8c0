"""One section, in a process of its own: called by `python -m benchmarks.gpu`, which says where its rows go."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import torch

from benchmarks.gpu.cells import Cells
from benchmarks.gpu.sections import SECTIONS


@click.command()
@click.argument("name", type=click.Choice(list(SECTIONS)))
@click.option("--seconds", type=float, required=True)
@click.option("--lines", type=click.Path(path_type=Path), required=True)
@click.option("--device", required=True)
@click.option("--quick", is_flag=True)
@click.option("--packed", type=click.Path(path_type=Path), required=True)
@click.option("--waffleiron", type=click.Path(path_type=Path))
@click.option("--scalr", type=click.Path(path_type=Path))
def main(
    name: str,
    seconds: float,
    lines: Path,
    device: str,
    quick: bool,
    packed: Path,
    waffleiron: Path | None,
    scalr: Path | None,
) -> None:
    """Run the cells of a section for so many seconds."""
    ends = time.monotonic() + seconds
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU is found; give --device cpu to see that all of it runs")
    with tempfile.TemporaryDirectory() as scratch:
        cells = Cells(
            torch.device(device), quick, packed.resolve(), Path(scratch), ends, lines, waffleiron, scalr
        )
        SECTIONS[name].run(cells)


if __name__ == "__main__":
    main()
