"""Our recipes beside the authors' code: the same weights, the same batches, 20 steps each of pretraining, probe and finetuning.

    python -m benchmarks.proof --published CHECKOUT_OF_ScaLR --waffleiron CHECKOUT_OF_WaffleIron

Needs git checkouts of github.com/valeoai/ScaLR (with its branch scalr_plus) and github.com/valeoai/WaffleIron; minutes on a
CPU. Prints how far losses lie apart, and whether learning rates and parameter groups are theirs. With `--write FILE` it
writes what their code says of the tiny cases, which the tests compare ours with
(tests/pipeline/training/published_losses.json).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
import torch
from torch import Tensor

from benchmarks.proof_authors import Authors, their_name
from benchmarks.proof_cases import TINY, Case, Outcome, ours

WIDTHS = (96, 384)


def compare(case: Case, authors: Authors, dtype: torch.dtype) -> list[str]:
    """A line for each phase: the largest relative difference of losses, of rates, and the groups.

    control: that of their own code with the clouds of each batch in another order, which is rounding alone.
    step: that of our losses where each step starts from the weights that theirs started from: what one step adds, without
    what 20 steps make of it.
    """
    lines, start_theirs, start_ours = [], None, None
    for phase in case.phases:
        theirs = authors.run(case, phase, start_theirs, dtype, keep=True)
        mine = ours(case, phase, start_ours, dtype)
        head = f"{case.recipe} pretrain" if phase == "pretrain" else "labels"
        named = {their_name(name, head): values for name, values in mine.groups.items()}

        def as_theirs(
            step: int, own: dict[str, Tensor], theirs: Outcome = theirs, head: str = head
        ) -> dict[str, Tensor]:
            passed = theirs.passed[step]
            return {name: passed[their_name(name, head)].reshape(value.shape) for name, value in own.items()}

        apart = _apart(mine, theirs)
        step = _apart(ours(case, phase, start_ours, dtype, weights_of=as_theirs), theirs)
        itself = _apart(authors.run(case, phase, start_theirs, dtype, turned=True), theirs)
        same = mine.rates == theirs.rates
        off = max(
            abs(a - b) / b if b else a
            for one, other in zip(mine.rates, theirs.rates, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        groups = "same" if named == theirs.groups else _difference(named, theirs.groups)
        lines.append(
            f"{case.name:<24}{phase:<10}{str(dtype).removeprefix('torch.'):<9}{theirs.losses[0]:>9.5f}"
            f"{theirs.losses[-1]:>9.5f}{apart:>10.1e}{itself:>10.1e}{step:>10.1e}{'exact' if same else f'{off:.0e}':>8}  {groups} ({len(named)})"
        )
        click.echo(lines[-1])
        if phase == "pretrain":
            start_theirs = theirs.weights
            # Both go on from theirs: a difference of this phase is not counted again in the next.
            start_ours = {
                name: theirs.weights[their_name(name, head)].reshape(value.shape)
                for name, value in mine.weights.items()
            }
    return lines


def _apart(found: Outcome, theirs: Outcome) -> float:
    """The largest relative difference of a step's loss."""
    return max(abs(a - b) / abs(b) for a, b in zip(found.losses, theirs.losses, strict=True))


def _difference(mine: dict[str, tuple[float, float]], theirs: dict[str, tuple[float, float]]) -> str:
    names = sorted({*mine, *theirs})
    other = [name for name in names if mine.get(name) != theirs.get(name)]
    return f"{len(other)} differ: {other[0]} {mine.get(other[0])} {theirs.get(other[0])}"


def expected(authors: dict[str, Authors]) -> dict[str, object]:
    """What the authors' code says of the tiny cases, in float64."""
    found: dict[str, object] = {}
    for case in TINY:
        start, phases = None, {}
        for phase in case.phases:
            theirs: Outcome = authors[case.recipe].run(case, phase, start, torch.float64)
            phases[phase] = {
                "losses": theirs.losses,
                "rates": theirs.rates,
                "groups": {name: list(values) for name, values in theirs.groups.items()},
            }
            if phase == "pretrain":
                start = theirs.weights
        found[case.name] = phases
    commits = {recipe: one.commit for recipe, one in authors.items()}
    return {"of": "github.com/valeoai/ScaLR", "commits": commits, "cases": found}


@click.command()
@click.option("--published", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--waffleiron", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--width", "widths", type=int, multiple=True, default=WIDTHS, show_default=True)
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(["float64", "float32"]),
    multiple=True,
    default=("float64", "float32"),
)
@click.option("--points", default=600, show_default=True, help="Of each of two clouds.")
@click.option(
    "--write", type=click.Path(path_type=Path), help="Only write what their code says of the tiny cases."
)
def main(
    published: Path,
    waffleiron: Path,
    widths: tuple[int, ...],
    dtypes: tuple[str, ...],
    points: int,
    write: Path | None,
) -> None:
    """Print the table."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        authors = {
            recipe: Authors(recipe, published, waffleiron, Path(folder)) for recipe in ("scalr", "scalr_plus")
        }
        if write is not None:
            write.write_text(json.dumps(expected(authors), indent=1) + "\n")
            return
        click.echo(", ".join(f"{recipe} at {one.commit}" for recipe, one in authors.items()))
        click.echo(
            f"{'case':<24}{'phase':<10}{'dtype':<9}{'first':>9}{'last':>9}{'apart':>10}{'control':>10}{'step':>10}{'rates':>8}  groups (tensors)"
        )
        for width in widths:
            cases = [
                Case("scalr", "layer", width, points=points),
                Case("scalr", "layer", width, points=points, padded=True),
                Case("scalr", "batch", width, points=points),
                Case("scalr_plus", "layer", width, points=points),
            ]
            for case in cases:
                for dtype in dtypes:
                    compare(case, authors[case.recipe], getattr(torch, dtype))


if __name__ == "__main__":
    main()
