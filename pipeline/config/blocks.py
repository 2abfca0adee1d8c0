"""What all blocks of a config file share: refused unknown keys, frozen values, and which fields enter an id.

Fields marked with `choice()` cannot change results and enter no id; all others do.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Pair = tuple[PositiveInt, PositiveInt]
Range = tuple[float, float]


def choice(default: Any, description: str) -> Any:
    """A field of convenience: it cannot change results and is left out of every id."""
    return Field(default=default, description=description, json_schema_extra={"identity": False})


class Block(BaseModel):
    """Shared behaviour: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def resolved(self) -> dict[str, Any]:
        """Every field that can change results, defaults filled in, as plain JSON values."""
        values: dict[str, Any] = {}
        for name, info in type(self).model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and extra.get("identity") is False:
                continue
            value = getattr(self, name)
            values[name] = value.resolved() if isinstance(value, Block) else _plain(value)
        return values


def no_repeats(value: list[Any]) -> list[Any]:
    """The list, unless something is in it twice."""
    twice = sorted({str(item) for item in value if value.count(item) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is there twice; write it once")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
