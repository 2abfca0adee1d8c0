"""A metrics.csv that is damaged costs its own rows, never the report, and never without a word."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.plan.run_record import write_record
from pipeline.report.loss_curve import read_curve

STEPS = 12
TEXT = "step,epoch,loss,lr,points,seconds\n" + "".join(
    f"{step},0,{1 / step},0.1,100,{step / 10}\n" for step in range(1, STEPS + 1)
)


@pytest.fixture(params=["recorded", "of before"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "s-0123456789"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(TEXT)
    if request.param == "recorded":
        write_record(folder, {"kind": "pretrain"})
    return folder


def test_a_whole_one(folder: Path) -> None:
    curve = read_curve(folder, STEPS)
    assert curve.loss == tuple((step, 1 / step) for step in range(1, STEPS + 1))
    assert (curve.clock[-1], curve.lacks) == (STEPS / 10, "")


@pytest.mark.parametrize(
    ("damage", "left", "word"),
    [
        (lambda text: "", 0, "12 of 12 steps are not in it"),
        (lambda text: text.splitlines()[0] + "\n", 0, "12 of 12 steps are not in it"),
        (lambda text: text[: text.index("\n5,0") + 6], 4, "8 of 12 steps are not in it"),
        (lambda text: text.replace("\n5,0,0.2,", "\n5,0,0.2"), 11, "1 of 12 steps are not in it"),
        (lambda text: text.replace("\n5,0,0.2,", "\n5,0,0..2,"), 11, "1 of 12 steps are not in it"),
        (lambda text: text.replace("\n5,", "\nx5,"), 11, "1 of 12 steps are not in it"),
        (lambda text: text.replace("\n5,", "\n\0,"), 11, "1 of 12 steps are not in it"),
        (lambda text: text.replace("loss", "lass"), 0, "12 of 12 steps are not in it"),
    ],
)
def test_a_damaged_one(folder: Path, damage: object, left: int, word: str) -> None:
    (folder / "metrics.csv").write_text(damage(TEXT))  # type: ignore[operator]
    curve = read_curve(folder, STEPS)
    assert len(curve.loss) == left
    for said in (
        word,
        "the curve is not whole",
        f"`rm -rf {folder / 'resume'}",
        "No score rests on the curve",
        "snakemake command again",
    ):
        assert said in curve.lacks


def test_one_that_is_lost(folder: Path) -> None:
    (folder / "metrics.csv").unlink()
    assert "metrics.csv is lost" in read_curve(folder, STEPS).lacks
    assert read_curve(folder, 0).lacks == "", "weights that were taken over have none"


def test_a_changed_value_is_named_where_it_was_recorded(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(TEXT)
    write_record(tmp_path, {"kind": "pretrain"})
    (tmp_path / "metrics.csv").write_text(TEXT.replace("0.5,", "0.6,"))
    curve = read_curve(tmp_path, STEPS)
    assert len(curve.loss) == STEPS
    assert "it is not the one that was written" in curve.lacks


def test_random_damage_ends_in_a_curve_and_a_word(folder: Path) -> None:
    rng = random.Random(17)
    recorded = (folder / "done.json").exists()
    for _ in range(300):
        data = bytearray(TEXT.encode())
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(data))
            data[place:] = data[place + rng.randint(0, 4) :] if rng.random() < 0.5 else data[place:]
            if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
        (folder / "metrics.csv").write_bytes(data)
        curve = read_curve(folder, STEPS)
        assert curve.lacks or data == TEXT.encode() or not recorded
