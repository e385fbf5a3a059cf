"""Draws of constrained variables, as samplers of other libraries give them, made unconstrained."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..validation import Floats


class Constraint(NamedTuple):
    """The variables of a library's model, of which a `Model` is over the unconstrained forms.

    A `LogDensity` that has one has it as its attribute ``constraint``.
    """

    # The names of the constrained coordinates.
    names: tuple[str, ...]
    # Draws (n, coordinates) -> their unconstrained forms (n, D).
    unconstrained: Callable[[Floats], Floats]


def constraint_of(model: object) -> Constraint | None:
    """The constraint of a model that has one."""
    found = getattr(getattr(model, "likelihood", None), "constraint", None)
    return found if isinstance(found, Constraint) else None
