"""What all blocks of a config file share: refused unknown keys, frozen values, and which fields enter an id.

Fields marked with `choice()` cannot change results and enter no id; all others do. A field that is added after people
have caches and runs is marked with `later()`: it enters an id only where it is not what the code did before it was there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PositiveInt,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticUndefined, core_schema

from cache_schemas.canonical import digest
from cache_schemas.places import NAME_LENGTH
from pipeline.config.written import takes, with_numbers

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=NAME_LENGTH)]
Pair = tuple[PositiveInt, PositiveInt]
Range = tuple[float, float]

RECORDED: dict[str, Any] = {"recorded": True}
"""The validation context of a block that a run or an import recorded, maybe before some of today's fields were there."""


def choice(default: Any, description: str) -> Any:
    """A field of convenience: it cannot change results and is left out of every id."""
    return Field(default=default, description=description, json_schema_extra={"identity": False})


def later(
    born: Any, description: str, *, default: Any = PydanticUndefined, changes: str | None = None
) -> Any:
    """A field that came after caches and runs of its block were made.

    born: the value, as plain JSON, that stands for what the code did before. A field with this value enters no id, so that
    old ids stay.
    default: today's, where it is another, or where the field is a block. What was recorded before the field was there
    still reads as `born`.
    changes: which of the block's `CHANGES` the field changes; where it is left out, the first of them.
    """
    if isinstance(born, Block):
        raise TypeError("born: give the block's values as plain JSON, and the block itself as the default")
    return Field(
        default=born if default is PydanticUndefined else default,
        description=description,
        json_schema_extra={"born": _json(born), **({"changes": changes} if changes else {})},
        validate_default=True,
    )


class Block(BaseModel):
    """Shared behaviour: unknown keys are refused, values are frozen.

    Attributes:
        CHANGES: what a field that came later may change, where that is not all that the block is made of; None where no
            field of the block enters any id.
    """

    CHANGES: ClassVar[tuple[str, ...] | None] = ("all",)

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def resolved(self) -> dict[str, Any]:
        """Every field that can change results, defaults filled in, as plain JSON values; a field that came later only
        where its value is not the one it was born with."""
        values: dict[str, Any] = {}
        for name, marks in self._marks().items():
            value = _json(getattr(self, name))
            if marks.get("identity") is not False and not (
                "born" in marks and digest(value) == digest(marks["born"])
            ):
                values[name] = value
        return values

    def came_later(self, *changes: str) -> dict[str, Any]:
        """Of `resolved()` the fields that came later: for identities that name their fields one by one. changes: only those
        that change one of these."""
        marks = self._marks()
        return {
            name: value
            for name, value in self.resolved().items()
            if "born" in marks[name] and (not changes or marks[name]["changes"] in changes)
        }

    @classmethod
    def _marks(cls) -> dict[str, dict[str, Any]]:
        """What `choice` and `later` say of each field.

        Raises:
            TypeError: if a field that came later says nothing that holds for this block.
        """
        extras = {name: info.json_schema_extra for name, info in cls.model_fields.items()}
        by_field = {name: dict(extra) if isinstance(extra, dict) else {} for name, extra in extras.items()}
        for name, marks in by_field.items():
            if "born" not in marks:
                continue
            if cls.CHANGES is None:
                raise TypeError(
                    f"{cls.__name__}.{name}: none of its fields enters an id; mark it with choice()"
                )
            marks.setdefault("changes", cls.CHANGES[0])
            if marks["changes"] not in cls.CHANGES:
                raise TypeError(f"{cls.__name__}.{name}: changes is one of {', '.join(cls.CHANGES)}")
            info = cls.model_fields[name]
            whole: Any = Annotated[info.annotation, name, *info.metadata]
            given: Any = TypeAdapter(whole).validate_python(marks["born"])
            if not isinstance(given, Block) and _json(given) != marks["born"]:
                raise TypeError(f"{cls.__name__}.{name}: write born as an id has it, {_json(given)!r}")
        return by_field

    @model_validator(mode="before")
    @classmethod
    def _as_recorded(cls, values: Any, info: ValidationInfo) -> Any:
        """Of a block that was recorded (`RECORDED`), fields that were not there yet are as they were born; in nested blocks,
        too, also in those that it does not name."""
        if not isinstance(values, dict) or info.context != RECORDED:
            return values
        born = {name: marks["born"] for name, marks in cls._marks().items() if "born" in marks}
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        nested = {
            name: block.model_dump(include=block.model_fields_set)
            for name, block in defaults.items()
            if isinstance(block, Block)
        }
        return nested | born | values

    @model_validator(mode="before")
    @classmethod
    def _numbers_as_written(cls, values: Any) -> Any:
        """Texts such as `3e-4` are numbers, where a number is asked for and a text is not; `on` and `yes` are none there."""
        if not isinstance(values, dict):
            return values
        fields = {
            name: takes(bool, info.annotation)
            for name, info in cls.model_fields.items()
            if not takes(str, info.annotation)
        }
        return {
            key: with_numbers(value, switches=fields[key])
            if key in fields and block_in(cls.model_fields[key].annotation) is None
            else value
            for key, value in values.items()
        }


def block_in(annotation: Any) -> type[Block] | None:
    """The block that a field holds: itself, optional, or in a list or mapping; None where it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return annotation
    return next((block for part in getattr(annotation, "__args__", ()) if (block := block_in(part))), None)


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


def _json(value: Any) -> Any:
    """A field's value as it enters an id."""
    if isinstance(value, Block):
        return value.resolved()
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    return value
