"""The house as its own imports draw it: rooms, the arrows between them, and those that climb or go round in a circle.

    python tests/support/house.py [CHECKOUT]

A room is a folder of `pipeline/`, or a loose module beside them. Imports count wherever they stand: at the top, inside a
function, or for types alone.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("griddle", "stages", "pipeline", "cache_schemas")

NEVER = ("tests", "benchmarks", "examples")
"""What no product code imports."""

ROOMS = (
    "common",
    "config",
    "geometry",
    "datasets",
    "plan",
    "teachers",
    "students",
    "losses",
    "preprocessing",
    "streaming",
    "training",
    "report",
    "cache",
)
"""Of `pipeline/`, from the ground up: each may import those before it. Another room is another line here."""


@dataclass(frozen=True)
class Import:
    """One name (None: the module itself) that a module imports of another module of ours."""

    module: str
    line: int
    of: str
    name: str | None

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.of}" + (f".{self.name}" if self.name else "")


class House:
    """All modules of a checkout and their imports of each other."""

    def __init__(self, checkout: Path) -> None:
        self.files = {
            _module(path.relative_to(checkout)): path
            for package in PACKAGES
            for path in sorted((checkout / package).rglob("*.py"))
        }
        self.imports = [one for module in self.files for one in self._imports_of(module)]

    def _imports_of(self, module: str) -> Iterator[Import]:
        tree = ast.parse(self.files[module].read_text(encoding="utf-8"))
        modules: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                source = "." * node.level + (node.module or "")
                for alias in node.names:
                    full = f"{source}.{alias.name}"
                    if full in self.files:
                        modules[alias.asname or alias.name] = full
                        yield Import(module, node.lineno, full, None)
                    elif source in self.files or node.level or source.split(".")[0] in NEVER:
                        yield Import(module, node.lineno, source, alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name in self.files or alias.name.split(".")[0] in NEVER:
                        modules[alias.asname or alias.name] = alias.name
                        yield Import(module, node.lineno, alias.name, None)
            elif isinstance(node, ast.Constant) and "." in str(node.value) and node.value in self.files:
                yield Import(
                    module, node.lineno, str(node.value), None
                )  # for import_module, or a table of names
            elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                package = str(node.values[0].value).rstrip(".")
                if package in self.files:
                    yield Import(module, node.lineno, package, None)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and ast.unparse(node.value) in modules
            ):
                yield Import(module, node.lineno, modules[ast.unparse(node.value)], node.attr)

    def lines(self) -> int:
        return sum(path.read_text(encoding="utf-8").count("\n") for path in self.files.values())


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The package of a module, or within `pipeline` its folder (a loose module is a room of its own)."""
    parts = module.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else parts[0]


FLOORS = {
    "cache_schemas": 0,
    **{room: 1 + number for number, room in enumerate(ROOMS)},
    "stages": 100,
    "griddle": 100,
}
"""The height of every room; `griddle` and `stages` stand side by side on top, and neither sees the other."""


def climbing(imports: Iterable[Import]) -> list[Import]:
    """Imports of a room from one that lies below it or beside it."""
    return [
        one
        for one in imports
        if (low := FLOORS.get(room_of(one.module))) is not None
        and (high := FLOORS.get(room_of(one.of))) is not None
        and room_of(one.module) != room_of(one.of)
        and high >= low
    ]


def forbidden(imports: Iterable[Import]) -> list[Import]:
    """Relative imports, which hide where they lead, and imports of what is no product code."""
    return [one for one in imports if one.of.startswith(".") or one.of.split(".")[0] in NEVER]


def private(imports: Iterable[Import]) -> list[Import]:
    """Imports of another room's name that begins with an underscore."""
    return [
        one
        for one in imports
        if room_of(one.module) != room_of(one.of)
        and (one.name or one.of.rsplit(".", 1)[-1]).startswith("_")
        and not (one.name or "").startswith("__")
    ]


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of two and more from each of which one comes back to it along the arrows (Tarjan, 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(arrows):
        if node not in number:
            visit(node)
    return found


def arrows_between(imports: Iterable[Import], place: dict[str, str]) -> dict[str, set[str]]:
    """From each place of a module to those that it imports from, itself left out."""
    arrows: dict[str, set[str]] = {}
    for one in imports:
        here, there = place[one.module], place.get(one.of)
        if there is not None and here != there:
            arrows.setdefault(here, set()).add(there)
    return arrows


def main() -> None:
    """Print what the house at the given checkout looks like."""
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    house = House(checkout)
    rooms = {module: room_of(module) for module in house.files}
    loose = [
        m
        for m in house.files
        if m.count(".") == 1 and m.startswith("pipeline.") and house.files[m].stem != "__init__"
    ]
    arrows = arrows_between(house.imports, rooms)
    knots = circles(arrows)
    knotted = sum(map(len, knots))
    print(f"{len(house.files)} files, {house.lines():,} lines")
    print(
        f"{len(set(rooms.values()))} rooms, {len(loose)} of them loose modules; {sum(map(len, arrows.values()))} arrows"
    )
    print(f"{knotted} rooms in {len(knots)} circle(s)" + "".join(f"\n  {', '.join(knot)}" for knot in knots))
    climbs = climbing(house.imports)
    print(f"{len(climbs)} import(s) that climb" + "".join(f"\n  {one}" for one in climbs))
    files = circles(arrows_between(house.imports, {module: module for module in house.files}))
    print(f"{len(files)} circle(s) of files" + "".join(f"\n  {', '.join(group)}" for group in files))


if __name__ == "__main__":
    main()
