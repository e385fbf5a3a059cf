"""Few fixed draws whose first and second moments are exactly those of their law."""

from __future__ import annotations

import math

import numpy as np

from ...errors import InvalidInputError
from ...kernels.cpu.launch import sample
from ...models.location_scale import Gaussian
from ...models.plans import draw_sampler
from ...models.protocol import Points
from ...special import gammaincinv
from ...validation import Floats

# Below, four draws a dimension say little of a density that is not quadratic.
_FEWEST = 32


def default_count(dim: int) -> int:
    """S = 4 D draws, at least 32."""
    return max(4 * dim, _FEWEST)


def whitened_draws(dim: int, count: int, key: int) -> Floats:
    """Standard normal draws (S, D), of mean 0 and second moments E'E / S = 1 to rounding.

    Independent draws E become antithetic pairs, [E; -E], and are whitened by the symmetric root
    ``(E'E / S)^(-1/2)``. So the mean of any quadratic function over them is exact. An optimum on
    independent draws fits their second moments, and is off by D/S or so; on these it is off by
    moments of fourth order and up. They are the same for all data points.

    Raises
    ------
    InvalidInputError
        If S, rounded up to an even number, is below 2 D: fewer pairs do not span D dimensions.
    """
    pairs = (count + 1) // 2
    if pairs < dim:
        raise InvalidInputError(
            f"n_samples must be at least 2 D = {2 * dim} for draws with exact second moments, got "
            f"{count}"
        )
    law = Gaussian(np.zeros(dim), scale=1.0)
    half = sample(draw_sampler(law, Points(()), "float64"), 1, pairs, dim, key)[:, 0]
    half = _whitened(half)
    return np.concatenate([half, -half])


def student_draws(draws: Floats, df: float) -> Floats:
    """Standard Student-t draws (S, D) of whitened normal ones, with exact second moments.

    Each antithetic pair gets one of S / 2 quantiles of chi-square in the middle of equal shares, in
    an order that the draws do not depend on. There are no second moments up to df = 2, and they are
    those that come out.
    """
    pairs = len(draws) // 2
    share = (np.arange(pairs) * _golden_step(pairs) % pairs + 0.5) / pairs
    chi_square = 2.0 * gammaincinv(0.5 * df, share)
    half = draws[:pairs] * np.sqrt(df / chi_square)[:, None]
    if df > 2.0:
        half = math.sqrt(df / (df - 2.0)) * _whitened(half)
    return np.concatenate([half, -half])


def _whitened(half: Floats) -> Floats:
    """H (H'H / n)^(-1/2), by the singular values of H, which are then all sqrt(n)."""
    basis, _, turn = np.linalg.svd(half, full_matrices=False)
    return np.asarray(math.sqrt(len(half)) * (basis @ turn))


def _golden_step(count: int) -> int:
    """A step around a circle of points that visits all, far from neighbours."""
    step = max(1, round(0.618 * count))
    while math.gcd(step, count) != 1:
        step += 1
    return step
