"""A key that is born later changes no id of what was there before; once it is set, it changes those that it enters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pinned_ids import PINNED, ids_of, published_index
from pydantic.fields import FieldInfo

from pipeline.config import model
from pipeline.config.blocks import RECORDED, Block, later
from pipeline.config.load import RUN_FILES, load_config
from pipeline.config.model import (
    Augment,
    Config,
    Dataset,
    Finetune,
    Network,
    Optimiser,
    Points,
    Probe,
    Student,
    Teacher,
)
from pipeline.config.training import Labelled, LabelledAugment
from pipeline.datasets.readers import reader_named
from pipeline.plan.identity import view_identity
from pipeline.plan.plan import plan_experiment
from pipeline.plan.starting_weights import student_of_weights

GOLDEN = Path(__file__).parents[2] / "golden"
REPOSITORY = GOLDEN.parents[1]


class Rung(Block):
    """A whole block that is born later."""

    height: int = 1


BLOCKS = (
    Rung,
    Augment,
    LabelledAugment,
    Optimiser,
    Labelled,
    Probe,
    Finetune,
    Teacher,
    Dataset,
    Points,
    Network,
    Student,
    Config,
)
"""From the inside out: each is built anew after those that it holds."""


def rebuild() -> None:
    for block in BLOCKS:
        block.model_rebuild(force=True, _types_namespace=vars(model))


@pytest.fixture
def bear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Adds a key to a block, as if it stood in the code, for one test."""

    def add(block: type[Block], annotation: Any, field: Any, name: str = "born_later") -> None:
        monkeypatch.setitem(
            block.__pydantic_fields__, name, FieldInfo.from_annotated_attribute(annotation, field)
        )
        rebuild()

    yield add
    monkeypatch.undo()
    rebuild()


def wide(change: Callable[[dict[str, Any]], None] = lambda config: None) -> dict[str, Any]:
    """The ids of the pinned config that has every block, changed."""
    config = json.loads(load_config(PINNED / "wide.yaml", keep_unset=True).model_dump_json())
    change(config)
    loaded = Config.model_validate(config)
    indices = {name: published_index(name, block.reader) for name, block in loaded.datasets.items()}
    return ids_of(plan_experiment(loaded, Path("work"), indices=indices))


