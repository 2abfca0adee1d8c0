"""From a YAML file to a checked `Config`; every complaint names the key and what to write instead."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cache_schemas.access import read_regular
from cache_schemas.errors import BadInput
from pipeline.common.run_files import CONFIG, LEASE, PROVENANCE, RESUME
from pipeline.config.blocks import RECORDED
from pipeline.config.complaints import explain, short
from pipeline.config.limits import MOST_BYTES, check_yaml
from pipeline.config.model import Config
from pipeline.config.model_names import patch_size
from pipeline.config.sweep import expand_sweeps
from pipeline.config.written import expand_home

RUN_FILES = (PROVENANCE, LEASE, RESUME)
"""Beside the config.yaml that a run recorded: of a finished run the first, of one that was cut off another."""

LONGEST_PATH = 1000
"""Bytes of a folder's name; most systems take 4,096 of a whole path, and stores lie below it."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_config(path: str | Path, *, keep_unset: bool = False) -> Config:
    """Read, expand and validate a config file; with `keep_unset` a ${VARIABLE} that is not set stays as it is.

    In a run's folder it is what the run recorded: keys that came later are as they were born (`config/blocks.py`).

    Raises:
        BadInput: if the file is missing, is no YAML, larger than a config may be (`config/limits.py`), repeats a key, names an unset ${VARIABLE}, or does not fit the
            model; with the key's path and what to write instead.
    """
    path = Path(path)
    try:
        text = read_regular(path, MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"config {path} is no UTF-8 text ({error}); save it as UTF-8.") from error
    except OSError as error:
        raise BadInput(
            f"config {path} cannot be read: {error.strerror}. Give another one with --config."
        ) from error
    try:
        check_yaml(text)
        raw = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise BadInput(f"config {path} is no valid YAML: {short(str(error))}") from error
    except ValueError as error:  # too large; or a number or date that there is not
        raise BadInput(f"config {path} cannot be used: {short(str(error))}") from error
    if not isinstance(raw, dict):
        raise BadInput(f"config {path} holds no mapping; see docs/config.md for its keys.")
    raw = _expand(raw, "", path, keep_unset)
    try:
        if isinstance(raw.get("students"), dict):
            raw["students"] = expand_sweeps(raw["students"])
    except ValueError as error:
        raise BadInput(f"config {path}: {short(str(error))}") from error
    try:
        beside = any((path.parent / name).exists() for name in RUN_FILES)
        recorded = path.name == CONFIG and beside
        config = Config.model_validate(raw, context=RECORDED if recorded else None)
    except ValidationError as error:
        raise BadInput(explain(error, path, raw, text)) from error
    _check_images(config, path)
    if not keep_unset and not recorded:
        for key, folder in (("workdir", config.workdir), ("cache", config.cache)):
            if folder is not None:
                check_folder(f"config {path}: {key}", folder)
    return config


def check_folder(what: str, folder: str) -> str:
    """The name of a folder of ours, `~` expanded, unless a command line, Snakemake or the file system would take it for
    something else.

    Args:
        what: names it, to begin the message with.

    Raises:
        BadInput: for an empty name, one that begins with `-` or with the `~` of no home folder that is known, has braces or a
            line break in it, is too long, or lies at or below a file.
    """
    try:
        folder = expand_home(folder)
    except ValueError as error:
        raise BadInput(f"{what}: {error}") from error
    if not folder.strip() or folder.startswith("-") or re.search(r"[{}\x00-\x1f]", folder):
        raise BadInput(
            f"{what} is {short(folder)!r}: the name of a folder is not empty, does not begin with -, and has no braces and "
            f"no line break in it"
        )
    place = Path(folder)
    if len(os.fsencode(folder)) > LONGEST_PATH or any(len(os.fsencode(part)) > 255 for part in place.parts):
        raise BadInput(f"{what} is {short(folder)!r}: it is too long to be a folder's name")
    for above in (place, *place.parents):
        if os.path.lexists(above) and not above.is_dir():
            raise BadInput(f"{what} is {short(folder)!r}, but {above} is no folder; give another one")
    return folder


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent loss of a key that is written twice."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, Hashable):
            raise yaml.YAMLError(f"line {line}: a key must be a plain word, not {key!r}")
        if key in seen:
            raise yaml.YAMLError(
                f"line {line}: the key {key!r} is already there in line {seen[key]}; two blocks (datasets, teachers, "
                f"students) cannot share one name"
            )
        seen[key] = line
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _integer(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    """An integer, unless YAML counts its digits by eights: 010 would be 8 without a word."""
    _refuse_sixties(node)
    number: int = yaml.SafeLoader.construct_yaml_int(loader, node)
    digits = node.value.lstrip("+-").replace("_", "")
    if digits.isdigit() and int(digits) != abs(number):
        raise yaml.YAMLError(
            f"line {node.start_mark.line + 1}: {node.value} is the number {number} to YAML, which counts by eights after a "
            f"0; write '{node.value}' in quotes where a name is meant, and {int(digits)} where a number is"
        )
    return number


def _float(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    _refuse_sixties(node)
    number: float = yaml.SafeLoader.construct_yaml_float(loader, node)
    return number


def _refuse_sixties(node: yaml.ScalarNode) -> None:
    if ":" in node.value:
        raise yaml.YAMLError(
            f"line {node.start_mark.line + 1}: {node.value} is a number to YAML, which counts by sixties at a colon; write "
            f"'{node.value}' in quotes where a name is meant, and the number itself where one is"
        )


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _integer)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _float)


def _expand(value: Any, where: str, path: Path, keep_unset: bool) -> Any:
    """Replace ${VARIABLES} in every string."""
    if isinstance(value, dict):
        return {
            key: _expand(item, f"{where}.{key}" if where else str(key), path, keep_unset)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_expand(item, f"{where}[{number}]", path, keep_unset) for number, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    if "\0" in value:
        raise BadInput(f"config {path}: {where} has a NUL in it: {short(value)!r}")

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            if keep_unset:
                return match.group(0)
            raise BadInput(
                f"config {path}: {where} is {value!r}, but the variable {name} is not set.\n"
                f"Set it first: export {name}=/path/to/it"
            )
        return os.environ[name]

    return _VARIABLE.sub(replace, value)


def _check_images(config: Config, path: Path) -> None:
    """An image side must hold whole patches (a ViT would refuse it only after it was loaded)."""
    for name, teacher in config.teachers.items():
        patch = patch_size(teacher.model, teacher.layer)
        if patch is None:
            continue
        for side, pixels in zip(("height", "width"), teacher.image_size, strict=True):
            if pixels % patch:
                below, above = pixels // patch * patch, -(-pixels // patch) * patch
                options = f"{below} or {above}" if below else f"{above}"
                raise BadInput(
                    f"config {path}: teachers.{name}.image_size: the {side} {pixels} is no multiple of the patch of "
                    f"{teacher.model}, {patch}; write {options}"
                )
