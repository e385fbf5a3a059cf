"""The generalised Pareto fit of the excesses of a tail (Zhang and Stephens, 2009).

The fit averages theta = -k / sigma over a grid, weighted by the likelihood. For each theta it needs
the mean of log(1 - theta x) over the excesses x. The logarithm of a product is that of few numbers,
and the product of four factors is a polynomial in theta, whose coefficients are the same for the
whole grid.

No such polynomial may lose digits: all its terms are positive. For theta > 0 this takes another
variable. With z = x[0] - x, where x[0] is the largest excess, and a = 1 - theta x[0],

    1 - theta x = a (1 + (theta / a) z).
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np

from ..jit.compile import block, borrower, exact, scalar
from ..jit.sharing import stopped
from ..math.copies import fill
from ..math.extremes import largest
from ..math.polynomials import DEGREE, LANES, PRODUCTS, multiply_values
from ..math.scalar import exp_normal, log, log_positive, split_exponent
from ..math.sums import make_partial_sums, range_sum, sum_all

# Excesses are padded with zeros to a multiple of this, so that no loop over them has a remainder.
_TILE = DEGREE * LANES
# Grid nodes are padded to a multiple of this.
_NODES = 16
# The product of two lanes of 8 factors does not overflow if no factor exceeds this.
_LARGE = 1e18
_FEWEST = 8
# The logarithm of the largest product of a lane.
_LOG_MOST = 300.0
# Up to this theta x[0], 1 - theta x needs no other variable.
_NEAR = 0.25
_LN2 = 0.6931471805599453

# Room for one fit: the polynomials of x and those of z; the grid (steps, theta, k, log-likelihood);
# for each node the argument of the polynomials, and a; products; terms of a sum.
Grid = namedtuple(
    "Grid",
    [
        "of_x", "of_z", "distance", "step", "theta", "k", "log_lik", "argument", "scale", "product",
        "exponent", "terms", "partial_sums", "counter",
    ],
)  # fmt: skip


@block
def _grid_size(tail_length):
    return 30 + np.int64(np.sqrt(tail_length))


@block
def padded(n):
    """Length of an array of n excesses, with their padding."""
    return (n + _TILE - 1) // _TILE * _TILE


@block
def _padded_nodes(nodes):
    return (nodes + _NODES - 1) // _NODES * _NODES


@block
def make_grid(tail_length, counter=None):
    """Allocate room to fit up to ``tail_length`` excesses."""
    room, nodes = padded(tail_length), _padded_nodes(_grid_size(tail_length))
    return Grid(
        np.empty((DEGREE, room // DEGREE)),
        np.empty((DEGREE, room // DEGREE)),
        np.empty(room),
        np.empty(nodes),
        np.empty(nodes),
        np.empty(nodes),
        np.empty(nodes),
        np.empty(nodes),
        np.empty(nodes),
        np.empty((nodes, PRODUCTS)),
        np.empty((nodes, PRODUCTS)),
        np.empty(max(room, nodes)),
        make_partial_sums(),
        counter,
    )


@block
def set_steps(n, grid):
    """Set the steps of the grid for n excesses."""
    nodes = _grid_size(n)
    for j in range(nodes):
        grid.step[j] = 1.0 - np.sqrt(nodes / (j + 0.5))


# --- polynomials --------------------------------------------------------------------------------


@exact
def _set_coefficients(x, count, coefficients):
    """Set the coefficients of ``count`` products of four factors 1 + t x, from 4 count numbers."""
    first, second, third, fourth = (
        coefficients[0], coefficients[1], coefficients[2], coefficients[3],
    )  # fmt: skip
    for i in range(count):
        a, b, c, d = x[i], x[i + count], x[i + 2 * count], x[i + 3 * count]
        s, p, t, q = a + b, a * b, c + d, c * d
        first[i] = s + t
        second[i] = (p + q) + s * t
        third[i] = p * t + q * s
        fourth[i] = p * q


@borrower
def _set_distances(x, n, distance):
    """How far the excesses are below the largest; padded with zeros."""
    top, room = x[0], x.shape[0]
    for i in range(room):
        distance[i] = top - x[i]
    fill(distance[n:], room - n, 0.0)


@scalar
def _is_near(theta, top):
    return theta * top <= _NEAR


@scalar
def _argument(theta, top):
    """(t, a) such that 1 - theta x = a (1 + t y), where y is x, or z if theta is not near 0."""
    scale = 1.0 if _is_near(theta, top) else 1.0 - theta * top
    return (-theta if _is_near(theta, top) else theta / scale), scale


@borrower
def _groups_at_once(theta, top, scale):
    """A number of polynomials whose partial products stay within the range of floats."""
    most = max(1.0 + abs(theta) * top, 1.0 / scale)
    return max(_FEWEST, np.int64(_LOG_MOST / math.log(most))) // DEGREE * LANES


@borrower
def _multiply(theta, top, t, nodes, of_x, of_z, first, stop, product):
    """Multiply the products of all nodes by the values of the polynomials ``first`` to ``stop``."""
    for j in range(nodes):
        if _is_near(theta[j], top):
            multiply_values(of_x, first, stop, t[j], product, j)
        else:
            multiply_values(of_z, first, stop, t[j], product, j)


@borrower
def _split(product, exponent, size):
    """Move the exponents of numbers to ``exponent``."""
    for i in range(size):
        product[i], power = split_exponent(product[i])
        exponent[i] += power


@borrower
def _close_products(product, exponent, nodes, mantissa, power):
    """Set mantissa and exponent of the products of partial products."""
    for node in range(nodes):
        a, b = product[node], exponent[node]
        mantissa[node] = (a[0] * a[1]) * (a[2] * a[3])
        power[node] = (b[0] + b[1]) + (b[2] + b[3])


@borrower(interleave=4)
def _set_arguments(theta, top, t, scale):
    for j in range(theta.shape[0]):
        t[j], scale[j] = _argument(theta[j], top)


@borrower(interleave=4)
def _set_means(mantissa, power, scale, n, out):
    """out = means of the logarithms of n factors with these products, each times ``scale``."""
    for j in range(out.shape[0]):
        own, common = split_exponent(scale[j])
        total = log_positive(mantissa[j]) + (power[j] + n * common) * _LN2
        out[j] = total / n + log_positive(own)


@borrower
def _set_mean_logs(theta, nodes, top, n, count, grid, out):
    """out = means of log(1 - theta x) over n excesses, from ``count`` polynomials.

    It takes one logarithm of the product over x, as logarithms would be most of the work. So the
    error is absolute.
    """
    padded_nodes = theta.shape[0]
    t, scale, product, exponent = grid.argument, grid.scale, grid.product, grid.exponent
    _set_arguments(theta, top, t, scale)
    size = padded_nodes * PRODUCTS
    flat, powers = product.reshape(product.size), exponent.reshape(exponent.size)
    fill(flat, size, 1.0)
    fill(powers, size, 0.0)
    step = _groups_at_once(theta[0], top, scale[nodes - 1])
    for first in range(0, count, step):
        stop = min(first + step, count)
        if stopped(grid.counter):
            return
        _multiply(theta, top, t, nodes, grid.of_x, grid.of_z, first, stop, product)
        _split(flat, powers, size)
    mantissa, power = t, grid.terms
    _close_products(product, exponent, padded_nodes, mantissa, power)
    _set_means(mantissa, power, scale, n, out)


# --- logarithms of single factors ---------------------------------------------------------------


@scalar
def _log1p(x):
    """log(1 + x) for a normal, positive 1 + x."""
    u = 1.0 + x
    return log_positive(u) + (x - (u - 1.0)) / u


@borrower(interleave=4)
def _set_log1p(x, factor, terms):
    for i in range(x.shape[0]):
        terms[i] = _log1p(factor * x[i])


@borrower
def _mean_log1p(x, factor, n, grid):
    """Mean of log1p(factor x) over x[:n]; the padding of x with zeros adds nothing."""
    _set_log1p(x, factor, grid.terms)
    return sum_all(grid.terms, x.shape[0], grid.partial_sums) / n


@borrower(interleave=2)
def _set_logs(coefficients, t, count, terms):
    first, second, third, fourth = (
        coefficients[0], coefficients[1], coefficients[2], coefficients[3],
    )  # fmt: skip
    for i in range(count):
        value = (fourth[i] * t + third[i]) * t + second[i]
        terms[i] = _log1p((value * t + first[i]) * t)


@borrower
def _mean_log(theta, top, n, count, grid):
    """Mean of log(1 - theta x) over n excesses; its relative error is small."""
    t, scale = _argument(theta, top)
    if _is_near(theta, top):
        _set_logs(grid.of_x, t, count, grid.terms)
    else:
        _set_logs(grid.of_z, t, count, grid.terms)
    return range_sum(grid.terms, 0, count) / n + log_positive(scale)


# --- the fit ------------------------------------------------------------------------------------


@borrower(interleave=4)
def _set_log_lik(theta, k, n, out):
    for j in range(theta.shape[0]):
        log_lik = n * (log(-theta[j] / k[j]) - k[j] - 1.0)
        # At theta = 0 and in the padding, the ratio is 0 / 0. Such a node gets no weight; its
        # neighbours represent it.
        out[j] = log_lik if log_lik == log_lik else -np.inf


@borrower(interleave=4)
def _set_weights(log_lik, top, weight):
    for j in range(log_lik.shape[0]):
        weight[j] = exp_normal(log_lik[j] - top)


@borrower
def _mean_theta(theta, log_lik, weight):
    """The mean of theta over the grid, weighted by the likelihood."""
    nodes = theta.shape[0]
    top = largest(log_lik, nodes)
    _set_weights(log_lik, top, weight)
    total = range_sum(weight, 0, nodes)
    for j in range(nodes):
        weight[j] *= theta[j]
    return range_sum(weight, 0, nodes) / total


@borrower
def fit(x, n, grid):
    """(k, sigma) of n excesses, descending; a prior with the weight of ten draws shrinks k to 1/2.

    ``grid`` then holds Zhang and Stephens' grid, with the most likely k of each theta.
    """
    nodes, count = _grid_size(n), x.shape[0] // DEGREE
    padded_nodes = _padded_nodes(nodes)
    theta, k = grid.theta[:padded_nodes], grid.k[:padded_nodes]
    first, step = 1.0 / x[0], 1.0 / (3.0 * x[n - np.int64(n / 4.0 + 0.5)])
    for j in range(padded_nodes):
        theta[j] = first + grid.step[j] * step if j < nodes else 0.0
    moderate = abs(theta[0]) * x[0] < _LARGE
    if moderate:
        _set_coefficients(x, count, grid.of_x)
        _set_distances(x, n, grid.distance)
        _set_coefficients(grid.distance, count, grid.of_z)
        _set_mean_logs(theta, nodes, x[0], n, count, grid, k)
    else:
        for j in range(padded_nodes):
            if stopped(grid.counter):
                break
            k[j] = _mean_log1p(x, -theta[j], n, grid)
    log_lik = grid.log_lik[:padded_nodes]
    _set_log_lik(theta, k, n, log_lik)
    mean = _mean_theta(theta, log_lik, grid.terms)
    shape = _mean_log(mean, x[0], n, count, grid) if moderate else _mean_log1p(x, -mean, n, grid)
    return (n * shape + 5.0) / (n + 10.0), -shape / mean
