"""Log weights as users write them where a draw is "impossible", and their exact summaries.

Each exact value comes with its condition: the sum of the absolute values that it is the sum of,
which rounding is proportional to.
"""

import itertools

import mpmath
import numpy as np

LARGEST = np.finfo(float).max
SENTINELS = [-1e16, -1e30, -1e100, -1e150, -1e200, -1e300, -1e307, -1e308, -LARGEST]


def rows_with_sentinels(count, most, seed):
    """``count`` rows of 3 to ``most`` log weights: ordinary ones, sentinels, and large ones."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        n = int(rng.integers(3, most + 1))
        row = rng.normal(scale=rng.choice([0.0, 1e-3, 1.0, 30.0]), size=n)
        chosen = rng.random(n) < rng.random()
        if i % 5 == 0:
            row[chosen] = rng.choice(SENTINELS)
        elif i % 5 == 1:
            row[chosen] = rng.choice(SENTINELS, size=n)[chosen]
        elif i % 5 == 2:
            row = rng.choice([-1.0, 1.0], size=n) * abs(rng.choice(SENTINELS))
        elif i % 5 == 3:
            row[rng.integers(n)] = -rng.choice(SENTINELS)
        else:
            row = rng.normal(size=n) * 10.0 ** rng.integers(0, 308, size=n)
        yield row


def exact_row(row):
    """Log weights as exact numbers, and the weights."""
    x = [mpmath.mpf(float(value)) for value in row]
    return x, [mpmath.exp(value) for value in x]


def mean_and_error(values):
    """Mean and standard error, and their conditions."""
    n = len(values)
    mean = mpmath.fsum(values) / n
    error = mpmath.sqrt(mpmath.fsum((x - mean) ** 2 for x in values) / (n - 1) / n) if n > 1 else 0
    return (mean, mpmath.fsum(map(abs, values)) / n), (error, max(map(abs, values)))


def log_mean(weights):
    """Log mean of weights, and its condition."""
    top = mpmath.log(max(weights))
    value = mpmath.log(mpmath.fsum(weights) / len(weights))
    return value, abs(top) + abs(value - top) + mpmath.log(len(weights))


def groups(weights, size):
    """Log means of the disjoint groups of ``size`` weights."""
    stop = len(weights) // size * size
    return [log_mean(weights[i : i + size])[0] for i in range(0, stop, size)]


def jackknife(weights, order):
    """Jackknife by its definition, and the error of the first order's pseudo-values."""
    n = len(weights)
    total = mpmath.fsum(weights)
    whole = mpmath.log(total / n)
    left = [mpmath.log(mpmath.fsum(weights[:i] + weights[i + 1 :]) / (n - 1)) for i in range(n)]
    error = mean_and_error([(n - 1) * x for x in left])[1]
    means = [whole, mpmath.fsum(left) / n]
    if order == 2:
        pairs = [
            mpmath.log(mpmath.fsum(weights[k] for k in kept) / (n - 2))
            for kept in itertools.combinations(range(n), n - 2)
        ]
        means.append(mpmath.fsum(pairs) / len(pairs))
    m = order
    factors = [
        mpmath.mpf((-1) ** j * (n - j) ** m) / (mpmath.factorial(j) * mpmath.factorial(m - j))
        for j in range(m + 1)
    ]
    value = mpmath.fsum(c * mean for c, mean in zip(factors, means, strict=True))
    condition = mpmath.fsum(
        abs(c) * (abs(mean) + 1) for c, mean in zip(factors, means, strict=True)
    )
    return (value, condition), error


def assert_near(got, exact, condition, rtol):
    """Equal to rounding, and infinite only beyond the largest float."""
    if abs(exact) > LARGEST * (1 - 1e-13):
        assert abs(got) > LARGEST * (1 - 1e-12)
        assert np.sign(got) == mpmath.sign(exact)
    else:
        assert abs(mpmath.mpf(float(got)) - exact) <= rtol * (condition + mpmath.mpf("1e-300"))
