"""The rooms of the house and the one way of its imports. `python tests/support/house.py` prints the same as a picture in
words; docs/architecture.md says what each room is for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import house as house_of
import pytest
from house import ROOMS, House, arrows_between, circles, climbing, forbidden, private, room_of

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def house() -> House:
    return House(REPOSITORY)


def test_every_module_of_pipeline_lies_in_a_room(house: House) -> None:
    outside = [
        module for module in house.files if module.startswith("pipeline.") and room_of(module) not in ROOMS
    ]
    assert not outside, f"{outside}: move them into a room, or name a new room in tests/support/house.py"
    loose = [
        path.name
        for path in (REPOSITORY / "pipeline").iterdir()
        if path.is_file() and path.name != "__init__.py"
    ]
    assert not loose
    assert {path.name for path in (REPOSITORY / "pipeline").iterdir() if path.is_dir()} - {
        "__pycache__"
    } == set(ROOMS)


def test_packages_themselves_import_nothing(house: House) -> None:
    """What a package's `__init__` imports, everybody imports who imports a module of it; but for the public face."""
    folders = {module for module, path in house.files.items() if path.stem == "__init__"} - {"griddle"}
    assert not [one for one in house.imports if one.module in folders]


def test_no_import_climbs(house: House) -> None:
    """Lazy ones and those for types alone included."""
    assert not climbing(house.imports), "\n".join(map(str, climbing(house.imports)))


def test_no_relative_import_and_none_of_what_is_no_product(house: House) -> None:
    assert not forbidden(house.imports), "\n".join(map(str, forbidden(house.imports)))


def test_no_room_takes_another_rooms_private_names(house: House) -> None:
    assert not private(house.imports), "\n".join(map(str, private(house.imports)))


def test_no_circle_of_files(house: House) -> None:
    """Of no two files each imports the other, directly or by way of others."""
    found = circles(arrows_between(house.imports, {module: module for module in house.files}))
    assert not found, found


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is_for(house: House, room: str) -> None:
    """What lives there, which rooms it imports, and where to start reading."""
    said = ast.get_docstring(ast.parse((REPOSITORY / "pipeline" / room / "__init__.py").read_text())) or ""
    paragraphs = said.split("\n\n")
    imports = next(text for text in paragraphs if text.startswith("Imports "))
    named = set(re.findall(r"`(\w+)`", imports)) & set(ROOMS)
    arrows = arrows_between(house.imports, {module: room_of(module) for module in house.files})
    assert named == arrows.get(room, set()) - {"cache_schemas"}
    (first,) = re.findall(r"Start\s+with\s+`(\w+\.py)`", said)
    assert (REPOSITORY / "pipeline" / room / first).is_file()


def test_the_page_names_every_room_in_order() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text()
    places = [page.find(f"| `{room}` |") for room in ROOMS]
    assert -1 not in places, "docs/architecture.md has a table with a row for each room"
    assert places == sorted(places)


def test_what_is_forbidden_is_found(tmp_path: Path) -> None:
    """The checks themselves: a house with one of each fault."""
    for package in house_of.PACKAGES:
        (tmp_path / package).mkdir()
    for name, text in {
        "pipeline/config/low.py": "def f():\n    from pipeline.plan.high import x\n",
        "pipeline/plan/high.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import stages.top\nfrom pipeline.config.low import _y\n",
        "pipeline/plan/other.py": "from pipeline.plan.third import z\n",
        "pipeline/plan/third.py": "import pipeline.plan.other\n",
        "stages/top.py": "from cache_schemas.ground import g\n",
        "cache_schemas/ground.py": "from griddle import public\n",
        "griddle/__init__.py": 'WHERE = {"x": "stages.top"}\n',
        "pipeline/common/hidden.py": "from importlib import import_module\nhigh = import_module('pipeline.plan.high')\n",
        "pipeline/common/sly.py": "import pipeline.common.hidden as h\nimport pipeline.plan.other as o\nprint(h._a, o._b)\n",
        "pipeline/common/near.py": "from . import hidden\nfrom tests.conftest import x\nf = f'pipeline.cache.{x}'\n",
        "pipeline/cache/__init__.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).parent.joinpath("__init__.py").touch()
        (tmp_path / name).write_text(text)
    imports = House(tmp_path).imports
    assert sorted(map(str, climbing(imports))) == [
        "cache_schemas.ground:1 imports griddle.public",
        "griddle:1 imports stages.top",
        "pipeline.common.hidden:2 imports pipeline.plan.high",
        "pipeline.common.near:3 imports pipeline.cache",
        "pipeline.common.sly:2 imports pipeline.plan.other",
        "pipeline.common.sly:3 imports pipeline.plan.other._b",
        "pipeline.config.low:2 imports pipeline.plan.high.x",
        "pipeline.plan.high:3 imports stages.top",
    ]
    assert list(map(str, private(imports))) == [
        "pipeline.common.sly:3 imports pipeline.plan.other._b",
        "pipeline.plan.high:4 imports pipeline.config.low._y",
    ]
    assert list(map(str, forbidden(imports))) == [
        "pipeline.common.near:1 imports ..hidden",
        "pipeline.common.near:2 imports tests.conftest.x",
    ]
    modules = {module: module for module in House(tmp_path).files}
    known = [one for one in imports if one.of in modules]
    assert circles(arrows_between(known, modules)) == [
        ["cache_schemas.ground", "griddle", "stages.top"],
        ["pipeline.config.low", "pipeline.plan.high"],
        ["pipeline.plan.other", "pipeline.plan.third"],
    ]
