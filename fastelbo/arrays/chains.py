"""Draws of Markov chains as users have them: arrays, xarray objects and CmdStan's CSV files.

They become one array (chains, draws, D), with the coordinates that a model names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError
from ..validation import Floats, as_sequence, require_finite, shown
from .cmdstan import is_text_file, read_sample
from .draws import groups_of
from .inputs import as_array, as_unchecked_floats

# Where ArviZ keeps draws, the constrained and, if they were asked for, the unconstrained ones.
_GROUPS = ("posterior", "unconstrained_posterior")
_MOST_LISTED = 12


def read_chains(
    value: Any,
    dim: int,
    names: Sequence[str] | None = None,
    var: Sequence[str] | None = None,
    name: str = "draws",
) -> tuple[Floats, bool]:
    """The draws (chains, draws, D), and whether their coordinates were found by name.

    Of an object with variables, or of files, the coordinates are ``var`` in its order, else those
    with the ``names``, else all: as many as there are names. An array has ``dim`` of them.
    """
    columns = _columns(value, name)
    if columns is None:
        if var is not None:
            raise InvalidInputError(
                f"var must be None, got {shown(var)}: {name} is an array, without names"
            )
        return _array(value, dim, name), False
    first = 1 if _paths(value) else 0
    found = _chosen(columns, dim if names is None else len(names), names, var, name, first)
    lengths = {each.shape for each in found}
    if len(lengths) != 1:
        raise InvalidInputError(
            f"{name} must have as many chains and draws of each variable, got {sorted(lengths)}"
        )
    array = np.stack(found, axis=-1)
    return _checked(array, name), True


def _array(value: Any, dim: int, name: str) -> Floats:
    array = as_array(value, name, file=True).astype(np.float64, copy=False)
    if array.ndim not in (2, 3) or array.shape[-1] != dim:
        raise InvalidInputError(
            f"{name} must have shape (chains, draws, {dim}) or (draws, {dim}), for a model of "
            f"dimension {dim}, got shape {array.shape}"
        )
    return _checked(array if array.ndim == 3 else array[None], name)


def _checked(array: Floats, name: str) -> Floats:
    chains, draws = array.shape[:2]
    if not array.size:
        raise InvalidInputError(f"{name} must have at least one draw, got shape {array.shape}")
    if chains > draws:
        raise InvalidInputError(
            f"{name} must have shape (chains, draws, D), got {chains} chains of {draws} draws; "
            "swap its first axes"
        )
    require_finite(array, name)
    require_no_copies(array, name)
    return array


def require_no_copies(chains: NDArray[Any], name: str) -> None:
    """Refuse chains (chains, draws, ...) of which one is another: they have one chain's draws.

    Chains whose draws are all equal are not copies by this: a likelihood may be constant.
    """
    refuse_copies(equal_chains(chains), name)


def refuse_copies(equal: Mapping[tuple[int, int], bool], name: str) -> None:
    """Raise an error for `equal_chains` whose draws differ."""
    for (i, j), varies in equal.items():
        if varies:
            raise InvalidInputError(
                f"{name} must have chains of their own, got the same draws in the chains {i} "
                f"and {j}"
            )


def equal_chains(chains: NDArray[Any]) -> dict[tuple[int, int], bool]:
    """Pairs of equal chains (chains, draws, ...), and whether the draws of each differ."""
    found: dict[tuple[int, int], bool] = {}
    if chains.shape[1] < 2:
        return found
    seen: dict[bytes, list[int]] = {}
    for j, chain in enumerate(chains):
        # Most chains differ in their last draws, which are compared at once.
        alike = seen.setdefault(chain[-1].tobytes(), [])
        for i in alike:
            if np.array_equal(chains[i], chain):
                found[i, j] = bool((chain != chain[0]).any())
        alike.append(j)
    return found


# --- coordinates by name --------------------------------------------------------------------------

# The variables of a source in their order: the draws (chains, draws) of each coordinate, by name.
Columns = Mapping[str, Mapping[str, Floats]]


def _columns(value: Any, name: str) -> Columns | None:
    """Draws by variable and coordinate; None for an array."""
    paths = _paths(value)
    if len(paths) > 1 or (paths and is_text_file(paths[0])):
        return _of_files(paths, name)
    groups = groups_of(value)
    if groups is None:
        return None
    wanted = [""] if list(groups) == [""] else _GROUPS
    given = [groups[each] for each in wanted if each in groups]
    if not given:
        raise InvalidInputError(
            f"{name} must have a group 'posterior', got the groups {_listed(groups)}"
        )
    columns: dict[str, dict[str, Floats]] = {}
    for variables in given:
        for key, array in variables.items():
            columns.setdefault(str(key), _of_variable(str(key), array, name))
    return columns


def _paths(value: Any) -> list[Path]:
    """The paths of files, one or several; none for anything else."""
    several = list(value) if isinstance(value, (list, tuple)) else [value]
    given = [isinstance(each, (str, Path)) for each in several]
    return [Path(each) for each in several] if given and all(given) else []


def _of_variable(key: str, array: Any, name: str) -> dict[str, Floats]:
    """The coordinates of a variable of xarray, in the order of rows."""
    dims = [each for each in ("chain", "draw", "sample") if each in array.dims]
    if dims not in (["chain", "draw"], ["draw"], ["sample"]):
        raise InvalidInputError(
            f"{name} must have the dimensions 'chain' and 'draw', got {_listed(array.dims)} for "
            f"its variable {key!r}"
        )
    event = [each for each in array.dims if each not in dims]
    values = as_unchecked_floats(array.transpose(*dims, *event).data, f"{key} of {name}")
    values = values.reshape(-1, *values.shape[len(dims) - 1 :])
    shape = values.shape[2:]
    return {
        _indexed(key, index): np.asarray(values[(slice(None), slice(None), *index)])
        for index in np.ndindex(shape)
    }


def _of_files(paths: list[Path], name: str) -> Columns:
    """The coordinates of CmdStan's files, each a chain; all have the same ones."""
    chains = [read_sample(path) for path in paths]
    names = list(chains[0])
    for path, chain in zip(paths, chains, strict=True):
        if list(chain) != names:
            raise InvalidInputError(
                f"{name} must be files of one model, got other columns in {path} than in {paths[0]}"
            )
    lengths = {len(chain[names[0]]) for chain in chains}
    if len(lengths) > 1:
        raise InvalidInputError(
            f"{name} must be files of equally many draws, got {sorted(lengths)}; a chain may have "
            "been stopped"
        )
    columns: dict[str, dict[str, Floats]] = {}
    for each in names:
        variable, *index = each.split(".")
        key = _indexed(variable, tuple(int(part) for part in index if part.isdecimal()))
        columns.setdefault(variable, {})[key] = np.stack([chain[each] for chain in chains])
    return columns


