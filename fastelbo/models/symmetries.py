"""Linear maps under which log p(x, z) does not change, and mixtures that have them, too."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.inputs import as_floats
from ..errors import InvalidInputError
from ..validation import Floats
from .counted import CountedJoint
from .location_scale import StudentT
from .mixture import Mixture
from .student_fit import StudentFit

# Transformed components of a mixture.
MOST_COMPONENTS = 2000
# Of 1 and the larger of two log densities that are to be the same.
_SAME = 1e-8
# And at most so many nats, which rounding does not reach.
_MOST_APART = 0.01
_DETERMINANT = 1e-6


def as_symmetries(given: Any, dim: int, n_components: int) -> Floats:
    """The group (G, D, D) that maps generate, with the identity first; ``None`` is no map.

    Parameters
    ----------
    given : None or array_like
        Permutations of the coordinates (g, D), ``z -> z[permutation]``, or matrices (g, D, D),
        ``z -> A z``, of determinant 1 or -1.
    """
    identity = np.eye(dim)[None]
    if given is None:
        return identity
    maps = as_floats(given, "symmetries")
    if maps.ndim == 2 and maps.shape[-1] == dim:
        if not (np.sort(maps, axis=-1) == np.arange(dim)).all():
            raise InvalidInputError(
                f"symmetries of shape (G, D) must be permutations of 0 to {dim - 1}; for other "
                f"linear maps, expected matrices (G, {dim}, {dim})"
            )
        maps = identity[0][maps.astype(np.int64)]
    if maps.ndim != 3 or maps.shape[1:] != (dim, dim):
        raise InvalidInputError(
            f"symmetries must be index permutations of shape (G, {dim}) or matrices of shape "
            f"(G, {dim}, {dim}), got shape {np.shape(given)}"
        )
    sizes = abs(np.linalg.det(maps))
    if (abs(sizes - 1.0) > _DETERMINANT).any():
        worst = int(abs(sizes - 1.0).argmax())
        raise InvalidInputError(
            f"symmetries must have determinants of 1 or -1, got {sizes[worst]:g} of matrix {worst}"
        )
    most = max(1, MOST_COMPONENTS // (n_components + 1))
    return _closed(np.concatenate([identity, maps]), most)


def _closed(maps: Floats, most: int) -> Floats:
    """The different products of maps; an error if there are more than ``most``."""
    group: list[Floats] = []
    queue = list(maps)
    while queue:
        new = queue.pop(0)
        if group and (abs(np.array(group) - new).max(axis=(1, 2)) < 1e-6).any():
            continue
        group.append(new)
        if len(group) > most:
            raise InvalidInputError(
                f"symmetries generate more than {most} maps: q would have that many times its "
                "components. Expected a smaller group, or fewer components"
            )
        queue += [new @ each for each in maps[1:]]
    return np.array(group)


def require_invariant(joint: CountedJoint, maps: Floats, points: Floats) -> None:
    """Raise an error unless log p(x, z) is the same at the images of some points."""
    images = np.einsum("gij,nj->gni", maps, points)
    values = joint(images.reshape(-1, joint.dim)).reshape(len(maps), -1)
    same = is_same(values, values[0]).all(axis=1)
    if not same.all():
        g = int(np.argmin(same))
        n = int(np.argmin(is_same(values[g], values[0])))
        raise InvalidInputError(
            "symmetries must leave log p(x, z) as it is, with the constraints and Jacobians in it: "
            f"map {g} (0 is the identity) changes it from {values[0, n]:.10g} to "
            f"{values[g, n]:.10g} at z = {np.array2string(points[n], precision=4, threshold=6)}"
        )


def is_same(values: Floats, others: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where log densities are the same, to rounding."""
    with np.errstate(invalid="ignore"):
        size = np.maximum(abs(values), abs(others))
        close = abs(values - others) <= np.minimum(_SAME * (1.0 + size), _MOST_APART)
    return np.asarray(close | (values == others))


def symmetric_mixture(fit: StudentFit, df: float, maps: Floats) -> Mixture:
    """The mixture of all transformed components; each map has the same share."""
    means, trils, dim = fit.means, fit.trils, fit.means.shape[-1]
    if len(maps) > 1:
        means = np.einsum("gij,kj->gki", maps, means).reshape(-1, dim)
        turned = np.einsum("gij,kjl->gkil", maps, trils).reshape(-1, dim, dim)
        trils = np.linalg.cholesky(turned @ np.swapaxes(turned, -1, -2))
    weights = np.tile(fit.weights, len(maps))
    return Mixture(weights / weights.sum(), StudentT(df, means, scale_tril=trils))
