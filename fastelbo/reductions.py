"""Reductions of log weights that are there already."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .diagnostics import refuse_bad_weights, warn_about_weights
from .errors import InvalidInputError, UnsupportedDTypeError
from .kernels import cpu, rows, state
from .kernels.launch import Pace, launch
from .lowering import constant
from .results import Estimate, from_quantities
from .validation import DEFAULT_IW_SIZES, Floats, as_count, group_sizes

# Numbers in the states of one slice of rows: 32 MB.
_SLICE_NUMBERS = 2**22
_FIRST_ELEMENTS = 2**20


def _as_log_weights(value: Any, name: str) -> np.ndarray[Any, Any]:
    """A float32 or float64 array in native byte order, the argument itself where it is one."""
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedDTypeError(
            f"{name} is a masked array, whose mask would be ignored; fill the masked entries "
            "(with -inf for a weight of 0) first"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise UnsupportedDTypeError(
            f"{name} has dtype {array.dtype}; expected real numbers: float16, float32, float64, "
            "integers or bool"
        )
    wide = array.dtype.kind == "f" and array.dtype.itemsize >= 4
    return array.astype(array.dtype.newbyteorder("=") if wide else np.float64, copy=False)


def _as_rows(
    array: np.ndarray[Any, Any], axis: int
) -> tuple[np.ndarray[Any, Any], tuple[int, ...]]:
    """The array as (A, K, B), reduced along K, and the shape of the result.

    Without a copy where the array is contiguous in C or Fortran order.
    """
    if not -array.ndim <= axis < array.ndim:
        raise InvalidInputError(
            f"axis must be an axis of an array of shape {array.shape}, got {axis}"
        )
    axis %= array.ndim
    shape = array.shape[:axis] + array.shape[axis + 1 :]
    before, after = math.prod(array.shape[:axis]), math.prod(array.shape[axis + 1 :])
    return constant(array.reshape(before, array.shape[axis], after)), shape


def logsumexp(a: ArrayLike, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """log(sum(exp(a))), stable, as `scipy.special.logsumexp`.

    Parameters
    ----------
    a : array_like
        Real numbers; float32 is summed in float64.
    axis : int, optional
        Axis to reduce; all of them by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    ndarray or scalar
        float32 for a float32 input, float64 otherwise. -inf for an empty sum, NaN where an element
        is NaN, +inf where one is +inf and none NaN.

    Raises
    ------
    UnsupportedDTypeError
        Complex, object, string, long double and masked arrays.

    Notes
    -----
    Shifted by the maximum, which is left out of the sum and put back by log1p (Blanchard, Higham
    and Higham, 2021); sums of pieces are compensated.

    Examples
    --------
    >>> import fastelbo as fe
    >>> float(fe.logsumexp([0.0, -40.0]))
    4.248354255291589e-18
    """
    array = _as_log_weights(a, "a")
    dtype = array.dtype if array.dtype == np.float32 else np.dtype(np.float64)
    if axis is None:
        out_shape: tuple[int, ...] = (1,) * array.ndim if keepdims else ()
        array = array.reshape(-1, order="A") if array.ndim != 1 else array
        x, _ = _as_rows(array, 0)
    else:
        x, out_shape = _as_rows(array, axis)
        if keepdims:
            axis %= array.ndim
            out_shape = (*out_shape[:axis], 1, *out_shape[axis:])
    result = _logsumexp_rows(x).astype(dtype, copy=False).reshape(out_shape)
    return result[()]


def _logsumexp_rows(x: np.ndarray[Any, Any]) -> Floats:
    before, length, after = x.shape
    total = np.zeros((before, after, rows.LSE_SIZE))
    total[..., rows.TOP] = -np.inf
    n_chunks = -(-length // cpu.CHUNK)
    pace = Pace(max(1, _FIRST_ELEMENTS // max(1, before * after * cpu.CHUNK)))
    first = 0
    while total.size and first < n_chunks:
        last = min(n_chunks, first + pace.size)
        with pace:
            states = np.empty((before, after, last - first, rows.LSE_SIZE))
            launch(rows.logsumexp, x, first, last, states)
            launch(rows.logsumexp_fold, states, total)
        first = last
    top, rest = total[..., rows.TOP], total[..., rows.HIGH] + total[..., rows.LOW]
    return np.asarray(top + np.log1p(rest))


def summarize(
    log_weights: ArrayLike, axis: int = -1, *, iw_sizes: Iterable[int] | None = None
) -> Estimate:
    """The `Estimate` of log weights that come from elsewhere.

    Parameters
    ----------
    log_weights : array_like
        ``log p(x, z_k) - log q(z_k)``, real; -inf is a weight of 0.
    axis : int
        The axis of the draws k; the others are data points, whose draws are independent.
    iw_sizes : iterable of int, optional
        Group sizes of the importance-weighted bounds, as for `estimate`.

    Returns
    -------
    Estimate
        ``expected_log_likelihood`` and ``kl``, which the weights do not tell apart, are NaN.

    Raises
    ------
    InvalidWeightError
        A log weight that is NaN or +inf, with its place.

    Examples
    --------
    >>> import fastelbo as fe
    >>> est = fe.summarize([[0.0, 0.1, -0.1, 0.05]], iw_sizes=())
    >>> round(float(est.log_evidence[0]), 6)
    0.015204
    """
    array = _as_log_weights(log_weights, "log_weights")
    if array.ndim == 0:
        raise InvalidInputError("log_weights must have an axis of draws, got a scalar")
    x, shape = _as_rows(array, axis)
    n_samples = as_count(x.shape[1], "the number of draws in log_weights")
    sizes = group_sizes(iw_sizes, n_samples, DEFAULT_IW_SIZES)
    states = _summary_states(x, np.array(sizes, dtype=np.int64))
    values = state.read(states, len(sizes))
    refuse_bad_weights(values["n_bad"], values["first_bad"])
    warn_about_weights(n_samples, values["log_evidence"], values["relative_variance"])
    unknown = np.full(len(states), np.nan)
    values |= {
        name: unknown
        for name in ("expected_log_likelihood", "expected_log_likelihood_se", "kl", "kl_se")
    }
    return from_quantities(values, shape, n_samples, sizes, independent=True)


def _summary_states(x: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any]) -> Floats:
    before, length, after = x.shape
    size = state.state_size(len(sizes))
    sizes = constant(sizes)
    n_chunks = -(-length // cpu.CHUNK)
    prefix = np.empty((before, after, size))
    pace = Pace(max(1, _FIRST_ELEMENTS // cpu.CHUNK))
    lo = 0
    while lo < before and after:
        count = min(
            before - lo, max(1, min(pace.size, _SLICE_NUMBERS // size) // (n_chunks * after))
        )
        first = 0
        while first < n_chunks:
            last = min(n_chunks, first + max(1, pace.size // (count * after)))
            with pace:
                chunks = np.empty((count, after, last - first, size))
                launch(rows.summaries, x[lo : lo + count], first, last, sizes, chunks)
                launch(
                    cpu.fold, chunks.reshape(count * after, last - first, size), sizes,
                    first == 0, prefix[lo : lo + count].reshape(count * after, size),
                )  # fmt: skip
            first = last
        lo += count
    return prefix.reshape(before * after, size)