def _indexed(variable: str, index: tuple[int, ...]) -> str:
    """A coordinate with its indices: from 1 in files of CmdStan, as Stan counts, else from 0."""
    return f"{variable}[{','.join(map(str, index))}]" if index else variable


def _plain(name: str, first: int) -> str:
    """Stan's name ``theta.1.2`` with the indices from ``first`` that `_indexed` has."""
    variable, *index = name.split(".")
    if index and all(part.isdecimal() for part in index):
        return _indexed(variable, tuple(int(part) - 1 + first for part in index))
    return name


def _chosen(
    columns: Columns, dim: int, names: Sequence[str] | None, var: Any, name: str, first: int
) -> list[Floats]:
    """The draws of each coordinate of the model; indices of the columns are from ``first``."""
    every = {key: draws for each in columns.values() for key, draws in each.items()}
    if var is not None:
        found = []
        for each in as_sequence(var, "var", "names of variables"):
            if each in columns:
                found += list(columns[each].values())
            elif isinstance(each, str) and _plain(each, first) in every:
                found.append(every[_plain(each, first)])
            else:
                raise InvalidInputError(
                    f"var must name variables of {name}, which has {_listed(columns)}; got "
                    f"{shown(each)}"
                )
        what = "var"
    elif names is not None:
        missing = [each for each in names if _plain(each, first) not in every]
        if missing:
            raise InvalidInputError(
                f"{name} must have the coordinates of the model, got none with the names "
                f"{_listed(missing)} among {_listed(every)}; var can choose variables. They must "
                "be the unconstrained ones of a model that is over these"
            )
        return [every[_plain(each, first)] for each in names]
    else:
        found, what = list(every.values()), name
    if len(found) != dim:
        sizes = ", ".join(f"{key} ({len(each)})" for key, each in columns.items())
        raise InvalidInputError(
            f"{what} must have {dim} coordinates, as many as the model, got {len(found)}; the "
            f"variables of {name} are {sizes}. var can choose some, in the order of the model"
        )
    return found


def _listed(names: Any) -> str:
    names = list(map(repr, map(str, names)))
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
