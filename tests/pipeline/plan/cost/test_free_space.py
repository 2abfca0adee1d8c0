"""A stage that cannot fit is refused, with the numbers and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache_schemas.canonical import digest
from cache_schemas.errors import GriddleError
from cache_schemas.publish import write_json
from pipeline.config.load import load_config
from pipeline.plan.cost import free_space as room
from pipeline.plan.cost.assumed import assume, parse_assumed
from pipeline.plan.cost.estimate import free_bytes, pending
from pipeline.plan.lot_status import KIND
from pipeline.plan.parts import STAGES, Lot
from pipeline.plan.plan import Plan

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """160 scans that are not there, of the tiny config."""
    config = load_config(REPOSITORY / "config" / "tiny.yaml")
    return assume(config, parse_assumed("nuscenes=160x6"), tmp_path / "work", None)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def of(free: int) -> None:
        monkeypatch.setattr(room, "free_bytes", lambda path: free)

    return of


def all_lots(plan: Plan) -> list[Lot]:
    return [lot for stage in STAGES for lot in plan.lots(stage)]


def needed(plan: Plan) -> int:
    return sum(row.bytes or 0 for row in pending(plan, all_lots(plan)))


def test_just_enough_is_enough_and_a_byte_less_is_not(plan: Plan, disk: Callable[[int], None]) -> None:
    disk(needed(plan))
    told = room.check_space(plan, all_lots(plan))
    assert told is not None
    assert "to be written to" in told
    disk(needed(plan) - 1)
    with pytest.raises(GriddleError) as refused:
        room.check_space(plan, all_lots(plan))
    assert refused.value.exit_code == 1
    said = str(refused.value)
    assert f"{needed(plan):,} bytes" in said
    assert f"{needed(plan) - 1:,} bytes" in said
    assert str(plan.experiment.cache) in said
    assert "cache: FOLDER" in said
    assert all(f"{lot.store.folder}: 4 partition(s)" in said for lot in all_lots(plan))


def test_what_is_there_already_needs_no_room(plan: Plan, disk: Callable[[int], None]) -> None:
    whole = needed(plan)
    for lot in plan.lots("features"):
        folder = plan.experiment.store_path(lot.store)
        folder.mkdir(parents=True, exist_ok=True)
        for entry, member in lot.members:
            (folder / f"{entry.name}.{member}.json").write_text("{}")
    assert needed(plan) == whole, "a manifest that says nothing is no partition"
    for lot in plan.lots("features"):
        partitions = [
            {"name": e.name, "member_digest": member, "content_digest": "c", "counts": {}}
            for e, member in lot.members
        ]
        for entry, _ in lot.members:
            for suffix in ("zarr", "crc"):
                (plan.experiment.store_path(lot.store) / f"{entry.name}.c.{suffix}").touch()
        body = {"griddle": KIND, "partitions": partitions}
        write_json(plan.experiment.lot_path(lot), {**body, "digest": digest(body)})
    assert needed(plan) < whole
    disk(needed(plan))
    assert room.check_space(plan, all_lots(plan)) is not None
    disk(0)
    assert room.check_space(plan, plan.lots("features")) is None


def test_only_the_lots_that_are_started_count(plan: Plan, disk: Callable[[int], None]) -> None:
    disk(sum(row.bytes or 0 for row in pending(plan, plan.lots("scans"))))
    assert room.check_space(plan, plan.lots("scans")) is not None
    with pytest.raises(GriddleError, match="does not fit"):
        room.check_space(plan, all_lots(plan))


def test_the_disk_is_the_one_on_which_the_cache_will_lie(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "there" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.05)
    assert free_bytes(Path("work/cache")) > 0


def _too_large(config: dict[str, Any]) -> None:
    config["teachers"]["tiny"]["image_size"] = [16_000_000, 16_000_000]


def test_snakemake_starts_no_job_of_what_cannot_fit(workspace: Any) -> None:
    workspace.edit(_too_large)
    done = workspace.snakemake("features_all", check=1)
    said = done.stdout + done.stderr
    assert "griddle: the cache does not fit: about" in said
    assert "Traceback" not in said
    assert not (workspace.work / "cache").exists()
    assert not (workspace.work / "logs").exists()
    # A stage by hand refuses, too.
    refused = workspace.griddle("features", "--config", "config/tiny.yaml", check=1)
    assert "griddle: the cache does not fit: about" in refused.stderr
