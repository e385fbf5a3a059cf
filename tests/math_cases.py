"""Log densities of `fastelbo.math`: exact terms in mpmath, SciPy's names, arguments, edges."""

from typing import Any, NamedTuple

import mpmath as mp
import numpy as np
from scipy import stats

import fastelbo as fe

RNG = np.random.default_rng(14)
INF, NAN = np.inf, np.nan
N = 150


def spread(low, high, n=N):
    """Positive numbers of all sizes between two powers of ten."""
    return 10.0 ** RNG.uniform(low, high, n)


def signed(low, high, n=N):
    return spread(low, high, n) * RNG.choice([-1.0, 1.0], n)


def around(loc, scale):
    return loc + scale * signed(-8, 6)


class Density(NamedTuple):
    """``terms(*args)`` add up to the exact value; their sizes say how far rounding goes."""

    terms: Any
    scipy: Any
    args: tuple[Any, ...]


LOC, SCALE = signed(-5, 5), spread(-12, 12)
WIDE = spread(-290, 290)
SHAPE, RATE = spread(-6, 7), spread(-30, 30)
PROBABILITY = np.r_[
    RNG.uniform(0, 1, N // 3), spread(-300, -1, N // 3), 1 - spread(-15, -1, N // 3)
]
COUNT, TRIALS = np.floor(spread(0, 6)) - 1, np.floor(spread(0, 6))
SUCCESSES = np.minimum(np.floor(TRIALS * RNG.uniform(0, 1.2, N)), TRIALS)
LOGIT = np.r_[signed(-8, 2, N // 2), signed(0, 5, N // 2)]


def normal(x, loc, scale):
    return [-(((x - loc) / scale) ** 2) / 2, -mp.log(scale), -mp.log(2 * mp.pi) / 2]


def cauchy(x, loc, scale):
    return [-mp.log1p(((x - loc) / scale) ** 2), -mp.log(scale), -mp.log(mp.pi)]


def student_t(x, df, loc, scale):
    power = -(df + 1) / 2 * mp.log1p(((x - loc) / scale) ** 2 / df)
    gammas = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(df * mp.pi) / 2
    # Of small df, the size of lgamma(df / 2).
    return [power, -mp.log(scale), gammas, mp.mpf(10), mp.mpf(-10)]


def gamma(x, a, b):
    return [a * mp.log(b), (a - 1) * mp.log(x), -b * x, -mp.loggamma(a)]


def inverse_gamma(x, a, b):
    return [a * mp.log(b), -(a + 1) * mp.log(x), -b / x, -mp.loggamma(a)]


def log_beta(a, b):
    return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def beta(x, a, b):
    size = mp.loggamma(min(a, b) + 1) + 20  # of a beta function's parts
    return [(a - 1) * mp.log(x), (b - 1) * mp.log1p(-x), -log_beta(a, b), size, -size]


def success(logit):
    return -mp.log1p(mp.exp(-logit))


def bernoulli(y, logit):
    return [success(logit if y == 1 else -logit)]


def binomial(y, n, logit):
    size = mp.loggamma(min(y, n - y) + 2) + 20
    ways = -mp.log(n + 1) - log_beta(y + 1, n - y + 1)
    return [y * success(logit), (n - y) * success(-logit), ways, size, -size]


def poisson(y, log_rate):
    return [y * log_rate, -mp.exp(log_rate), -mp.loggamma(y + 1)]


DENSITIES = {
    "normal": Density(normal, stats.norm, (around(LOC, SCALE), LOC, SCALE)),
    "half_normal": Density(
        lambda x, s: [mp.log(2), *normal(x, 0, s)], stats.halfnorm, (WIDE * spread(-8, 6), WIDE)
    ),
    "cauchy": Density(cauchy, stats.cauchy, (around(LOC, SCALE), LOC, SCALE)),
    "half_cauchy": Density(
        lambda x, s: [mp.log(2), *cauchy(x, 0, s)], stats.halfcauchy, (spread(-290, 0), WIDE)
    ),
    "student_t": Density(
        student_t, stats.t, (around(LOC, SCALE), spread(-6, 14), LOC, SCALE)
    ),
    "log_normal": Density(
        lambda x, loc, s: [-mp.log(x), *normal(mp.log(x), loc, s)],
        stats.lognorm,
        (spread(-300, 300), LOC, spread(-3, 8)),
    ),
    "exponential": Density(
        lambda x, rate: [mp.log(rate), -rate * x], stats.expon, (spread(-12, 12), spread(-12, 12))
    ),
    "gamma": Density(gamma, stats.gamma, (SHAPE / RATE * spread(-3, 2), SHAPE, RATE)),
    "inverse_gamma": Density(
        inverse_gamma, stats.invgamma, (RATE / SHAPE * spread(-2, 3), SHAPE, RATE)
    ),
    "beta": Density(beta, stats.beta, (PROBABILITY, SHAPE, spread(-6, 7))),
    "bernoulli_logit": Density(
        bernoulli, stats.bernoulli, (RNG.integers(0, 2, N).astype(float), LOGIT)
    ),
    "binomial_logit": Density(
        binomial, stats.binom, (SUCCESSES, TRIALS, LOGIT)
    ),
    "poisson_log": Density(poisson, stats.poisson, (COUNT, RNG.uniform(-30, 20, N))),
}  # fmt: skip


def function(name):
    return getattr(fe.math, f"{name}_log_prob")


LN2 = float(np.log(2.0))
# (name, arguments, value)
EDGES = [
    ("normal", (0.0, 0.0, 5e-324), 744.4400719213812 - 0.9189385332046728),
    ("normal", (INF, 0.0, 1.0), -INF),
    ("normal", (1.5e154, 0.0, 1.0), -1.125e308),
    ("normal", (0.0, 0.0, 0.0), NAN),
    ("normal", (0.0, 0.0, -1.0), NAN),
    ("normal", (NAN, 0.0, 1.0), NAN),
    ("normal", (0.0, NAN, 1.0), NAN),
    ("normal", (0.0, 0.0, NAN), NAN),
    ("half_normal", (-1e-300, 1.0), -INF),
    ("half_normal", (-1.0, NAN), NAN),
    ("half_normal", (-1.0, -1.0), NAN),
    ("half_normal", (-INF, 1.0), -INF),
    ("cauchy", (-INF, 0.0, 1.0), -INF),
    ("cauchy", (1e300, 0.0, 1.0), float(-2 * mp.log(mp.mpf(1e300)) - mp.log(mp.pi))),
    ("half_cauchy", (-1.0, 1.0), -INF),
    ("half_cauchy", (INF, 1.0), -INF),
    ("student_t", (1.0, INF, 0.0, 1.0), -0.5 - 0.9189385332046728),
    ("student_t", (1.0, 1e300, 0.0, 1.0), -0.5 - 0.9189385332046728),
    ("student_t", (INF, 3.0, 0.0, 1.0), -INF),
    ("student_t", (INF, INF, 0.0, 1.0), -INF),
    ("student_t", (0.0, 0.0, 0.0, 1.0), NAN),
    ("student_t", (0.0, NAN, 0.0, 1.0), NAN),
    ("log_normal", (0.0, 0.0, 1.0), -INF),
    ("log_normal", (-1.0, 0.0, 1.0), -INF),
    ("log_normal", (INF, 0.0, 1.0), -INF),
    ("log_normal", (NAN, 0.0, 1.0), NAN),
    ("log_normal", (-1.0, NAN, 1.0), NAN),
    ("exponential", (0.0, 2.0), LN2),
    ("exponential", (-1e-9, 2.0), -INF),
    ("exponential", (INF, 2.0), -INF),
    ("exponential", (-INF, 2.0), -INF),
    ("exponential", (1.0, 0.0), NAN),
    ("exponential", (-1.0, NAN), NAN),
    ("gamma", (0.0, 0.5, 1.0), INF),
    ("gamma", (0.0, 1.0, 2.0), LN2),
    ("gamma", (0.0, 2.0, 1.0), -INF),
    ("gamma", (-1.0, 2.0, 1.0), -INF),
    ("gamma", (INF, 2.0, 1.0), -INF),
    ("gamma", (NAN, 2.0, 1.0), NAN),
    ("gamma", (-1.0, NAN, 1.0), NAN),
    ("gamma", (-1.0, 0.0, 1.0), NAN),
    ("gamma", (1.0, 2.0, -1.0), NAN),
    ("inverse_gamma", (0.0, 2.0, 1.0), -INF),
    ("inverse_gamma", (1e-310, 2.0, 1.0), -INF),
    ("inverse_gamma", (INF, 2.0, 1.0), -INF),
    ("inverse_gamma", (-1.0, 2.0, 1.0), -INF),
    ("inverse_gamma", (NAN, 2.0, 1.0), NAN),
    ("inverse_gamma", (1.0, -2.0, 1.0), NAN),
    ("beta", (0.0, 1.0, 2.0), LN2),
    ("beta", (1.0, 2.0, 1.0), LN2),
    ("beta", (0.0, 0.5, 2.0), INF),
    ("beta", (1.0, 2.0, 0.5), INF),
    ("beta", (1.0, 2.0, 2.0), -INF),
    ("beta", (-0.1, 2.0, 2.0), -INF),
    ("beta", (1.1, 2.0, 2.0), -INF),
    ("beta", (INF, 2.0, 2.0), -INF),
    ("beta", (NAN, 2.0, 2.0), NAN),
    ("beta", (2.0, NAN, 2.0), NAN),
    ("beta", (0.5, 2.0, 0.0), NAN),
    ("bernoulli_logit", (1.0, INF), 0.0),
    ("bernoulli_logit", (0.0, INF), -INF),
    ("bernoulli_logit", (1.0, -INF), -INF),
    ("bernoulli_logit", (0.0, -INF), 0.0),
    ("bernoulli_logit", (1.0, -1e308), -1e308),
    ("bernoulli_logit", (0.5, 0.0), -INF),
    ("bernoulli_logit", (2.0, 0.0), -INF),
    ("bernoulli_logit", (-INF, 0.0), -INF),
    ("bernoulli_logit", (NAN, 0.0), NAN),
    ("bernoulli_logit", (1.0, NAN), NAN),
    ("bernoulli_logit", (2.0, NAN), NAN),
    ("binomial_logit", (0.0, 0.0, 3.0), 0.0),
    ("binomial_logit", (0.0, 5.0, -INF), 0.0),
    ("binomial_logit", (5.0, 5.0, INF), 0.0),
    ("binomial_logit", (4.0, 5.0, INF), -INF),
    ("binomial_logit", (1.0, 5.0, -INF), -INF),
    ("binomial_logit", (0.0, 1e10, -800.0), 0.0),
    ("binomial_logit", (6.0, 5.0, 0.0), -INF),
    ("binomial_logit", (-1.0, 5.0, 0.0), -INF),
    ("binomial_logit", (1.5, 5.0, 0.0), -INF),
    ("binomial_logit", (INF, 5.0, 0.0), -INF),
    ("binomial_logit", (1.0, 5.5, 0.0), NAN),
    ("binomial_logit", (1.0, -1.0, 0.0), NAN),
    ("binomial_logit", (NAN, 5.0, 0.0), NAN),
    ("binomial_logit", (1.0, NAN, 0.0), NAN),
    ("binomial_logit", (0.0, 0.0, NAN), NAN),
    ("poisson_log", (0.0, -INF), 0.0),
    ("poisson_log", (1.0, -INF), -INF),
    ("poisson_log", (0.0, 800.0), -INF),
    ("poisson_log", (3.0, INF), -INF),
    ("poisson_log", (3.0, 1e308), -INF),
    ("poisson_log", (-1.0, 0.0), -INF),
    ("poisson_log", (0.5, 0.0), -INF),
    ("poisson_log", (INF, 0.0), -INF),
    ("poisson_log", (NAN, 0.0), NAN),
    ("poisson_log", (0.0, NAN), NAN),
    ("poisson_log", (-1.0, NAN), NAN),
]  # fmt: skip
