"""Versions and facts about the machine, for bug reports."""

from __future__ import annotations

import platform
import sys

import numpy as np
import scipy

from .kernels.info import info
from .version import STREAM_VERSION, __version__


def versions() -> dict[str, str]:
    """Versions of fastelbo and of its dependencies, and facts about the machine, by name."""
    return {
        "fastelbo": __version__,
        "stream version": str(STREAM_VERSION),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        **info(),
        "platform": platform.platform(),
    }


def show_versions() -> None:
    """Print versions and facts about the machine. Quote them in a bug report.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.show_versions()  # doctest: +ELLIPSIS
    fastelbo ...
    """
    facts = versions()
    width = max(map(len, facts))
    sys.stdout.writelines(f"{name:{width}}  {value}\n" for name, value in facts.items())
