"""exp, log and other functions of values in lanes: the scalars of ``kernels.math``, traced.

Functions of `scipy.special`, which numba does not know, are compiled for plain numbers, too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from scipy import special

from ..math import elementary, error_function, gamma, scalar
from .arithmetic import absolute, maximum
from .operations import lowers, operation, typer
from .trace import constant, vector_function
from .types import NUMBERS, splat

exp = vector_function(scalar.exp, join=True)
log = vector_function(scalar.log, join=True)
log1p = vector_function(elementary.log1p_signed, join=True)
expm1 = vector_function(elementary.expm1)
lgamma = vector_function(gamma.lgamma)

for _name, _emit in {
    "exp": exp,
    "log": log,
    "log1p": log1p,
    "expm1": expm1,
    "exp2": vector_function(elementary.exp2),
    "log2": vector_function(elementary.log2),
    "log10": vector_function(elementary.log10),
    "tanh": vector_function(elementary.tanh),
    "sin": vector_function(elementary.sin),
    "cos": vector_function(elementary.cos),
    "tan": vector_function(elementary.tan),
    "erf": vector_function(error_function.erf),
    "erfc": vector_function(error_function.erfc),
    "lgamma": lgamma,
}.items():
    _targets = [getattr(module, _name) for module in (math, np) if hasattr(module, _name)]
    operation(*_targets, arity=1)(_emit)


@operation(math.gamma, arity=1)
def _gamma(builder: Any, x: Any) -> Any:
    """exp(lgamma(x)) for x > 0; its error grows with lgamma(x). NaN elsewhere."""
    positive = builder.fcmp_ordered(">", x, constant(x, 0.0))
    return builder.select(positive, exp(builder, lgamma(builder, x)), constant(x, math.nan))


@operation(np.logaddexp, arity=2)
def logaddexp(builder: Any, x: Any, y: Any) -> Any:
    """log(exp(x) + exp(y)) without overflow."""
    distance = absolute(builder, builder.fsub(x, y))
    same = builder.fcmp_ordered("==", x, y)  # two infinities have no distance
    distance = builder.select(same, constant(x, 0.0), distance)
    rest = log1p(builder, exp(builder, builder.fneg(distance)))
    return builder.fadd(maximum(builder, x, y), rest)


def _expit(builder: Any, x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    one = constant(x, 1.0)
    return builder.fdiv(one, builder.fadd(one, exp(builder, builder.fneg(x))))


def _of_numbers(target: Any, emit: Any) -> None:
    """The same function of a plain number, as of one lane."""

    @typer(target)
    def typed(context: Any, args: Any) -> Any:
        plain = len(args) == 1 and isinstance(args[0], NUMBERS)
        return signature(types.float64, types.float64) if plain else None

    @lowers(target, types.Float)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = emit(builder, splat(builder, args[0], 1))
        return builder.extract_element(result, ir.Constant(ir.IntType(32), 0))


for _target, _emit in {
    special.gammaln: lgamma,
    special.digamma: vector_function(gamma.digamma),
    special.erf: vector_function(error_function.erf),
    special.erfc: vector_function(error_function.erfc),
    special.log1p: log1p,
    special.expm1: expm1,
    special.expit: _expit,
}.items():
    operation(_target, arity=1)(_emit)
    _of_numbers(_target, _emit)
