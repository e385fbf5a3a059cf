"""NumPy: expressions over arrays, in place where that spares a temporary, matrix products where
there are any, parameters inverted beforehand, and blocks of draws that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import gammaln

import fastelbo as fe

from ..forms import LOG_2PI
from ..inputs import Draws, Evidence, Floats, Normals, Points, Responsibilities, Rows, Start

# Numbers in the largest temporary array of a block of draws, by which the speed is best.
_BLOCK = 2**17
# Rows whose tails are fitted at once, by which the speed is best.
_TAILS = 16


# --- reductions ------------------------------------------------------------------------------


def _logsumexp(a: Floats, axis: int) -> Floats:
    top = a.max(axis=axis, keepdims=True)
    shifted = a - top
    np.exp(shifted, out=shifted)
    return np.asarray(np.log(shifted.sum(axis=axis)) + top.squeeze(axis))


def _summarize(a: Floats, axis: int) -> tuple[Any, ...]:
    """Evidence, ELBO, relative variance, ESS."""
    k = a.shape[axis]
    top = a.max(axis=axis, keepdims=True)
    w = a - top
    np.exp(w, out=w)
    mean = w.mean(axis=axis, keepdims=True)
    w -= mean
    np.square(w, out=w)
    mean = mean.squeeze(axis)
    second = w.sum(axis=axis) / mean**2
    evidence = np.log(mean) + top.squeeze(axis)
    return evidence, a.mean(axis=axis), second / (k - 1), k / (1.0 + second / k)


def _fit_tails(excess: Floats) -> tuple[Floats, Floats]:
    """k-hat and sigma of rows of excesses, ascending (Zhang and Stephens, 2009)."""
    n = excess.shape[1]
    points = 30 + int(np.sqrt(n))
    j = np.arange(1, points + 1)
    quartile, largest = excess[:, int(n / 4 + 0.5) - 1, None], excess[:, -1:]
    theta = 1.0 / largest + (1.0 - np.sqrt(points / (j - 0.5))) / (3.0 * quartile)
    terms = theta[:, :, None] * -excess[:, None, :]
    k = np.log1p(terms, out=terms).mean(axis=2)
    log_lik = n * (np.log(-theta / k) - k - 1.0)
    weight = np.exp(log_lik - log_lik.max(axis=1, keepdims=True))
    mean = ((weight * theta).sum(axis=1) / weight.sum(axis=1))[:, None]
    shape = np.log1p(-mean * excess).mean(axis=1)
    return (n * shape + 5.0) / (n + 10.0), -shape / mean[:, 0]


def _smooth(a: Floats) -> tuple[Floats, ...]:
    """Pareto smoothed log weights, k-hat, and log evidence before and after, of some rows."""
    size = int(np.ceil(min(a.shape[1] / 5, 3 * np.sqrt(a.shape[1]))))
    # One more than the tail, of which only that is sorted.
    places = np.argpartition(a, -size - 1, axis=1)[:, -size - 1 :]
    tail = np.take_along_axis(a, places, axis=1)
    order = np.argsort(tail, axis=1)
    places, tail = (np.take_along_axis(each, order, axis=1) for each in (places, tail))
    top = tail[:, -1:]
    weights = np.exp(tail - top)
    floor = weights[:, :1]
    k, sigma = _fit_tails(weights[:, 1:] - floor)
    k, sigma = k[:, None], sigma[:, None]
    depth = -np.log1p(-(np.arange(size) + 0.5) / size)
    quantiles = np.log(floor + sigma / k * np.expm1(k * depth))
    smoothed = a.copy()
    np.put_along_axis(smoothed, places[:, 1:], top + np.minimum(quantiles, 0.0), axis=1)
    log_k = np.log(a.shape[1])
    return smoothed, k[:, 0], _logsumexp(a, 1) - log_k, _logsumexp(smoothed, 1) - log_k


def _psis(inputs: Rows) -> Callable[[], Any]:
    a = inputs.values

    def run() -> Any:
        results = np.empty_like(a), np.empty(len(a)), np.empty(len(a)), np.empty(len(a))
        for first in range(0, len(a), _TAILS):
            rows = slice(first, first + _TAILS)
            for result, part in zip(results, _smooth(a[rows]), strict=True):
                result[rows] = part
        return results

    return run


def _sum_log_exp(inputs: Rows) -> Callable[[], Any]:
    return lambda: _logsumexp(inputs.values, inputs.axis)


def _summary(inputs: Rows) -> Callable[[], Any]:
    return lambda: _summarize(inputs.values, inputs.axis)


# --- densities -------------------------------------------------------------------------------


class _Component:
    """A Gaussian or Student-t of some data points: scale inverted, constants worked out.

    Parameters have a leading axis of the data points, or of length 1 where these share them.
    """

    def __init__(self, mean: Floats, scale: Any, tril: Any, df: float | None) -> None:
        self.mean, self.scale, self.tril, self.df = mean, scale, tril, df
        self.dim = mean.shape[-1]
        if tril is None:
            self.inverse = 1.0 / scale
            log_det = np.log(scale).sum(axis=-1)
        else:
            self.inverse = np.swapaxes(np.linalg.inv(tril), -1, -2)
            log_det = np.log(np.diagonal(tril, axis1=-2, axis2=-1)).sum(axis=-1)
        if df is None:
            const = -0.5 * self.dim * LOG_2PI
        else:
            const = gammaln(0.5 * (df + self.dim)) - gammaln(0.5 * df)
            const -= 0.5 * self.dim * np.log(df * np.pi)
        self.const = (const - log_det)[:, None]

    def place(self, y: Floats, point: int | None = None) -> Floats:
        """Draws of standardised ones (n, K, D), or of those (K, D) of one point."""

        def own(array: Floats) -> Floats:
            return array if point is None else array[point if len(array) > 1 else 0]

        if self.tril is not None:
            z = y @ np.swapaxes(own(self.tril), -1, -2)
        else:
            z = y * own(self.scale)[..., None, :]
        z += own(self.mean)[..., None, :]
        return z

    def log_kernel(self, y: Floats) -> Floats:
        """Log density of the draws whose standardised ones are y."""
        square = np.einsum("...d,...d->...", y, y)
        if self.df is None:
            square *= -0.5
        else:
            square = -0.5 * (self.df + self.dim) * np.log1p(square / self.df)
        square += self.const
        return np.asarray(square)

    def log_prob(self, z: Floats) -> Floats:
        y = z - self.mean[:, None, :]
        if self.tril is not None:
            y = y @ self.inverse
        else:
            y *= self.inverse[:, None, :]
        return self.log_kernel(y)


class _Mixture:
    """The components of any distribution, a single one often, for the data points ``rows``."""

    def __init__(self, distribution: Any, rows: slice = slice(None)) -> None:
        mixture = isinstance(distribution, fe.Mixture)
        base = distribution.components if mixture else distribution
        self.weights = distribution.weights if mixture else np.ones(1)
        df = float(base.df) if isinstance(base, fe.StudentT) else None

        def taken(array: Any, event_axes: int, c: int) -> Any:
            if array is None:
                return None
            if mixture:
                array = np.take(array, c, axis=-1 - event_axes)
            array = array if array.ndim > event_axes else array[None]
            return array[rows] if len(array) > 1 else array

        self.components = [
            _Component(
                taken(base.mean, 1, c), taken(base.scale, 1, c), taken(base.scale_tril, 2, c), df
            )
            for c in range(self.weights.size)
        ]

    def joint(self, z: Floats) -> Floats:
        """log weight_c + log density of component c, (C, n, K)."""
        terms = np.empty((len(self.components), *z.shape[:-1]))
        for term, weight, component in zip(terms, self.weights, self.components, strict=True):
            np.add(component.log_prob(z), np.log(weight), out=term)
        return terms

    def log_prob(self, z: Floats) -> Floats:
        if len(self.components) == 1:
            return self.components[0].log_prob(z)
        return _logsumexp(self.joint(z), 0)

    def draw(self, n: int, k: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draws (n, k, D) and their log densities."""
        only = self.components[0]
        y = rng.standard_normal((n, k, only.dim))
        if only.df is not None:
            y *= np.sqrt(only.df / rng.chisquare(only.df, (n, k, 1)))
        if len(self.components) == 1:
            return only.place(y), only.log_kernel(y)
        # The draws are exchangeable: those of one component may stand together.
        for i in range(n):
            stops = np.cumsum(rng.multinomial(k, self.weights))
            for part, component in zip(np.split(y[i], stops[:-1]), self.components, strict=True):
                part[:] = component.place(part, i)
        return y, self.log_prob(y)


