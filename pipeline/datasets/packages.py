"""Packages that one reader alone needs: imported when it is called, and named in words where they are not there.

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
        by: who needs it, to begin the message with.
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
