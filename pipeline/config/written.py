"""Values as people write them: `~` for the home folder, numbers with an exponent that YAML takes for a text.

YAML 1.1 reads 1.0e-3 as a number and 3e-4 as a text; a config means the same with both.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", re.ASCII)


def expand_home(text: str) -> str:
    """A path with the home folder in place of a `~` at its beginning, as a shell has it.

    Raises:
        ValueError: if the system knows no such home folder; a folder that is really called so is written `./~`.
    """
    if not text.startswith("~"):
        return text
    whole = os.path.expanduser(text)
    if not os.path.isabs(whole) or not os.environ.get("HOME", "known"):
        named = text.partition("/")[0]
        raise ValueError(
            f"{text!r:.200} begins with {named:.100}, and no home folder of that name is known; set HOME, or write the whole "
            f"path (./{named:.100} for a folder that is called so)"
        )
    return whole


PathText = Annotated[str, AfterValidator(expand_home)]
"""The path of a file or folder in a config; of a reader, the file and its class."""


def takes(kind: type, annotation: Any) -> bool:
    """Whether a field may hold any value of a kind, a text or a truth value; of a mapping, its values.

    >>> takes(str, float | Literal["paper"]), takes(str, list[str]), takes(str, dict[str, float]), takes(bool, list[bool])
    (False, True, False, True)
    """
    if annotation is kind or annotation is Any:
        return True
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return False
    if origin is Annotated:
        return takes(kind, parts[0])
    return any(takes(kind, part) for part in (parts[1:] if origin is dict else parts))


def with_numbers(value: Any, *, switches: bool = False) -> Any:
    """A value, or the values of a list or mapping, with numbers in place of texts such as `3e-4`.

    Args:
        switches: whether truth values are meant. YAML reads `on`, `yes` and `true` as such, and Python counts with them.

    >>> with_numbers(["3e-4", "paper", "2E4", 1, True])
    [0.0003, 'paper', 20000.0, 1, 'true']
    """
    if isinstance(value, bool) and not switches:
        return str(value).lower()  # no number: it is refused as what it is
    if isinstance(value, str):
        return float(value) if _EXPONENT.fullmatch(value.strip()) else value
    if isinstance(value, list | tuple):
        return [with_numbers(item, switches=switches) for item in value]
    if isinstance(value, dict):
        return {key: with_numbers(item, switches=switches) for key, item in value.items()}
    return value
