"""The identity of weights is their tensors and names, whatever file they come in; and what a file carries to check itself is used."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from cache_schemas.errors import BadInput
from pipeline.common.weights_files import (
    check_zip,
    digest_of_file,
    digest_of_tensors,
    plain_name,
    read_header,
    write_header_in_order,
)
from pipeline.common.weights_state import read_state


@pytest.fixture
def state() -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(3)
    return {
        "b.weight": torch.randn(4, 6, generator=drawn),
        "a.bias": torch.randn(5, generator=drawn).half(),
        "count": torch.tensor(7),
        "c.brain": torch.randn(3, 3, generator=drawn).bfloat16(),
        "empty": torch.zeros(0, 2),
    }


def test_the_same_weights_are_the_same_bytes(state: dict[str, Tensor], tmp_path: Path) -> None:
    """safetensors writes metadata in random order: six byte strings for three keys."""
    metadata = {"griddle": "griddle student", "run_id": "0123456789", "student": "s"}
    plain = {save(state, dict(metadata)) for _ in range(40)}
    assert len(plain) > 1
    ordered = set()
    for number, data in enumerate(plain):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(data)
        write_header_in_order(path)
        ordered.add(path.read_bytes())
        assert all(torch.equal(value, state[name]) for name, value in load_file(path).items())
    assert len(ordered) == 1


def test_one_digest_for_every_format_name_and_order(state: dict[str, Tensor], tmp_path: Path) -> None:
    digests = {digest_of_tensors(state), digest_of_tensors(dict(reversed(state.items())))}
    for name, metadata in (("a", None), ("other", {"z": "1", "a": "2"})):
        save_file(state, tmp_path / f"{name}.safetensors", metadata)
        digests.add(digest_of_file(tmp_path / f"{name}.safetensors"))
    for name, held in (
        ("a.pth", state),
        ("b.pth", {"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}),
    ):
        torch.save(held, tmp_path / name)
        digests.add(digest_of_tensors(read_state(tmp_path / name)))
    save_file({f"module.{key}": value for key, value in state.items()}, tmp_path / "c.safetensors")
    digests.add(digest_of_file(tmp_path / "c.safetensors", plain_name))
    assert len(digests) == 1
    changed = {
        "value": {**state, "count": torch.tensor(8)},
        "name": {**{k: v for k, v in state.items() if k != "count"}, "counts": state["count"]},
        "shape": {**state, "b.weight": state["b.weight"].reshape(6, 4)},
        "type": {**state, "c.brain": state["c.brain"].view(torch.float16)},
    }
    assert len({*digests, *map(digest_of_tensors, changed.values())}) == 1 + len(changed)


def test_every_flipped_bit_of_a_zip_that_changes_a_tensor_is_refused(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    torch.save(state, path)
    whole, rng = path.read_bytes(), random.Random(5)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            held = read_state(path)
        except BadInput:
            refused += 1
            continue
        assert digest_of_tensors(held) == digest_of_tensors(state), "padding alone"
    assert refused > 100


def test_the_tensor_in_a_zip_that_fails_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        info = next(item for item in archive.infolist() if "/data/" in item.filename)
    data = bytearray(path.read_bytes())
    place = data.find(state["b.weight"].numpy().tobytes()[:12])
    data[place] ^= 1
    path.write_bytes(data)
    torch.load(path, weights_only=True)  # without a word
    with pytest.raises(ValueError, match="fails its checksum"):
        check_zip(path)
    with pytest.raises(BadInput, match=r"w.pth is damaged: .*/data/\d+ in it fails its checksum"):
        read_state(path)
    assert info.filename.split("/")[0] == "w"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:5],
        lambda data: b"",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data.replace(b'"shape":[4,6]', b'"shape":[4,7]'),
        lambda data: data.replace(b'"shape":[4,6]', b'"shape":[6,6]'),
        lambda data: data.replace(b'"F16"', b'"F32"'),
        lambda data: data.replace(b'"dtype"', b'"dtipe"', 1),
        lambda data: data.replace(b"{", b"[", 1),
    ],
)
def test_a_safetensors_file_that_its_tensors_do_not_fill(
    damage: object, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    changed = damage(path.read_bytes())  # type: ignore[operator]
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"header|its tensors end|fit there"):
        read_header(path)
    with pytest.raises(BadInput, match=r"w\.safetensors is no whole safetensors file"):
        read_state(path)
