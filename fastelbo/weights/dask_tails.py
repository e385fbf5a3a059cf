"""Smoothing and cross-validation of log weights in a Dask array.

They need all draws of a data point at once. So a task takes whole rows of some data points, and
does with them what is done with an array in main memory: the bits are the same. Only the relative
efficiency of chains is the same to rounding, as NumPy sums columns in an order of their layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.chains import equal_chains, refuse_copies
from ..arrays.dask_parts import Parts, cut_boxes
from ..arrays.dask_tasks import Task, in_order, task_of
from ..arrays.draws import Dim, Draws, read_draws
from ..arrays.inputs import as_array
from ..arrays.lazy import is_dask_array
from ..errors import InvalidInputError, InvalidWeightError
from ..validation import Floats, Integers
from .loo_pointwise import Pointwise, by_chain, pointwise
from .pareto import tail_length
from .smoothing import BadNumbers, TailRows, efficiencies

# Most draws of a data point: 1 GB of float64.
_MOST_DRAWS = 2**27

# The arrays of the data points of a box, or what is wrong with its numbers.
Found = tuple[Floats, ...] | BadNumbers | InvalidWeightError
# Pairs of equal chains; see `equal_chains`.
Equal = dict[tuple[int, int], bool]


def tail_rows(
    value: Any, r_eff: ArrayLike, axis: int | None, dim: Dim, var: str | None
) -> TailRows | DaskTailRows:
    """The rows of log ratios that an argument gives."""
    draws = read_draws(value, "log_ratios", axis, dim, var, lazy=True).checked()
    return DaskTailRows(draws, r_eff) if is_dask_array(draws.array) else TailRows(draws, r_eff)


class DaskTailRows:
    """`TailRows` of a Dask array."""

    def __init__(self, draws: Draws, r_eff: ArrayLike) -> None:
        self.batch, self.length, self._draws = draws.batch, draws.length, draws
        self._efficiency = efficiencies(r_eff, self.batch)
        self.sizes = tail_length(self.length, self._efficiency)
        self._parts = _rows_of(draws)

    def fit(self) -> Floats:
        """See `TailRows`."""
        found = _results(self._draws, self._parts, _fit, self._efficiency)
        [values] = _joined(self._draws, self._parts, found)
        return values

    def smooth(self) -> tuple[Floats, Any]:
        """See `TailRows`. The log weights are a Dask array, whose blocks are smoothed again."""
        x, bare = self._draws.array, self._draws._replace(array=None)
        return self.fit(), self._parts.mapped(x, _smooth, self._efficiency, bare)


def pointwise_of_dask(
    draws: Draws, efficiency: Floats | None, correction: Floats | None
) -> Pointwise:
    """See `loo_pointwise.pointwise_of_array`."""
    parts = _rows_of(draws)
    found = _results(draws, parts, _pointwise, efficiency, correction)
    if len(draws.axes) == 2:
        refuse_copies(_in_all([equal for _, equal in found]), draws.name)
    return Pointwise(*_joined(draws, parts, [arrays for arrays, _ in found]))


def _rows_of(draws: Draws) -> Parts:
    if draws.length > _MOST_DRAWS:
        raise InvalidInputError(
            f"{draws.name} must have at most {_MOST_DRAWS:,} draws in a Dask array, as all draws "
            f"of a data point are needed at once, got {draws.length:,}; summarize() folds any "
            "number of them, and has a k-hat"
        )
    return cut_boxes(draws.array, draws.axes)


# --- the tasks ------------------------------------------------------------------------------------


class _BoxRows(TailRows):
    """The rows of a box, in one task among others."""

    n_threads = 1

    def refuse(self) -> None:
        """Raise what the task returns: the message is about the whole array."""
        raise _BadBoxError(self.bad_numbers())


class _BadBoxError(Exception):
    pass


def _fit(draws: Draws, efficiency: Floats) -> Found:
    return _caught(lambda: (_BoxRows(draws, efficiency).fit(),))


def _pointwise(
    draws: Draws, efficiency: Floats | None, correction: Floats | None
) -> tuple[Found, Equal]:
    equal = equal_chains(by_chain(draws)) if len(draws.axes) == 2 else {}
    return _caught(lambda: pointwise(draws, efficiency, correction, _BoxRows)), equal


def _caught(function: Callable[[], tuple[Floats, ...]]) -> Found:
    try:
        return function()
    except _BadBoxError as error:
        bad: BadNumbers = error.args[0]
        return bad
    except InvalidWeightError as error:
        return error


def _smooth(block: Any, efficiency: Floats, draws: Draws) -> Floats:
    weights: Floats = _BoxRows(_with_block(draws, block), efficiency).smooth()[1]
    return weights


def _of_block(block: Any, function: Callable[..., Any], draws: Draws, *args: Any) -> Any:
    return function(_with_block(draws, block), *args)


def _with_block(draws: Draws, block: Any) -> Draws:
    return draws._replace(array=as_array(block, draws.name))


# --- all data points ------------------------------------------------------------------------------


def _results(
    draws: Draws,
    parts: Parts,
    function: Callable[..., Any],
    efficiency: Floats | None,
    *args: Any,
) -> list[Any]:
    """The results of ``function(draws, efficiency, *args)`` for every box."""
    x, bare = draws.array, draws._replace(array=None)

    def tasks() -> Iterator[Task]:
        for box in parts.boxes:
            own = None if efficiency is None else np.array(efficiency[box])
            yield task_of(_of_block, parts, x, box, parts.spans[0], function, bare, own, *args)

    if not parts.boxes:
        return [_of_block(np.empty(x.shape, x.dtype), function, bare, efficiency, *args)]
    with closing(in_order(x, tasks())) as results:
        return list(results)


def _joined(draws: Draws, parts: Parts, found: list[Found]) -> list[Floats]:
    """The arrays of all data points in their order, from those of the boxes."""
    order, joined = parts.order(draws.batch), []
    _refuse_bad(found, parts, order)
    for arrays in zip(*found, strict=True):
        whole = np.concatenate(arrays)
        joined.append(np.empty_like(whole))
        joined[-1][order] = whole
    return joined


def _in_all(found: list[Equal]) -> Equal:
    """The chains that are equal in every box."""
    pairs = set(found[0]).intersection(*found[1:])
    return {pair: any(each[pair] for each in found) for pair in sorted(pairs)}


def _refuse_bad(found: list[Found], parts: Parts, order: Integers) -> None:
    """Raise the error of the whole array, if there is one of a box."""
    ends = np.cumsum([math.prod(each.stop - each.start for each in box) for box in parts.boxes])
    bad = [
        each._replace(point=int(order[start + each.point]))
        for start, each in zip([0, *ends.tolist()], found, strict=False)
        if isinstance(each, BadNumbers)
    ]
    if bad:
        first = min(bad, key=lambda each: each.point)
        raise first._replace(number=sum(each.number for each in bad)).error()
    for each in found:
        if isinstance(each, InvalidWeightError):
            raise each
