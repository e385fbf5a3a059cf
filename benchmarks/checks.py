"""Checks of answers against SciPy, NumPy, closed forms and moments, never fastelbo's estimates.

A check takes an answer and the precision of its arithmetic, and raises AssertionError if the answer
is wrong. An answer may consist of arrays of any library that NumPy can convert.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import logsumexp as scipy_logsumexp

import fastelbo as fe

from .implementations.with_numpy import log_weights
from .inputs import Evidence, Floats, Images, Points, Responsibilities, Rows, Start

Check = Callable[[Any, str], None]

# The number of points or rows that a check compares: few, so that it is quick.
_SOME = 100
# The largest error allowed, in standard errors. It is large because errors of log evidences are
# skewed, and because a check looks at thousands of them.
_Z = 8.0


def _tolerance(precision: str) -> float:
    return 1e-10 if precision == "float64" else 2e-3


# --- reductions ------------------------------------------------------------------------------


def _some_rows(values: Floats, axis: int) -> Floats:
    """The first rows, with ``axis`` moved to the end."""
    rows = np.moveaxis(values, axis, -1)
    return rows[:_SOME] if rows.ndim > 1 else rows


def logsumexp(inputs: Rows) -> Check:
    """Compare with SciPy."""
    values, axis = inputs
    expected = scipy_logsumexp(_some_rows(values, axis), axis=-1)
    count = values.size // values.shape[axis]

    def check(answer: Any, precision: str) -> None:
        got = np.asarray(answer)
        assert got.size == count
        got = got.reshape(np.shape(expected) if not np.ndim(expected) else -1)
        assert_allclose(got[:_SOME] if got.ndim else got, expected, rtol=_tolerance(precision))

    return check


def summary(inputs: Rows) -> Check:
    """Compare with the plain formulas."""
    rows = np.atleast_2d(_some_rows(*inputs))
    k = rows.shape[-1]
    weights = np.exp(rows - rows.max(axis=-1, keepdims=True))
    expected = (
        scipy_logsumexp(rows, axis=-1) - np.log(k),
        rows.mean(axis=-1),
        weights.var(axis=-1, ddof=1) / weights.mean(axis=-1) ** 2,
        weights.sum(axis=-1) ** 2 / (weights**2).sum(axis=-1),
    )

    def check(answer: Any, precision: str) -> None:
        assert len(answer) == len(expected)
        for got, exact in zip(answer, expected, strict=True):
            assert_allclose(
                np.atleast_1d(got)[: len(rows)], exact, rtol=_tolerance(precision), atol=1e-4
            )

    return check


def psis(inputs: Rows) -> Check:
    """Compare the first rows with the formulas, with generalised Pareto quantiles by SciPy."""
    values = inputs.values
    rows = values[:_SOME]
    expected = [_smoothed(row) for row in rows]

    def check(answer: Any, precision: str) -> None:
        smoothed, k, *evidences = answer
        assert np.shape(smoothed) == values.shape
        assert np.shape(k) == values.shape[:1]
        tolerance = _tolerance(precision)
        for i, (exact, exact_k) in enumerate(expected):
            assert_allclose(k[i], exact_k, atol=tolerance)
            # Smoothed log weights are known up to a constant: compare their differences.
            assert_allclose(smoothed[i] - smoothed[i].min(), exact - exact.min(), atol=tolerance)
            for got, row in zip(evidences, (rows[i], exact), strict=False):
                log_evidence = scipy_logsumexp(row) - np.log(row.size)
                assert_allclose(got[i], log_evidence, atol=tolerance)

    return check


def _smoothed(row: Floats) -> tuple[Floats, float]:
    """Smoothed log weights and k-hat of one row."""
    size = int(np.ceil(min(row.size / 5, 3 * np.sqrt(row.size))))
    order = np.argsort(row)[-size - 1 :]
    weights = np.exp(row[order] - row.max())
    excess = weights[1:] - weights[0]
    points = 30 + int(np.sqrt(size))
    steps = 1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))
    theta = 1 / excess[-1] + steps / (3 * excess[int(size / 4 + 0.5) - 1])
    k = np.log1p(-np.outer(theta, excess)).mean(axis=1)
    log_lik = size * (np.log(-theta / k) - k - 1)
    mean = np.average(theta, weights=np.exp(log_lik - log_lik.max()))
    shape = np.log1p(-mean * excess).mean()
    k_hat = (size * shape + 5) / (size + 10)
    quantiles = stats.genpareto.ppf(
        (np.arange(size) + 0.5) / size, k_hat, loc=weights[0], scale=-shape / mean
    )
    smoothed = row.copy()
    smoothed[order[1:]] = row.max() + np.minimum(np.log(quantiles), 0.0)
    return smoothed, k_hat


# --- mixtures --------------------------------------------------------------------------------


def _component_log_probs(mixture: fe.Mixture, points: Floats) -> Floats:
    """Log densities of the components by SciPy, (points, C)."""
    covs = np.broadcast_to(mixture.components.cov, (mixture.weights.size,) + 2 * (mixture.dim,))
    return np.stack(
        [
            stats.multivariate_normal.logpdf(points, mean, cov).reshape(len(points))
            for mean, cov in zip(mixture.components.mean, covs, strict=True)
        ],
        axis=-1,
    )


def mixture_log_prob(inputs: Points) -> Check:
    """Compare the first points with SciPy."""
    mixture, points = inputs
    terms = np.log(mixture.weights) + _component_log_probs(mixture, points[:_SOME])
    expected = scipy_logsumexp(terms, axis=-1)

    def check(answer: Any, precision: str) -> None:
        assert np.shape(answer) == points.shape[:1]
        assert_allclose(np.asarray(answer)[:_SOME], expected, rtol=_tolerance(precision))

    return check


def mixture_model(inputs: Responsibilities) -> Check:
    """Compare the first points with the formulas."""
    mixture, points, q = inputs
    joint = np.log(mixture.weights) + _component_log_probs(mixture, points[:_SOME])
    evidence = scipy_logsumexp(joint, axis=-1)
    probs = q.probs[:_SOME]
    elbo = (probs * (joint - np.log(probs))).sum(axis=-1)
    expected = evidence, elbo, np.exp(joint - evidence[:, None])

    def check(answer: Any, precision: str) -> None:
        for got, exact in zip(answer, expected, strict=True):
            rtol = _tolerance(precision)
            assert_allclose(np.asarray(got)[:_SOME], exact, rtol=rtol, atol=0.1 * rtol)

    return check


# --- estimates -------------------------------------------------------------------------------


def marginal(model: fe.LinearGaussian) -> Floats:
    """The exact log evidence: log density of x under its marginal distribution, by SciPy."""
    components = model.prior._components
    noise = np.diag(model.noise_cov) if model.noise_cov.ndim == 1 else model.noise_cov
    terms = []
    for c, log_weight in enumerate(components.log_weight):
        if components.scale is None:
            half = model.loadings @ components.scale_tril[c]
        else:
            half = model.loadings * components.scale[c]
        mean = model.offset + model.loadings @ components.mean[c]
        terms.append(log_weight + stats.multivariate_normal.logpdf(
            model.x, mean, half @ half.T + noise
        ))  # fmt: skip
    return np.atleast_1d(scipy_logsumexp(terms, axis=0))


def evidence(inputs: Evidence, exact: Floats) -> Check:
    """Compare log evidence with the exact one, ELBO and variance with a few draws in NumPy."""
    exact = np.atleast_1d(exact)

    def check(answer: Any, precision: str) -> None:
        log_evidence, elbo, variance = (np.atleast_1d(np.asarray(part)) for part in answer)
        assert log_evidence.shape == elbo.shape == variance.shape == exact.shape
        rounding = 1e-9 if precision == "float64" else 2e-2
        error = np.sqrt(variance / inputs.n_samples) + rounding
        assert (np.abs(log_evidence - exact) < _Z * error).all()
        # The mean over data points shows a common bias that is too small to show in one of them.
        spread = error / np.sqrt(exact.size)
        assert abs(np.mean(log_evidence - exact)) < np.mean(
            _Z * spread + 2.0 * variance / inputs.n_samples
        )
        few_elbo, few_variance, deviation = few()
        count = len(few_elbo)
        band = _Z * deviation * np.sqrt(1 / _DRAWS + 1 / inputs.n_samples) + rounding
        assert (np.abs(elbo[:count] - few_elbo) < band).all()
        # A sample variance of weights is itself uncertain by a factor.
        assert abs(np.median(np.log(variance[:count] / few_variance))) < 1.0

    @functools.cache
    def few() -> tuple[Floats, Floats, Floats]:
        return _few_draws(inputs)

    return check


# Data points and draws of the estimate in NumPy, for what has no closed form.
_POINTS = 8
_DRAWS = 4000


def _few_draws(inputs: Evidence) -> tuple[Floats, Floats, Floats]:
    """ELBO, relative variance and standard deviation of log weights, from a few draws in NumPy."""
    rng = np.random.default_rng(1)
    drawn = log_weights(inputs.model, inputs.q, _DRAWS, rng, slice(_POINTS))
    w = np.exp(drawn - drawn.max(axis=-1, keepdims=True))
    variance = w.var(axis=-1) / w.mean(axis=-1) ** 2
    return drawn.mean(axis=-1), variance, drawn.std(axis=-1)


# --- gradients and fits ----------------------------------------------------------------------


def gradient(inputs: Evidence) -> Check:
    """Compare with closed forms, within errors that are computed too.

    Along the path, the slope at m + s y is ``a - B (s y)`` with B = W' W + 1 - s^-2 and W whitened.
    """
    model, q, n_samples = inputs
    sd, scale = np.sqrt(model.noise_cov), np.broadcast_to(q.scale, q.mean.shape)
    loadings, x = model.loadings / sd[:, None], (model.x - model.offset) / sd
    residual = x - q.mean @ loadings.T
    precision = loadings.T @ loadings + np.eye(q.dim)
    exact = residual @ loadings - q.mean
    exact_scale = 1.0 - scale**2 * np.diagonal(precision)
    bend = precision - (1.0 / scale**2)[:, :, None] * np.eye(q.dim)
    moves = (bend**2 @ (scale**2)[:, :, None])[..., 0]
    spread = np.sqrt(moves)
    # The square of s_d h_d y_d has at most this mean.
    square = scale**2 * (exact**2 + 3.0 * moves)
    elbo = -0.5 * (
        sd.size * np.log(2.0 * np.pi) + 2.0 * np.log(sd).sum() + (residual**2).sum(axis=1)
        + (q.mean**2).sum(axis=1) + (scale**2 * np.diagonal(precision)).sum(axis=1)
    ) + np.log(scale).sum(axis=1) + 0.5 * q.dim  # fmt: skip

    def check(answer: Any, precision: str) -> None:
        value, mean, log_scale = map(np.asarray, answer)
        root = np.sqrt(n_samples)
        assert (np.abs(mean - exact) <= _Z * spread / root + 1e-9).all()
        assert (np.abs(log_scale - exact_scale) <= _Z * np.sqrt(square) / root + 1e-9).all()
        # A bias that all data points share.
        error = (mean - exact).mean(axis=0)
        assert (np.abs(error) < _Z * spread.mean(axis=0) / root / np.sqrt(len(exact)) + 1e-9).all()
        assert abs(np.mean(value - elbo)) < _Z * np.sqrt(q.dim) / root

    return check


def mixture_em(inputs: Start) -> Check:
    """Compare with so many steps of EM by SciPy's densities."""
    mixture, points = inputs.mixture, inputs.points
    for _ in range(inputs.steps):
        joint = np.log(mixture.weights) + _component_log_probs(mixture, points)
        top = scipy_logsumexp(joint, axis=-1)
        shares = np.exp(joint - top[:, None])
        mass = shares.sum(axis=0)
        mean = shares.T @ points / mass[:, None]
        cov = np.stack([
            (share[:, None] * (points - own)).T @ (points - own) / total
            for share, own, total in zip(shares.T, mean, mass, strict=True)
        ])  # fmt: skip
        mixture = fe.Mixture(mass / mass.sum(), fe.Gaussian(mean, cov=cov))

    def check(answer: Any, precision: str) -> None:
        assert float(answer) >= top.mean() - 1e-8 * abs(top.mean())
        # No more than a Gaussian for each few points could have.
        assert float(answer) < top.mean() + 1.0

    return check


