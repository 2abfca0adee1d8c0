"""On how much of a split a number stands: what counts as the whole of it, and why something of it is lacking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_index import DATASET, entry, write_index

from cache_schemas.errors import BadInput
from cache_schemas.publish import write_json
from pipeline.config.model import Config
from pipeline.plan.experiment import Experiment, open_experiment
from pipeline.plan.split_share import check_whole, share_line, split_share


def experiment_of(
    workdir: Path, entries: list[dict[str, Any]], absent: list[dict[str, Any]], **dataset: Any
) -> Experiment:
    write_index(workdir, "d", entries)
    path = workdir / "index" / "d" / "index.json"
    import json

    body = json.loads(path.read_text())
    body["cue"] |= {"splits": dataset.get("splits")}
    body["cue"]["reader"] = [dataset.get("reader", DATASET["reader"]), 1]
    write_json(path, {**body, "absent": absent})
    config = {
        "datasets": {"d": {**DATASET, **dataset}},
        "teachers": {"t": {"model": "vit_tiny_patch16_224", "weights": "untrained"}},
        "students": {"s": {"datasets": ["d"], "teacher": "t"}},
    }
    return open_experiment(Config.model_validate(config), workdir)


ENTRIES = [entry("scene-0001"), entry("scene-0003", "val"), entry("scene-0012", "val", labels=False)]
ABSENT = [
    {"name": "scene-0013", "split": "val", "scans": 40, "why": "without any file"},
    {"name": "scene-0002", "split": "train", "scans": 40, "why": "without any file"},
    {"name": "scene-0014", "split": "val"},  # of an index of before scans and reasons were written
]


def test_partitions_that_are_read_left_out_and_absent(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path, ENTRIES, ABSENT, leave_out=["scene-0012"])
    share = split_share(experiment, "d", "val", {"scene-0003"}, 39)
    assert (share.partitions, share.scans) == ((1, 4), (39, 120))
    assert [(part.name, part.why) for part in share.lacking] == [
        ("scene-0012", "left out by the config"),
        ("scene-0013", "without any file"),
        ("scene-0014", "without any file"),
        ("", "that could not be read"),
    ]
    assert share_line(share.recorded()) == (
        "d val: 1 of 4 partition(s), 39 of 120 scan(s); 1 partition(s) left out by the config: scene-0012; 2 partition(s) "
        "without any file: scene-0013, scene-0014; 1 scan(s) that could not be read"
    )
    with pytest.raises(BadInput, match="39 of 120 scan"):
        check_whole(share)


def test_the_whole_split(tmp_path: Path) -> None:
    share = split_share(experiment_of(tmp_path, ENTRIES, []), "d", "val", {"scene-0003", "scene-0012"})
    assert share.is_whole
    assert share_line(share.recorded()) == "d val: 2 of 2 partition(s), 80 of 80 scan(s)"
    check_whole(share)


def test_an_absent_partition_is_in_the_split_that_the_config_gives_it(tmp_path: Path) -> None:
    splits = {"train": ["scene-00*1"], "val": ["scene-000[23]"]}
    experiment = experiment_of(tmp_path, ENTRIES[:2], ABSENT, splits=splits)
    share = split_share(experiment, "d", "val", {"scene-0003"})
    assert [part.name for part in share.lacking] == ["scene-0002"]


def test_sequences_of_semantic_kitti_that_leave_no_trace(tmp_path: Path) -> None:
    entries = [
        entry("11-0000", "test", scans=250),
        entry("11-0250", "test", scans=671),
        entry("12-0000", "test", scans=61),
    ]
    experiment = experiment_of(tmp_path, entries, [], reader="semantic_kitti")
    share = split_share(experiment, "d", "test", {entry["name"] for entry in entries})
    assert share.scans == (982, 20351)
    assert [part.name for part in share.lacking] == [f"{number}" for number in range(12, 22)]
    assert share.lacking[0].scans == 1000
    own = {"test": ["1*"]}
    experiment = experiment_of(tmp_path, entries, [], reader="semantic_kitti", splits=own)
    assert split_share(experiment, "d", "test", {entry["name"] for entry in entries}).is_whole


def test_all_sequences_of_semantic_kitti_together() -> None:
    from pipeline.datasets.semantic_kitti.reader import READER

    counts = [sum(READER.official_scans("", split).values()) for split in ("train", "val", "test")]
    assert counts == [19130, 4071, 20351]
