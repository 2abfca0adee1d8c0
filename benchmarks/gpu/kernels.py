"""Compile every kernel of the student for NVIDIA GPUs, without a GPU: registers, shared memory and spills.

    python -m benchmarks.gpu.kernels
    python -m benchmarks.gpu.kernels --capability 90 --kernel spread

Nothing is listed by hand: spatial mixes of the published widths run forward and backward, and the kernels that they
launch are written down instead of being run. Each is compiled as triton's launcher would do it: all tensors begin at a
multiple of 16 bytes, and so does each row if the width is a multiple of 16; the numbers of cells may be anything.
The compiler `ptxas` comes with triton; no CUDA is installed. Ends with exit code 1 if a kernel spills.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import click
import torch

from pipeline.students import triton_kernels, triton_mix
from pipeline.students.sparse_plane import sparse_plane
from pipeline.students.waffleiron import SpatialMix

CAPABILITIES = {80: "A100", 86: "RTX 30, A40", 90: "H100, H200", 100: "B200"}
"""Compute capabilities times ten, and cards that have them."""
WIDTHS = (96, 256, 384, 768)
"""Of the published students."""
TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Of the rows that a spatial mix is given; sums over 16-bit rows are done in float32, so kernels see two types."""
KERNELS = (
    "cell_sums",
    "normalised_rows_backward",
    "add_to_rows",
    "spread",
    "collect",
    "tap_gradients",
)
ACTIVATIONS = {triton_kernels.NONE: "no activation", triton_kernels.RELU: "relu", triton_kernels.GELU: "gelu"}
NAMES = {torch.float32: "fp32", torch.float64: "fp64", torch.int64: "i64"}


@dataclass(frozen=True)
class Case:
    """One kernel as it is launched: the types of its arguments, and what the compiler knows of their values."""

    kernel: str
    types: tuple[tuple[str, str], ...]  # argument, triton's name of its type
    aligned: tuple[str, ...]  # arguments that are multiples of 16
    constants: tuple[tuple[str, int], ...]

    @property
    def number(self) -> str:
        """The type of what the kernel computes with."""
        return "float64" if "*fp64" in dict(self.types).values() else "float32"

    @property
    def block(self) -> int:
        """Channels that one program treats."""
        return dict(self.constants)["BLOCK"]

    @property
    def form(self) -> str:
        """What else is fixed when it is compiled, in words."""
        words = []
        for name, value in self.constants:
            if name == "ACTIVATION":
                words.append(ACTIVATIONS[value])
            elif name in ("NORMALISE", "BIAS") and value:
                words.append({"NORMALISE": "layer norm", "BIAS": "bias"}[name])
        return ", ".join(words) or "plain"


@dataclass(frozen=True)
class Use:
    """What one compiled kernel takes: registers a thread, bytes of shared memory a program, bytes spilled a thread."""

    registers: int
    shared: int
    spilled: int


@dataclass(frozen=True)
class Launch:
    """A kernel's name, and all that it was launched with."""

    kernel: str
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]


@contextlib.contextmanager
def written_down() -> Iterator[list[Launch]]:
    """The kernels that are launched meanwhile, in order. They do not run: what they would write stays arbitrary."""
    launches: list[Launch] = []
    with patch.object(triton_mix, "kernels", _writing_down(launches)):
        yield launches


def cases(widths: Iterable[int] = WIDTHS, types: Iterable[torch.dtype] = TYPES) -> list[Case]:
    """Every kernel in every form in which spatial mixes launch it, once."""
    found: dict[Case, None] = {}
    for width, dtype, norm, activation in itertools.product(
        widths, types, ("layer", "batch"), ("relu", "gelu")
    ):
        with written_down() as launches:
            _mix(width, dtype, norm, activation)
        found |= {_case(launch): None for launch in launches}
    return sorted(found, key=lambda case: (KERNELS.index(case.kernel), case.number, case.constants))


def compile_case(case: Case, capability: int) -> Use:
    """Compile a kernel to machine code for one compute capability (90 is 9.0).

    Raises:
        Exception: whatever triton or ptxas raises if it cannot be compiled.
    """
    import triton
    from triton import knobs
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(triton_kernels, case.kernel)
    constants = dict(case.constants)
    given = dict(case.types)
    signature = {name: given.get(name, "constexpr") for name in kernel.arg_names}
    hints = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in case.aligned}
    source = ASTSource(kernel, signature, constexprs=constants, attrs=hints)
    with knobs.compilation.scope(), knobs.nvidia.scope(), contextlib.redirect_stdout(io.StringIO()) as log:
        knobs.compilation.always_compile = True  # what triton finds in its cache ptxas says nothing about
        knobs.nvidia.dump_ptxas_log = True
        built = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    registers, spilled = _said_by_ptxas(log.getvalue())
    return Use(registers, built.metadata.shared, spilled)


