"""The page docs/config.md, generated from the model: every key, its type, its default and what it means."""

from __future__ import annotations

import json
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config.blocks import Block, block_in
from pipeline.config.model import Config

INTRODUCTION = """\
# The config file

One YAML file is one experiment. Unknown keys are refused, `${VARIABLES}` are expanded, relative paths count from the
folder in which the command runs. Fields marked *choice* cannot change results and enter no id: changing them
recomputes nothing. Everything else is part of an id: changing it makes another store or another run, beside the old.

This page is generated: `python -m pipeline.config.reference > docs/config.md`. The same as a JSON schema, for editors,
is in `config/schema.json`.
"""


def reference_text() -> str:
    """What docs/config.md must hold."""
    parts = [INTRODUCTION]
    for path, block in _blocks(Config, ""):
        parts.append(f"## {path or 'The file'}\n\n{_first_line(block)}\n")
        parts.append("| key | type | default | meaning |\n|---|---|---|---|")
        parts += [_row(name, info) for name, info in block.model_fields.items()]
        parts.append("")
    return "\n".join(parts)


def _blocks(block: type[Block], path: str) -> list[tuple[str, type[Block]]]:
    """A block and all that it holds, in order, each with the path of its keys."""
    blocks = [(path, block)]
    for name, info in block.model_fields.items():
        inner = block_in(info.annotation)
        if inner is not None:
            named = "dict" in str(info.annotation)
            step = f"{name}.NAME" if named else name
            blocks += _blocks(inner, f"{path}.{step}" if path else step)
    return blocks


def _row(name: str, info: FieldInfo) -> str:
    if info.is_required():
        default = "needed"
    elif isinstance(info.default, BaseModel):
        default = "see below"
    else:
        default = f"`{json.dumps(info.default)}`"
    extra = info.json_schema_extra
    mark = " *choice*" if isinstance(extra, dict) and extra.get("identity") is False else ""
    return f"| `{name}` | {_type(info.annotation)} | {default} | {info.description or ''}{mark} |"


def _type(annotation: Any) -> str:
    """A short name for people."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " or ".join(parts)
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in parts)
    if origin in (list, tuple):
        return f"{origin.__name__} of {', '.join(_type(part) for part in parts)}"
    if origin is dict:
        return "mapping from names to blocks"
    if annotation is type(None):
        return "null"
    return "block" if issubclass(annotation, BaseModel) else annotation.__name__


def _first_line(block: type[Block]) -> str:
    return (block.__doc__ or "").strip().split("\n")[0]


if __name__ == "__main__":
    print(reference_text(), end="")
