"""What all blocks of a config file share: refused unknown keys, frozen values, and which fields enter an id.

Fields marked with `choice()` cannot change results and enter no id; all others do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PositiveInt
from pydantic_core import CoreSchema, core_schema

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


class Words:
    """Marks a number that a config may also give as a word: one that a source says, by the source's name.

    The id holds the number, whichever way it is written.
    """

    def __init__(self, **numbers: float) -> None:
        self._numbers = numbers

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._number, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler | Callable[[CoreSchema], Any]
    ) -> Any:
        return {"anyOf": [handler(schema), {"enum": list(self._numbers)}]}

    def _number(self, value: Any) -> Any:
        if isinstance(value, str):
            if value not in self._numbers:
                raise ValueError(f"write a number, or {' or '.join(self._numbers)}")
            return self._numbers[value]
        return value


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
