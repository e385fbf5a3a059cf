"""Sums of squares and of products of deviations from a mean, by the partial sums of `sums`."""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower, scalar
from .sums import PARTIAL_SUMS, STEP, TERMS, begin, close_sums


@scalar
def _deviation(x, mean):
    return x - mean if abs(x) < np.inf else 0.0


@borrower
def square_deviations(x, mean, n, partial_sums):
    """Sum of (x - mean)^2 over finite x."""
    partial = partial_sums[0]
    begin(partial, 0.0)
    whole = n - n % STEP
    for first in range(0, whole, STEP):
        for j in range(PARTIAL_SUMS):
            total = partial[j]
            for term in range(TERMS):
                deviation = _deviation(x[first + j + term * PARTIAL_SUMS], mean)
                total += deviation * deviation
            partial[j] = total
    for first in range(whole, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            deviation = _deviation(x[first + j], mean)
            partial[j] += deviation * deviation
    return close_sums(partial)


@borrower(interleave=4)
def _add_squares(x, mean, first, partial):
    """Add the squares of a row of deviations."""
    for j in range(PARTIAL_SUMS):
        deviation = x[np.uint64(first) + np.uint64(j)] - mean
        partial[j] += deviation * deviation


@borrower
def finite_square_deviations(x, mean, n, partial_sums):
    """As `square_deviations`, if all x are finite."""
    partial = partial_sums[0]
    begin(partial, 0.0)
    whole = n - n % STEP
    for first in range(0, whole, STEP):
        for j in range(PARTIAL_SUMS):
            total = partial[j]
            for term in range(TERMS):
                deviation = x[first + j + term * PARTIAL_SUMS] - mean
                total += deviation * deviation
            partial[j] = total
    full = n - n % PARTIAL_SUMS
    for first in range(whole, full, PARTIAL_SUMS):
        _add_squares(x, mean, first, partial)
    for k in range(full, n):
        deviation = x[k] - mean
        partial[k - full] += deviation * deviation
    return close_sums(partial)


@borrower
def joint_moments(w, w_mean, x, x_mean, n, partial_sums):
    """Centred second moments of w and of x, and their co-moment, over finite x."""
    second_w, second_x, co_moment = partial_sums[0], partial_sums[1], partial_sums[2]
    begin(second_w, 0.0)
    begin(second_x, 0.0)
    begin(co_moment, 0.0)
    whole = n - n % STEP
    for first in range(0, whole, STEP):
        for j in range(PARTIAL_SUMS):
            ww, xx, wx = second_w[j], second_x[j], co_moment[j]
            for term in range(TERMS):
                k = first + j + term * PARTIAL_SUMS
                # A read that depends on x would stop the vectoriser where there is no AVX.
                weight = w[k]
                dw = weight - w_mean if abs(x[k]) < np.inf else 0.0
                dx = _deviation(x[k], x_mean)
                ww += dw * dw
                xx += dx * dx
                wx += dw * dx
            second_w[j], second_x[j], co_moment[j] = ww, xx, wx
    for first in range(whole, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            k = first + j
            dw = w[k] - w_mean if abs(x[k]) < np.inf else 0.0
            dx = _deviation(x[k], x_mean)
            second_w[j] += dw * dw
            second_x[j] += dx * dx
            co_moment[j] += dw * dx
    return close_sums(second_w), close_sums(second_x), close_sums(co_moment)


@borrower(interleave=2)
def _add_products(w, w_mean, x, x_mean, first, second_w, second_x, co_moment):
    """Add the squares of two rows of deviations, and their products."""
    for j in range(PARTIAL_SUMS):
        k = np.uint64(first) + np.uint64(j)
        dw, dx = w[k] - w_mean, x[k] - x_mean
        second_w[j] += dw * dw
        second_x[j] += dx * dx
        co_moment[j] += dw * dx


@borrower
def finite_joint_moments(w, w_mean, x, x_mean, n, partial_sums):
    """As `joint_moments`, if all x are finite."""
    second_w, second_x, co_moment = partial_sums[0], partial_sums[1], partial_sums[2]
    begin(second_w, 0.0)
    begin(second_x, 0.0)
    begin(co_moment, 0.0)
    whole = n - n % STEP
    for first in range(0, whole, STEP):
        for j in range(PARTIAL_SUMS):
            ww, xx, wx = second_w[j], second_x[j], co_moment[j]
            for term in range(TERMS):
                k = first + j + term * PARTIAL_SUMS
                dw, dx = w[k] - w_mean, x[k] - x_mean
                ww += dw * dw
                xx += dx * dx
                wx += dw * dx
            second_w[j], second_x[j], co_moment[j] = ww, xx, wx
    full = n - n % PARTIAL_SUMS
    for first in range(whole, full, PARTIAL_SUMS):
        _add_products(w, w_mean, x, x_mean, first, second_w, second_x, co_moment)
    for j in range(n - full):
        dw, dx = w[full + j] - w_mean, x[full + j] - x_mean
        second_w[j] += dw * dw
        second_x[j] += dx * dx
        co_moment[j] += dw * dx
    return close_sums(second_w), close_sums(second_x), close_sums(co_moment)
