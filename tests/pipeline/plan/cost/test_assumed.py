"""`griddle plan --assume`: the four published datasets, planned without any of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cache_schemas.errors import BadInput
from pipeline.config.load import load_config
from pipeline.config.model import Config
from pipeline.plan.cost.assumed import assume, parse_assumed
from pipeline.plan.cost.estimate import PartitionSizes
from pipeline.plan.parts import STAGES
from stages.cli import griddle

REPOSITORY = Path(__file__).resolve().parents[4]
FOUR = "nuscenes=28130x6,semantic_kitti=19130x1,pandaset64=3920x6,pandasetgt=3920x1"


def plan(*arguments: str) -> Any:
    return CliRunner().invoke(griddle, ["plan", *arguments], catch_exceptions=False)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without any data, and a user who has set no variable."""
    (tmp_path / "config").symlink_to(REPOSITORY / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NUSCENES", raising=False)
    return tmp_path


def test_the_command_as_it_stands_in_the_config(elsewhere: Path) -> None:
    line = next(
        line for line in (elsewhere / "config" / "scalr.yaml").read_text().splitlines() if "--assume" in line
    )
    command = line.removeprefix("#").split()
    assert command[:2] == ["griddle", "plan"]
    assert command[-1] == FOUR
    done = plan(*command[2:])
    assert done.exit_code == 0
    rows = [line.split()[:2] for line in done.output.splitlines()[1:17]]
    stages = [
        stage for stage in STAGES if stage != "full_scans"
    ]  # of other scans than these: of the evaluated split
    assert rows == [[stage, name.split("=")[0]] for stage in stages for name in FOUR.split(",")]
    assert "215,350 images; GPU-hours unmeasured" in done.output
    assert sorted(path.name for path in elsewhere.iterdir()) == ["config"], "a plan writes nothing"


def test_the_published_datasets_fit_into_40000_files_of_which_a_partition_has_25(elsewhere: Path) -> None:
    facts = json.loads(plan("--config", "config/scalr.yaml", "--assume", FOUR, "--json").output)
    assert 30_000 < facts["files"] <= 40_000
    for store in facts["stores"]:
        assert store["files"] <= 25 * store["to_compute"], store


def test_the_readmes_arithmetic(elsewhere: Path) -> None:
    """168,780 images: ViT-L/14 at 224 x 448 is 16 x 32 x 1024 float16 values an image, 177 GB in all."""
    facts = json.loads(plan("--config", "config/scalr.yaml", "--assume", FOUR, "--json").output)
    features = {row["dataset"]: row for row in facts["stores"] if row["stage"] == "features"}
    assert features["nuscenes"]["images"] == 168_780
    assert features["nuscenes"]["bytes"] == pytest.approx(168_780 * 16 * 32 * 1024 * 2, rel=0.001)
    assert sum(row["scans"] for row in features.values()) == 55_100


def test_any_teacher_and_image_size(elsewhere: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((REPOSITORY / "config" / "scalr.yaml").read_text())
    config["teachers"]["dinov2_l"].update(model="vit_small_patch14_dinov2.lvd142m", image_size=[448, 896])
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(config))
    facts = json.loads(plan("--config", "other.yaml", "--assume", "nuscenes=1000x6", "--json").output)
    (features,) = [row for row in facts["stores"] if row["stage"] == "features"]
    assert features["bytes"] == pytest.approx(6_000 * 32 * 64 * 384 * 2, rel=0.001)
    config["teachers"]["dinov2_l"].update(model="my_network", position_embedding="timm")
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(config))
    told = plan("--config", "other.yaml", "--assume", "nuscenes=1000x6").output
    assert "unknown" in told
    assert "does not say its channels" in told


def test_hours_at_a_given_rate(elsewhere: Path) -> None:
    arguments = (
        "--config",
        "config/scalr.yaml",
        "--assume",
        "nuscenes=30000x6",
        "--images-per-second",
        "500",
    )
    assert "180,000 images at 500 a second (given): 0.1 GPU-hours" in plan(*arguments).output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nuscenes", "write NAME=SCANSxCAMERAS"),
        ("nuscenes=28130", "write NAME=SCANSxCAMERAS"),
        ("nuscenes=0x6", "write NAME=SCANSxCAMERAS"),
        ("nuscenes=1x6,nuscenes=2x6", "is there twice"),
        ("mine=100x4", "mine=100x4xPOINTS, or one of nuscenes, pandaset64, pandasetgt"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_assumed(text)


def test_a_dataset_of_ones_own_takes_its_points() -> None:
    (one,) = parse_assumed("mine=100x4x50000")
    assert (one.name, one.scans, one.cameras, one.points) == ("mine", 100, 4, 50_000)


def test_a_student_gets_its_own_datasets_and_those_that_no_config_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NUSCENES", raising=False)
    config = load_config(REPOSITORY / "config" / "scalr.yaml", keep_unset=True)
    body = config.model_dump()
    body["datasets"]["other"] = body["datasets"]["nuscenes"]
    body["students"]["second"] = {**body["students"]["wi_768"], "datasets": ["other"], "probes": []}
    made = assume(Config.model_validate(body), parse_assumed("nuscenes=80x6,pandaset64=80x6"), None, None)
    assert {name: student.datasets for name, student in made.experiment.students.items()} == {
        "wi_768": ["nuscenes", "pandaset64"],
        "second": ["pandaset64"],
    }
    assert {lot.store.dataset for lot in made.lots("labels")} == {"nuscenes", "pandaset64"}
    with pytest.raises(BadInput, match="no student of the config names any of other"):
        assume(_only_named(config), parse_assumed("other=1x1x1"), None, None)


def _only_named(config: Config) -> Config:
    """A config that knows `other`, and whose student does not learn from it."""
    body = config.model_dump()
    body["datasets"]["other"] = body["datasets"]["nuscenes"]
    return Config.model_validate(body)


def test_views_grow_with_cameras_variants_and_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(REPOSITORY / "config" / "scalr.yaml", keep_unset=True)

    def views(cameras: int, **points: int) -> int:
        body = config.model_dump()
        body["students"]["wi_768"]["points"].update(points)
        assumed = parse_assumed(f"nuscenes=400x{cameras}")
        made = assume(Config.model_validate(body), assumed, None, None)
        sizes = PartitionSizes(made, {one.name: one.shares for one in assumed})
        return sum(
            size.bytes for lot in made.lots("views") for e in lot.entries if (size := sizes.of(lot, e))
        )

    assert views(6) == pytest.approx(6 * views(1), rel=0.02)
    one, two, three = (views(6, variants=variants) for variants in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=0.01)
    assert views(6, neighbours=32) > 1.2 * views(6)
