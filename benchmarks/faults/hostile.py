"""Hostile datasets and configs: each must end with the same index, or with an error that says what is wrong.

    python -m benchmarks.faults.hostile --count 60 --seed 0

Prints `kind | tried | silent | unclear | fine`. Silent: success, and another index than without the attack. Unclear: a
traceback, a hang of `--patience` seconds, more than 20 kB of words, or no word of the file that is wrong. Imports nothing of
this package but the command line, so that it runs on older checkouts, too: `PYTHONPATH=OLD python benchmarks/faults/hostile.py`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VERSION = "v1.0-trainval"
USED = ("calibrated_sensor", "ego_pose", "scene", "sample", "sample_data", "sensor", "lidarseg", "map", "log")
"""Tables that the reader rests on."""
MEMORY = 6 * 2**30
"""Bytes of addresses that an attacked command may take."""
WORDS = 20_000

Attack = Callable[[Path, random.Random], str]
"""Changes a workspace; returns what the error must name."""

CONFIG: dict[str, Any] = {
    "workdir": "work",
    "workers": 0,
    "teachers": {"t": {"model": "vit_tiny_patch16_224", "weights": "untrained", "image_size": [32, 64]}},
    "students": {
        "s": {
            "datasets": ["d"],
            "splits": ["train", "val"],
            "teacher": "t",
            "points": {"neighbours": 4, "spares": 8, "cell": 2.0},
            "network": {"width": 8, "depth": 3},
            "pretrain": {"epochs": 1, "batch": 1, "warmup": 1},
        }
    },
}


def rows_of(tree: Path, table: str) -> list[dict[str, Any]]:
    return json.loads((tree / VERSION / f"{table}.json").read_bytes())


def whole_table(content: Callable[[bytes], bytes | None], how: str) -> Attack:
    """Replace a table by other bytes, or by what `how` says."""

    def attack(folder: Path, rng: random.Random) -> str:
        path = folder / "tree" / VERSION / f"{rng.choice(USED)}.json"
        changed = content(path.read_bytes())
        path.unlink()
        if how == "pipe":
            os.mkfifo(path)
        elif how == "device":
            path.symlink_to("/dev/zero")
        elif how == "folder":
            path.mkdir()
        elif how == "circle":
            path.symlink_to(path.name)
        else:
            assert changed is not None
            path.write_bytes(changed)
        return path.stem

    return attack


def one_value(value: Callable[[Any, random.Random], Any], kinds: tuple[type, ...]) -> Attack:
    """Replace one value of one row, of a column that holds one of these kinds."""

    def attack(folder: Path, rng: random.Random) -> str:
        table = rng.choice(USED)
        rows = rows_of(folder / "tree", table)
        row = rng.choice(rows)
        columns = [name for name, held in row.items() if isinstance(held, kinds) and held not in ("", [])]
        column = rng.choice(columns or ["token"])
        changed = value(row[column], rng)
        if changed is None and rng.random() < 0.5:
            del row[column]
        else:
            row[column] = changed
        (folder / "tree" / VERSION / f"{table}.json").write_text(json.dumps(rows))
        return table

    return attack


def circular_next(folder: Path, rng: random.Random) -> str:
    rows = rows_of(folder / "tree", "sample")
    scene = rng.choice(rows)["scene_token"]
    mine = [row for row in rows if row["scene_token"] == scene]
    for row in mine:
        row["next"] = row["next"] or rng.choice(mine)["token"]
    (folder / "tree" / VERSION / "sample.json").write_text(json.dumps(rows))
    return "sample"


def dangling_next(folder: Path, rng: random.Random) -> str:
    rows = rows_of(folder / "tree", "sample")
    rng.choice(rows)["next"] = "f" * 32
    (folder / "tree" / VERSION / "sample.json").write_text(json.dumps(rows))
    return "sample"


TABLES: dict[str, Attack] = {
    "null": whole_table(lambda _: b"null", ""),
    "a number": whole_table(lambda _: b"1e999", ""),
    "rows of null": whole_table(lambda _: b"[null, null]", ""),
    "no rows": whole_table(lambda _: b"{}", ""),
    "utf-16": whole_table(lambda data: data.decode().encode("utf-16"), ""),
    "latin": whole_table(lambda data: b"\xff\xfe\xfa" + data, ""),
    "empty": whole_table(lambda _: b"", ""),
    "cut": whole_table(lambda data: data[: len(data) // 2], ""),
    "nested": whole_table(lambda _: b"[" * 200_000, ""),
    "nested rows": whole_table(lambda data: b"[" + data + b"]", ""),
    "pipe": whole_table(lambda _: None, "pipe"),
    "device": whole_table(lambda _: None, "device"),
    "folder": whole_table(lambda _: None, "folder"),
    "circle of links": whole_table(lambda _: None, "circle"),
    "null value": one_value(lambda *_: None, (str, list, dict)),
    "value of another kind": one_value(lambda _, rng: rng.choice([7, [], {}, True, 1e300]), (str, list)),
    "NUL": one_value(lambda held, _: held[:3] + "\0" + held[3:], (str,)),
    "surrogate": one_value(lambda held, _: held + "\ud800", (str,)),
    "long": one_value(lambda held, _: held * 3000, (str,)),
    "list of null": one_value(lambda held, _: [None] * len(held), (list,)),
    "list too short": one_value(lambda held, _: held[1:], (list,)),
    "circular next": circular_next,
    "dangling next": dangling_next,
}


def png_of(width: int, height: int) -> bytes:
    """A file of some 100 bytes that says it is an image of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def replaced(suffixes: tuple[str, ...], how: str, below: str = "tree") -> Attack:
    """Replace a recording of any reader, in a folder of this name."""

    def attack(folder: Path, rng: random.Random) -> str:
        files = sorted(
            p
            for p in (folder / "tree").rglob("*")
            if p.name.endswith(suffixes) and below in p.parts and "maps" not in p.parts
        )
        path = rng.choice(files)
        path.unlink()
        if how == "pipe":
            os.mkfifo(path)
        elif how == "device":
            path.symlink_to(rng.choice(["/dev/zero", "/dev/urandom"]))
        elif how == "folder":
            path.mkdir()
        elif how == "sparse":
            with open(path, "wb") as file:
                file.truncate(2**40)
        elif how == "pixels":
            path.write_bytes(png_of(2**31 - 1, 2**31 - 1))
        elif how == "gzip":
            with gzip.open(path, "wb", compresslevel=1) as file:
                for _ in range(1500):
                    file.write(bytes(2**20))
        return path.name

    return attack


