"""How well Markov chains have mixed: effective numbers of draws and split-R-hat, by columns.

Source: Vehtari, Gelman, Simpson, Carpenter and Burkner (2021, Bayesian Analysis 16), with Geyer's
initial monotone sequence (1992). Tests hold the answers against those of ArviZ.
"""

from __future__ import annotations

import math

import numpy as np

from ..special import ndtri
from ..validation import Floats

# Draws of a chain, below which it has no autocorrelation.
LEAST_DRAWS = 5
# Numbers in a batch of columns.
_BATCH = 2**21


def effective_draws(x: Floats) -> Floats:
    """Effective number of draws x (chains, draws, ...) for the mean of each column.

    It is the number of draws over the integrated autocorrelation time, about the mean of all
    chains: chains that disagree have few. That of a constant column is the number of draws; NaN for
    chains of fewer than 5 draws and for columns that are not finite.
    """
    chains, draws = x.shape[:2]
    columns = x.reshape(chains, draws, math.prod(x.shape[2:]))
    width = max(1, _BATCH // max(1, chains * draws))
    parts = [
        _effective_draws(columns[..., lo : lo + width]) for lo in range(0, columns.shape[-1], width)
    ]
    return np.concatenate([np.empty(0), *parts]).reshape(x.shape[2:])


@np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
def _effective_draws(x: Floats) -> Floats:
    chains, draws, width = x.shape
    total = chains * draws
    if draws < LEAST_DRAWS:
        return np.full(width, np.nan)
    shifted = x - x[:1, :1]
    covariance = _autocovariances(shifted)
    variance = covariance[0].copy()
    if chains > 1:
        variance += shifted.mean(axis=1).var(axis=0, ddof=1)
    within = covariance[0] * (draws / (draws - 1.0))
    correlation = 1.0 - (within - covariance) / variance
    correlation[0] = 1.0
    # Sums of neighbours are positive and fall for a reversible chain; noise ends them.
    pairs = correlation[: 2 * (draws // 2)].reshape(-1, 2, width).sum(axis=1)[: (draws - 1) // 2]
    ends = pairs <= 0.0
    ends[-1] = True
    end = ends.argmax(axis=0)
    falling = np.minimum.accumulate(pairs, axis=0)
    used = np.arange(len(pairs))[:, None] < end
    # The first of the pair at the end counts once: less variance where correlations alternate.
    after = np.take_along_axis(correlation, 2 * end[None], axis=0)[0]
    positive = np.take_along_axis(pairs, end[None], axis=0)[0] > 0.0
    after = np.where(positive, after, np.maximum(after, 0.0))
    time = 2.0 * np.where(used, falling, 0.0).sum(axis=0) - 1.0 + after
    # Antithetic chains may be better than independent draws, within reason.
    result = total / np.maximum(time, 1.0 / math.log10(total))
    constant = (shifted == 0.0).all(axis=(0, 1))
    return np.where(constant, total, np.where(np.isfinite(x).all(axis=(0, 1)), result, np.nan))


def _autocovariances(x: Floats) -> Floats:
    """Mean over chains of the autocovariances of each lag, divided by the number of draws."""
    from scipy.fft import irfft, next_fast_len, rfft

    draws = x.shape[1]
    size = next_fast_len(2 * draws, real=True)
    spectrum = rfft(x - x.mean(axis=1, keepdims=True), size, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=0)
    return np.asarray(irfft(power, size, axis=0)[:draws] / draws)


def halves(x: Floats) -> Floats:
    """Each chain cut in two, without its middle draw where their number is odd."""
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, x.shape[1] - half :]])


def bulk_effective_draws(x: Floats) -> Floats:
    """Effective number of draws for the bulk of each column: of its ranks, by half-chains."""
    split = halves(x)
    if split.shape[1] < LEAST_DRAWS:
        return np.full(x.shape[2:], np.nan)
    return effective_draws(_normal_scores(split))


def r_hat(x: Floats) -> Floats:
    """Split-R-hat of each column of x (chains, draws, ...), of its ranks and of its spread.

    It is 1 for a constant column, and NaN for chains of fewer than 10 draws.
    """
    split = halves(x)
    if split.shape[1] < LEAST_DRAWS:
        return np.full(x.shape[2:], np.nan)
    with np.errstate(over="ignore", under="ignore"):
        spread = np.abs(split - np.median(split, axis=(0, 1)))
    return np.maximum(_ratio(_normal_scores(split)), _ratio(_normal_scores(spread)))


def _ratio(x: Floats) -> Floats:
    draws = x.shape[1]
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        within = x.var(axis=1, ddof=1).mean(axis=0)
        between = x.mean(axis=1).var(axis=0, ddof=1)
        ratio = np.sqrt((draws - 1.0) / draws + between / within)
    # Chains that stay at one value each are as far from mixed as can be.
    return np.where((within == 0.0) & (between == 0.0), 1.0, ratio)


def _normal_scores(x: Floats) -> Floats:
    """The ranks of each column among all chains, as normal quantiles (Blom, 1958)."""
    from scipy.stats import rankdata  # takes half a second

    chains, draws = x.shape[:2]
    ranks = rankdata(x.reshape(chains * draws, *x.shape[2:]), method="average", axis=0)
    scores = ndtri((ranks - 0.375) / (chains * draws + 0.25))
    return np.asarray(scores.reshape(x.shape))
