"""Checkpoints: the newest that can be read, of this run, and never a line of foreign code."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cache_schemas.errors import GriddleError
from pipeline.training.checkpoint import Checkpoint, load_newest, newest, save

RUN = "0123456789"


def state_after(step: int) -> Checkpoint:
    """A model and an optimiser that really made a few steps."""
    torch.manual_seed(step)
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        model(torch.randn(8, 64)).square().sum().backward()
        optimiser.step()
    return Checkpoint(RUN, step, model.state_dict(), optimiser.state_dict())


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def loaded(folder: Path) -> Checkpoint:
    checkpoint = load_newest(folder, RUN)
    assert checkpoint is not None
    return checkpoint


def test_all_of_it_is_read_as_it_was_saved(tmp_path: Path) -> None:
    saved = state_after(7)
    assert save(tmp_path / "resume", saved) == newest(tmp_path / "resume")
    assert same(vars(loaded(tmp_path / "resume")), vars(saved))


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert load_newest(folder, RUN) is None
        assert newest(folder) is None


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 900, 30_000, 100_000):
        save(tmp_path, state_after(step))
        assert loaded(tmp_path).step == step
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000030000.pt", "step-000100000.pt"]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    """One bit of a weight: in the middle of the longest tensor, far from all headers."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :]


def zero_page(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes(512) + data[at + 512 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut, id="cut in half"),
        pytest.param(lambda data: data[:-1], id="last byte cut"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: os.urandom(len(data)), id="noise"),
        pytest.param(lambda data: pickle.dumps({"step": 3}, protocol=2), id="another file"),
        pytest.param(flip, id="one bit"),
        pytest.param(zero_page, id="512 zeros"),
    ],
)
def test_a_damaged_newest_is_named_and_the_one_before_is_used(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state_after(10)
    save(tmp_path, before)
    path = save(tmp_path, state_after(20))
    path.write_bytes(damage(path.read_bytes()))
    assert same(vars(loaded(tmp_path)), vars(before))
    said = capsys.readouterr().err
    assert f"{path} is damaged" in said
    assert "the one before" in said


def test_all_of_them_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (10, 20):
        path = save(tmp_path, state_after(step))
        path.write_bytes(cut(path.read_bytes()))
    assert load_newest(tmp_path, RUN) is None
    assert capsys.readouterr().err.count("is damaged") == 2


def test_what_lacks_a_part_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, state_after(10))
    torch.save({"run_id": RUN, "step": 20, "model": {}}, tmp_path / "step-000000020.pt")
    assert loaded(tmp_path).step == 10


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, state_after(10))
    with pytest.raises(GriddleError, match="belongs to run 0123456789, not to 9876543210") as refusal:
        load_newest(tmp_path, "9876543210")
    assert str(path) in str(refusal.value)
    assert f"Delete {tmp_path}" in str(refusal.value)


class Intruder:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("spelling", ["torch", "old torch", "pickle"])
def test_a_pickle_that_brings_code_runs_none_of_it(
    spelling: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trap = tmp_path / "resume", tmp_path / "trap"
    save(folder, state_after(10))
    path = folder / "step-000000020.pt"
    content = {**vars(state_after(20)), "model": Intruder(trap)}
    if spelling == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=spelling == "torch")
    assert loaded(folder).step == 10
    assert not trap.exists()
    assert str(path) in capsys.readouterr().err
    aside = next(folder.glob(f"{path.name}.damaged-*"))
    torch.load(aside, weights_only=False) if spelling != "pickle" else pickle.loads(aside.read_bytes())
    assert trap.exists()  # the trap was a real one


def test_other_files_in_the_folder_are_no_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, state_after(10))
    for name in (".writing-step-000000099.pt-1", "step-99.pt", "step-000000099.pt.bak"):
        (tmp_path / name).write_bytes(b"x")
    assert loaded(tmp_path).step == 10
    save(tmp_path, state_after(20))
    save(tmp_path, state_after(30))
    assert (tmp_path / "step-99.pt").exists()


def fail_to_save(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(folder, state_after(30))
    monkeypatch.undo()


def test_a_save_that_fails_loses_no_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, state_after(10))
    save(tmp_path, state_after(20))
    fail_to_save(tmp_path, monkeypatch)
    assert loaded(tmp_path).step == 20
    assert len(list(tmp_path.glob("step-*"))) == 2


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_save(tmp_path, monkeypatch)
    assert list(tmp_path.iterdir()) == []
