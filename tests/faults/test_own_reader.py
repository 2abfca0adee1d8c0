"""A user's reader that goes wrong: the message names dataset, scan, file and the line of the user's code; `on_error: skip`
goes on without a file that is at fault, and never past a mistake of the reader's own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "your-dataset.md"
READ = 'points = np.fromfile(root / scan.path, "<f4").reshape(-1, 4)'
Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(workspace: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Call:
    """The page's reader over two sequences, probed beside the toy town; gives a command's exit code, and what it says."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (workspace.folder / "poss.py").write_text(code)
    random = np.random.default_rng(4)
    for sequence in ("00", "03"):
        folder = workspace.folder / "poss" / "sequences" / sequence
        for kind in ("velodyne", "labels"):
            (folder / kind).mkdir(parents=True)
        for number in range(3):
            random.uniform(-20, 20, (50, 4)).astype("<f4").tofile(folder / f"velodyne/{number:06d}.bin")
            random.choice([4, 7, 22], 50).astype("<u4").tofile(folder / f"labels/{number:06d}.label")

    def add(config: dict[str, Any]) -> None:
        config["datasets"]["poss"] = {"reader": "poss.py:Reader", "root": "poss"}
        config["probes"] = {"p": {"datasets": ["poss"], "epochs": 1, "batch": 1, "warmup_epochs": 0}}
        config["students"]["wi_tiny"]["probes"] = ["p"]

    workspace.edit(add)
    monkeypatch.chdir(workspace.folder)

    def run(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        code = 0
        try:
            main([*arguments, "--config", "config/tiny.yaml"])
        except SystemExit as end:
            code = int(end.code or 0)
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said
        return code, said

    return run


def mistake(workspace: Any, code: str) -> int:
    """Put code in the place of the line that reads a file; gives the number of its last line."""
    path = workspace.folder / "poss.py"
    before, _, after = path.read_text().partition(READ)
    path.write_text(before + code + after)
    return (before + code).count("\n") + 1


def lot_of_poss(said: str) -> str:
    return said[said.index("of poss cannot be computed") :]


def test_a_cut_file_is_named_with_the_line_that_tripped_over_it(call: Call, workspace: Any) -> None:
    cut = workspace.folder / "poss/sequences/00/velodyne/000001.bin"
    cut.write_bytes(cut.read_bytes()[:-5])
    line = mistake(workspace, READ)
    call("index")
    code, said = call("scans")
    assert code == 2
    assert re.search(
        rf"00: scan 00/000001: `read_points` of semantic_poss, of poss/{cut.relative_to(workspace.folder / 'poss')}: "
        rf"ValueError: cannot reshape .* \(poss\.py, line {line}\)",
        said,
    )
    assert "datasets.poss.on_error: skip" in said
    workspace.edit(lambda config: config["datasets"]["poss"].update(on_error="skip"))
    assert call("scans")[0] == 0
    (manifest,) = (workspace.work / "cache").glob("scans/poss-*/00.*.json")
    (left_out,) = json.loads(manifest.read_bytes())["left_out"]
    assert left_out["what"] == "sequences/00/velodyne/000001.bin"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            'points = np.fromfile(root / scan.path, "<f8").reshape(-1, 2)\n        points = points[:, [0, 0, 0, 1]]',
            "float64, not",
        ),
        ("points = numpy.zeros((9, 4))", "NameError: name 'numpy' is not defined"),
        ("raise NotImplementedError", "NotImplementedError"),
        ("import no_such_module", "ModuleNotFoundError"),
    ],
)
def test_a_mistake_of_the_readers_own_is_never_skipped(
    call: Call, workspace: Any, code: str, words: str
) -> None:
    workspace.edit(lambda config: config["datasets"]["poss"].update(on_error="skip"))
    line = mistake(workspace, code)
    assert call("index")[0] == 0
    status, said = call("scans")
    assert status == 2
    said = lot_of_poss(said)
    assert words in said
    assert "scan 00/00000" in said
    assert "Mend the reader poss.py:Reader and run again: no file is at fault." in said
    assert "leave_out" not in said
    raised = "float64" not in words  # an array of the wrong kind comes from no line
    assert (f"(poss.py, line {line})" in said) == raised


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("call_of", "code", "words"),
    [
        ("read_points", "xyz = np.zeros((9, 3)); intensity = np.zeros(9, np.float32)", "float64, not"),
        ("read_labels", "labels = numpy.zeros(9)", "NameError"),
    ],
)
def test_a_look_at_some_scans_names_the_readers_mistake(
    call: Call, workspace: Any, on_error: str, call_of: str, code: str, words: str
) -> None:
    workspace.edit(lambda config: config["datasets"]["poss"].update(on_error=on_error))
    path = workspace.folder / "poss.py"
    head, _, body = path.read_text().partition(f"def {call_of}(")
    signature, _, rest = body.partition(":\n")
    give = "return xyz, intensity" if call_of == "read_points" else "return labels"
    path.write_text(f"{head}def {call_of}({signature}:\n        {code}; {give}\n{rest}")
    status, said = call("index", "--look", "1")
    assert status == 2
    assert "poss: 2 scans cannot be used:" in said
    assert words in said
    assert "Mend the reader poss.py:Reader: no file is at fault." in said
    assert re.search(r"poss: looked at 2 scans \([\d.]+ s each\) in ", said), "it has no images"


