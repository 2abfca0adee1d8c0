"""How far the student is from the authors' own code, with the same weights, on real clouds.

    export GRIDDLE_SAMPLES=/folder/with/nuscenes
    python benchmarks/exactness.py --published WaffleIron --scalr-plus ScaLR     # minutes; 10 GB of memory

WaffleIron is a checkout of github.com/valeoai/WaffleIron (what ScaLR's branch main uses), ScaLR one of
github.com/valeoai/ScaLR on its branch scalr_plus. The weights go to their network through a file that `griddle
weights export` would write, loaded with strict=True. Clouds are what the six cameras of a real keyframe see.

Printed for each case: the largest difference of an output, of the size of the largest output where that is over 1;
and the largest relative difference of a gradient, of the input and of every parameter, by its norm. Left out is the
one gradient that is zero but for rounding: that of the bias of the neighbours' first norm, which their second norm
takes away again in training. A case fails beyond 1e-12 and 1e-11 in float64, or 2e-5 in float32.

In float32 a gradient jumps where rounding tips a ReLU, or a maximum over neighbours, over: one of a million changes a
gradient by 1e-3. So float32 is compared with weights (the first of 8 draws) of which each of the two codes, taken by
itself, has gradients in float32 within 2e-5 of its own in float64; where no draw is such, with
those that come nearest, and within twice that distance.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import get_args

import click
import torch
from exactness_clouds import COARSE, GRID, ONE_CELL, real_batches
from published import give_weights, network, run_published, take_weights, waffleiron_of
from torch import Tensor, nn

from pipeline.students.authors import describe, from_authors, to_authors
from pipeline.students.backends import Backend
from pipeline.students.heads import LinearHead, MlpHead
from pipeline.students.packed import PackedClouds
from pipeline.students.waffleiron import Activation, Norm, WaffleIron

BACKENDS: tuple[Backend, ...] = ("reference", "torch")

OUT, HIDDEN = 32, 64
LIMITS = {torch.float64: (1e-12, 1e-11), torch.float32: (2e-5, 2e-5)}
DRAWS = 8


@dataclass(frozen=True)
class Case:
    """What is compared. training: batch statistics and gradients as in training, of the points and of their padding."""

    clouds: str
    norm: Norm
    training: bool
    width: int = 96
    dtype: torch.dtype = torch.float64
    activation: Activation = "relu"
    shapes: tuple[tuple[int, int], ...] = GRID.shapes
    plus: bool = False

    def __str__(self) -> str:
        mode = "train" if self.training else "eval"
        kind = "float64" if self.dtype == torch.float64 else "float32"
        return f"{self.norm:<6}{self.activation:<5}{mode:<6}{self.width:>4}  {kind}  {self.clouds:<20}"


class Student(nn.Module):
    """A backbone and its head, under the names of a run's weights."""

    def __init__(self, case: Case, depth: int, backend: Backend) -> None:
        super().__init__()
        self.backbone = WaffleIron(
            width=case.width,
            depth=depth,
            plane_shapes=case.shapes,
            norm=case.norm,
            activation=case.activation,
            backend=backend,
            padding_aware=True,
        )
        self.head: nn.Module = LinearHead(case.width, OUT)
        if case.plus:
            self.head = MlpHead(case.width, OUT, HIDDEN)

    def forward(self, clouds: PackedClouds) -> Tensor:
        out: Tensor = self.head(self.backbone(clouds))
        return out


@click.command()
@click.option("--published", type=click.Path(path_type=Path), required=True, help="A checkout of WaffleIron.")
@click.option(
    "--scalr-plus", type=click.Path(path_type=Path), help="A checkout of ScaLR's branch scalr_plus."
)
@click.option("--depth", default=6, show_default=True)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(get_args(Backend)),
    help="Default: reference and torch.",
)
@click.option("--only", default="", help="Only cases whose line contains this.")
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the weights.")
def main(
    published: Path,
    scalr_plus: Path | None,
    depth: int,
    backends: tuple[Backend, ...],
    only: str,
    threads: int,
    seed: int,
) -> None:
    """Compare the student with the authors' own code; exits with 1 if any case is beyond its limits."""
    torch.set_num_threads(threads)
    authors = waffleiron_of(published)
    batches = real_batches()
    told = f"torch {torch.__version__}, depth {depth}, real clouds of a nuScenes keyframe"
    click.echo(
        f"{told}\n{'case':<50}{'points':>15}  {'backend':<10}{'output':>9}{'gradient':>10}  worst gradient"
    )
    failed = 0
    for case in cases():
        if only in str(case):
            failed += compare(case, authors, batches[case.clouds], depth, backends or BACKENDS, seed)
    if scalr_plus is not None:
        failed += compare_plus(waffleiron_of(scalr_plus), authors, batches, depth, only, seed)
    if failed:
        click.echo(f"{failed} beyond their limits")
        sys.exit(1)


