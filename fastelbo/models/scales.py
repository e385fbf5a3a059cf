"""Lower triangular scales from what users have: covariances and precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_array, as_floats
from ..errors import InvalidInputError, NotPositiveDefiniteError
from ..validation import Floats, broadcast_shape, square_matrices
from .lowering import finite_inverse


def require_one(**given: ArrayLike | None) -> None:
    """Raise an error unless exactly one of the arguments is given."""
    *names, last = given
    present = [name for name, value in given.items() if value is not None]
    if len(present) != 1:
        raise InvalidInputError(
            f"exactly one of {', '.join(names)} and {last} is expected, got "
            + (" and ".join(present) or "none")
        )


def symmetric(value: Any, name: str) -> Floats:
    """A batch of symmetric matrices in float64, each entry averaged with its mirror image.

    An inverse or a product that was computed in some dtype is symmetric to the rounding errors of
    that dtype. So an entry may differ from its mirror image by the square root of the machine
    epsilon of the argument's dtype, relative to the largest entry of its matrix.
    """
    given = as_array(value, name)
    matrices = square_matrices(as_floats(given, name), name)
    mirrored = np.swapaxes(matrices, -1, -2)
    dtype = given.dtype if given.dtype.kind == "f" else np.dtype(np.float64)
    tolerance = float(np.sqrt(np.finfo(dtype).eps))
    with np.errstate(over="ignore", under="ignore"):
        asymmetry = np.abs(matrices - mirrored).max(axis=(-2, -1), initial=0.0)
        largest = np.abs(matrices).max(axis=(-2, -1), initial=0.0)
        skew = asymmetry > tolerance * largest
        mean = np.asarray(0.5 * matrices + 0.5 * mirrored)
    if skew.any():
        raise NotPositiveDefiniteError(
            f"{name} must be symmetric, to {tolerance:.2g} of its largest entry for {dtype}; got "
            f"an entry that differs from its mirror image by {asymmetry[skew].max():g}. If that is "
            f"rounding error, pass 0.5 * ({name} + {name}.mT)"
        )
    return mean


def cholesky(matrices: Floats, name: str) -> Floats:
    """Lower Cholesky factors of a batch of symmetric positive definite matrices."""
    try:
        return np.asarray(np.linalg.cholesky(matrices))
    except np.linalg.LinAlgError:
        least = float(np.linalg.eigvalsh(matrices).min())
        raise NotPositiveDefiniteError(
            f"{name} must be positive definite, got a least eigenvalue of {least:g}"
        ) from None


def tril_of_cov(cov: ArrayLike) -> Floats:
    """Lower factors of covariance matrices."""
    return cholesky(symmetric(cov, "cov"), "cov")


def tril_of_inverse(precision: ArrayLike) -> Floats:
    """Lower factors S of inverses, S S' = P^-1, from P = U U' with U upper triangular: S = U'^-1.

    No inverse is factored, so that nothing of the condition of P is squared.
    """
    backward = (..., slice(None, None, -1), slice(None, None, -1))
    matrices = symmetric(precision, "precision")
    upper = cholesky(matrices[backward], "precision")[backward]
    with np.errstate(over="ignore", under="ignore"):
        return finite_inverse(np.swapaxes(upper, -1, -2), "precision")


def diagonal_matrices(values: Floats) -> Floats:
    """Matrices (..., D, D) with these diagonals (..., D)."""
    matrices = np.zeros((*values.shape, values.shape[-1]))
    np.einsum("...dd->...d", matrices)[...] = values
    return matrices


def scale_share(df: Floats) -> Floats:
    """(df - 2) / df, the scale matrix as a share of the covariance; NaN where there is none."""
    limit = np.where(np.isinf(df), 1.0, np.nan)
    return np.divide(df - 2.0, df, out=limit, where=np.isfinite(df) & (df > 2.0))


def student_tril(cov: ArrayLike, df: Floats) -> Floats:
    """Lower factors of the scale matrices of Student-t distributions with these covariances."""
    if (df <= 2.0).any():
        raise InvalidInputError(
            f"df must be above 2 with cov, as a Student-t has no covariance otherwise; got "
            f"{df.min()}. scale_tril takes a factor of the scale matrix"
        )
    tril = tril_of_cov(cov)
    broadcast_shape(df=df.shape, cov=tril.shape[:-2])
    with np.errstate(under="ignore"):
        return np.asarray(np.sqrt(scale_share(df))[..., None, None] * tril)
