"""The file that a teacher's `standardise` names: a mean and a deviation of each channel, checked, and their digest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput
from pipeline.config.model import Teacher

KIND = "griddle teacher standardisation"


MEASURED_FOR = ("model", "weights", "seed", "layer", "image_size", "antialias", "position_embedding")
"""The teacher's fields that the file must have been measured for."""


def read_standardisation(teacher: Teacher) -> dict[str, Any] | None:
    """The file that a teacher names, or None where it names none.

    Raises:
        BadInput: if the file is missing, is something else, or was measured for another teacher.
    """
    if teacher.standardise is None:
        return None
    path = Path(teacher.standardise)
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"standardise: {path} cannot be read ({error}).") from error
    if not isinstance(body, dict) or body.get("griddle") != KIND:
        raise BadInput(
            f"standardise: {path} is no teacher standardisation; see pipeline/teachers/measure_standardisation.py."
        )
    resolved = teacher.resolved()
    for name in MEASURED_FOR:
        if name not in body.get("teacher", {}):
            raise BadInput(
                f"standardise: {path} does not say for which {name} it was measured; it was cut or edited."
            )
        if body["teacher"][name] != resolved[name]:
            raise BadInput(
                f"standardise: {path} was measured for {name} {body['teacher'][name]!r}, the teacher has "
                f"{resolved[name]!r}; measure it anew with the command in pipeline/teachers/measure_standardisation.py."
            )
    return body


def standardisation_digest(teacher: Teacher) -> str | None:
    """What enters the teacher's id: the numbers, not the file's name."""
    body = read_standardisation(teacher)
    return None if body is None else digest([body["mean"], body["deviation"]])
