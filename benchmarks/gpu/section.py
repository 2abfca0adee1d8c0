"""One section, in a process of its own: called by `python -m benchmarks.gpu`, which says where its rows go."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

import click

from benchmarks.gpu.lines import WAITS, append


def end_with_parent() -> None:
    """Where the process that waits for this one is killed, this one is, too: nobody would read what it tells."""
    with contextlib.suppress(OSError, AttributeError):  # Linux has it
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    waits = os.environ.get(WAITS)
    if waits and os.getppid() != int(waits):  # it was killed before
        os._exit(1)


if __name__ == "__main__":
    end_with_parent()  # before torch is imported, which takes seconds

import torch  # noqa: E402

from benchmarks.gpu.cells import Cells  # noqa: E402
from benchmarks.gpu.sections import SECTIONS  # noqa: E402


@click.command()
@click.argument("name", type=click.Choice(list(SECTIONS)))
@click.option("--seconds", type=float, required=True)
@click.option("--lines", type=click.Path(path_type=Path), required=True)
@click.option("--scratch", type=click.Path(path_type=Path), required=True)
@click.option("--device", required=True)
@click.option("--quick", is_flag=True)
@click.option("--packed", type=click.Path(path_type=Path), required=True)
@click.option("--waffleiron", type=click.Path(path_type=Path))
@click.option("--scalr", type=click.Path(path_type=Path))
def main(
    name: str,
    seconds: float,
    lines: Path,
    scratch: Path,
    device: str,
    quick: bool,
    packed: Path,
    waffleiron: Path | None,
    scalr: Path | None,
) -> None:
    """Run the cells of a section for so many seconds."""
    ends = time.monotonic() + seconds
    end_with_parent()
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the stages, too, take a GPU where they see one
    append(lines, {"on": torch.cuda.get_device_name() if device == "cuda" else "cpu"})
    cells = Cells(torch.device(device), quick, packed.resolve(), scratch, ends, lines, waffleiron, scalr)
    SECTIONS[name].run(cells)
    append(lines, {"through": name})


if __name__ == "__main__":
    main()
