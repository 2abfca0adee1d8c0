"""Every refusal of a config names the key, what is wrong with it and what to write instead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_schemas.errors import BadInput
from pipeline.config.load import load_config
from pipeline.config.model import Points

Change = Callable[[dict[str, Any]], Any]


def sound() -> dict[str, Any]:
    return {
        "workdir": "work/a",
        "datasets": {"roads": {"reader": "nuscenes", "root": "/data/roads", "version": "v1.0-mini"}},
        "teachers": {"dino": {"model": "vit_small_patch14_dinov2.lvd142m", "image_size": [224, 448]}},
        "students": {"small": {"datasets": ["roads"], "teacher": "dino", "points": {}, "pretrain": {}}},
    }


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[str | bytes | Change], str]:
    """Writes a config (text, bytes or a change of a sound one) and returns the message that refuses it."""

    def refuse(given: str | bytes | Change) -> str:
        path = tmp_path / "mine.yaml"
        if callable(given):
            config = sound()
            given(config)
            given = yaml.safe_dump(config)
        path.write_bytes(given if isinstance(given, bytes) else given.encode())
        with pytest.raises(BadInput) as error:
            load_config(path)
        message = str(error.value)
        assert str(path) in message
        assert error.value.exit_code == 2
        return message

    return refuse


def put(where: str, value: Any) -> Change:
    """A change that puts `value` at a path of keys."""
    *blocks, last = where.split(".")

    def change(config: dict[str, Any]) -> None:
        for block in blocks:
            config = config[block]
        config[last] = value

    return change


def test_a_sound_config_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(sound()))
    config = load_config(path)
    assert config.datasets["roads"].root == "/data/roads"
    assert config.teachers["dino"].image_size == (224, 448)
    assert config.students["small"].points == Points()
    assert config.students["small"].pretrain.epochs == 25


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("wrokdir", "workdir"),
        ("datasets.roads.rooot", "root"),
        ("teachers.dino.antialiased", "antialias"),
        ("students.small.pretrain.epoch", "epochs"),
        ("students.small.points.neighbors", "neighbours"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    where: str, hint: str, refusal: Callable[..., str]
) -> None:
    assert f"{where}: there is no such key; did you mean {hint!r}?" in refusal(put(where, 1))


def test_an_unknown_key_like_no_other_lists_the_keys(refusal: Callable[..., str]) -> None:
    said = refusal(put("students.small.points.zzz", 1))
    assert (
        f"students.small.points.zzz: there is no such key; the keys here are: {', '.join(sorted(Points.model_fields))}"
        in said
    )


def test_the_keys_of_a_block_that_is_named_like_a_key(refusal: Callable[..., str]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["students"]["points"] = config["students"].pop("small") | {"pretrain": {"epoch": 3}}

    assert "did you mean 'epochs'?" in refusal(change)


@pytest.mark.parametrize(
    "where", ["datasets", "students", "datasets.roads.root", "teachers.dino.model", "students.small.teacher"]
)
def test_a_missing_key_is_named(where: str, refusal: Callable[..., str]) -> None:
    def remove(config: dict[str, Any]) -> None:
        *blocks, last = where.split(".")
        for block in blocks:
            config = config[block]
        del config[last]

    assert f"{where}: is needed and not there" in refusal(remove)


def test_all_complaints_come_at_once(refusal: Callable[..., str]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["lot_partitions"] = 0
        config["students"]["small"]["pretrain"]["lr"] = -1
        del config["datasets"]["roads"]["root"]

    said = refusal(change)
    assert "3 value(s) cannot be used" in said
    assert "lot_partitions: Input should be greater than 0 (got 0)" in said
    assert "students.small.pretrain.lr: Input should be greater than 0 (got -1)" in said
    assert "datasets.roads.root: is needed" in said


@pytest.mark.parametrize("key", ["datasets", "teachers", "students"])
def test_a_list_in_place_of_a_mapping(key: str, refusal: Callable[..., str]) -> None:
    said = refusal(lambda config: config.update({key: [{"name": "one", **config[key]}]}))
    assert f"{key}: give a mapping from names to blocks, not a list" in said


@pytest.mark.parametrize("key", ["datasets", "students"])
def test_none_of_a_kind(key: str, refusal: Callable[..., str]) -> None:
    assert f"  {key}: " in refusal(put(key, {}))


def test_no_teacher_but_for_a_student_that_has_weights(refusal: Callable[..., str], tmp_path: Path) -> None:
    assert "students.small.teacher is 'dino'; the teachers here are []" in refusal(put("teachers", {}))
    config = sound()
    del config["teachers"], config["students"]["small"]["teacher"]
    config["students"]["small"]["starts_from"] = "imported/scalr"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    student = load_config(tmp_path / "mine.yaml").students["small"]
    assert student.teachers == ()
    assert student.network.head == "linear"


def test_a_name_that_is_there_twice(refusal: Callable[..., str]) -> None:
    text = yaml.safe_dump(sound()).replace(
        "  roads:\n", "  roads: {reader: nuscenes, root: /other, version: v1.0-mini}\n  roads:\n"
    )
    said = refusal(text)
    line = text[: text.index("  roads:\n")].count("\n") + 1
    assert f"line {line}: the key 'roads' is already there in line {line - 1}" in said


def test_a_setting_that_is_there_twice(refusal: Callable[..., str]) -> None:
    assert "the key 'workdir' is already there in line" in refusal(
        yaml.safe_dump(sound()) + "workdir: other\n"
    )


def test_a_name_that_a_path_would_mind(refusal: Callable[..., str]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["students"]["a/b"] = config["students"].pop("small")

    assert "students.a/b" in refusal(change)


@pytest.mark.parametrize(
    ("where", "value"), [("datasets.roads.root", "${UNSET_HERE}/roads"), ("cache", "/a/${UNSET_HERE}")]
)
def test_an_unset_variable(
    where: str, value: str, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNSET_HERE", raising=False)
    said = refusal(put(where, value))
    assert f"{where} is {value!r}, but the variable UNSET_HERE is not set" in said
    assert "export UNSET_HERE=" in said


def test_an_unset_variable_in_a_list(refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSET_HERE", raising=False)
    said = refusal(put("datasets.roads.leave_out", ["scene-1", "${UNSET_HERE}"]))
    assert "datasets.roads.leave_out[1] is '${UNSET_HERE}'" in said


def test_variables_are_expanded_wherever_a_string_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_1", "/disk")
    monkeypatch.setenv("_version", "mini")
    config = sound()
    config["datasets"]["roads"] |= {"root": "${DATA_1}/${DATA_1}/$HOME", "version": "v1.0-${_version}"}
    config["datasets"]["roads"]["partitions"] = ["scene-${_version}"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    roads = load_config(path).datasets["roads"]
    assert (roads.root, roads.version) == ("/disk//disk/$HOME", "v1.0-mini")
    assert roads.partitions == ["scene-mini"]


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ([224, 450], "the width 450 is no multiple of the patch of {model}, 14; write 448 or 462"),
        ([225, 448], "the height 225 is no multiple of the patch of {model}, 14; write 224 or 238"),
        ([13, 448], "the height 13 is no multiple of the patch of {model}, 14; write 14"),
    ],
)
def test_an_image_side_that_holds_no_whole_patches(
    size: list[int], said: str, refusal: Callable[..., str]
) -> None:
    message = refusal(put("teachers.dino.image_size", size))
    assert message.endswith(
        "teachers.dino.image_size: " + said.format(model=sound()["teachers"]["dino"]["model"])
    )


@pytest.mark.parametrize("size", [[0, 448], [-14, 448], [224], [224.5, 448], "224x448"])
def test_an_image_size_that_is_none(size: Any, refusal: Callable[..., str]) -> None:
    assert "  teachers.dino.image_size" in refusal(put("teachers.dino.image_size", size))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ({"cell": 0.7}, "field_of_view of x is -64.0 to 64.0 m, which is no whole number of cells of 0.7 m"),
        ({"field_of_view": [[-64, 64], [-64, 64], [-8, 8.2]]}, "field_of_view of z is -8.0 to 8.2 m"),
        ({"field_of_view": [[-64, 64], [5, 5], [-8, 8]]}, "field_of_view of y is 5.0 to 5.0 m"),
        ({"field_of_view": [[64, -64], [-64, 64], [-8, 8]]}, "field_of_view of x is 64.0 to -64.0 m"),
    ],
)
def test_a_field_of_view_that_cells_do_not_fill(
    points: dict[str, Any], said: str, refusal: Callable[..., str]
) -> None:
    message = refusal(put("students.small.points", points))
    assert f"students.small.points: {said}" in message
    assert "choose a cell that divides it" in message


def test_a_field_of_view_in_cells_that_have_no_binary_spelling_is_fine(tmp_path: Path) -> None:
    config = sound()
    config["students"]["small"]["points"] = {
        "cell": 0.1,
        "field_of_view": [[-51.2, 51.2], [-51.2, 51.2], [-5, 3]],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    assert load_config(path).students["small"].points.cell == 0.1


@pytest.mark.parametrize(
    ("points", "where"),
    [
        ({"field_of_view": [[-float("inf"), float("inf")], [-64, 64], [-8, 8]]}, "field_of_view"),
        ({"voxel": float("inf")}, "voxel"),
        ({"cell": 1e9}, "cell"),
    ],
    ids=["infinite view", "infinite voxel", "no cell at all"],
)
def test_numbers_without_an_end(points: dict[str, Any], where: str, refusal: Callable[..., str]) -> None:
    assert where in refusal(put("students.small.points", points))


def test_names_that_no_block_has(refusal: Callable[..., str]) -> None:
    said = refusal(put("students.small.datasets", ["road"]))
    assert "students.small.datasets names 'road'; the datasets here are ['roads']" in said
    said = refusal(put("students.small.teacher", "dinov2"))
    assert "students.small.teacher is 'dinov2'; the teachers here are ['dino']" in said


def test_one_dataset_named_twice(refusal: Callable[..., str]) -> None:
    said = refusal(put("students.small.datasets", ["roads", "roads"]))
    assert "students.small.datasets" in said
    assert "twice" in said


def test_a_choice_that_is_none_lists_those_there_are(refusal: Callable[..., str]) -> None:
    said = refusal(put("datasets.roads.mask", "strikt"))
    assert "datasets.roads.mask" in said
    assert "'published'" in said
    assert "'strict'" in said
    assert "got 'strikt'" in said


def test_a_version_that_yaml_takes_for_a_number(refusal: Callable[..., str]) -> None:
    assert "datasets.roads.version: Input should be a valid string (got 1.0)" in refusal(
        put("datasets.roads.version", 1.0)
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(BadInput, match=r"cannot be read.*--config") as error:
            load_config(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("datasets: [", "is no valid YAML"),
        ("datasets:\n\troads: 1", "is no valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "is no valid YAML"),
        ("", "holds no mapping"),
        ("- datasets", "holds no mapping"),
        ("only words", "holds no mapping"),
    ],
)
def test_what_is_no_yaml_or_no_mapping(text: str, said: str, refusal: Callable[..., str]) -> None:
    assert said in refusal(text)


@pytest.mark.parametrize(
    "text", [b"description: \xe9\n", b"? [a, b]\n: 1\n"], ids=["not UTF-8", "list as a key"]
)
def test_bytes_and_keys_that_no_config_has(text: bytes, refusal: Callable[..., str]) -> None:
    assert "mine.yaml" in refusal(text)


def test_blocks_may_share_values_by_a_merge_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "datasets: {roads: {reader: nuscenes, root: /r, version: v1.0-mini}}\n"
        "teachers:\n"
        "  dino: &dino {model: vit_small_patch14_dinov2.lvd142m, antialias: true}\n"
        "  large: {<<: *dino, image_size: [448, 896]}\n"
        "students: {small: {datasets: [roads], teacher: large}}\n"
    )
    large = load_config(path).teachers["large"]
    assert (large.antialias, large.image_size) == (True, (448, 896))
