"""On how much of a split a number stands: what counts as the whole of it, and why something of it is lacking."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from made_up_index import DATASET, entry, write_index

from cache_schemas.errors import BadInput
from cache_schemas.publish import write_json
from pipeline.config.model import Config
from pipeline.plan.experiment import Experiment, open_experiment
from pipeline.plan.split_share import Lacking, SplitShare, share_line, split_share
from pipeline.plan.whole_split import Commands, check_whole


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
        "d val: 1 of 4 partitions, 39 of 120 scans; 1 partition left out by the config: scene-0012; 2 partitions "
        "without any file: scene-0013, scene-0014; 1 scan that could not be read"
    )
    assert refusal(share, experiment) == [
        "Take scene-0012 out of datasets.d.leave_out.",
        "Mend the files that could not be read, and run `griddle index --config my.yaml --force`.",
        "Put the files that are not there in their place, and run `griddle index --config my.yaml`.",
    ]


def test_the_advice_is_of_the_reasons_alone(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path, ENTRIES, [], leave_out=["scene-0012"])
    share = split_share(experiment, "d", "val", {"scene-0003"})
    assert refusal(share, experiment) == ["Take scene-0012 out of datasets.d.leave_out."]
    experiment = experiment_of(tmp_path, ENTRIES, [], partitions=["scene-0001", "scene-0003"])
    share = split_share(experiment, "d", "val", {"scene-0003"})
    assert refusal(share, experiment) == ["Add scene-0012 to datasets.d.partitions."]
    share = split_share(experiment_of(tmp_path, ENTRIES, []), "d", "val", {"scene-0003", "scene-0012"}, 79)
    (advice,) = refusal(share, experiment)
    assert advice.startswith("Mend the files that could not be read")


def refusal(share: SplitShare, experiment: Experiment) -> list[str]:
    """The lines of advice between what is lacking and how to go on."""
    commands = Commands("griddle index --config my.yaml", "griddle evaluate RUN --config my.yaml --out out")
    with pytest.raises(BadInput) as refused:
        check_whole(share, experiment.config.datasets["d"], commands)
    first, *advice, last = str(refused.value).splitlines()
    assert first.endswith(f". {share_line(share.recorded())}.")
    assert not first.endswith("..")
    assert last.startswith("Then run `griddle evaluate RUN --config my.yaml --out out`. Or add --partial")
    return advice


def test_the_whole_split(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path, ENTRIES, [])
    share = split_share(experiment, "d", "val", {"scene-0003", "scene-0012"})
    assert share.is_whole
    assert share_line(share.recorded()) == "d val: 80 of 80 scans"
    check_whole(share, experiment.config.datasets["d"], Commands())


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
    assert share.partitions == (2, 11)
    assert share_line(share.recorded()) == (
        "d test: 2 of 11 sequences, 982 of 20,351 scans; sequence 12 is cut short (61 of 1,061); 9 sequences not there: "
        "13, 14, 15 and 6 more"
    )
    own = {"test": ["1*"]}
    experiment = experiment_of(tmp_path, entries, [], reader="semantic_kitti", splits=own)
    assert split_share(experiment, "d", "test", {entry["name"] for entry in entries}).is_whole


def test_a_sequence_that_is_cut_short_counts_once(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path, [entry("08-0000", "val", scans=3)], [], reader="semantic_kitti")
    share = split_share(experiment, "d", "val", {"08-0000"})
    assert (share.partitions, share.scans, share.unit) == ((1, 1), (3, 4071), "sequence")
    assert share.lacking == (Lacking("08", 4068, "cut short", 4071),)
    assert share_line(share.recorded()) == "d val: 3 of 4,071 scans; sequence 08 is cut short (3 of 4,071)"
    assert share_line(share.with_scans(2).recorded()).endswith("(3 of 4,071); 1 scan that could not be read")


def test_a_sequence_that_is_left_out_and_cut_short_is_listed_once(tmp_path: Path) -> None:
    entries = [entry("00-0000", scans=250), entry("01-0000", scans=2), entry("02-0000", scans=4661)]
    copy = {"name": "00-copy", "split": "train", "scans": 0, "why": "whose folder's name is none of 00 to 21"}
    experiment = experiment_of(tmp_path, entries, [copy], reader="semantic_kitti", leave_out=["01-0000"])
    share = split_share(experiment, "d", "train", {"00-0000", "02-0000"})
    assert share.partitions == (2, 10), "a copy is no official sequence"
    assert share.scans == (4911, 19130)
    assert [(part.name, part.why) for part in share.lacking][:3] == [
        ("00", "cut short"),
        ("01", "left out by the config and cut short"),
        ("03", "not there"),
    ]
    assert len(share.lacking) == 9
    assert refusal(share, experiment) == [
        "Take the partitions of 01 out of datasets.d.leave_out.",
        "Put the files that are not there in their place, and run `griddle index --config my.yaml`.",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_however_many_partitions_each_sequence_counts_once(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    kept = [
        entry(f"{number:02}-{first:04}", scans=draw.randint(1, 60))
        for number in range(11)
        if number != 8
        for first in range(0, draw.choice([0, 250, 1000]), 250)
    ]
    names = [part["name"] for part in kept]
    out = draw.sample(names, len(names) // 3)
    experiment = experiment_of(tmp_path, kept, [], reader="semantic_kitti", leave_out=out)
    read = set(names) - set(out)
    share = split_share(experiment, "d", "train", read)
    assert share.partitions == (len({name[:2] for name in read}), 10)
    assert share.scans == (sum(part["scans"] for part in kept if part["name"] in read), 19130)
    assert len({part.name for part in share.lacking}) == len(share.lacking)


def test_a_share_of_before_is_shown_without_its_wrong_count() -> None:
    lacking = [{"name": "08", "scans": 4068, "why": "not there, or cut short"}]
    before = {"dataset": "d", "split": "val", "partitions": [1, 2], "scans": [3, 4071], "lacking": lacking}
    assert share_line(before) == "d val: 3 of 4,071 scans; not there, or cut short: 08"


def test_all_sequences_of_semantic_kitti_together() -> None:
    from pipeline.datasets.semantic_kitti.reader import READER

    counts = [sum(READER.official_scans("", split).values()) for split in ("train", "val", "test")]
    assert counts == [19130, 4071, 20351]