def cases() -> Iterator[Case]:
    for width, count in ((96, "3"), (384, "2")):  # their planes of 384 channels take gigabytes
        for dtype in (torch.float64, torch.float32):
            # The fewer numbers, the fewer draws until no ReLU is tipped over.
            of = count if dtype == torch.float64 else "2 small" if width == 384 else "3 small"
            yield Case("1 camera" if dtype == torch.float64 else "1 small", "layer", True, width, dtype)
            yield Case(f"{of} unequal", "layer", True, width, dtype)
            yield Case(f"{of} unequal", "batch", False, width, dtype)
            yield Case(f"{of} equal", "batch", True, width, dtype)
    for norm, training in (("layer", True), ("layer", False), ("batch", False)):
        for clouds in ("9 unequal", "3 at the border", "all in one cell"):
            yield Case(clouds, norm, training, shapes=COARSE.shapes)  # type: ignore[arg-type]
        yield Case("planes of one cell", norm, training, shapes=ONE_CELL)  # type: ignore[arg-type]
    for norm in ("layer", "batch"):
        yield Case("one point", norm, False, shapes=COARSE.shapes)  # type: ignore[arg-type]
        yield Case("one point of many", norm, False, shapes=COARSE.shapes)  # type: ignore[arg-type]
    yield Case("one point of many", "layer", True, shapes=COARSE.shapes)


def compare(
    case: Case,
    authors: ModuleType,
    clouds: PackedClouds,
    depth: int,
    backends: tuple[Backend, ...],
    seed: int,
) -> int:
    """Print a line for each backend; returns how many are beyond the limits."""
    short = case.dtype == torch.float32
    draw, own = settled(case, authors, clouds, depth, backends[0], seed) if short else (seed, (0.0, 0.0))
    first, theirs = both(case, authors, depth, backends[0], draw)
    expected = outcome(theirs.to(case.dtype).train(case.training), case, clouds, published=True)
    told = f" (draw {draw}; theirs to its float64 {own[0]:.1e}, ours {own[1]:.1e})" if short else ""
    limits = LIMITS[case.dtype][0], max(LIMITS[case.dtype][1], 2 * max(own))
    failed = 0
    for backend in backends:
        student = Student(case, depth, backend)
        student.load_state_dict(first.state_dict())
        found = outcome(student.to(case.dtype).train(case.training), case, clouds, published=False)
        output, gradient, worst = distances(case, found, expected)
        beyond = output > limits[0] or gradient > limits[1]
        failed += beyond
        sizes = f"{len(clouds.features)} in {clouds.count}"
        click.echo(
            f"{case!s:<50}{sizes:>15}  {backend:<10}{output:9.1e}{gradient:10.1e}  {worst}{told}"
            + ("  BEYOND" if beyond else "")
        )
    return failed


def both(
    case: Case, authors: ModuleType, depth: int, backend: Backend, draw: int
) -> tuple[Student, nn.Module]:
    """Our network and theirs with the same weights, which went there through a file."""
    torch.manual_seed(draw)
    ours, theirs = disturbed(Student(case, depth, backend)), their_network(authors, case, depth)
    with tempfile.TemporaryDirectory() as folder:
        give_weights(theirs, ours.state_dict(), "mlp" if case.plus else "linear", Path(folder))
    return ours, theirs


def settled(
    case: Case, authors: ModuleType, clouds: PackedClouds, depth: int, backend: Backend, seed: int
) -> tuple[int, tuple[float, float]]:
    """A draw of weights whose gradients float32 settles, and how far each code's are from its own in float64."""
    found = []
    for draw in range(seed, seed + DRAWS):
        ours, theirs = both(case, authors, depth, backend, draw)
        own = (
            to_float64(theirs.train(case.training), case, clouds, published=True),
            to_float64(ours.train(case.training), case, clouds, published=False),
        )
        found.append((max(own), draw, own))
        if max(own) <= LIMITS[torch.float32][1]:
            break
    _, draw, own = min(found)
    return draw, own


