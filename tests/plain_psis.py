"""Pareto smoothing of one row in plain NumPy: the formulas and nothing else."""

import numpy as np


def tail_length(n, r_eff=1.0):
    return int(np.ceil(min(n / 5, 3 * np.sqrt(n / r_eff))))


def gpd_fit(x):
    """(k, sigma) of Zhang and Stephens, with a prior of k = 1/2 that is worth ten draws."""
    x = np.sort(x)
    n = len(x)
    points = 30 + int(np.sqrt(n))
    j = np.arange(1, points + 1)
    quartile = x[int(n / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - np.sqrt(points / (j - 0.5))) / (3 * quartile)
    k = np.log1p(-theta[:, None] * x).mean(axis=1)
    log_lik = n * (np.log(-theta / k) - k - 1)
    weight = np.exp(log_lik - log_lik.max())
    mean = (weight * theta).sum() / weight.sum()
    shape = np.log1p(-mean * x).mean()
    return (n * shape + 5) / (n + 10), -shape / mean


def log_mean(a):
    return a.max() + np.log(np.exp(a - a.max()).mean())


def psis(row, r_eff=1.0):
    """(smoothed log ratios, k-hat, raw and smoothed log evidence)."""
    size = tail_length(len(row), r_eff)
    # A stable sort: equal values keep their order.
    order = np.argsort(-row, kind="stable")
    top, tail = row.max(), row[order[:size]] - row.max()
    floor = np.exp(row[order[size]] - top)
    k, sigma = gpd_fit(np.exp(tail) - floor)
    p = (np.arange(size, 0, -1) - 0.5) / size
    quantile = sigma * np.expm1(-k * np.log1p(-p)) / k
    smoothed = row.copy()
    smoothed[order[:size]] = top + np.minimum(np.log(floor + quantile), 0.0)
    return smoothed, k, log_mean(row), log_mean(smoothed)
