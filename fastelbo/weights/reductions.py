"""Reductions of existing log weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays.draws import Dim, read_draws
from ..arrays.inputs import Axis, as_array, as_rows, in_native_floats, normal_axes
from ..arrays.protocols import LogWeights
from ..errors import InvalidInputError
from ..kernels.cpu import rows
from ..kernels.cpu.launch import ELEMENT_WORK, Pace, launch, threads_for
from ..kernels.draws.blocks import CHUNK
from ..validation import Floats, as_flag
from .diagnostics import refuse_bad_weights

# With an axis, the declared result is an array, as in NumPy's own stubs: the type does not show
# whether there are other axes.
_Float = TypeVar("_Float", bound=np.floating[Any])

_FIRST_ELEMENTS = 2**20
# Temporary arrays of this many elements stay in the cache.
_CACHED_ELEMENTS = 2**14
# NumPy sums this many elements within a few hundredths of a second.
_PIECE_ELEMENTS = 2**20
# A ratio between this and its reciprocal keeps its digits when multiplied by an exponential.
_TINY = 1e-280


def weight_rows(
    log_weights: LogWeights, axis: int | None, dim: Dim
) -> tuple[Floats, tuple[int, ...]]:
    """Log weights as a checked float64 matrix (rows, K), and the shape of their data points."""
    draws = read_draws(log_weights, "log_weights", axis, dim).checked()
    rows = np.moveaxis(draws.array, draws.axes, range(-len(draws.axes), 0))
    # In one layout, as the order of summation follows it.
    rows = np.ascontiguousarray(rows.reshape(math.prod(draws.batch), draws.length), np.float64)
    bad = ~(rows < np.inf)
    refuse_bad_weights(bad.sum(axis=1), bad.argmax(axis=1))
    return rows, draws.batch


@overload
def logsumexp(
    a: NDArray[_Float],
    axis: None = None,
    b: NDArray[_Float] | float | None = None,
    keepdims: Literal[False] = False,
    return_sign: Literal[False] = False,
) -> _Float: ...
@overload
def logsumexp(
    a: NDArray[_Float],
    axis: Axis = None,
    b: NDArray[_Float] | float | None = None,
    keepdims: bool = False,
    return_sign: Literal[False] = False,
) -> NDArray[_Float]: ...
@overload
def logsumexp(
    a: NDArray[_Float],
    axis: None = None,
    b: NDArray[_Float] | float | None = None,
    keepdims: Literal[False] = False,
    *,
    return_sign: Literal[True],
) -> tuple[_Float, _Float]: ...
@overload
def logsumexp(
    a: NDArray[_Float],
    axis: Axis = None,
    b: NDArray[_Float] | float | None = None,
    keepdims: bool = False,
    *,
    return_sign: Literal[True],
) -> tuple[NDArray[_Float], NDArray[_Float]]: ...
@overload
def logsumexp(
    a: ArrayLike | Path,
    axis: None = None,
    b: ArrayLike | None = None,
    keepdims: Literal[False] = False,
    return_sign: Literal[False] = False,
) -> np.float64: ...
@overload
def logsumexp(
    a: ArrayLike | Path,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: Literal[False] = False,
) -> Floats: ...
@overload
def logsumexp(
    a: ArrayLike | Path,
    axis: None = None,
    b: ArrayLike | None = None,
    keepdims: Literal[False] = False,
    *,
    return_sign: Literal[True],
) -> tuple[np.float64, np.float64]: ...
@overload
def logsumexp(
    a: ArrayLike | Path,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    *,
    return_sign: Literal[True],
) -> tuple[Floats, Floats]: ...
def logsumexp(
    a: ArrayLike | Path,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    """Stable log(sum(b * exp(a))), like `scipy.special.logsumexp` for real numbers.

    Parameters
    ----------
    a : array_like
        Real numbers in any layout, also of torch, JAX or pandas, or the path of a ``.npy`` file.
        Sums are in float64.
    axis : int or tuple of int, optional
        Axes to reduce; all axes by default.
    b : array_like, optional
        Factors, broadcast against a. A term with factor 0 is 0, even if its element of a is
        infinite or NaN.
    keepdims : bool
        Keep the reduced axes with length 1.
    return_sign : bool
        Return the logarithm of the absolute value, and the sign as a second result.

    Returns
    -------
    result : ndarray or scalar
        Its dtype is the promoted dtype of a and b, or float64 for integers. The result is -inf for
        an empty sum. It is NaN if an element is NaN, or if the sum is negative and ``return_sign``
        is False. It is +inf if an element is +inf and none is NaN.
    sign : ndarray or scalar
        Only with ``return_sign``: 1, 0 or -1; NaN if the result is NaN.

    Raises
    ------
    UnsupportedDTypeError
        For complex, object, string, long double and masked arrays.
    InvalidInputError
        If shapes do not broadcast, or if an axis does not exist or is repeated.

    Notes
    -----
    Terms are scaled by the largest term. This term is left out of the sum and added by log1p
    (Blanchard, Higham and Higham, 2021). Sums of chunks are compensated. The result equals SciPy's
    to rounding, with two exceptions. The sign of an empty sum is 0; SciPy returns -1. If all
    factors are 0 and elements are infinite, the result is -inf; SciPy returns NaN.

    Examples
    --------
    >>> import fastelbo as fe
    >>> float(fe.logsumexp([0.0, -40.0]))
    4.248354255291589e-18
    >>> log_difference, sign = fe.logsumexp([1.0, 2.0], b=[1, -1], return_sign=True)
    >>> round(float(log_difference), 6), float(sign)
    (1.541325, -1.0)
    """
    keepdims, return_sign = as_flag(keepdims, "keepdims"), as_flag(return_sign, "return_sign")
    given = as_array(a, "a", file=True)
    x = np.atleast_1d(in_native_floats(given))
    if b is None:
        dtype = _result_dtype(given)
        axes = normal_axes(axis, x.ndim)
        rows, shape = as_rows(x, axes)
        top, rest = _top_and_rest(rows)
        value = top + rest
        sign = np.where(np.isnan(value), np.nan, np.where(np.isneginf(value), 0.0, 1.0))
    else:
        # The same memory order for both, so that each factor stays with its element.
        factors = as_array(b, "b")
        pairs = ((a, given), (b, factors))
        dtype = _result_dtype(
            *(raw if isinstance(raw, (int, float)) else array for raw, array in pairs)
        )
        x, factors = map(np.ascontiguousarray, _broadcast(x, in_native_floats(factors)))
        axes = normal_axes(axis, x.ndim)
        rows, shape = as_rows(x, axes)
        value, sign = _signed_rows(rows, as_rows(factors, axes)[0])
    if not return_sign:
        return _shaped(np.where(sign < 0.0, np.nan, value), dtype, shape, axes, keepdims)
    return tuple(_shaped(array, dtype, shape, axes, keepdims) for array in (value, sign))


@overload
def logmeanexp(
    a: NDArray[_Float], axis: None = None, keepdims: Literal[False] = False
) -> _Float: ...
@overload
def logmeanexp(
    a: NDArray[_Float], axis: Axis = None, keepdims: bool = False
) -> NDArray[_Float]: ...
@overload
def logmeanexp(
    a: ArrayLike | Path, axis: None = None, keepdims: Literal[False] = False
) -> np.float64: ...
@overload
def logmeanexp(a: ArrayLike | Path, axis: Axis = None, keepdims: bool = False) -> Floats: ...
def logmeanexp(a: ArrayLike | Path, axis: Axis = None, keepdims: bool = False) -> Any:
    """Stable log(mean(exp(a))). If a are log weights, this is the log evidence.

    Parameters
    ----------
    a : array_like
        Real numbers in any layout, as for `logsumexp`.
    axis : int or tuple of int, optional
        Axes to reduce; all axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    ndarray or scalar
        The result of `logsumexp` minus log n, with n the number of elements; NaN if n = 0.

    Raises
    ------
    UnsupportedDTypeError, InvalidInputError
        As for `logsumexp`.

    Examples
    --------
    >>> import fastelbo as fe
    >>> float(fe.logmeanexp([-1000.0, -1000.0]))
    -1000.0
    """
    keepdims = as_flag(keepdims, "keepdims")
    given = as_array(a, "a", file=True)
    x = np.atleast_1d(in_native_floats(given))
    axes = normal_axes(axis, x.ndim)
    rows, shape = as_rows(x, axes)
    top, rest = _top_and_rest(rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Subtract log n before adding the maximum: a large maximum would round both.
        value = top + (rest - np.log(rows.shape[1]))
    return _shaped(value, _result_dtype(given), shape, axes, keepdims)


def _result_dtype(*arrays: Any) -> np.dtype[Any]:
    """The promoted dtype of arrays and of Python's numbers; float64 if none is a float."""
    dtype = np.result_type(*(getattr(x, "dtype", x) for x in arrays))
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def _broadcast(*arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    try:
        return list(np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise InvalidInputError(f"a and b must broadcast, got shapes {shapes}") from None


def _shaped(
    values: Floats,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    keepdims: bool,
) -> Any:
    with np.errstate(over="ignore"):
        result = values.astype(dtype, copy=False).reshape(shape)
    return (np.expand_dims(result, axes) if keepdims else result)[()]


def logsumexp_of_rows(x: np.ndarray[Any, Any], n_threads: int | None = None) -> Floats:
    """`logsumexp` along the middle axis of x (A, K, B), float32 or float64, as float64."""
    top, rest = _top_and_rest(x, n_threads)
    return top + rest


def _top_and_rest(x: np.ndarray[Any, Any], n_threads: int | None = None) -> tuple[Floats, Floats]:
    """The maximum of each row, and its logsumexp minus this maximum."""
    before, length, after = x.shape
    total = np.zeros((before, after, rows.LSE_SIZE))
    total[..., rows.TOP] = -np.inf
    n_chunks = -(-length // CHUNK)
    pace = Pace(max(1, _FIRST_ELEMENTS // max(1, before * after * CHUNK)))
    first = 0
    while total.size and first < n_chunks:
        last = min(n_chunks, first + pace.size)
        with pace:
            states = np.empty((before, after, last - first, rows.LSE_SIZE))
            work = ELEMENT_WORK * x.size * ((last - first) / n_chunks)
            threads = n_threads or threads_for(x.size)
            launch(rows.logsumexp, x, first, last, states, n_threads=threads, work=work)
            threads = n_threads or threads_for(states.size)
            launch(rows.logsumexp_fold, states, total, n_threads=threads)
        first = last
    rest = np.log1p(total[..., rows.HIGH] + total[..., rows.LOW])
    return total[..., rows.TOP], np.asarray(rest)


def _signed_rows(x: np.ndarray[Any, Any], factors: np.ndarray[Any, Any]) -> tuple[Floats, Floats]:
    """log |sum of b exp(a)| and the sign of the sum, for x = a and factors = b, both (A, K, B)."""
    before, length, after = x.shape
    if length == 0:
        return np.full((before, after), -np.inf), np.zeros((before, after))
    value, sign = np.empty((2, before, after))
    width = max(1, min(after, _PIECE_ELEMENTS))
    step = max(1, _CACHED_ELEMENTS // max(1, length * width))
    for lo in range(0, before, step):
        for column in range(0, after, width):
            part = slice(lo, lo + step), slice(column, column + width)
            place = part[0], slice(None), part[1]
            value[part], sign[part] = _signed_slice(x[place], factors[place])
    return value, sign


class _Signed(NamedTuple):
    """Sums of b exp(a) as b_lead exp(a_lead) (1 + rest), or ``direct`` if a_lead is not finite."""

    a_lead: Floats
    b_lead: Floats
    rest: Floats
    direct: Floats


def _signed_slice(x: np.ndarray[Any, Any], factors: np.ndarray[Any, Any]) -> tuple[Floats, Floats]:
    """The same, in pieces that take so short that an interrupt is served between them."""
    length = x.shape[1]
    step = max(1, _PIECE_ELEMENTS // max(1, x.shape[0] * x.shape[2]))
    with np.errstate(all="ignore"):
        pieces = [
            _signed_piece(x[:, lo : lo + step], factors[:, lo : lo + step])
            for lo in range(0, length, step)
        ]
        total = pieces[0] if len(pieces) == 1 else _joined(pieces)
        rest, b_lead = total.rest, total.b_lead
        value = total.a_lead + (
            np.log(np.abs(b_lead)) + np.log1p(np.where(rest < -1, -2 - rest, rest))
        )
        sign = np.sign(b_lead) * np.sign(1.0 + rest)
        # If the leading term is not finite, the finite terms do not matter.
        direct = ~np.isfinite(total.a_lead + np.log(np.abs(b_lead)))
        value = np.where(direct, np.log(np.abs(total.direct)), value)
        sign = np.where(direct, np.sign(total.direct), sign)
    return value, sign


def _signed_piece(x: np.ndarray[Any, Any], factors: np.ndarray[Any, Any]) -> _Signed:
    a, b = (np.swapaxes(array, 1, 2).astype(np.float64) for array in (x, factors))
    a[b == 0.0] = -np.inf
    size = a + np.log(np.abs(b))
    lead = size.argmax(axis=-1)[..., None]
    a_lead, b_lead = (np.take_along_axis(array, lead, -1) for array in (a, b))
    terms = _ratios(a - a_lead, b, b_lead)
    np.put_along_axis(terms, lead, 0.0, -1)
    direct = np.zeros(a.shape[:-1])
    infinite = ~np.isfinite(np.take_along_axis(size, lead, -1)[..., 0])
    if infinite.any():
        large = np.where(np.isfinite(size[infinite]), 0.0, b[infinite] * np.exp(a[infinite]))
        direct[infinite] = large.sum(axis=-1)
    return _Signed(a_lead[..., 0], b_lead[..., 0], terms.sum(axis=-1), direct)


def _joined(pieces: list[_Signed]) -> _Signed:
    """The sum of sums."""
    a, b, rest, direct = (np.stack(values, axis=-1) for values in zip(*pieces, strict=True))
    size = a + np.log(np.abs(b))
    lead = size.argmax(axis=-1)[..., None]
    a_lead, b_lead, rest_lead = (np.take_along_axis(array, lead, -1) for array in (a, b, rest))
    terms = np.where(np.isneginf(size), 0.0, _ratios(a - a_lead, b, b_lead) * (1.0 + rest))
    np.put_along_axis(terms, lead, rest_lead, -1)
    return _Signed(a_lead[..., 0], b_lead[..., 0], terms.sum(axis=-1), direct.sum(axis=-1))


def _ratios(difference: Floats, b: Floats, b_lead: Floats) -> Floats:
    """b exp(difference) / b_lead, at most 1 in size, without overflow or underflow of a factor."""
    ratio = b / b_lead
    terms = ratio * np.exp(difference)
    far = (b != 0.0) & ~((np.abs(ratio) > _TINY) & (np.abs(ratio) < 1.0 / _TINY))
    if far.any():
        half = np.exp(0.5 * difference[far])
        terms[far] = (b[far] * half) * (half / np.broadcast_to(b_lead, b.shape)[far])
    return np.asarray(terms)
