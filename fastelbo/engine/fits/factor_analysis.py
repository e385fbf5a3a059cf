"""Linear-Gaussian models by maximum likelihood: probabilistic PCA and factor analysis."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError, VarianceFloorWarning
from ...inner_warnings import warn
from ...models.factors import em_step, principal_components, profile, rotated
from ...models.linear_gaussian import LinearGaussian
from ...models.location_scale import Gaussian
from ...models.lowering import finite_inverse
from ...validation import Floats
from .fitted import FitOptions, Fitted, Recorder

# Least noise variance of a feature, as a share of its variance.
_FLOOR = 1e-6
# Above the floor by less than this share of it is at the floor.
_AT_FLOOR = 1e-3
# Largest gradient of the log-likelihood a data point, by the log of a variance.
_GRADIENT = 1e-8
# If a line search ends in rounding errors, a gradient up to this one is as good.
_ROUNDED = 1e-5
# Log-likelihood a data point that EM may still miss.
_MISSING = 1e-8
_MOST_STEPS = {"lbfgs": 1000, "em": 20_000}
_LOG_2PI = math.log(2.0 * math.pi)
_EPS = float(np.finfo(np.float64).eps)
# Least share of its variance at which the noise of a feature starts.
_LEAST_START = 0.005
# By so many nats a data point the loadings of EM may be below the best ones for its noise.
_LOST = 1e-6
# Features that a warning names.
_NAMED = 10


class _Start(NamedTuple):
    """The features that are fitted, in units of their own, and where the fit starts."""

    cov: Floats
    loadings: Floats
    noise: Floats
    isotropic: bool
    shift: float  # what units and other features add to the log-likelihood of a data point
    points: int


class _Found(NamedTuple):
    loadings: Floats
    noise: Floats
    converged: bool
    message: str


def fit_linear_gaussian(
    model: LinearGaussian, method: str, isotropic: bool, options: FitOptions
) -> tuple[str, Fitted]:
    """Loadings, offset and noise of maximum likelihood, and the method that found them."""
    prior = model.prior
    if not isinstance(prior, Gaussian) or prior.batch_shape:
        raise InvalidInputError(
            f'model must have one Gaussian prior for wrt="model", got a prior {prior!r}'
        )
    recorder, root = Recorder(), _root(prior)
    features, dim = model.loadings.shape
    x = model.x.reshape(-1, features)
    mean, cov, constant = _moments(x)
    varying = np.arange(features) if isotropic else np.flatnonzero(~constant)
    if dim >= len(varying):
        raise InvalidInputError(
            f'loadings must have fewer columns than there are features that vary for wrt="model", '
            f"got D = {dim} of {len(varying)}: they would fit any covariance, for any small noise"
        )
    best, form = ("closed", "isotropic") if isotropic else ("lbfgs", "diagonal")
    used = best if method == "auto" else method
    if used not in (best, "em"):
        raise InvalidInputError(
            f'method must be "auto", "{best}" or "em" for {form} noise and wrt="model", got '
            f"{used!r}"
        )
    if used == "em" and not model.loadings.any():
        raise InvalidInputError(
            'loadings must not be all 0 for method="em", which starts there and would never leave'
        )
    loadings, noise = np.zeros((features, dim)), np.empty(features)
    if used == "closed":
        loadings, noise[:] = _closed(cov, dim)
        found = _Found(loadings, noise, True, "closed form, by eigenvectors")
    else:
        unit = np.sqrt(np.diagonal(cov)[varying])
        if isotropic:
            unit = np.full(features, math.sqrt((unit**2).mean()))
        # Of a constant feature, whose best variance is 0.
        noise[:] = _FLOOR * np.diagonal(cov)[varying].mean()
        fixed = np.delete(noise, varying)
        start = _Start(
            cov[np.ix_(varying, varying)] / unit / unit[:, None],
            (model.loadings @ root)[varying] / unit[:, None],
            _variances(model)[varying] / unit**2, isotropic,
            -np.log(unit).sum() - 0.5 * (_LOG_2PI + np.log(fixed)).sum(), len(x),
        )  # fmt: skip
        found = (_by_em if used == "em" else _by_profile)(start, options, recorder)
        loadings[varying] = found.loadings * unit[:, None]
        noise[varying] = found.noise * unit**2
        _warn_of_floors(noise, np.diagonal(cov), constant & (not isotropic))
    # The prior stays: L0 u + m0 of a standard normal u.
    weights = loadings @ finite_inverse(root)
    fitted = LinearGaussian(
        model.x, weights, noise_cov=noise[0] if isotropic else noise,
        offset=mean - weights @ prior.mean, prior=prior,
    )  # fmt: skip
    history = None if used == "closed" else recorder.history
    return used, Fitted(None, fitted, history, found.converged, found.message)


def _closed(cov: Floats, dim: int) -> tuple[Floats, float]:
    loadings, noise = principal_components(cov, dim)
    if noise <= len(cov) * _EPS * np.trace(cov):
        raise InvalidInputError(
            f"x must vary in more than D = {dim} directions: without noise, the likelihood has no "
            "bound"
        )
    return loadings, noise


def _by_profile(start: _Start, options: FitOptions, recorder: Recorder) -> _Found:
    """L-BFGS on the log variances, between the floor and the variances of the features."""
    from scipy.optimize import minimize

    dim, tol = start.loadings.shape[1], options.tol or _GRADIENT
    least = math.log(_FLOOR)
    evaluations, last = 0, 0.0

    def loss(log_noise: Floats) -> tuple[float, Floats]:
        nonlocal evaluations, last
        found = profile(start.cov, log_noise, dim)
        evaluations += 1
        last = found.value
        return -found.value, -found.gradient

    iteration = 0

    def record(log_noise: Floats) -> None:
        nonlocal iteration
        iteration += 1
        value = start.points * (last + start.shift)
        recorder.add(iteration, value, 0.0, start.points * evaluations)

    first = _first_noise(start, least)
    recorder.add(0, start.points * (-loss(first)[0] + start.shift), 0.0, start.points)
    most = options.max_iter or _MOST_STEPS["lbfgs"]
    result = minimize(
        loss, first, jac=True, method="L-BFGS-B", bounds=[(least, 0.0)] * len(first),
        callback=record,
        options={"maxiter": most, "maxfun": 20 * most, "maxcor": 30, "ftol": 0.0, "gtol": tol},
    )  # fmt: skip
    slope = np.asarray(result.jac)
    blocked = ((result.x <= least) & (slope > 0.0)) | ((result.x >= 0.0) & (slope < 0.0))
    left = float(np.abs(np.where(blocked, 0.0, slope)).max())
    converged = left <= (tol if result.status == 1 else max(tol, _ROUNDED))
    message = f"the largest gradient by log variances is {left:.1g} nats a data point"
    loadings = profile(start.cov, result.x, dim).loadings
    return _Found(loadings, np.exp(result.x), converged, message)


def _first_noise(start: _Start, least: float) -> Floats:
    """Log variances of the start; Joreskog's (1967) if some are not below those of the features."""
    given = np.log(start.noise)
    if ((given > least) & (given < 0.0)).all():
        return np.asarray(given)
    features, dim = start.loadings.shape
    precision = np.diagonal(np.linalg.pinv(start.cov, hermitian=True))
    with np.errstate(divide="ignore"):
        unique = (1.0 - 0.5 * dim / features) / precision
    return np.asarray(np.log(np.clip(unique, _LEAST_START, 1.0)))


