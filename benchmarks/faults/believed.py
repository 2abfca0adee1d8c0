"""Files of our own and files of weights, changed at random: is anything believed that was not written?

    python -m benchmarks.faults.believed --count 20 --seed 17

A line for each kind: how many were tried; `silent`: another result, or success, without a word; `unclear`: an error that is not
Griddle's own; `fine`: the same result, or an error that names the file. It works on older code, too (PYTHONPATH=...).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import yaml

import griddle
from pipeline.datasets.nuscenes.toy import write_toy
from stages.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = ("index", "scans", "scans --labels", "views", "features", "pretrain", "probe")
Attempt = Callable[[random.Random], tuple[Path, Callable[[], Any]]]
"""Damages something and says what, and how the result is read; what a sound one gives was read before."""


def command(*arguments: str) -> tuple[int, str]:
    """A griddle command in this process: exit code, and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([*arguments, "--config", "config/tiny.yaml"])
        except SystemExit as end:
            code = int(end.code or 0)
    if code:
        raise griddle.GriddleError(out.getvalue() + err.getvalue())
    return code, out.getvalue()


def prepare(folder: Path) -> None:
    """A toy tree, its cache, a student and its probe, in the current folder."""
    os.chdir(folder)
    write_toy(
        folder / "toy" / "tiny", train=2, val=1, scans=2, image=(56, 112), beams=16, azimuths=180, processes=1
    )
    config = yaml.safe_load((REPOSITORY / "config" / "tiny.yaml").read_text())
    config["datasets"]["nuscenes"].pop("partitions", None)
    config["probes"] = {
        "p": {"epochs": 1, "batch": 2, "warmup_epochs": 0, "evaluate": "train", "baselines": ["random"]}
    }
    config["students"]["wi_tiny"]["probes"] = ["p"]
    (folder / "config").mkdir()
    (folder / "config" / "tiny.yaml").write_text(yaml.safe_dump(config))
    for stage in STAGES:
        command(*stage.split())


def other_digit(path: Path, rng: random.Random, pattern: str = r"\d") -> None:
    """Change one digit of a text, of those that the pattern's end matches."""
    text = path.read_text()
    place = rng.choice([match.end() - 1 for match in re.finditer(pattern, text)])
    digit = rng.choice([d for d in "123456789" if d != text[place]])
    path.write_text(text[:place] + digit + text[place + 1 :])


@contextlib.contextmanager
def restored(folder: Path) -> Iterator[None]:
    """Puts a folder back as it was."""
    with tempfile.TemporaryDirectory() as aside:
        shutil.copytree(folder, Path(aside) / "copy", symlinks=True)
        try:
            yield
        finally:
            shutil.rmtree(folder)
            shutil.copytree(Path(aside) / "copy", folder, symlinks=True)


def outcome_of_run(folder: Path) -> Any:
    """What `open_run` gives of a run: features of a drawn cloud."""
    drawn = np.random.default_rng(0)
    opened = griddle.open_run(folder)
    return opened.features(drawn.uniform(-4, 4, (80, 3)), drawn.uniform(0, 90, 80)).tobytes()


def attempts(work: Path) -> dict[str, Attempt]:
    """By kind."""
    (run,) = (work / "runs").glob("wi_tiny-*")
    (probe,) = run.glob("probe/p-*")

    def report() -> Any:
        return json.loads(command("report", "--json")[1])

    def curve_or_word() -> Any:
        """The report is made; a curve that is not whole is named in it."""
        (training,) = report()["trainings"]
        said = command("report")[1]
        return "the curve is not whole" in said or f"{training['steps']} steps"

    def index(rng: random.Random) -> Any:
        path = rng.choice(sorted((work / "index" / "nuscenes").glob("scene-*.json")))
        other_digit(path, rng, r'"intrinsics": \[\s*\d')
        return path, lambda: "verified, all sound" in command("cache", "verify")[1]

    def summary(rng: random.Random) -> Any:
        path = work / "index" / "nuscenes" / "index.json"
        other_digit(path, rng, r'"(?:scans|images|points)": \d')
        return path, lambda: "verified, all sound" in command("cache", "verify")[1]

    def digit_of(folder: Path, name: str, pattern: str, read: Callable[[], Any]) -> Attempt:
        def damage(rng: random.Random) -> Any:
            other_digit(folder / name, rng, pattern)
            return folder / name, read

        return damage

    def curve(rng: random.Random) -> Any:
        path = run / "metrics.csv"
        data = path.read_bytes()
        place = rng.randrange(1, len(data) - 2)
        path.write_bytes(
            rng.choice([b"", data[: data.find(b"\n") + 1], data[:place], data[:place] + data[place + 3 :]])
        )
        return path, curve_or_word

    def images_after_opening(rng: random.Random) -> Any:
        reader = griddle.open_cache(work / "cache").features().partition("scene-0061")
        path = reader.manifest.store / "zarr.json"
        other_digit(path, rng, r'"samples/[^"]*\d')
        return path, lambda: reader.attributes["images"]

    def renamed(rng: random.Random) -> Any:
        mine, other = sorted((work / "cache" / "features").glob("*/*/scene-*.json"))[:2]
        shutil.copy(other, mine)
        return (
            mine,
            lambda: (
                griddle.open_cache(work / "cache").features().partition("scene-0061").attributes["images"]
            ),
        )

    def other_teacher(rng: random.Random) -> Any:
        mine = next((work / "cache" / "features").iterdir())
        other = mine.with_name(f"{mine.name[:-10]}{rng.getrandbits(40):010x}")
        mine.rename(other)
        return (
            other,
            lambda: (
                griddle.open_cache(work / "cache")
                .features(other.name)
                .partition("scene-0061")
                .attributes["images"]
            ),
        )

    return {
        "index record, a digit of fx": index,
        "index.json, a digit of a count": summary,
        "metrics.json, a digit of a score": digit_of(
            probe, "metrics.json", r'"(?:miou|[a-z_]+)": 0\.\d', report
        ),
        "provenance.json, a digit of intensity": digit_of(
            run, "provenance.json", r'"nuscenes": \[\s*\d', lambda: outcome_of_run(run)
        ),
        "config.yaml, a digit of points": digit_of(
            run, "config.yaml", r"(?:voxel|cell): 0?\.?\d", lambda: outcome_of_run(run)
        ),
        "metrics.csv emptied or torn": curve,
        "open_cache: names changed after opening": images_after_opening,
        "open_cache: another partition's manifest": renamed,
        "open_cache: another teacher's partitions": other_teacher,
    }


