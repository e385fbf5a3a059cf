"""Libraries that are no dependencies, imported where a call needs them."""

from __future__ import annotations

import importlib
from typing import Any


def optional(name: str, what: str, install: str) -> Any:
    """The module ``name``; an error that says what needs it, and what installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise ImportError(
            f"{what} needs {library}; install it with: pip install {install}"
        ) from error
