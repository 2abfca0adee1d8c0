"""Names of values say what the value is. These do not: `found`, `there`, `told`, `came`, `one`, and `of_...`.

A value is what a name is stored in or passed as: variables, parameters, attributes and fields, the variables of loops and
comprehensions, and what follows `as` or `:=`. Functions, methods and classes are no values, except a property, which is
read as one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("griddle", "stages", "pipeline", "cache_schemas")
VAGUE = re.compile(r"_*(found|there|told|came|one|of_\w*)")
PROPERTIES = {"property", "cached_property"}


def value_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of every value to which a module gives a name."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)):
                yield node.lineno, name
            case (
                ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name))
            ):
                yield node.lineno, name
            case ast.FunctionDef(name=name, decorator_list=decorators):
                if PROPERTIES & {ast.unparse(decorator).rpartition(".")[2] for decorator in decorators}:
                    yield node.lineno, name


def vague_names(root: Path) -> list[str]:
    """`file:line name` of every value of the four packages that bears a name that says nothing."""
    return [
        f"{path.relative_to(root)}:{line} {name}"
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        for line, name in sorted(set(value_names(ast.parse(path.read_text()))))
        if VAGUE.fullmatch(name)
    ]


def test_every_name_of_a_value_says_what_it_is() -> None:
    vague = vague_names(REPOSITORY)
    assert not vague, f"{len(vague)} values are to be called what they are:\n" + "\n".join(vague)


def test_every_place_of_a_name_is_looked_at(tmp_path: Path) -> None:
    """The check itself, on a made-up file: vague names in every place of a name, and names that are allowed."""
    (tmp_path / "pipeline" / "room").mkdir(parents=True)
    (tmp_path / "pipeline" / "room" / "vague.py").write_text(VAGUE_FILE)
    lines = VAGUE_FILE.splitlines()
    expected = [
        f"pipeline/room/vague.py:{number} {name}"
        for number, line in enumerate(lines, 1)
        for name in re.findall(r"\w+", line.partition("# ")[2])
    ]
    assert len(expected) == 29
    assert sorted(vague_names(tmp_path)) == sorted(expected)


VAGUE_FILE = '''\
import json as found  # found
from a.found import one as entry
from a import b as there  # there
found = 1  # found
told: int = 2  # told
one += 1  # one
first, (came, *one) = rows  # came one
lines[found], lines.told = pair  # told


@dataclass
class Row:
    """Found there, told and came: words of a text are free."""

    found: int  # found
    of_points: int = 0  # of_points

    def told(self, there, /, one=1, *came, of_row, **found) -> None:  # there one came of_row found
        self.there = there  # there
        self._found = founder.found  # _found

    @property
    def of_all(self):  # of_all
        return self.one

    @functools.cached_property
    def came(self):  # came
        return found(one=1)

    def of_lot(self):
        return None


def member_of(member):
    for one, count in member:  # one
        counts = [found for found in count if (told := found)]  # found told
    with open("there") as came:  # came
        pass
    try:
        pass
    except OSError as there:  # there
        pass
    match member:
        case {"of": of_x, **found}:  # of_x found
            pass
        case [one, *came]:  # one came
            pass
    return sorted(members, key=lambda one: of_lot(one))  # one


def found_in(foundation, offset, of, anyone, room_of):
    return None
'''