def table(uses: Mapping[tuple[Case, int], Use]) -> Iterator[str]:
    """Lines of a markdown table: a row for each case, registers in a column for each capability."""
    capabilities = list(dict.fromkeys(capability for _, capability in uses))
    names = [f"{capability / 10:.1f}" for capability in capabilities]
    yield (
        f"| kernel | form | type | channels a program | registers a thread: {' | '.join(names)} "
        f"| shared memory, bytes | spilled, bytes |"
    )
    yield "|" + "---|" * (6 + len(names))
    for case in dict.fromkeys(case for case, _ in uses):
        row = [uses[case, capability] for capability in capabilities]
        cells = [
            f"`{case.kernel}`",
            case.form,
            case.number,
            str(case.block),
            *(str(use.registers) for use in row),
            _one_or_all([use.shared for use in row]),
            _one_or_all([use.spilled for use in row]),
        ]
        yield f"| {' | '.join(cells)} |"


@click.command()
@click.option(
    "--capability",
    "capabilities",
    type=click.Choice([str(capability) for capability in CAPABILITIES]),
    multiple=True,
    help="Compute capability times ten. Default: all.",
)
@click.option(
    "--kernel", "wanted", type=click.Choice(KERNELS), multiple=True, help="Only this one. Default: all."
)
@click.option("--width", "widths", type=int, multiple=True, help="Channels. Default: those published.")
@click.option(
    "--float64/--no-float64", default=True, show_default=True, help="Also the kernels of float64 rows."
)
def main(capabilities: Sequence[str], wanted: Sequence[str], widths: Sequence[int], float64: bool) -> None:
    """Print what every kernel of the student takes, compiled without a GPU."""
    import triton

    if not hasattr(triton_kernels.spread, "cache_key"):
        raise click.ClickException("triton's interpreter compiles nothing: unset TRITON_INTERPRET")
    targets = [int(capability) for capability in capabilities] or list(CAPABILITIES)
    types = [dtype for dtype in TYPES if float64 or dtype != torch.float64]
    found = [case for case in cases(widths or WIDTHS, types) if not wanted or case.kernel in wanted]
    click.echo(f"Compiled by triton {triton.__version__}.\n")
    uses = {(case, target): compile_case(case, target) for case in found for target in targets}
    for line in table(uses):
        click.echo(line)
    spilling = [f"{case.kernel} ({case.form})" for (case, _), use in uses.items() if use.spilled]
    if spilling:
        raise click.ClickException(f"registers do not suffice: {', '.join(dict.fromkeys(spilling))}")


def _writing_down(launches: list[Launch]) -> SimpleNamespace:
    """A stand-in for the module of the kernels, which keeps what each is launched with."""

    class Kernel:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            def launch(*values: Any, **constants: Any) -> None:
                names = getattr(triton_kernels, self.name).arg_names
                given = dict(zip(names, values, strict=False)) | constants
                launches.append(Launch(self.name, grid, given))

            return launch

    constants = {name: getattr(triton_kernels, name) for name in ("NONE", "RELU", "GELU")}
    return SimpleNamespace(**constants, **{name: Kernel(name) for name in KERNELS})


def _mix(width: int, dtype: torch.dtype, norm: Any, activation: Any) -> None:
    """One spatial mix of a few points, forward and backward; 16-bit rows as under autocast."""
    short = dtype in (torch.bfloat16, torch.float16)
    mix = SpatialMix(width, norm, activation, None).to(torch.float32 if short else dtype)
    cells = torch.tensor([0, 0, 5, 9])  # (P,), on a plane of 4 x 4 cells
    plane = sparse_plane(cells, torch.zeros_like(cells), (1, 4, 4), dtype)
    rows = torch.zeros(len(cells), width, dtype=dtype, requires_grad=True)  # (P, C)
    with torch.autocast("cpu", dtype=dtype if short else torch.bfloat16, enabled=short):
        out = mix(rows, plane, None, triton_mix.TRITON)
    out.backward(torch.zeros_like(out))


def _case(launch: Launch) -> Case:
    types, aligned, constants = [], [], []
    for name, value in launch.arguments.items():
        if isinstance(value, torch.Tensor):
            types.append((name, f"*{NAMES[value.dtype]}"))
            aligned.append(name)
        elif name.isupper() and name not in ("C", "OCCUPIED", "DILATED"):
            constants.append((name, int(value)))
        elif isinstance(value, float):
            types.append((name, "fp32"))
        else:
            types.append((name, "i32"))
            if name == "C" and value % 16 == 0:
                aligned.append(name)
    return Case(launch.kernel, tuple(types), tuple(aligned), tuple(constants))


def _said_by_ptxas(log: str) -> tuple[int, int]:
    """Registers, and spilled bytes, stores and loads together, of the one kernel that a log of ptxas speaks of."""
    registers = re.search(r"Used (\d+) registers", log)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    if registers is None or len(spills) != 2:
        raise RuntimeError(f"ptxas does not say what the kernel uses:\n{log}")
    return int(registers[1]), sum(int(found) for found in spills)


def _one_or_all(values: list[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else " / ".join(map(str, values))


if __name__ == "__main__":
    main()
