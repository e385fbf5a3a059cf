"""A step of expectation-maximisation for Gaussian mixtures: one pass over the data points.

A lane is a data point. Of a block of points the responsibilities r are found, and added are, for
each component, sum r, sum r x, and the second moments of x about the component's mean m, sum r (x -
m)(x - m)': all of them, or their diagonal alone. All are sums of products of two rows: of r and x,
which ends in a row of ones, and of r (x - m) and x - m. About the mean that a component has before
the step, second moments lose no digit to where it is.

Points are cut by address into chunks, each of which has sums of its own, which any thread may fill.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..draws.blocks import TILE, padded
from ..draws.densities import move, square_norm_diagonal, square_norm_triangular
from ..jit.compile import block, borrower
from ..jit.sharing import stopped
from ..math.copies import copy_to, fill, load_rows
from ..math.products import (
    PARTS,
    ROW_PRODUCTS,
    TILE_PRODUCTS,
    add_row_products,
    add_tile_products,
    close_products,
)
from ..math.scalar import exp_normal, log_positive
from ..math.sums import make_partial_sums, sum_all
from .launch import ELEMENT_WORK, launch, new_counter

Floats = NDArray[np.float64]

# So many rows of a few coordinates fit the first-level cache.
_LANES = 256
# Blocks of a chunk, unless there were more chunks than the largest number of them.
_CHUNK_BLOCKS = 8
_MOST_CHUNKS = 256


class Whitened(NamedTuple):
    """Components: log density log_const - |factor (x - mean)|^2 / 2, the log weight included."""

    log_const: Floats  # (C,)
    mean: Floats  # (C, D); here and below, D is `padded` with zeros
    factor: Floats  # (C, 1 diagonal | D lower triangular, D)


class Sums(NamedTuple):
    """What a pass over the data points adds up."""

    log_likelihood: float  # sum w log p(x)
    total: Floats  # (C,): sum r, with r the weights w shared out among the components
    first: Floats  # (C, D): sum r x
    second: Floats  # (C, D, D): sum r (x - m)(x - m)', or its diagonal (C, D)


class _Room(NamedTuple):
    """Arrays of one thread for its current block."""

    x: Floats  # (padded D + 1, lanes): coordinates, and a row of ones
    moved: Floats  # (padded D, lanes): x - m
    weighted: Floats  # (padded D, lanes): r (x - m)
    terms: Floats  # (even C, lanes): log densities, then r; a last row may stay 0
    accumulator: Floats  # (TILE, lanes)
    square: Floats  # (lanes,)
    top: Floats  # (lanes,)
    total: Floats  # (lanes,)
    weight: Floats  # (lanes,)
    log_likelihood: Floats  # (lanes,)
    zeros: Floats  # (padded D,)
    sums: Floats  # (products, PARTS)
    partial_sums: Floats


@block
def _make_room(components, dim, products):
    rows = padded(dim)
    x = np.zeros((padded(dim + 1), _LANES))
    x[dim] = 1.0
    return _Room(
        x,
        np.empty((rows, _LANES)),
        np.empty((rows, _LANES)),
        np.zeros((components + components % 2, _LANES)),
        np.empty((TILE, _LANES)),
        np.empty(_LANES),
        np.empty(_LANES),
        np.empty(_LANES),
        np.empty(_LANES),
        np.empty(_LANES),
        np.zeros(rows),
        np.empty((products, PARTS)),
        make_partial_sums(),
    )


@borrower
def _set_terms(whitened, work, n):
    """Set the log densities of the components."""
    rows, full = work.moved.shape[0], whitened.factor.shape[1] > 1
    for c in range(whitened.mean.shape[0]):
        move(work.x, whitened.mean[c], rows, n, work.moved)
        factor, square = whitened.factor[c], work.square
        if full:
            square_norm_triangular(factor, work.zeros, work.moved, n, work.accumulator, square)
        else:
            square_norm_diagonal(factor[0], work.zeros, work.moved, n, square)
        term, log_const = work.terms[c], whitened.log_const[c]
        for k in range(n):
            term[k] = log_const - 0.5 * square[k]


@borrower
def _share_out(components, work, n):
    """Turn the log densities into r, and add w log p(x)."""
    top, total, terms, weight = work.top, work.total, work.terms, work.weight
    for k in range(n):
        top[k], total[k] = terms[0, k], 0.0
    for c in range(1, components):
        term = terms[c]
        for k in range(n):
            top[k] = term[k] if term[k] > top[k] else top[k]
    for c in range(components):
        term = terms[c]
        for k in range(n):
            share = exp_normal(term[k] - top[k])
            term[k] = share
            total[k] += share
    log_likelihood = work.log_likelihood
    for k in range(n):
        log_likelihood[k] += weight[k] * (top[k] + log_positive(total[k]))
        total[k] = weight[k] / total[k]
    for c in range(components):
        term = terms[c]
        for k in range(n):
            term[k] *= total[k]


@borrower
def _add_moments(whitened, work, n):
    """Add the products of a block to the sums, in the order of `_places`."""
    components, rows = whitened.mean.shape[0], work.moved.shape[0]
    full, at = whitened.factor.shape[1] > 1, 0
    for c in range(0, components, 2):
        for j in range(0, work.x.shape[0], TILE):
            add_tile_products(work.terms, work.x, c, j, n, work.sums, at)
            at += TILE_PRODUCTS
    for c in range(components):
        move(work.x, whitened.mean[c], rows, n, work.moved)
        share = work.terms[c]
        for d in range(rows):
            moved, weighted = work.moved[d], work.weighted[d]
            for k in range(n):
                weighted[k] = share[k] * moved[k]
        if not full:
            for i in range(0, rows, TILE):
                add_row_products(work.weighted, work.moved, i, i, n, work.sums, at)
                at += ROW_PRODUCTS
            continue
        for i in range(0, rows, 2):
            for j in range(0, i + 1, TILE):
                add_tile_products(work.weighted, work.moved, i, j, n, work.sums, at)
                at += TILE_PRODUCTS


@block
def pass_over(part, parts, x, weights, whitened, blocks, states, counter):
    """states[i] = sum w log p(x), and all sums of products, of chunk i, which has so many blocks.

    Of a launch that is stopped, some points are left out.
    """
    points, dim = x.shape
    components, chunks = whitened.mean.shape[0], states.shape[0]
    origin = np.zeros(dim)
    work = _make_room(components, dim, states.shape[1] - 1)
    for chunk in range(part * chunks // parts, (part + 1) * chunks // parts):
        work.sums[:] = 0.0
        fill(work.log_likelihood, _LANES, 0.0)
        first = chunk * blocks * _LANES
        stop = min(first + blocks * _LANES, points)
        while first < stop and not stopped(counter):
            n = min(_LANES, stop - first)
            load_rows(x[first : first + n], origin, n, work.x)
            # Lanes without a point keep an old one, of weight 0.
            fill(work.weight, _LANES, 0.0)
            copy_to(weights[first : first + n], n, work.weight, 0)
            lanes = (n + 7) // 8 * 8
            _set_terms(whitened, work, lanes)
            _share_out(components, work, lanes)
            _add_moments(whitened, work, lanes)
            first += n
        states[chunk, 0] = sum_all(work.log_likelihood, _LANES, work.partial_sums)
        for product in range(states.shape[1] - 1):
            states[chunk, 1 + product] = close_products(work.sums, product)


def _places(components: int, dim: int, full: bool) -> tuple[Any, Any, int]:
    """Where a state has the first moments (C, D + 1) and the second ones, and its length."""
    rows, columns = components + components % 2, padded(dim + 1)
    tiles = 1 + np.arange(rows * columns).reshape(rows // 2, columns // 4, 2, 4)
    first = tiles.transpose(0, 2, 1, 3).reshape(rows, columns)[:components, : dim + 1]
    at, size = 1 + rows * columns, padded(dim)
    if not full:
        second = at + np.arange(components * size).reshape(components, size)
        return first, second[:, :dim], at + components * size
    own = np.zeros((size, size), np.int64)
    count = 0
    for i in range(0, size, 2):
        for j in range(0, i + 1, TILE):
            own[i : i + 2, j : j + 4] = count + np.arange(TILE_PRODUCTS).reshape(2, 4)
            count += TILE_PRODUCTS
    lower = np.maximum.outer(np.arange(dim), np.arange(dim))
    upper = np.minimum.outer(np.arange(dim), np.arange(dim))
    second = at + count * np.arange(components)[:, None, None] + own[lower, upper]
    return first, second, at + count * components


def mixture_sums(
    x: Floats, weights: Floats, whitened: Whitened, n_threads: int | None = None
) -> Sums:
    """The sums of a step over data points x (N, D) of weights w (N,).

    Points have moderate coordinates, and a density that is not 0. Arrays are contiguous.
    """
    points, dim = x.shape
    components, rows = whitened.factor.shape[:2]
    first, second, size = _places(components, dim, rows > 1)
    blocks = max(_CHUNK_BLOCKS, -(-points // (_LANES * _MOST_CHUNKS)))
    states = np.empty((-(-points // (blocks * _LANES)), size))
    counter = new_counter()
    work = points * (components * ELEMENT_WORK + size + whitened.factor.size)
    launch(
        pass_over, x, weights, whitened, blocks, states, counter,
        n_threads=1 if len(states) == 1 else n_threads, work=work, counter=counter,
    )  # fmt: skip
    total = states.sum(axis=0)
    return Sums(float(total[0]), total[first[:, dim]], total[first[:, :dim]], total[second])