def test_a_look_goes_past_files_that_are_at_fault(call: Call, workspace: Any) -> None:
    workspace.edit(lambda config: config["datasets"]["poss"].update(on_error="skip"))
    mistake(workspace, "raise KeyError(scan.name)")
    code, said = call("index", "--look", "1")
    assert (code, "poss: 2 scans cannot be used:" in said, "Mend the reader" in said) == (0, True, False)


def test_a_reader_without_read_labels_is_the_readers_mistake(call: Call, workspace: Any) -> None:
    path = workspace.folder / "poss.py"
    path.write_text(path.read_text().replace("def read_labels(", "def read_the_labels("))
    call("index")
    call("scans")
    code, said = call("scans", "--labels")
    assert code == 2
    said = lot_of_poss(said)
    assert (
        "00: poss.py:Reader has no read_labels, but its scans name label files. Mend the reader: no file is at fault."
        in said
    )
    assert "Mend their files" not in said


def test_a_syntax_error_has_a_single_place(call: Call, workspace: Any) -> None:
    (workspace.folder / "my").mkdir()
    path = workspace.folder / "my" / "poss.py"
    path.write_text((workspace.folder / "poss.py").read_text() + "\nclass Reader(\n")
    line = path.read_text().count("\n")
    workspace.edit(lambda config: config["datasets"]["poss"].update(reader="my/poss.py:Reader"))
    code, said = call("index")
    assert code == 2
    assert re.search(
        rf"cannot be loaded: SyntaxError: [^()]*'\(' was never closed \(my/poss\.py, line {line}\)$",
        said,
        re.M,
    )
    assert "importlib" not in said


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_error_of_the_readers_code_may_be_mended_there(call: Call, workspace: Any, on_error: str) -> None:
    workspace.edit(lambda config: config["datasets"]["poss"].update(on_error=on_error))
    line = mistake(workspace, 'points = {}["velodyne"]')
    call("index")
    code, said = call("scans")
    assert code == 2
    said = lot_of_poss(said)
    assert (
        f"Mend the files or the reader (poss.py, line {line}) and run again, or write datasets.poss.leave_out: [00]"
        in said
    )


def test_an_error_deep_in_a_library_names_the_users_line(call: Call, workspace: Any) -> None:
    line = mistake(workspace, "points = np.loadtxt(root / scan.path)")
    call("index")
    said = lot_of_poss(call("scans")[1])
    assert f"(poss.py, line {line})" in said


def test_an_error_in_the_readers_own_words_gets_the_scan(call: Call, workspace: Any) -> None:
    line = mistake(workspace, 'raise griddle.BadInput("it is raining")')
    call("index")
    said = lot_of_poss(call("scans")[1])
    assert f"of poss/sequences/00/velodyne/000000.bin: it is raining (poss.py, line {line})" in re.sub(
        "00000[12]", "000000", said
    )


def test_a_plan_measures_without_what_a_reader_trips_over(call: Call, workspace: Any) -> None:
    mistake(workspace, "raise ArithmeticError")
    call("index")
    assert call("plan")[0] == 0


def test_hidden_files_are_no_scans(call: Call, workspace: Any) -> None:
    sequences = workspace.folder / "poss" / "sequences"
    for path in [*sequences.rglob("*.*"), sequences / "DS_Store"]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(4092))
    code, said = call("index")
    assert code == 0
    assert "poss: 2 partition(s), 6 scans" in said


def test_a_disk_that_is_not_mounted_is_named(call: Call, workspace: Any) -> None:
    velodyne = workspace.folder / "poss/sequences/03/velodyne"
    velodyne.rename(workspace.folder / "apart")
    velodyne.symlink_to("/not/mounted")
    code, said = call("index")
    assert code == 2
    assert "sequences/03/velodyne is a link to /not/mounted, which is not there: mount the disk" in said


def test_a_reader_that_lists_by_itself_is_told_what_looks_empty_to_it(call: Call, workspace: Any) -> None:
    path = workspace.folder / "poss.py"
    path.write_text(
        path.read_text().replace(
            'griddle.files_in(sequence / "velodyne", "*.bin")',
            'sorted((sequence / "velodyne").glob("*.bin"))',
        )
    )
    (workspace.folder / "poss/sequences/00/extra").symlink_to("/not/mounted")
    code, said = call("index")
    assert code == 0
    assert (
        "index poss: 1 path(s) below poss are links that lead nowhere or cannot be listed: poss/sequences/00/extra"
        in said
    )