RECORDINGS = (".jpg", ".png", ".bin", ".label", ".pkl.gz", "poses.json", "calib.txt")
FILES: dict[str, Attack] = {
    **{how: replaced(RECORDINGS, how) for how in ("pipe", "device", "folder", "sparse")},
    "pixels": replaced((".jpg", ".png"), "pixels"),
    "gzip": replaced((".pkl.gz",), "gzip", "lidar"),
}


def config_attack(change: Callable[[dict[str, Any], random.Random], str | None]) -> Attack:
    """Change the config's values, or give another text."""

    def attack(folder: Path, rng: random.Random) -> str:
        path = folder / "config.yaml"
        config = json.loads(path.read_text())
        text = change(config, rng)
        path.write_text(json.dumps(config) if text is None else text)
        return ""

    return attack


def put(key: str, value: Any) -> Attack:
    def change(config: dict[str, Any], _: random.Random) -> None:
        *outer, last = key.split(".")
        for name in outer:
            config = config.setdefault(name, {})
        config[last] = value

    return config_attack(change)


def renamed(key: str, name: str) -> Attack:
    def change(config: dict[str, Any], _: random.Random) -> None:
        config[key][name] = next(iter(config[key].values()))

    return config_attack(change)


def text(made: str) -> Attack:
    return config_attack(lambda *_: made)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
CONFIGS: dict[str, Attack] = {
    "billion laughs": text(LAUGHS),
    "billion laughs, as keys": text(
        LAUGHS.replace("[", "{").replace("]", "}").replace("x,", "").replace("x", "")
    ),
    "within itself": text("datasets: &a {b: *a}\n"),
    "deep lists": text("[" * 30_000),
    "deep mappings": text("datasets: " + "{a: " * 3000 + "1" + "}" * 3000),
    "40 deep": text("datasets: " + "{a: " * 40 + "1" + "}" * 40),
    "large": text("# " + "x" * 5_000_000),
    "a device": config_attack(lambda *_: "link"),
    "a pipe": config_attack(lambda *_: "pipe"),
    "a date that is none": text("workdir: 2001-99-99\n"),
    "a number of 9,000 digits": text("workers: " + "9" * 9000 + "\n"),
    "NUL in workdir": put("workdir", "a\0b"),
    "NUL in root": put("datasets.d.root", "a\0b"),
    "a name of 300 letters": renamed("students", "n" * 300),
    "a dataset's name of 300 letters": renamed("datasets", "n" * 300),
    "a key of 100,000 letters": put("k" * 100_000, 1),
    "a value of 100,000 letters": put("workers", "v" * 100_000),
    "2,000 unknown keys": config_attack(lambda c, _: c.update({f"key{n}": n for n in range(2000)})),
    "workdir below a file": put("workdir", "config.yaml/work"),
    "workdir is a file": put("workdir", "config.yaml"),
    "cache below a file": put("cache", "config.yaml/cache"),
    "workdir in braces": put("workdir", "{work}"),
    "workdir begins with -": put("workdir", "-rf"),
    "workdir of 5,000 letters": put("workdir", "w" * 5000),
    "empty workdir": put("workdir", ""),
    "workdir with a line break": put("workdir", "a\nb"),
    "1e9 neighbours": put("students.s.points.neighbours", 1_000_000_000),
    "1e9 spares": put("students.s.points.spares", 1_000_000_000),
    "1e9 variants": put("students.s.points.variants", 1_000_000_000),
    "a sweep of all numbers": put("students.s.sweep", {"seeds": list(range(5000))}),
}