def tally(path: Path, read: Callable[[], Any], sound: Any) -> str:
    """silent, unclear or fine."""
    try:
        result = read()
    except griddle.GriddleError as error:
        return "fine" if path.name in str(error) or str(path) in str(error) else "unclear"
    except Exception:
        return "unclear"
    return "fine" if result == sound else "silent"


def weights(rng: random.Random, count: int) -> dict[str, Counter[str]]:
    """Bits of checkpoints and teachers' files, and ids of what is imported."""
    from pipeline.teachers.weights import load_weights

    told: dict[str, Counter[str]] = {
        kind: Counter()
        for kind in (
            "import: a flipped bit of a tensor",
            "teacher: a flipped bit of a tensor",
            "import: another id for the same weights",
        )
    }
    (run,) = Path("work/tiny/runs").glob("wi_tiny-*")
    command("weights", "export", str(run), "--out", "theirs.pth")
    state = torch.load("theirs.pth", weights_only=True)["model_point"]

    def flipped(path: Path, values: dict[str, Any]) -> None:
        data = bytearray(path.read_bytes())
        value = (
            values[rng.choice([name for name, held in values.items() if held.numel() > 20])].numpy().tobytes()
        )
        data[data.find(value) + rng.randrange(len(value))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)

    ids = []
    for number in range(count):
        command("weights", "import", "theirs.pth", "--out", f"imported/{number}")
        ids.append(json.loads(Path(f"imported/{number}/provenance.json").read_text())["run_id"])
        told["import: another id for the same weights"]["fine" if ids[-1] == ids[0] else "silent"] += 1
        shutil.copy("theirs.pth", "flipped.pth")
        flipped(Path("flipped.pth"), state)
        read = partial(command, "weights", "import", "flipped.pth", "--out", "imported/flipped")
        told["import: a flipped bit of a tensor"][tally(Path("flipped.pth"), read, None)] += 1
        model = torch.nn.Sequential(torch.nn.Linear(12, 12))
        torch.save(model.state_dict(), "teacher.pth")
        flipped(Path("teacher.pth"), model.state_dict())
        read = partial(load_weights, model, "teacher.pth", None)
        told["teacher: a flipped bit of a tensor"][tally(Path("teacher.pth"), read, "refused")] += 1
    return told


@click.command()
@click.option("--count", default=20, show_default=True)
@click.option("--seed", default=17, show_default=True)
def run(count: int, seed: int) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        work = Path("work/tiny")
        counted: dict[str, Counter[str]] = {}
        for kind, attempt in attempts(work).items():
            rng = random.Random(f"{seed} {kind}")
            counted[kind] = Counter()
            with restored(work):
                sound = sound_outcome(kind, attempt, work)
            for _ in range(count):
                with restored(work):
                    path, read = attempt(rng)
                    counted[kind][tally(path, read, sound)] += 1
        counted |= weights(random.Random(seed), count)
        print("kind | tried | silent | unclear | fine")
        for kind, outcomes in counted.items():
            print(
                " | ".join(
                    [kind, str(outcomes.total()), *(str(outcomes[o]) for o in ("silent", "unclear", "fine"))]
                )
            )
        os.chdir("/")


def sound_outcome(kind: str, attempt: Attempt, work: Path) -> Any:
    """What is read where nothing is damaged; of what must be noticed, a value that no reading gives."""
    if kind.startswith(("index", "open_cache: another")):
        return "noticed"
    if kind == "metrics.csv emptied or torn":
        return True
    with tempfile.TemporaryDirectory() as aside:
        shutil.copytree(work, Path(aside) / "sound", symlinks=True)
        _, read = attempt(random.Random(0))
        shutil.rmtree(work)
        shutil.copytree(Path(aside) / "sound", work, symlinks=True)
        return read()


if __name__ == "__main__":
    run()
