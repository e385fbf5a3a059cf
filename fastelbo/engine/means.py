"""Weighted means and their standard errors, from states of moments."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InvalidInputError
from ..kernels.state import moments as state
from ..models.integrand import Coordinates, Integrand
from ..validation import Floats
from ..weights.replicates import standard_error
from .moments import WeightedDraws


# Of a value: smaller deviations are 0.
_ROUNDING = 1e-14


class Means(NamedTuple):
    """Means of P values for each data point, (N, P), and their errors, whatever k-hat."""

    value: Floats  # sum f w / sum w
    se: Floats
    plain: Floats  # sum f w / K
    plain_se: Floats


@np.errstate(all="ignore")
def weighted_means(states: Floats, values: int, full: bool, draws: WeightedDraws) -> Means:
    """The means of the values, from states (N, replicates, size).

    Of independent draws, errors are those of the delta method; of replicates, from the scatter of
    ``sum w (f - value)`` over them.
    """
    all_draws = state.read(draws.merged(states, values, full), values, full)
    mean, total, n = all_draws.mean, all_draws.total[:, None], draws.n_samples
    mean = np.where(all_draws.positive[:, None] > 0, mean, np.nan)
    scale = np.exp(all_draws.top)[:, None]
    plain = scale * total * all_draws.mean / n
    if draws.replicates > 1:
        each = state.read(states, values, full)
        share = (np.exp(each.top - all_draws.top[:, None]) * each.total)[..., None]
        mean_weight = total / draws.replicates
        scatter = np.moveaxis(share * (each.mean - mean[:, None]), 1, 2)
        own = np.moveaxis(share * each.mean, 1, 2) * (draws.replicates / n) * scale[..., None]
        # A replicate whose weights are all 0 has no mean, and no part in either sum.
        scatter, own = (np.where(np.moveaxis(share, 1, 2) > 0.0, x, 0.0) for x in (scatter, own))
        se = standard_error(scatter) / mean_weight
        return Means(mean, _known(se, mean), plain, _known(standard_error(own), mean))
    at = _places(values, full)
    squares = all_draws.square_products[:, at]
    se = np.sqrt(squares) / total
    # Of f w about its own mean: sum w^2 f^2 from moments about the weighted mean.
    second = squares + mean * (2.0 * all_draws.square_first + mean * all_draws.squares[:, None])
    variance = np.maximum(second / n - (total * mean / n) ** 2, 0.0)
    plain_se = scale * np.sqrt(variance / (n - 1))
    if n == 1:
        se, plain_se = np.full((2, *mean.shape), np.nan)
    # Deviations of a constant are those of rounding.
    rounding = _ROUNDING * np.abs(mean) * np.sqrt(all_draws.squares[:, None]) / total
    se = np.where(se <= rounding, 0.0, se)
    return Means(mean, _known(se, mean), plain, _known(plain_se, mean))


def _known(se: Floats, mean: Floats) -> Floats:
    return np.where(np.isnan(mean), np.nan, se)


def _places(values: int, full: bool) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where the pair of each value with itself is among the pairs."""
    each = np.arange(values)
    return each * (each + 3) // 2 if full else each


class PosteriorMoments(NamedTuple):
    """Mean (N, D), its standard error whatever k-hat, and covariance (N, D, D)."""

    mean: Floats
    mean_se: Floats
    cov: Floats


def posterior_moments(draws: WeightedDraws) -> PosteriorMoments:
    """The moments of the coordinates; NaN where a draw of positive weight is not finite."""
    dim = draws.request.q.dim
    states = draws.moments(Coordinates(dim), full=True)
    means = weighted_means(states, dim, True, draws)
    read = state.read(draws.merged(states, dim, True), dim, True)
    with np.errstate(all="ignore"):
        pairs = read.products / read.total[:, None]
    unknown = np.where(states[..., state.BAD].any(axis=1), np.nan, 0.0)
    cov = symmetric(pairs, dim) + unknown[:, None, None]
    return PosteriorMoments(means.value + unknown[:, None], means.se + unknown[:, None], cov)


def symmetric(pairs: Floats, dim: int) -> Floats:
    """(N, D, D) from entries of the lower triangles (N, P)."""
    first, second = np.tril_indices(dim)
    out = np.empty((len(pairs), dim, dim))
    out[:, first, second] = out[:, second, first] = pairs
    return out


def refuse_bad_values(states: Floats, integrand: Integrand, draws: WeightedDraws) -> None:
    """Raise an error for a value that is not finite, at a draw of positive weight."""
    bad = states[..., state.BAD].sum(axis=1)
    if not bad.any():
        return
    request, i = draws.request, int(np.flatnonzero(bad)[0])
    k = int(states[i, :, state.FIRST_BAD].min())
    z = draws.redraw.at(k, k + 1)
    place = int(draws.redraw.points[i])
    shown = np.array2string(z[0, i], threshold=20, separator=", ")
    value = integrand.values(z)[i, ..., 0]
    made = "" if request.design else f". {request.draw_call(place, k)} makes that draw"
    raise InvalidInputError(
        f"f must be finite at draws of positive weight; {int(bad.sum())} values of "
        f"{integrand.label} are not, the first at data point {place}, draw {k}: "
        f"{np.array2string(value, threshold=6)} at z = {shown}{made}"
    )
