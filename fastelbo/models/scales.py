"""Lower triangular scales from what users have: covariances and precisions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InvalidInputError
from ..validation import Floats, broadcast_shape, cholesky, symmetric
from .lowering import invert_lower


def require_one(**given: ArrayLike | None) -> None:
    """Raise an error unless exactly one of the arguments is given."""
    *names, last = given
    present = [name for name, value in given.items() if value is not None]
    if len(present) != 1:
        raise InvalidInputError(
            f"exactly one of {', '.join(names)} and {last} is expected, got "
            + (" and ".join(present) or "none")
        )


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
    return invert_lower(np.swapaxes(upper, -1, -2))


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
    return np.asarray(np.sqrt(scale_share(df))[..., None, None] * tril)
