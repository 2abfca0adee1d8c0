"""SLidR's mini split: the numbers that it is known by, and that a config can ask for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from nuscenes.utils.splits import train

from cache_schemas.errors import BadInput
from pipeline.config.model import Dataset
from pipeline.datasets.index import make_index
from pipeline.datasets.nuscenes.reader import MINI_VAL, READER


def test_it_divides_the_official_train_split() -> None:
    assert set(MINI_VAL) < set(train)
    assert len(set(MINI_VAL)) == 100
    splits = [READER.named_split("slidr_mini", scene, "train") for scene in train]
    assert (splits.count("train"), splits.count("val")) == (600, 100)
    assert READER.named_split("slidr_mini", "scene-0003", "val") is None


def test_a_config_asks_for_it_by_name(toy_master: Path, tmp_path: Path) -> None:
    def splits_of(choice: str | None) -> dict[str, str]:
        dataset = Dataset(reader="nuscenes", root=str(toy_master), version="v1.0-trainval", splits=choice)
        index, _ = make_index(tmp_path / str(choice), "toy", dataset)
        return {entry.name: entry.split for entry in index.partitions}

    own, mini = splits_of(None), splits_of("slidr_mini")
    assert mini == {
        name: "val" if name in MINI_VAL else "train" for name, split in own.items() if split == "train"
    }
    assert set(own.values()) == {"train", "val"}
    with pytest.raises(BadInput, match="has no splits called 'minis'; it has slidr_mini"):
        splits_of("minis")