def _blocks(points: Floats) -> list[slice]:
    step = max(1, _BLOCK // points.shape[1])
    return [slice(lo, lo + step) for lo in range(0, len(points), step)]


def _mixture_log_prob(inputs: Points) -> Callable[[], Any]:
    mixture, points = _Mixture(inputs.mixture), inputs.points

    def run() -> Floats:
        return np.concatenate([mixture.log_prob(points[None, b])[0] for b in _blocks(points)])

    return run


def _mixture_model(inputs: Responsibilities) -> Callable[[], Any]:
    mixture, points, q = _Mixture(inputs.mixture), inputs.points, inputs.q.probs

    def run() -> tuple[Floats, ...]:
        evidence, elbo = np.empty(len(points)), np.empty(len(points))
        responsibilities = np.empty(q.shape)
        for b in _blocks(points):
            joint = mixture.joint(points[None, b])[:, 0].T
            evidence[b] = _logsumexp(joint, 1)
            elbo[b] = (q[b] * (joint - np.log(q[b]))).sum(axis=1)
            np.exp(joint - evidence[b, None], out=responsibilities[b])
        return evidence, elbo, responsibilities

    return run


# --- estimates -------------------------------------------------------------------------------


class _Weights:
    """Log weights of draws for the data points ``rows``."""

    def __init__(self, model: Any, q: Any, rows: slice) -> None:
        self.q = _Mixture(q, rows)
        self.linear = isinstance(model, fe.LinearGaussian)
        self.prior = _Mixture(model.prior if self.linear else model, rows)
        self.n = 1
        if self.linear:
            # Noise whitened beforehand.
            sd = np.sqrt(model.noise_cov)
            self.loadings = np.ascontiguousarray((model.loadings / sd[:, None]).T)
            self.x = ((model.x[rows] - model.offset) / sd)[:, None, :]
            self.const = -0.5 * sd.size * LOG_2PI - np.log(sd).sum()
            self.n = len(self.x)

    def __call__(self, k: int, rng: np.random.Generator) -> Floats:
        """(n, k)."""
        z, log_q = self.q.draw(self.n, k, rng)
        log_weight = self.prior.log_prob(z)
        log_weight -= log_q
        if self.linear:
            residual = z @ self.loadings
            residual -= self.x
            log_weight -= 0.5 * np.einsum("...p,...p->...", residual, residual)
            log_weight += self.const
        return log_weight


def log_weights(
    model: Any, q: Any, n_samples: int, rng: np.random.Generator, rows: slice
) -> Floats:
    """Log weights (n, K) of the data points ``rows``."""
    return _Weights(model, q, rows)(n_samples, rng)


def _evidence(inputs: Evidence) -> Callable[[], Any]:
    model, q, n_samples = inputs
    features = model.x.shape[1] if isinstance(model, fe.LinearGaussian) else 0
    points = len(model.x) if features else 1
    draws = max(1, _BLOCK // (features + q.dim))
    step = max(1, draws // n_samples)
    weights = [_Weights(model, q, slice(lo, lo + step)) for lo in range(0, points, step)]

    def run() -> tuple[Any, ...]:
        rng = np.random.default_rng(0)
        results = []
        for block in weights:
            log_weight = np.empty((block.n, n_samples))
            for first in range(0, n_samples, draws):
                part = log_weight[:, first : first + draws]
                part[:] = block(part.shape[1], rng)
            results.append(_summarize(log_weight, 1)[:3])
        return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))

    return run


# --- gradients and fits ----------------------------------------------------------------------


def _gradient(inputs: Evidence) -> Callable[[], Any]:
    """By hand, along the path through the draws alone."""
    model, q, n_samples = inputs
    sd = np.sqrt(model.noise_cov)
    loadings, x = model.loadings / sd[:, None], (model.x - model.offset) / sd
    const = -0.5 * sd.size * LOG_2PI - np.log(sd).sum()
    scale = np.broadcast_to(q.scale, q.mean.shape)
    step = max(1, _BLOCK // (n_samples * sd.size))

    def block(b: slice, rng: np.random.Generator) -> tuple[Floats, ...]:
        y = rng.standard_normal((len(x[b]), n_samples, q.dim))
        z = q.mean[b, None] + scale[b, None] * y
        residual = x[b, None] - z @ loadings.T
        slope = residual @ loadings - z + y / scale[b, None]
        terms = (y * y).sum(axis=-1) - (z * z).sum(axis=-1) - (residual * residual).sum(axis=-1)
        value = const + 0.5 * terms.mean(axis=1) + np.log(scale[b]).sum(axis=1)
        return value, slope.mean(axis=1), scale[b] * (slope * y).mean(axis=1)

    def run() -> tuple[Any, ...]:
        rng = np.random.default_rng(0)
        parts = [block(slice(lo, lo + step), rng) for lo in range(0, len(x), step)]
        return tuple(np.concatenate(each) for each in zip(*parts, strict=True))

    return run


def _mixture_em(inputs: Start) -> Callable[[], Any]:
    """Expectation by the blocks of `_mixture_model`, maximisation by products of matrices."""
    points = inputs.points

    def step(mixture: fe.Mixture) -> tuple[float, fe.Mixture]:
        density, evidence = _Mixture(mixture), 0.0
        count, dim = mixture.weights.size, points.shape[1]
        mass, first, second = np.zeros(count), np.zeros((count, dim)), np.zeros((count, dim, dim))
        for b in _blocks(points):
            joint = density.joint(points[None, b])[:, 0]
            top = _logsumexp(joint, 0)
            evidence += top.sum()
            shares = np.exp(joint - top)
            mass += shares.sum(axis=1)
            first += shares @ points[b]
            for c in range(count):
                second[c] += (shares[c, :, None] * points[b]).T @ points[b]
        mean = first / mass[:, None]
        cov = second / mass[:, None, None] - mean[:, :, None] * mean[:, None, :]
        return evidence / len(points), fe.Mixture(mass / mass.sum(), fe.Gaussian(mean, cov=cov))

    def run() -> Any:
        mixture = inputs.mixture
        for _ in range(inputs.steps):
            evidence, mixture = step(mixture)
        return evidence

    return run


# --- random numbers --------------------------------------------------------------------------


def _normals(inputs: Normals) -> Callable[[], Any]:
    buffer = np.empty(inputs.block)

    def run() -> Floats:
        rng = np.random.default_rng(0)
        for _ in range(inputs.blocks):
            rng.standard_normal(out=buffer)
        return buffer

    return run


def _gaussian_sample(inputs: Draws) -> Callable[[], Any]:
    mean, tril = inputs.gaussian.mean, inputs.gaussian.scale_tril

    def run() -> Floats:
        draws = np.random.default_rng(0).standard_normal((inputs.n, len(mean))) @ tril.T
        draws += mean
        return np.asarray(draws)

    return run


IMPLEMENTATIONS = {
    "numpy": {
        "logsumexp": _sum_log_exp,
        "summary": _summary,
        "psis": _psis,
        "mixture_log_prob": _mixture_log_prob,
        "mixture_model": _mixture_model,
        "evidence": _evidence,
        "gradient/diagonal": _gradient,
        "mixture_em": _mixture_em,
        "normals": _normals,
        "gaussian_sample": _gaussian_sample,
    }
}
