"""Packages that only one reader needs. They are imported when it is called; an error says what to install.

Everything else works without them: other readers, and whatever starts from a cache.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cache_schemas.errors import BadInput


def needed(module: str, by: str, package: str, otherwise: str = "") -> Any:
    """A module of a package that not every machine has.

    Args:
        module: its full name, as in an import.
        by: what needs it, to begin the message with.
        package: what pip calls it.
        otherwise: a further sentence on how it is installed.

    Raises:
        BadInput: if it cannot be imported, saying why and what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise BadInput(
            f"{by} needs {package}, which cannot be imported here ({error}). Install it: `pip install {package}`."
            + (f" {otherwise}" if otherwise else "")
        ) from error
