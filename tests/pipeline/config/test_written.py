"""What people write is what they mean: `~`, numbers with an exponent, names that look like numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from cache_schemas.errors import BadInput
from pipeline.config.load import check_folder, load_config
from pipeline.config.model import Config
from pipeline.config.written import PathText
from pipeline.plan.label_subset import listed_scans

CONFIG = """
workdir: work
datasets:
  roads: {reader: nuscenes, root: /data/roads, version: v1.0-mini}
teachers:
  dino: {model: vit_small_patch14_dinov2.lvd142m, image_size: [224, 448]}
students:
  small: {datasets: [roads], teacher: dino}
"""
PLACES = {
    "workdir: work": "workdir: ~/w\ncache: ~/c",
    "reader: nuscenes": "reader: ~/my.py:Reader",
    "/data/roads": "~/data",
    "image_size": "weights: ~/w.pth, standardise: ~/s.json, image_size",
    "teacher: dino}": "teacher: dino, starts_from: ~/f, probes: [p], finetunes: [q]}\n"
    "probes: {p: {scans: ~/scans.txt}}\nfinetunes: {q: {scans: ~/scans.txt}}",
}
Read = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The config with some of its text replaced, read from a file."""

    def load(*changes: tuple[str, str]) -> Config:
        text = CONFIG
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "mine.yaml").write_text(text)
        return load_config(tmp_path / "mine.yaml")

    return load


def test_the_home_folder_stands_for_a_tilde_in_every_path(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = read(*PLACES.items())
    assert "~" not in yaml.safe_dump(config.model_dump(mode="json"))
    assert config.workdir == str(tmp_path / "w")
    assert config.datasets["roads"].reader == f"{tmp_path}/my.py:Reader"
    assert check_folder("--workdir", "~/out") == str(tmp_path / "out")
    assert check_folder("--workdir", "./~") == "./~"


def test_a_home_folder_that_nobody_has_is_refused(read: Read) -> None:
    with pytest.raises(
        BadInput, match=r"datasets\.roads\.root: '~nobody-here/data' begins with ~nobody-here"
    ):
        read(("/data/roads", "~nobody-here/data"))
    with pytest.raises(BadInput, match=r"--workdir: .* set HOME, or write the whole path"):
        check_folder("--workdir", "~nobody-here/out")
    with pytest.raises(ValidationError):
        TypeAdapter(PathText).validate_python("~nobody-here")


def test_a_number_may_be_written_with_an_exponent_alone(read: Read) -> None:
    numbers = (
        "teacher: dino, weights: {roads: 2e0}, seeds: [0e0, 1e0], points: {voxel: 1e-1, max_points: 2e4, "
        "field_of_view: [[-64, 6.4e1], [-6.4e+1, 64], [-8, 8]]}, pretrain: {lr: 2E-3, weight_decay: 3e-4, epochs: 1e1}, "
        "finetunes: [q]}\nfinetunes: {q: {warmup_epochs: 1e0}}"
    )
    student = read(("teacher: dino}", numbers)).students["small"]
    assert student.points.max_points == 20_000
    assert student.points.field_of_view[0] == (-64.0, 64.0)
    assert (student.pretrain.lr, student.pretrain.weight_decay, student.pretrain.epochs) == (2e-3, 3e-4, 10)
    assert (student.weights, student.seeds) == ({"roads": 2.0}, [0, 1])
    assert read(("version: v1.0-mini", "partitions: [1e5]")).datasets["roads"].partitions == ["1e5"]


@pytest.mark.parametrize("key", ["lr: on", "epochs: yes", "batch: true"])
def test_a_switch_is_no_number(read: Read, key: str) -> None:
    """Python counts with them: `epochs: yes` would be one epoch."""
    with pytest.raises(BadInput, match=rf"pretrain.{key.split(':')[0]}: .*\(got 'true'\)"):
        read(("teacher: dino}", f"teacher: dino, pretrain: {{{key}}}}}"))


def test_a_sweep_of_numbers_keeps_the_names_of_its_students(read: Read) -> None:
    swept = "teacher: dino, sweep: {pretrain.weight_decay: [3e-4, 0.03]}}"
    students = read(("teacher: dino}", swept)).students
    assert {name: student.pretrain.weight_decay for name, student in students.items()} == {
        "small-3e-4": 3e-4,
        "small-weight_decay0p03": 0.03,
    }


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("partitions: [002]", r"datasets\.roads\.partitions\.0: .*\(got 2\); put it in quotes: '002'"),
        ("leave_out: [1:30]", r"line 4: 1:30 is a number to YAML, which counts by sixties"),
        ("leave_out: [010]", r"line 4: 010 is the number 8 .* write '010' in quotes"),
        ("splits: {train: [001]}", r"datasets\.roads\.splits\.train\.0: .*; put it in quotes: '001'"),
        ("splits: {train: []}", r"datasets\.roads\.splits\.train: List should have at least 1 item"),
        (
            "splits: [1]",
            r"datasets\.roads\.splits: Input should be a mapping; or: Input should be a valid string",
        ),
        (
            "leave_out: [2024-01-01]",
            r"leave_out\.0: .*\(got the date 2024-01-01\); put it in quotes: '2024-01-01'",
        ),
        (
            "partitions: [2024-01-01 07:30:00]",
            r"partitions\.0: .*\(got the date 2024-01-01 07:30:00\); put it in quotes: '2024-01-01 07:30:00'",
        ),
        ("version: 1.0", r"datasets\.roads\.version: .*put it in quotes: '1.0'"),
    ],
)
def test_a_complaint_names_what_was_written_once(read: Read, key: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as caught:
        read(("version: v1.0-mini", key))
    said = str(caught.value)
    assert "dict[" not in said
    assert "constrained" not in said
    assert said.count("datasets.") <= 1


def test_a_name_that_cannot_be_and_what_is_wrong_within_are_both_said(read: Read) -> None:
    with pytest.raises(BadInput, match="2 value") as caught:
        read(("  small: {datasets: [roads]", "  my one: {datasets: []"))
    assert "students.my one: String should match" in str(caught.value)


def test_a_byte_order_mark_in_a_list_of_scans_is_looked_past(tmp_path: Path) -> None:
    path = tmp_path / "scans.txt"
    path.write_bytes(b"\xef\xbb\xbf00-0000/00-000000\r\n00-0000/00-000001\r\n")
    assert listed_scans(str(path)) == {"00-0000/00-000000", "00-0000/00-000001"}
