"""Log weights from the CSV files that CmdStan writes: its log densities of model and approximation.

Columns as of CmdStan 2.36: ``variational`` (ADVI) writes ``log_p__`` and ``log_g__``, ``laplace``
``log_p__`` and ``log_q__``, ``pathfinder`` ``lp__`` and ``lp_approx__``. The first two leave the
normalising constant of the approximation out, as their sources say. All are densities of
unconstrained parameters, of 6 to 8 digits unless ``sig_figs`` asks for more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import FastElboWarning, InvalidInputError
from ..inner_warnings import warn
from ..validation import Floats
from . import text
from .choice import ChoiceError
from .streams import open_stream, peek, uncompressed
from .text import Table

_HEAD = 4096

# Model, approximation, and whether the density of the approximation is normalised.
_PAIRS = (
    ("log_p__", "log_g__", False),
    ("log_p__", "log_q__", False),
    ("lp__", "lp_approx__", True),
)


def require_no_sample(table: Table, path: str) -> None:
    """Raise an error for draws of a Markov chain: they are of no q whose density is known."""
    if {"lp__", "accept_stat__"} <= set(table.names):
        raise ChoiceError(
            f"{path} has draws of CmdStan's sampler, which have no log weights: they are from the "
            "posterior, not from a q with a density. If one of its columns is of log weights, "
            "column must name it"
        )


def is_text_file(path: Path) -> bool:
    """Whether a file, compressed or not, is text."""
    with open_stream(path) as stream, uncompressed(stream) as content:
        return text.is_text(peek(content, _HEAD))


def read_sample(path: Path) -> dict[str, Floats]:
    """The draws of CmdStan's sampler in a file, by their names, without those of the warmup.

    Raises
    ------
    InvalidInputError
        If the file is no CSV file of CmdStan's sampler, or has no draws.
    OSError
        If the file cannot be opened.
    """
    try:
        with open_stream(path) as stream, uncompressed(stream) as content:
            names, values, first = _sample(content)
    except (ValueError, EOFError) as error:
        raise InvalidInputError(
            f"{path} must be a CSV file of draws of CmdStan's sampler, but {str(error)[:200]}"
        ) from error
    if not names or len(values) <= first:
        raise InvalidInputError(f"{path} has no draws after the warmup")
    columns = np.ascontiguousarray(values[first:].T)
    return dict(zip(names, columns, strict=True))


def _sample(content: IO[bytes]) -> tuple[list[str], Floats, int]:
    """The names of the coordinates, their draws, and how many of these are of the warmup."""
    with text.open_table(content, peek(content, _HEAD)) as table:
        if "lp__" not in table.names or _pair(table) is not None:
            raise ValueError("it has no column lp__ of CmdStan's sampler")
        names = [each for each in table.names if not each.endswith("__")]
        values = table.read([table.names.index(each) for each in names])
        return names, values, _warmup(table)


def _warmup(table: Table) -> int:
    """The number of draws of the warmup that were saved, which come first."""
    settings = _settings(table)
    if settings.get("save_warmup", "0") not in ("1", "true"):
        return 0
    warmup, thin = (int(settings.get(each, "0")) for each in ("num_warmup", "thin"))
    return -(-warmup // max(1, thin))


def _settings(table: Table) -> dict[str, str]:
    """What the comments say of how CmdStan was called."""
    return dict(re.findall(r"(\w+) *= *(\w+)", "".join(table.comments)))


def has_log_weights(table: Table) -> bool:
    """Whether the columns have the log densities of a model and of an approximation."""
    return _pair(table) is not None


def log_weights(table: Table, path: str) -> np.ndarray[Any, Any]:
    """Log weights of the draws in a CmdStan file.

    Warns
    -----
    FastElboWarning
        If the approximation is not normalised. The weights are then off by one unknown factor.
    """
    pair = _pair(table)
    assert pair is not None
    model, approximation, normalised = pair
    _refuse_resampled(table)
    log_p, log_q = table.read([table.names.index(model), table.names.index(approximation)]).T
    if not normalised:
        warn(
            f"{path}: CmdStan leaves the normalising constant out of {approximation}, so "
            "log_evidence, elbo and all bounds are off by one unknown number, the same for each; "
            "jensen_gap, ess, pareto_k and standard errors are right",
            FastElboWarning,
            stacklevel=7,
        )
    # ADVI's first row is the mean of the approximation, no draw, and has densities of 0.
    first = 1 if approximation == "log_g__" and not log_p[0] and not log_q[0] else 0
    return np.asarray(log_p[first:] - log_q[first:])


def _pair(table: Table) -> tuple[str, str, bool] | None:
    return next((pair for pair in _PAIRS if {*pair[:2]} <= set(table.names)), None)


def _refuse_resampled(table: Table) -> None:
    """Raise an error for draws that Pathfinder has resampled: they have used their weights up."""
    settings = _settings(table)
    several_paths = settings.get("num_paths", "1") != "1"
    if several_paths and settings.get("psis_resample", "1") not in ("0", "false"):
        raise ValueError(
            "Pathfinder has resampled its draws by their weights, so they have none any more; run "
            "CmdStan with psis_resample=0 or num_paths=1"
        )