def _by_em(start: _Start, options: FitOptions, recorder: Recorder) -> _Found:
    """EM until what it still misses, by the ratio of its last gains, is below the tolerance."""
    loadings, noise, tol = start.loadings, start.noise, options.tol or _MISSING
    most = options.max_iter or _MOST_STEPS["em"]
    before, gain, missing, converged = -math.inf, math.inf, math.inf, False
    for iteration in range(most + 1):
        value, new, residual = em_step(start.cov, loadings, noise)
        recorder.add(
            iteration, start.points * (value + start.shift), 0.0, start.points * (iteration + 1)
        )
        ratio = (value - before) / gain if math.isfinite(gain) and gain > 0.0 else 0.0
        gain = value - before
        if math.isfinite(gain) and 0.0 < ratio < 1.0:
            missing = gain / (1.0 - ratio)
        converged = missing <= tol or gain <= _EPS * abs(value)
        if converged and iteration < most:
            # EM cannot leave loadings of 0, nor others of too low a rank.
            best = profile(start.cov, np.log(noise), loadings.shape[1])
            if best.value > value + max(_LOST, 10.0 * tol):
                loadings, before, gain, missing = best.loadings, -math.inf, math.inf, math.inf
                converged = False
                continue
        if converged or iteration == most:
            break
        loadings, before = new, value
        noise = np.full_like(noise, residual.mean()) if start.isotropic else residual
        noise = np.maximum(noise, _FLOOR)
    message = f"the last step gained {max(gain, 0.0):.1g} nats a data point"
    return _Found(rotated(loadings, noise), noise, converged, message)


