"""Distributions over classes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_array, as_floats
from ..errors import InvalidInputError
from ..kernels.cpu import launch
from ..random import RandomState, philox_key
from ..special import entr
from ..validation import (
    MAX_DRAWS,
    Floats,
    Integers,
    as_count,
    broadcast_shape,
    probabilities,
)
from . import lowering
from .distributions import Distribution


class Categorical(Distribution):
    """Distribution over C classes, the q of a `fastelbo.MixtureModel`.

    Parameters
    ----------
    probs : array_like, shape (..., C)
        Probabilities, summing to 1 within 1e-6 (then renormalised).

    Examples
    --------
    >>> import fastelbo as fe
    >>> float(fe.Categorical([0.5, 0.5]).entropy())
    0.6931471805599453
    """

    family = "categorical"
    probs: Floats

    def __init__(self, probs: ArrayLike) -> None:
        self._set(probs=probabilities(as_floats(probs, "probs"), "probs"))

    @classmethod
    def _of(cls, probs: Floats) -> Categorical:
        """Of probabilities that were computed, and need no check."""
        new = object.__new__(cls)
        new._set(probs=probs)
        return new

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.probs.shape[:-1]

    @property
    def dim(self) -> int:
        """1: the event is one class, whose number is below ``probs.shape[-1]``."""
        return 1

    def log_prob(self, z: ArrayLike) -> Floats:
        """Log probability of the classes ``z``, integers of shape (..., 1)."""
        classes = as_array(z, "z")
        count = self.probs.shape[-1]
        if classes.dtype.kind not in "iu" or classes.ndim == 0 or classes.shape[-1] != 1:
            raise InvalidInputError(
                f"z must hold integers with a last axis of length 1, got {classes.dtype} of shape "
                f"{classes.shape}"
            )
        if classes.size and not (classes.min() >= 0 and classes.max() < count):
            raise InvalidInputError(
                f"z must be in 0 to {count - 1}, got {classes.min()} to {classes.max()}"
            )
        shape = broadcast_shape(z=classes.shape[:-1], batch_shape=self.batch_shape)
        chosen = np.take_along_axis(
            np.broadcast_to(self.probs, (*shape, count)),
            np.broadcast_to(classes, (*shape, 1)),
            axis=-1,
        )
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(chosen[..., 0]))

    def sample(self, n: int, rng: RandomState = None) -> Integers:
        """Draws of shape (n, *batch_shape, 1), by the integer choice that mixtures make."""
        n = as_count(n, "n", least=0, below=MAX_DRAWS)
        with np.errstate(divide="ignore"):
            limits = lowering.thresholds(np.log(self.probs))
        chooser = lowering.chooser(limits.reshape(-1, self.probs.shape[-1]))
        drawn = launch.sample(chooser, math.prod(self.batch_shape), n, 1, philox_key(rng))
        return drawn.astype(np.int64).reshape(n, *self.batch_shape, 1)

    def entropy(self) -> Floats:
        """Entropy in nats, ``-sum p log p``; shape `batch_shape`."""
        return np.asarray(entr(self.probs).sum(axis=-1))
