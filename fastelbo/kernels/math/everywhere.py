"""What NumPy does not offer for numbers, arrays and values in lanes alike: a select and lgamma.

The functions of `fastelbo.math` are one source for plain Python, for users' compiled code, and for
values in lanes. They stand on NumPy's functions and on these.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from ...special import gammaln
from ..jit.compile import anywhere


def _are_numbers(*kinds):
    return all(isinstance(each, (types.Number, types.Boolean)) for each in kinds)


def _select_of(condition, x, y):
    # NumPy's function gives an array of no axes for numbers.
    if _are_numbers(condition, x, y):
        return lambda condition, x, y: x if condition else y
    return lambda condition, x, y: np.where(condition, x, y)


@anywhere(_select_of)
def select(condition, x, y):
    """x where the condition holds, else y."""
    return np.where(condition, x, y)


def _lgamma_of(x):
    if not isinstance(x, types.Array):
        return lambda x: math.lgamma(x)

    def over_array(x):
        out = np.empty(x.shape)
        for place, value in np.ndenumerate(x):
            out[place] = math.lgamma(value)
        return out

    return over_array


@anywhere(_lgamma_of)
def lgamma(x):
    """log |gamma(x)|, inf at the poles."""
    return gammaln(x)
