"""Weighted means and their standard errors, from states of moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import InvalidInputError
from ..kernels.state import moments as state
from ..models.integrand import Coordinates, Integrand
from ..validation import Floats
from ..weights.replicates import standard_error
from .moments import Pool, WeightedDraws

# Of a value: smaller deviations are 0.
_ROUNDING = 1e-14


class Means(NamedTuple):
    """Means of P values for each data point, (N, P), and their errors, whatever k-hat."""

    value: Floats  # sum f w / sum w
    se: Floats
    plain: Floats  # sum f w / K
    plain_se: Floats


@np.errstate(all="ignore")
def weighted_means(states: Sequence[Floats], values: int, full: bool, pool: Pool) -> Means:
    """The means of the values, from the states (N, replicates, size) of each part of the draws.

    Errors of independent draws are those of the delta method. Of several q they are stratified:
    from the variances of w (f - value) within the draws of each. Of replicates they are from the
    scatter of ``sum w (f - value)`` over them.
    """
    read = state.read(pool.merged(states, values, full), values, full)
    mean, total, n = read.mean, read.total[:, None], pool.n_samples
    mean = np.where(read.positive[:, None] > 0, mean, np.nan)
    scale = np.exp(read.top)[:, None]
    plain = scale * total * read.mean / n
    if pool.replicates > 1:
        se, plain_se = _of_replicates(states[0], values, full, read)
    else:
        se, plain_se = _of_strata(states, values, full, pool, read)
    plain_se *= scale / n
    # Deviations of a constant are those of rounding.
    rounding = _ROUNDING * np.abs(mean) * np.sqrt(read.squares[:, None]) / total
    se = np.where(se / total <= rounding, 0.0, se / total)
    return Means(mean, _known(se, mean), plain, _known(plain_se, mean))


def _of_replicates(
    states: Floats, values: int, full: bool, all_draws: state.Moments
) -> tuple[Floats, Floats]:
    """Errors of sum w (f - value) and of sum w f, with the weights of all draws."""
    each, count = state.read(states, values, full), states.shape[1]
    share = (np.exp(each.top - all_draws.top[:, None]) * each.total)[..., None]
    sums = share * (each.mean - all_draws.mean[:, None]), share * each.mean
    # A replicate whose weights are all 0 has no mean, and no part in either sum.
    known = (np.where(share > 0.0, x, 0.0) for x in sums)
    first, second = (standard_error(np.moveaxis(x, 1, 2)) * count for x in known)
    return first, second


def _of_strata(
    states: Sequence[Floats], values: int, full: bool, pool: Pool, all_draws: state.Moments
) -> tuple[Floats, Floats]:
    """As `_of_replicates`, of independent draws of each q."""
    about_value, about_zero = np.zeros((2, pool.count, values))
    for own, part in zip(states, pool.parts, strict=True):
        n, read = part.n_samples, state.read(own[:, 0], values, full)
        scale = np.exp(read.top - all_draws.top)[:, None]
        scale = np.where(read.positive[:, None] > 0, scale, 0.0)
        squares = read.square_products[:, _places(values, full)]
        for out, step in ((about_value, read.mean - all_draws.mean), (about_zero, read.mean)):
            # Sums of squares of w (f - c), and of w f, from those about the mean of these draws.
            second = squares + step * (2.0 * read.square_first + step * read.squares[:, None])
            if n == 1:
                second[:] = np.nan
            elif len(states) > 1 or out is about_zero:
                second -= (read.total[:, None] * step) ** 2 / n
                second *= n / (n - 1)
            out += scale**2 * np.maximum(second, 0.0)
    return np.sqrt(about_value), np.sqrt(about_zero)


def _known(se: Floats, mean: Floats) -> Floats:
    return np.where(np.isnan(mean), np.nan, se)


def _places(values: int, full: bool) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where the pair of each value with itself is among the pairs."""
    each = np.arange(values)
    return each * (each + 3) // 2 if full else each


# Draws that tell the k-hats of the coordinates' means.
TAIL_DRAWS = 2**14


class PosteriorMoments(NamedTuple):
    """Mean (N, D), its standard error whatever k-hat, k-hats of it, and covariance (N, D, D)."""

    mean: Floats
    mean_se: Floats
    mean_k: Floats
    cov: Floats


def posterior_moments(pool: Pool, checks: bool) -> PosteriorMoments:
    """The moments of the coordinates; NaN where a draw of positive weight is not finite.

    If it ``checks``, the k-hats are those of |z - mean| w from the first `TAIL_DRAWS` draws.
    """
    dim = pool.dim
    coordinates = Coordinates(dim)
    states = pool.moments(coordinates, full=True)
    means = weighted_means(states, dim, True, pool)
    read = state.read(pool.merged(states, dim, True), dim, True)
    with np.errstate(all="ignore"):
        pairs = read.products / read.total[:, None]
    bad = np.concatenate(states, axis=1)[..., state.BAD].any(axis=1)
    unknown = np.where(bad, np.nan, 0.0)[:, None]
    k = np.full(means.value.shape, np.nan)
    if checks:
        [tails] = pool.tails(coordinates, [np.nan_to_num(means.value)], TAIL_DRAWS)
        k = np.where(means.se > 0.0, tails["pareto_k"], np.nan)
    return PosteriorMoments(
        means.value + unknown, means.se + unknown, k, symmetric(pairs, dim) + unknown[:, None]
    )


def symmetric(pairs: Floats, dim: int) -> Floats:
    """(N, D, D) from entries of the lower triangles (N, P)."""
    first, second = np.tril_indices(dim)
    out = np.empty((len(pairs), dim, dim))
    out[:, first, second] = out[:, second, first] = pairs
    return out


def refuse_bad_values(states: Sequence[Floats], integrand: Integrand, pool: Pool) -> None:
    """Raise an error for a value that is not finite, at a draw of positive weight."""
    for own, draws in zip(states, pool.parts, strict=True):
        bad = own[..., state.BAD].sum(axis=1)
        if bad.any():
            _refuse(own, bad, integrand, draws)


def _refuse(states: Floats, bad: Floats, integrand: Integrand, draws: WeightedDraws) -> None:
    request, i = draws.request, int(np.flatnonzero(bad)[0])
    k = int(states[i, :, state.FIRST_BAD].min())
    z = draws.redraw.at(k, k + 1)
    reason = integrand.outcome(z[0, i].copy())
    place = int(draws.redraw.points[i])
    shown = np.array2string(z[0, i], threshold=20, separator=", ")
    value = integrand.values(z)[i, ..., 0]
    made = "" if request.design else f". {request.draw_call(place, k)} makes that draw"
    raise InvalidInputError(
        f"f must be finite at draws of positive weight; {int(bad.sum())} values of "
        f"{integrand.label} are not, the first at data point {place}, draw {k}: "
        f"{np.array2string(value, threshold=6)} at z = {shown}{reason}{made}"
    )
