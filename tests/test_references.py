"""Named tuples by reference: their fields, those of tuples inside, and what is no tuple."""

from typing import Any, NamedTuple

import numba
import numpy as np
import pytest

from fastelbo.kernels.jit.compile import borrower, kernel
from fastelbo.kernels.jit.references import by_reference


class Inner(NamedTuple):
    weights: Any
    net: Any


class Outer(NamedTuple):
    x: Any
    inner: Inner
    scale: float


@borrower
def weighted_sum(outer, out):
    x, inner = outer.x, outer.inner
    weights = inner.weights
    out[0] = 0.0
    for k in range(x.shape[0]):
        out[0] += outer.scale * weights[k] * x[k]
    out[1] = 1.0 if inner.net is None else 2.0


@borrower
def through_reference(outer, out):
    weighted_sum(by_reference(outer), out)


def driver(outer, out):
    through_reference(outer, out)


@pytest.mark.parametrize(("net", "expected"), [(None, 1.0), (np.ones(1), 2.0)])
@pytest.mark.parametrize("compiled", [False, True])
def test_fields_are_those_of_the_tuple(compiled, net, expected):
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(2, 5))
    out = np.empty(2)
    (kernel(driver) if compiled else driver)(Outer(x, Inner(weights, net), 3.0), out)
    np.testing.assert_allclose(out[0], 3.0 * (weights @ x), rtol=1e-14)
    assert out[1] == expected


def test_an_array_of_the_tuple_is_written_to():
    x = np.zeros(3)

    def fill(outer):
        place = by_reference(outer).x
        place[1] = 4.0

    kernel(fill)(Outer(x, Inner(np.ones(1), None), 1.0))
    np.testing.assert_array_equal(x, [0.0, 4.0, 0.0])


@pytest.mark.parametrize("value", [1.5, np.ones(2), (1.0, 2.0)])
def test_what_is_no_named_tuple_is_refused(value):
    with pytest.raises(numba.TypingError, match="by_reference"):
        kernel(lambda x: by_reference(x))(value)


def test_a_field_that_is_not_there_is_refused():
    with pytest.raises(numba.TypingError, match="nothing"):
        kernel(lambda outer: by_reference(outer).nothing)(
            Outer(np.ones(1), Inner(np.ones(1), None), 1.0)
        )
