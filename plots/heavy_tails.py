"""Log weights for the figures, of known tail index k, 0 < k < 1, and log evidence 0."""

import numpy as np


def gaussian_widths(rng, shape, k):
    """p = N(0, 1), q = N(0, 1 - k): a Pareto tail of index k, but only far out."""
    return 0.5 * np.log1p(-k) + 0.5 * k * rng.normal(size=shape) ** 2


def exactly_pareto(rng, shape, k):
    """p = Exp(1), q = Exp(1 / (1 - k)): all weights are Pareto, of index k."""
    return np.log1p(-k) + k * rng.standard_exponential(shape)


FAMILIES = {"exactly Pareto": exactly_pareto, "Gaussians of two widths": gaussian_widths}
# The palette of Okabe and Ito, which colour-blind readers can tell apart.
COLOURS = {"exactly Pareto": "#D55E00", "Gaussians of two widths": "#0072B2"}


def blocks(draw, k, n_samples, repeats, seed):
    """Rows of log weights, ``repeats`` in all, in blocks of at most 2^21 numbers."""
    most = max(1, 2**21 // n_samples)
    for start in range(0, repeats, most):
        rng = np.random.default_rng([seed, round(100 * k), start])
        yield draw(rng, (min(most, repeats - start), n_samples), k)