def set_in(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        inside = config
        for key in keys:
            inside = inside[key]
        inside["born_later"] = 2

    return change


LEARNT = {"runs", "distilled", "finetuned"}
"""What hangs on all of a student that is pretrained."""
OWN = {"random", "scratch", "nothing", "calibrated"}
"""What starts from the student's random start, and knows its network and how whole scans become points."""

WHERE: dict[str, tuple[type[Block], tuple[str, ...], set[str]]] = {
    "dataset": (
        Dataset,
        ("datasets", "nuscenes"),
        {"scans", "views", "full_scans", "inputs", "teacher"} | LEARNT | OWN,
    ),
    "teacher": (Teacher, ("teachers", "drawn"), {"features", "teacher"} | LEARNT),
    "student": (Student, ("students", "several"), {"calibrated"} | LEARNT),
    "points": (
        Points,
        ("students", "several", "points"),
        {"views", "full_scans", "inputs", "teacher"} | LEARNT | OWN,
    ),
    "network": (Network, ("students", "several", "network"), LEARNT | OWN),
    "augment": (Augment, ("students", "several", "augment"), {"calibrated"} | LEARNT),
    "pretrain": (Optimiser, ("students", "several", "pretrain"), {"calibrated"} | LEARNT),
    "probe": (
        Probe,
        ("probes", "wide"),
        {"distilled", "random", "scratch", "calibrated", "inputs", "teacher"},
    ),
    "probe's augment": (
        LabelledAugment,
        ("probes", "wide", "augment"),
        {"distilled", "random", "scratch", "calibrated", "inputs"},
    ),
    "finetuning": (Finetune, ("finetunes", "short"), {"nothing", "finetuned"}),
    "finetuning's augment": (LabelledAugment, ("finetunes", "short", "augment"), {"nothing", "finetuned"}),
    "imported network": (
        Network,
        ("students", "imported", "network"),
        {"random", "scratch", "nothing"} | LEARNT,
    ),
}
"""Of a key that is born later in a block: where it is set, and all that must get another id by it."""


def kind_of(folder: str) -> str:
    """Of a probe, a baseline or a finetuning, by its folder."""
    parts = folder.split("/")
    named = {"from_nothing": "nothing", "baselines": parts[2].split("-")[0]}
    return named.get(parts[1]) or {"probe": "distilled", "finetune": "finetuned"}[parts[2]]


def kinds_that_differ(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Stores whose id changed, `runs`, and of probes, baselines and finetunings the kinds of those that changed."""
    stages = {stage for stage in before["stores"] if before["stores"][stage] != after["stores"][stage]}
    runs = {"runs"} if before["runs"] != after["runs"] else set()
    gone = {*before["probes"], *before["finetunings"]} - {*after["probes"], *after["finetunings"]}
    return (stages - {"labels"}) | runs | {kind_of(folder) for folder in gone}


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(REPOSITORY)
    found = wide()
    assert found == json.loads((PINNED / "wide.json").read_text())
    return found


@pytest.mark.parametrize(("block", "keys", "kinds"), WHERE.values(), ids=WHERE)
def test_a_key_that_is_born_later_enters_an_id_only_where_it_is_set(
    block: type[Block],
    keys: tuple[str, ...],
    kinds: set[str],
    pinned: dict[str, Any],
    bear: Callable[..., None],
) -> None:
    bear(block, int, later(1, "What was born later."))
    assert wide() == pinned
    assert kinds_that_differ(pinned, wide(set_in(*keys))) == kinds


def test_a_default_that_is_not_what_it_was_born_with_enters(
    pinned: dict[str, Any], bear: Callable[..., None], tmp_path: Path
) -> None:
    """Who wants the old ids writes the old value; what was recorded before reads as it was."""
    bear(Network, int, later(1, "What was born later.", default=3))
    assert kinds_that_differ(pinned, wide()) == LEARNT | OWN
    assert Network().born_later == 3  # type: ignore[attr-defined]
    assert Network.model_validate({}, context=RECORDED).born_later == 1  # type: ignore[attr-defined]
    run = GOLDEN / "_run" / "runs" / "wi_tiny-f65f190673"
    (student,) = load_config(run / "config.yaml").students.values()
    assert student.network.born_later == 1  # type: ignore[attr-defined]
    provenance = json.loads((run / "provenance.json").read_text())
    provenance["identity"]["student"].pop("seed")
    assert student_of_weights(run, provenance, ["nuscenes"]).network.born_later == 1  # type: ignore[attr-defined]
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    (student,) = load_config(tmp_path / "config.yaml").students.values()
    assert student.network.born_later == 3  # type: ignore[attr-defined]


def test_a_whole_block_is_born_later(pinned: dict[str, Any], bear: Callable[..., None]) -> None:
    bear(Student, Rung, later({"height": 1}, "A block.", default=Rung()), name="rung")
    assert wide() == pinned

    def higher(config: dict[str, Any]) -> None:
        config["students"]["several"]["rung"] = {"height": 2}

    assert kinds_that_differ(pinned, wide(higher)) == {"calibrated"} | LEARNT
    assert "rung" not in Student(datasets=["d"], teacher="t").resolved()


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ("views", {"views", "teacher", "calibrated"} | LEARNT),
        ("labels", {"distilled", "finetuned", "inputs", "teacher"} | OWN),
    ],
)
def test_a_datasets_key_says_which_store_it_changes(
    changes: str, kinds: set[str], pinned: dict[str, Any], bear: Callable[..., None]
) -> None:
    bear(Dataset, int, later(1, "What was born later.", changes=changes))
    after = wide(set_in("datasets", "nuscenes"))
    assert kinds_that_differ(pinned, after) == kinds
    assert (pinned["stores"]["labels"] != after["stores"]["labels"]) == (changes == "labels")


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        (None, {"views", "full_scans", "teacher"}),
        ("views", {"views", "teacher"}),
        ("full_scans", {"full_scans"}),
        ("samples", set()),
    ],
)
def test_a_key_of_points_says_whether_stores_hang_on_it(
    changes: str | None, kinds: set[str], pinned: dict[str, Any], bear: Callable[..., None]
) -> None:
    bear(Points, int, later(1, "What was born later.", changes=changes))
    after = wide(set_in("students", "several", "points"))
    assert kinds_that_differ(pinned, after) == kinds | {"inputs"} | LEARNT | OWN


def test_a_block_in_a_block_both_born_later(pinned: dict[str, Any], bear: Callable[..., None]) -> None:
    """The outer one's born value says nothing of the inner key: it reads as that was born, not as it is today."""
    bear(Student, Rung, later({"height": 1}, "A block.", default=Rung()), name="rung")
    bear(Rung, int, later(1, "What was born later.", default=3))
    student = {"datasets": ["d"], "teacher": "t"}
    today = Student.model_validate({**student, "rung": {}})
    assert today.resolved()["rung"] == {"height": 1, "born_later": 3}
    recorded = Student.model_validate(student, context=RECORDED)
    assert recorded.rung.born_later == 1  # type: ignore[attr-defined]
    assert "rung" not in recorded.resolved()


def test_false_is_not_zero(bear: Callable[..., None]) -> None:
    bear(Network, bool | float, later(False, "What was born later."))
    assert "born_later" not in Network.model_validate({"born_later": False}).resolved()
    assert Network.model_validate({"born_later": 0.0}).resolved()["born_later"] == 0.0


def test_two_keys_of_one_name_are_refused(bear: Callable[..., None]) -> None:
    """Else the later one would stand for the earlier, and two stores would share an id."""
    bear(Dataset, int, later(0, "What was born later.", changes="views"), name="seed")
    dataset = Dataset.model_validate({"reader": "nuscenes", "root": "r", "seed": 5})
    with pytest.raises(TypeError, match="views/4 has \\['seed'\\] already"):
        view_identity("scans", dataset, Points(), reader_named("nuscenes").traits)


@pytest.mark.parametrize(
    ("block", "annotation", "field", "complaint"),
    [
        (
            Points,
            int,
            lambda: later(1, "d", changes="view"),
            "Points.born_later: changes is one of stores, views",
        ),
        (Network, int, lambda: later(1, "d", changes="views"), "Network.born_later: changes is one of all"),
        (Config, int, lambda: later(1, "d"), "Config.born_later: none of its fields enters an id"),
        (Network, float, lambda: later("1.5", "d"), "Network.born_later: write born as an id has it, 1.5"),
        (Student, Rung, lambda: later(Rung(), "d"), "born: give the block's values as plain JSON"),
    ],
)
def test_a_mark_that_would_do_nothing_or_something_else_is_refused(
    block: type[Block], annotation: Any, field: Any, complaint: str, bear: Callable[..., None]
) -> None:
    def use() -> None:
        bear(block, annotation, field())
        block.model_construct().resolved()

    with pytest.raises(TypeError, match=complaint):
        use()


def test_a_block_that_was_recorded_without_its_nested_ones(bear: Callable[..., None]) -> None:
    bear(Augment, int, later(1, "What was born later.", default=3))
    student = {"datasets": ["d"], "teacher": "t"}
    today = Student.model_validate({**student, "augment": {}})
    assert today.augment.born_later == 3  # type: ignore[attr-defined]
    assert Student.model_validate(student, context=RECORDED).augment.born_later == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("beside", RUN_FILES)
def test_the_config_of_a_run_that_was_cut_off_is_a_recorded_one(
    beside: str, tmp_path: Path, bear: Callable[..., None]
) -> None:
    bear(Network, int, later(1, "What was born later.", default=3))
    (tmp_path / "config.yaml").write_text((GOLDEN / "_run" / "config.yaml").read_text())
    (tmp_path / beside).touch()
    (student,) = load_config(tmp_path / "config.yaml").students.values()
    assert student.network.born_later == 1  # type: ignore[attr-defined]


def test_what_is_in_a_mapping_of_blocks_is_resolved(bear: Callable[..., None]) -> None:
    bear(Student, dict[str, Rung], later({}, "Blocks by name."), name="rungs")
    made = Student.model_validate({"datasets": ["d"], "teacher": "t", "rungs": {"a": {"height": 2}}})
    assert made.resolved()["rungs"] == {"a": {"height": 2}}


def test_a_key_that_is_none_of_ours_is_still_refused(bear: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match="born_later"):
        Points.model_validate({"born_later": 1})
    bear(Points, int, later(1, "What was born later."))
    with pytest.raises(ValueError, match="never"):
        Points.model_validate({"never": 1}, context=RECORDED)