def _moments(x: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Mean, covariance divided by N, and which features are constant."""
    if len(x) < 2:
        raise InvalidInputError(f'x must have at least 2 data points for wrt="model", got {len(x)}')
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean = x.mean(axis=0)
        # What is left of the mean of a large x is another small mean.
        centred = x - mean
        left = centred.mean(axis=0)
        centred -= left
        cov = centred.T @ centred / len(x)
    if not np.isfinite(cov).all():
        raise InvalidInputError("x must be smaller: its covariance is beyond the largest float")
    constant = (x == x[0]).all(axis=0)
    cov[constant] = cov[:, constant] = 0.0
    mean = np.where(constant, x[0], mean + left)
    if not np.diagonal(cov)[~constant].all():
        raise InvalidInputError("x must vary more: the variance of a feature underflows")
    return mean, cov, constant


def _root(prior: Gaussian) -> Floats:
    """The lower factor of the prior's covariance."""
    return np.asarray(prior.scale_tril if prior.scale is None else np.diag(prior.scale))


def _variances(model: LinearGaussian) -> Floats:
    return np.diagonal(model.noise_cov) if model.noise_cov.ndim == 2 else model.noise_cov


def _warn_of_floors(noise: Floats, variance: Floats, constant: NDArray[np.bool_]) -> None:
    """Name features whose noise is at its floor: constant ones, and those that loadings explain."""
    if constant.any():
        share = -0.5 * (_LOG_2PI + np.log(noise[constant])).sum()
        warn(
            f"features {_names(constant)} of x are constant: their noise has the floor "
            f"{noise[constant][0]:.2g}, {_FLOOR:g} of the mean variance, as the likelihood has no "
            f"bound; they add {share:.4g} nats to the log evidence of each data point",
            VarianceFloorWarning,
            stacklevel=2,
        )
    at_floor = ~constant & (noise <= (1.0 + _AT_FLOOR) * _FLOOR * variance)
    if at_floor.any():
        warn(
            f"the noise of features {_names(at_floor)} of x is at its floor, {_FLOOR:g} of their "
            "variance: the loadings explain them whole (a Heywood case); fewer columns of loadings "
            "may help",
            VarianceFloorWarning,
            stacklevel=2,
        )


def _names(flags: NDArray[np.bool_]) -> str:
    where = np.flatnonzero(flags)
    more = f" and {len(where) - _NAMED} more" if len(where) > _NAMED else ""
    return ", ".join(map(str, where[:_NAMED])) + more
