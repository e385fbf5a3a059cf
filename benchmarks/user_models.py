"""Five log densities that users write: the function of one draw, and what its peers need.

A peer gets the same draws z (n, D). `MODELS` has each density as a user writes it, for one draw,
and `GRADIENTS` some gradients; `BATCHES` as a user of arrays writes it, for all draws, in any array
library; `BLOCKS` as a writer of kernels does, in loops over a block z (D, LANES) of draws with
fastelbo's scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastelbo.kernels.draws.blocks import LANES
from fastelbo.kernels.math.elementary import log1p_signed
from fastelbo.kernels.math.scalar import exp, log


class UserModel(NamedTuple):
    """A density, its dimension and parameters; ``data`` is one data point, or None."""

    function: Callable[..., Any]
    dim: int
    params: tuple[Any, ...]

    def draws(self, n: int) -> Any:
        """Draws (n, D), near the mode."""
        return 0.5 * np.random.default_rng(1).normal(size=(n, self.dim))


# --- one draw ------------------------------------------------------------------------------------


def logistic(z, x, y):
    lp = 0.0
    for d in range(x.shape[1]):
        lp -= 0.5 * z[d] * z[d]
    for i in range(x.shape[0]):
        eta = 0.0
        for j in range(x.shape[1]):
            eta += x[i, j] * z[j]
        lp += y[i] * eta - (max(eta, 0.0) + math.log1p(math.exp(-abs(eta))))
    return lp


def schools(z, y, sigma):
    mu, log_tau = z[0], z[1]
    tau = math.exp(log_tau)
    lp = -0.5 * (mu / 5.0) ** 2 + log_tau - math.log(1.0 + (tau / 5.0) ** 2)
    for j in range(y.shape[0]):
        r = (y[j] - mu - tau * z[2 + j]) / sigma[j]
        lp += -0.5 * z[2 + j] * z[2 + j] - 0.5 * r * r
    return lp


def banana(z):
    return -0.5 * z[0] ** 2 - 0.5 * ((z[1] - z[0] ** 2) / 0.3) ** 2


def linear_gaussian(z, x, w):
    lp = 0.0
    for d in range(w.shape[1]):
        lp -= 0.5 * z[d] * z[d]
    for p in range(w.shape[0]):
        r = x[p]
        for d in range(w.shape[1]):
            r = r - w[p, d] * z[d]
        lp -= 0.5 * r * r
    return lp


def poisson(z, x, y):
    lp = 0.0
    for i in range(x.shape[0]):
        eta = 0.0
        for j in range(x.shape[1]):
            eta += x[i, j] * z[j]
        lp += y[i] * eta - math.exp(eta)
    return lp


# --- the gradient of one draw ---------------------------------------------------------------------


def schools_gradient(z, y, sigma):
    tau = math.exp(z[1])
    ratio = (tau / 5.0) ** 2
    slope = np.zeros(z.shape[0])
    slope[0] = -z[0] / 25.0
    slope[1] = 1.0 - 2.0 * ratio / (1.0 + ratio)
    for j in range(y.shape[0]):
        r = (y[j] - z[0] - tau * z[2 + j]) / (sigma[j] * sigma[j])
        slope[0] += r
        slope[1] += r * tau * z[2 + j]
        slope[2 + j] = r * tau - z[2 + j]
    return slope


def schools_both(z, y, precision):
    tau = math.exp(z[1])
    ratio = (tau / 5.0) ** 2
    lp = -0.5 * (z[0] / 5.0) ** 2 + z[1] - math.log(1.0 + ratio)
    slope = np.zeros(z.shape[0])
    by_mu, by_log_tau = -0.04 * z[0], 1.0 - 2.0 * ratio / (1.0 + ratio)
    for j in range(y.shape[0]):
        eta = z[2 + j]
        scaled = (y[j] - z[0] - tau * eta) * precision[j]
        r = scaled * precision[j]
        moved = r * tau
        lp += -0.5 * eta * eta - 0.5 * scaled * scaled
        by_mu += r
        by_log_tau += moved * eta
        slope[2 + j] = moved - eta
    slope[0], slope[1] = by_mu, by_log_tau
    return lp, slope


# --- all draws, with arrays (`xp` is NumPy, JAX's or PyTorch) -------------------------------------


def logistic_batch(xp, z, x, y):
    eta = z @ x.T
    return -0.5 * (z * z).sum(-1) + eta @ y - xp.logaddexp(0.0 * eta, eta).sum(-1)


def schools_batch(xp, z, y, sigma):
    mu, log_tau, theta = z[..., :1], z[..., 1], z[..., 2:]
    tau = xp.exp(log_tau)
    r = (y - mu - tau[..., None] * theta) / sigma
    prior = -0.5 * (mu[..., 0] / 5.0) ** 2 + log_tau - xp.log(1.0 + (tau / 5.0) ** 2)
    return prior - 0.5 * (theta * theta).sum(-1) - 0.5 * (r * r).sum(-1)


def banana_batch(xp, z):
    return -0.5 * z[..., 0] ** 2 - 0.5 * ((z[..., 1] - z[..., 0] ** 2) / 0.3) ** 2


def linear_gaussian_batch(xp, z, x, w):
    r = x - z @ w.T
    return -0.5 * (z * z).sum(-1) - 0.5 * (r * r).sum(-1)


def poisson_batch(xp, z, x, y):
    eta = z @ x.T
    return eta @ y - xp.exp(eta).sum(-1)


# --- a block of draws, in loops over its lanes ----------------------------------------------------


def logistic_block(z, out, scratch, x, y):
    for k in range(LANES):
        out[k] = 0.0
    for d in range(x.shape[1]):
        for k in range(LANES):
            out[k] -= 0.5 * z[d, k] * z[d, k]
    for i in range(x.shape[0]):
        for k in range(LANES):
            scratch[k] = x[i, 0] * z[0, k]
        for j in range(1, x.shape[1]):
            for k in range(LANES):
                scratch[k] += x[i, j] * z[j, k]
        for k in range(LANES):
            eta = scratch[k]
            out[k] += y[i] * eta - (max(eta, 0.0) + log1p_signed(exp(-abs(eta))))


def schools_block(z, out, scratch, y, sigma):
    for k in range(LANES):
        tau = exp(z[1, k])
        scratch[k] = tau
        out[k] = -0.5 * (z[0, k] / 5.0) ** 2 + z[1, k] - log(1.0 + (tau / 5.0) ** 2)
    for j in range(y.shape[0]):
        for k in range(LANES):
            r = (y[j] - z[0, k] - scratch[k] * z[2 + j, k]) / sigma[j]
            out[k] += -0.5 * z[2 + j, k] * z[2 + j, k] - 0.5 * r * r


def banana_block(z, out, scratch):
    for k in range(LANES):
        r = (z[1, k] - z[0, k] * z[0, k]) / 0.3
        out[k] = -0.5 * z[0, k] * z[0, k] - 0.5 * r * r


def linear_gaussian_block(z, out, scratch, x, w):
    for k in range(LANES):
        out[k] = 0.0
    for d in range(w.shape[1]):
        for k in range(LANES):
            out[k] -= 0.5 * z[d, k] * z[d, k]
    for p in range(w.shape[0]):
        for k in range(LANES):
            scratch[k] = x[p]
        for d in range(w.shape[1]):
            for k in range(LANES):
                scratch[k] -= w[p, d] * z[d, k]
        for k in range(LANES):
            out[k] -= 0.5 * scratch[k] * scratch[k]


def poisson_block(z, out, scratch, x, y):
    for k in range(LANES):
        out[k] = 0.0
    for i in range(x.shape[0]):
        for k in range(LANES):
            scratch[k] = x[i, 0] * z[0, k]
        for j in range(1, x.shape[1]):
            for k in range(LANES):
                scratch[k] += x[i, j] * z[j, k]
        for k in range(LANES):
            out[k] += y[i] * scratch[k] - exp(scratch[k])


# --- the data ------------------------------------------------------------------------------------


def _models() -> dict[str, UserModel]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 8)) / 3.0
    effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    functions = {
        "logistic": UserModel(logistic, 8, (x, (rng.uniform(size=500) < 0.5) * 1.0)),
        "schools": UserModel(schools, 10, (effects, errors)),
        "banana": UserModel(banana, 2, ()),
        "linear Gaussian": UserModel(
            linear_gaussian, 10, (rng.normal(size=64), rng.normal(size=(64, 10)))
        ),
        "poisson": UserModel(poisson, 8, (x, rng.poisson(2.0, 500) * 1.0)),
    }
    return functions


MODELS = _models()
GRADIENTS = {"schools": schools_gradient}
BATCHES = {
    "logistic": logistic_batch, "schools": schools_batch, "banana": banana_batch,
    "linear Gaussian": linear_gaussian_batch, "poisson": poisson_batch,
}  # fmt: skip
BLOCKS = {
    "logistic": logistic_block, "schools": schools_block, "banana": banana_block,
    "linear Gaussian": linear_gaussian_block, "poisson": poisson_block,
}  # fmt: skip