def attempt(folder: Path, patience: float, *, scans: bool = False) -> tuple[str, str]:
    """Run `griddle index` and `griddle plan`, with `scans` also that stage, in a process of their own; how it ended, and what was said."""
    log = folder / "log.txt"
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        code = 99
        try:
            from stages.cli import main

            main(["index", "--config", "config.yaml"])
            main(["plan", "--config", "config.yaml"])
            if scans:
                main(["scans", "--config", "config.yaml"])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            said = log.read_bytes()[: 2 * WORDS].decode(errors="replace")
            return (f"code {os.waitstatus_to_exitcode(status)}", said)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hang", ""


def index_of(folder: Path) -> dict[str, Any]:
    """What the index says, by partition, without what tells nothing of the data."""
    path = folder / "work" / "index" / "d" / "index.json"
    if not path.is_file():
        return {}
    body = json.loads(path.read_bytes())
    return {entry["name"]: (entry["members"], entry["problem"]) for entry in body["partitions"]}


def judged(ended: str, said: str, named: str, index: dict[str, Any], wanted: dict[str, Any]) -> str:
    if (
        ended == "hang"
        or "Traceback" in said
        or len(said) > WORDS
        or ended not in ("code 0", "code 1", "code 2")
    ):
        return "unclear"
    if ended != "code 0":
        # A scan without its labels is named, not its file; a table that lacks a row is named by the one that names the row.
        known = named in said or f"/{VERSION}/" in said or ("lidarseg" in named and "lidarseg" in said)
        return "fine" if "griddle:" in said and known else "unclear"
    return "fine" if index == wanted else "silent"


def make_workspace(folder: Path, form: str) -> None:
    """A toy tree of two scenes, and a config of one small student."""
    from stages.cli import main

    folder.mkdir(parents=True)
    main(
        [
            "toy",
            "--format",
            form,
            "--root",
            str(folder / "tree"),
            "--train",
            "1",
            "--val",
            "1",
            "--scans",
            "2",
        ]
    )
    reader = {"pandaset": "pandaset64"}.get(form, form)
    version = {"version": VERSION} if form == "nuscenes" else {}
    config = CONFIG | {"datasets": {"d": {"reader": reader, "root": "tree", **version}}}
    (folder / "config.yaml").write_text(json.dumps(config))


def cases(
    kind: str, attacks: dict[str, Attack], folders: list[Path], count: int, seed: int
) -> Iterator[tuple[str, Attack, Path, random.Random]]:
    """`count` attacks of a kind, each name in turn, each with draws of its own."""
    names = list(attacks)
    for number in range(count):
        name = names[number % len(names)]
        rng = random.Random(f"{seed} {kind} {number}")
        fitting = [f for f in folders if name != "gzip" or f.name == "pandaset"]
        yield name, attacks[name], fitting[number % len(fitting)], rng


def run(kind: str, count: int, seed: int, workspaces: Path, patience: float, show: bool) -> Counter[str]:
    """Count the outcomes of one kind of attack."""
    attacks = {"tables": TABLES, "files": FILES, "configs": CONFIGS}[kind]
    forms = ("nuscenes", "semantic_kitti", "pandaset") if kind == "files" else ("nuscenes",)
    folders = [workspaces / form for form in forms]
    for folder in folders:
        if not folder.exists():
            make_workspace(folder, folder.name)
            assert attempt(folder, 120)[0] == "code 0", (folder / "log.txt").read_text()
    outcomes: Counter[str] = Counter()
    for name, attack, folder, rng in cases(kind, attacks, folders, count, seed):
        attacked = workspaces / "attacked"
        shutil.copytree(folder, attacked, ignore=shutil.ignore_patterns("work", "log.txt"))
        named = attack(attacked, rng)
        path = attacked / "config.yaml"
        if path.read_bytes() in (b"link", b"pipe"):
            path.unlink()
            path.symlink_to("/dev/zero") if name == "a device" else os.mkfifo(path)
        ended, said = attempt(attacked, patience, scans=kind == "files")
        outcome = judged(ended, said, named, index_of(attacked), index_of(folder))
        outcomes[outcome] += 1
        if show and outcome != "fine":
            print(
                f"  {outcome}: {kind}, {name} of {named or 'the config'}: {ended}: {said[-300:]!r}",
                flush=True,
            )
        shutil.rmtree(attacked)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60, help="attacks of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds until a command counts as hanging"
    )
    parser.add_argument("--kinds", nargs="+", default=["tables", "files", "configs"])
    parser.add_argument("--show", action="store_true", help="print each attack that was not answered well")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for module in (
        "nuscenes.nuscenes",
        "nuscenes.utils.splits",
        "pipeline.datasets.nuscenes.reader",
        "numpy",
        "PIL.Image",
    ):
        __import__(module)  # once, for all commands that are forked
    print("kind | tried | silent | unclear | fine")
    with tempfile.TemporaryDirectory(prefix="griddle-hostile-") as temporary:
        for kind in given.kinds:
            counts = run(kind, given.count, given.seed, Path(temporary), given.patience, given.show)
            print(
                f"{kind} | {counts.total()} | {counts['silent']} | {counts['unclear']} | {counts['fine']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
