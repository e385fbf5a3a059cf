"""Fits and smooths the tails of log ratios, row by row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.draws import Draws
from ..arrays.inputs import as_floats, constant
from ..errors import (
    AllWeightsZeroWarning,
    ConstantWeightsWarning,
    InvalidInputError,
    InvalidWeightError,
    ShortTailWarning,
)
from ..kernels.cpu import tails
from ..kernels.cpu.launch import ELEMENT_WORK, launch, new_counter, paced
from ..validation import Floats, positive
from .diagnostics import high_k, places, warn, warn_high_k
from .pareto import tail_length

# Elements in the first launch, and elements in a tile of columns (8 MB).
_FIRST_ELEMENTS = 2**20
_TILE_ELEMENTS = 2**20
# Most columns of a tile: as many as a cache line has numbers.
_TILE_COLUMNS = 8
# Elements of a part (32 MB), of which the smoothed weights are kept.
_PART_ELEMENTS = 2**22


class BadNumbers(NamedTuple):
    """Numbers that are not valid log ratios: how many, and the first data point and draw."""

    name: str
    what: str
    number: int
    point: int
    draw: int

    def error(self) -> InvalidWeightError:
        """The error that says so."""
        return InvalidWeightError(
            f"{self.number} numbers in {self.name} are {self.what}, the first at data point "
            f"{self.point}, draw {self.draw}"
        )


class TailRows:
    """Rows of ``sign`` times an array along its draws, with the length of each row's tail."""

    # Of a launch; all by default.
    n_threads: int | None = None

    def __init__(self, draws: Draws, r_eff: ArrayLike, sign: float = 1.0) -> None:
        self.name, self.sign, self._whole = draws.name, sign, self
        self.x, self.batch = draws.rows()
        before, self.length, after = self.x.shape
        efficiency = efficiencies(r_eff, self.batch).reshape(before, after)
        self.sizes = tail_length(self.length, efficiency)
        self._axes = draws.axes
        self._draws = [draws.array.shape[each] for each in draws.axes]

    def fit(self, smoothed: Floats | None = None) -> Floats:
        """The kernels' result for each row. ``smoothed``, in the shape of ``x``, is filled."""
        before, length, after = self.x.shape
        width = max(1, min(_TILE_COLUMNS, after, _TILE_ELEMENTS // length))
        groups = before * (-(-after // width))
        results = np.empty((before, after, tails.RESULT_SIZE))
        out = np.empty((0, 0, 0)) if smoothed is None else smoothed
        sizes = constant(self.sizes)

        def step(lo: int, hi: int) -> None:
            counter = new_counter()
            launch(
                tails.psis, self.x, self.sign, sizes, lo, hi, width, results, out, counter,
                n_threads=self.n_threads, work=ELEMENT_WORK * (hi - lo) * width * length,
                counter=counter,
            )  # fmt: skip

        paced(groups, step, _FIRST_ELEMENTS // (width * length))
        results = results.reshape(before * after, tails.RESULT_SIZE)
        if (results[:, tails.STATUS] == tails.BAD).any():
            self.refuse()
        return results

    def smooth(self) -> tuple[Floats, Any]:
        """The result for each row, and the smoothed log weights in the shape of the array."""
        smoothed = np.empty(self.x.shape)
        values = self.fit(smoothed)
        weights = np.moveaxis(smoothed, 1, -1).reshape(*self.batch, *self._draws)
        # Move the axes of draws from the end back to their places.
        return values, np.moveaxis(weights, range(-len(self._axes), 0), self._axes)

    def parts(self, most: int = _PART_ELEMENTS) -> Iterator[tuple[slice, TailRows]]:
        """Some data points at a time, about ``most`` elements, and their places among all.

        x of a part has shape (data points, K, 1), whatever the layout was.
        """
        before, length, after = self.x.shape
        step = max(1, most // length)
        together = step if after == 1 else 1
        for a, b in itertools.product(range(0, before, together), range(0, after, step)):
            own = np.s_[a : a + together, b : b + step]
            part = copy(self)
            part.x = constant(np.moveaxis(self.x, 1, 2)[own].reshape(-1, length, 1))
            part.sizes = self.sizes[own].reshape(-1, 1)
            start = a * after + b
            yield slice(start, start + len(part.x)), part

    def refuse(self) -> None:
        """Raise an error for numbers that are not valid log ratios."""
        raise self.bad_numbers().error()

    def bad_numbers(self) -> BadNumbers:
        """The numbers that are not valid log ratios."""
        # Data points of a part have other numbers among all.
        x, positive_sign = self._whole.x, self._whole.sign > 0.0
        bad = ~(x < np.inf) if positive_sign else ~np.isfinite(x)
        point, draw = np.argwhere(np.moveaxis(bad, 1, -1).reshape(-1, self.length))[0].tolist()
        what = "NaN or +inf" if positive_sign else "not finite"
        return BadNumbers(self.name, what, int(bad.sum()), point, draw)


def efficiencies(r_eff: ArrayLike, batch: tuple[int, ...]) -> Floats:
    """The relative efficiency of the draws of each data point, as given for one or all."""
    efficiency = positive(as_floats(r_eff, "r_eff"), "r_eff")
    if efficiency.shape not in ((), batch):
        raise InvalidInputError(
            f"r_eff must be a scalar or have the shape of the data points, {batch}; got shape "
            f"{efficiency.shape}"
        )
    return np.broadcast_to(efficiency, batch)


def warn_about_tails(values: Floats, n_samples: int, name: str) -> None:
    """Warn, once per kind, about rows without a k-hat and rows with a k-hat that is too high."""
    status, k = values[:, tails.STATUS], values[:, tails.PARETO_K]
    # Equal weights may mean a missed mode. Equal likelihoods of an observation are harmless.
    about_weights = name == "log_ratios"
    zero = status == tails.ZERO
    if zero.any():
        warn(AllWeightsZeroWarning, f"every weight is 0 for {places(zero, -status)}: no k-hat")
    same = status == tails.CONSTANT
    if same.any() and about_weights:
        warn(
            ConstantWeightsWarning,
            f"all weights are equal for {places(same, -status)}: q is exact there, or all draws "
            "missed a mode; no k-hat",
        )
    short = np.isin(status, (tails.SHORT, tails.TIED))
    if short.any():
        warn(
            ShortTailWarning,
            f"the tail of the {n_samples} draws in {name} is too short (fewer than "
            f"{tails.LEAST_TAIL} draws) or has too many equal values, for {places(short, -status)}:"
            " no k-hat and no smoothing",
        )
    high = high_k(k, n_samples)
    if high.any():
        consequence = "their estimates and standard errors cannot be trusted"
        warn_high_k(k, high, n_samples, consequence)
