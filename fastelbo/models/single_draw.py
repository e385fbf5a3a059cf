"""One draw of an estimate, made again from its address."""

from __future__ import annotations

import math

import numpy as np

from ..errors import InvalidInputError
from ..kernels.cpu import launch
from ..validation import MAX_DRAWS, MAX_POINTS, Floats, as_choice, as_count, broadcast_shape, shown
from .plans import draw_sampler
from .protocol import Points, Proposal

_LARGEST_KEY = 2**64 - 1


def draw(
    q: Proposal,
    i: int,
    k: int,
    *,
    key: int,
    first_index: int = 0,
    batch_shape: tuple[int, ...] | None = None,
    precision: str = "float64",
) -> Floats:
    """Draw k of data point i, as `estimate` made it: the draw that an error message names.

    Parameters
    ----------
    q : Gaussian, StudentT or Mixture
        The approximate posterior of the estimate.
    i : int
        The data point, counted in the flattened batch of the estimate.
    k : int
        The draw.
    key : int
        The key of the draws, which the message has. A Generator or None as ``rng`` gives another
        key in each call.
    first_index : int
        As for the estimate.
    batch_shape : tuple of int, optional
        Batch of the estimate. It is needed only if q has a batch that is not the whole one.
    precision : {"float64", "float32"}
        As for the estimate.

    Returns
    -------
    ndarray, shape (D,)

    Raises
    ------
    InvalidInputError
        If an argument is invalid, or the batch has no data point i.
    OverflowError
        If k is above 2^40, i + ``first_index`` not below 2^32, or the key not below 2^64.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> q = fe.Gaussian([0.0, 5.0], scale=1.0)
    >>> key = int(np.random.default_rng(0).integers(0, 2**64, dtype=np.uint64))  # of rng=0
    >>> bool(np.all(fe.draw(q, 0, 7, key=key) == q.sample(8, rng=0)[7]))
    True
    """
    if isinstance(q, type) or not isinstance(q, Proposal):
        raise InvalidInputError(f"q must be a distribution over vectors, got {shown(q)}")
    point, number = as_count(i, "i", least=0), as_count(k, "k", least=0, below=MAX_DRAWS - 1)
    key = as_count(key, "key", least=0, below=_LARGEST_KEY)
    address = as_count(first_index, "first_index", least=0) + point
    if address >= MAX_POINTS:
        raise OverflowError(f"first_index + i must be below {MAX_POINTS}, got {address}")
    as_choice(precision, "precision", ("float64", "float32"))
    batch = _batch(q, point, batch_shape)
    with np.errstate(all="ignore"):  # a far draw may be infinite
        sampler = draw_sampler(q, Points(batch, slice(point, point + 1)), precision)
    one = launch.sample(sampler, 1, 1, q.dim, key, first_index=address, first_draw=number)
    return np.asarray(one[0, 0], dtype=np.float64)


def _batch(q: Proposal, point: int, batch_shape: object) -> tuple[int, ...]:
    """The batch of the estimate; without one of its own, q is the same for any."""
    own = q.batch_shape
    if batch_shape is None:
        batch = own or (point + 1,)
    else:
        if not isinstance(batch_shape, (tuple, list)):
            raise InvalidInputError(
                f"batch_shape must be a tuple of integers, got {shown(batch_shape)}"
            )
        batch = tuple(as_count(n, "batch_shape", least=0) for n in batch_shape)
        if broadcast_shape(batch_shape=batch, q=own) != batch:
            raise InvalidInputError(f"batch_shape must hold that of q, {own}, got {batch}")
    if point >= math.prod(batch):
        raise InvalidInputError(
            f"i must be below {math.prod(batch)}, the number of data points, got {point}"
        )
    return batch