def to_float64(module: nn.Module, case: Case, clouds: PackedClouds, *, published: bool) -> float:
    """How far a code's float32 gradient is, at most, from that of the same code in float64."""
    state = {name: value.clone() for name, value in module.state_dict().items()}
    short = outcome(module, case, clouds, published=published)
    module.load_state_dict(state)  # running statistics have moved
    exact = outcome(module.double(), replace(case, dtype=torch.float64), clouds, published=published)
    return distances(case, short, exact)[1]


def distances(case: Case, found: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[float, float, str]:
    """Of the output, of the gradient that is furthest away, and its name."""
    gradients = {
        name: away(found[name], expected[name])
        for name in expected
        if name != "output" and not (case.training and name == "embed.conv2.0.bias")
    }
    worst = max(gradients, key=gradients.__getitem__)
    return away(found["output"], expected["output"], floor=1.0), gradients[worst], worst


def compare_plus(
    plus: ModuleType, authors: ModuleType, batches: dict[str, PackedClouds], depth: int, only: str, seed: int
) -> int:
    """ScaLR+, whose means over a cell differ: with main's means in their place the same limits hold; as it is, by how much
    outputs differ."""
    failed = 0
    own = plus.backbone.get_all_projections, plus.backbone.projection_3d_to_2d
    helper = authors.backbone
    for clouds, training in (("3 equal", True), ("3 unequal", True)):
        case = Case(clouds, "layer", training, activation="gelu", plus=True)
        if only not in str(case):
            continue
        plus.backbone.get_all_projections = lambda *given: helper.get_all_projections(*given, torch.float64)
        plus.backbone.projection_3d_to_2d = helper.projection_3d_to_2d
        failed += compare(case, plus, batches[clouds], depth, BACKENDS, seed)
        plus.backbone.get_all_projections, plus.backbone.projection_3d_to_2d = own
        torch.manual_seed(seed)
        student = disturbed(Student(case, depth, "torch"))
        theirs = their_network(plus, case, depth)
        with tempfile.TemporaryDirectory() as folder:
            count = give_weights(theirs, student.state_dict(), "mlp", Path(folder))
            state = take_weights(theirs, Path(folder))
        described = describe({name: tuple(value.shape) for name, value in state.items()})
        back = from_authors(state, described)
        assert all(torch.equal(value, back[name]) for name, value in student.state_dict().items())
        with torch.no_grad():
            packed = replace(batches[clouds], features=batches[clouds].features.double())
            one = student.double().train(training)(packed)
            other = run_published(theirs.double().train(training), packed, packed.features)
        relative = (one - other).abs().amax(1) / other.abs().max()  # (P,)
        click.echo(
            f"{case!s:<50}  as it is, means without 1e-6 and with padding in cell 0: output {relative.max():.1e}, "
            f"{int((relative > 1e-5).sum())} of {len(relative)} points over 1e-5; {count} tensors there and back"
        )
    return failed


def their_network(package: ModuleType, case: Case, depth: int) -> nn.Module:
    return network(
        package,
        width=case.width,
        depth=depth,
        out=OUT,
        shapes=case.shapes,
        norm=case.norm,
        head="mlp" if case.plus else "linear",
        hidden=HIDDEN,
        activation=case.activation,
    )


def disturbed(student: Student) -> Student:
    """Nothing is left at a special value: norms, running statistics."""
    for name, tensor in student.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return student


def outcome(module: nn.Module, case: Case, clouds: PackedClouds, *, published: bool) -> dict[str, Tensor]:
    """The output, and the gradients of a fixed sum of it, ours under their names, in rows as ours."""
    module.zero_grad(set_to_none=True)
    features = clouds.features.detach().to(case.dtype, copy=True).requires_grad_()
    packed = replace(clouds, features=features)
    out = run_published(module, packed, features) if published else module(packed)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (out * direction.to(out.dtype)).sum().backward()
    gradients = {name: _gradient(value, name) for name, value in module.named_parameters()}
    found = {"output": out.detach(), "input": _gradient(features, "input")}
    return found | (gradients if published else to_authors(gradients, "mlp" if case.plus else "linear"))


def _gradient(value: Tensor, name: str) -> Tensor:
    if value.grad is None:
        raise click.ClickException(f"no gradient of {name}")
    return value.grad


def away(found: Tensor, expected: Tensor, floor: float | None = None) -> float:
    """With a floor, the largest difference over the largest value or the floor; else the relative one by norms."""
    difference = (found - expected.reshape(found.shape)).double()
    if floor is not None:
        return float(difference.abs().max() / max(floor, float(expected.abs().max())))
    norm = float(expected.double().norm())
    return float(difference.norm()) / norm if norm else float(difference.norm())


if __name__ == "__main__":
    main()
