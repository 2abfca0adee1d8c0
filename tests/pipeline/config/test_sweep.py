"""One block for many students: what they are named, what each is, and what cannot be swept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_schemas.errors import BadInput
from pipeline.config.load import load_config
from pipeline.config.model import Config
from pipeline.config.sweep import expand_sweeps

BASE: dict[str, Any] = {
    "datasets": ["roads"],
    "teacher": "dino",
    "network": {"depth": 6},
    "pretrain": {"batch": 2, "lr": 1e-3},
}


def load(tmp_path: Path, **students: Any) -> Config:
    config = {
        "datasets": {"roads": {"reader": "nuscenes", "root": "x", "version": "v1.0-mini"}},
        "teachers": {"dino": {"model": "dinov2_vits14"}, "mae": {"model": "vit_base_patch16_224.mae"}},
        "students": students,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return load_config(tmp_path / "mine.yaml")


def test_all_values_with_all_values_each_named_and_each_a_plain_student(tmp_path: Path) -> None:
    sweep = {
        "network.width": [96, 256],
        "pretrain": {"short": {"epochs": 2}, "long": {"epochs": 9, "lr": 5e-4}},
        "teacher": ["dino", "mae"],
    }
    config = load(tmp_path, wi={**BASE, "sweep": sweep}, other=BASE)
    assert list(config.students) == [
        *("wi-width96-short-dino", "wi-width96-short-mae", "wi-width96-long-dino", "wi-width96-long-mae"),
        *("wi-width256-short-dino", "wi-width256-short-mae", "wi-width256-long-dino", "wi-width256-long-mae"),
        "other",
    ]
    one = config.students["wi-width256-long-mae"]
    assert (one.network.width, one.network.depth, one.teacher) == (256, 6, "mae")
    assert (one.pretrain.epochs, one.pretrain.lr, one.pretrain.batch) == (9, 5e-4, 2)
    by_hand = load(
        tmp_path,
        byhand={**BASE, "teacher": "mae", "network": {"depth": 6, "width": 256},
                "pretrain": {"batch": 2, "lr": 5e-4, "epochs": 9}},
    )  # fmt: skip
    assert one == by_hand.students["byhand"]


def test_values_that_are_no_words_get_names_that_are() -> None:
    found = expand_sweeps({"s": {"sweep": {"pretrain.lr": [0.5, 1e-05], "augment.flip": [True, False]}}})
    assert list(found) == [
        "s-lr0p5-fliptrue",
        "s-lr0p5-flipfalse",
        "s-lr1e-05-fliptrue",
        "s-lr1e-05-flipfalse",
    ]
    assert found["s-lr1e-05-flipfalse"] == {"pretrain": {"lr": 1e-05}, "augment": {"flip": False}}


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ([], "give a mapping from keys to their values"),
        ({"network.width": []}, r"network.width: give a list of values"),
        ({"network.width": 96}, r"network.width: give a list of values"),
        ({"network": [{"width": 96}]}, "has no short name; give names"),
        ({"network.width": [96, 96]}, "two students named s-width96"),
        ({"network": {"a": {}}, "network.width": [96]}, "network and network.width sweep the same block"),
        ({"teacher.x": [1]}, "teacher is no block"),
        ({"seeds.x": {str(n): n for n in range(1001)}}, "stands for 1001 students"),
    ],
)
def test_what_cannot_be_swept_is_said(tmp_path: Path, sweep: Any, told: str) -> None:
    with pytest.raises(BadInput, match=rf"students.s.sweep.*{told}"):
        load(tmp_path, s={**BASE, "sweep": sweep})


def test_a_slip_in_a_swept_key_is_named_as_any_other(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"students.s-widht96.network.widht: there is no such key; did you mean 'width'"
    ):
        load(tmp_path, s={**BASE, "sweep": {"network.widht": [96]}})
