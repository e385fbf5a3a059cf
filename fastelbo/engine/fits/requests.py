"""Checks of the arguments of `fit`."""

from __future__ import annotations

import math
from typing import Any

from ...errors import InvalidInputError
from ...models.categorical import Categorical
from ...models.protocol import ExactModel, LatentModel, Proposal
from ...validation import as_count, as_number
from ..requests import kind_of
from .fitted import FitOptions

# What stochastic gradients of batches alone need.
_OF_ADAM = ("batch_size", "learning_rate")


def require_model(model: Any) -> None:
    """Raise an error for what is no model."""
    if isinstance(model, type) or not isinstance(model, (LatentModel, ExactModel)):
        raise InvalidInputError(
            "model must be a Model, a distribution over vectors, a LinearGaussian or a "
            f"MixtureModel; got {kind_of(model)}"
        )


def require_q0(model: Any, q0: Any) -> None:
    """Raise an error for a q0 that does not fit the model."""
    if q0 is None:
        return
    if isinstance(model, ExactModel):
        if not isinstance(q0, Categorical) or q0.probs.shape[-1] != model.n_classes:
            raise InvalidInputError(
                f"q0 must be a Categorical of {model.n_classes} classes, as the mixture has "
                f"components; got {q0!r}"
            )
    elif isinstance(q0, type) or not isinstance(q0, Proposal):
        raise InvalidInputError(f"q0 must be a distribution over vectors; got {kind_of(q0)}")
    elif q0.dim != model.dim:
        raise InvalidInputError(
            f"q0 must have the dimension of the model, {model.dim}; got {q0.dim}"
        )
    batch = model.batch_shape
    shape = q0.batch_shape
    fits = len(shape) <= len(batch) and all(
        size in (1, other) for size, other in zip(shape[::-1], batch[::-1], strict=False)
    )
    if not fits:
        raise InvalidInputError(
            f"q0 must have the batch of the model, {batch}, or one that broadcasts to it; got "
            f"{shape}"
        )


def refuse_of_adam(method: str, options: FitOptions) -> None:
    """Raise an error for what this method would ignore."""
    for name in _OF_ADAM:
        if getattr(options, name) is not None:
            raise InvalidInputError(
                f'{name} must be left out unless method="adam", got {getattr(options, name)} for '
                f"{method}"
            )


def count_or_none(value: Any, name: str, *, least: int = 1) -> int | None:
    """An integer argument, or None for the default."""
    return None if value is None else as_count(value, name, least=least)


def positive_or_none(value: Any, name: str) -> float | None:
    """A positive and finite number, or None for the default."""
    if value is None:
        return None
    number = as_number(value, name)
    if not 0.0 < number < math.inf:
        raise InvalidInputError(f"{name} must be positive and finite, got {number}")
    return number