# Mean log evidence of the varying pixels at the maximum likelihood of so many factors. Those of a
# maximum that is not there would be below.
_BEST = {10: -123.15580004}


def factor_analysis(inputs: Images) -> Check:
    """Compare with a known maximum; a mean per data point."""

    def check(answer: Any, precision: str) -> None:
        if inputs.factors in _BEST:
            assert abs(float(answer) - _BEST[inputs.factors]) < 1e-3

    return check


# --- random numbers --------------------------------------------------------------------------


def standard_normals(answer: Any, precision: str) -> None:
    """Check four moments, and the distribution function of the first draws."""
    x = np.asarray(answer).reshape(-1)
    for power, moment, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs((x.astype(np.float64) ** power).mean() - moment) < _Z * np.sqrt(
            variance / x.size
        )
    assert stats.kstest(x[:20_000], "norm").pvalue > 1e-6


def gaussian_draws(gaussian: fe.Gaussian) -> Check:
    """Check that the whitened draws are uncorrelated standard normals."""

    def check(answer: Any, precision: str) -> None:
        draws = np.asarray(answer, dtype=np.float64)
        assert draws.shape[1:] == (gaussian.dim,)
        whitened = np.linalg.solve(gaussian.scale_tril, (draws - gaussian.mean).T)
        standard_normals(whitened, precision)
        correlation = whitened @ whitened.T / len(draws) - np.eye(gaussian.dim)
        assert np.abs(correlation).max() < _Z * np.sqrt(2.0 / len(draws))

    return check
