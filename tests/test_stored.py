"""Quantities of draws whose log densities are in memory: the bits of estimates."""

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.engine import stored
from fastelbo.engine.cpu import CPUBackend
from fastelbo.engine.reference import NumPyBackend
from fastelbo.engine.requests import new_request
from fastelbo.models.sampling import IID, as_sampling
from fastelbo.progress import no_tick

HOST = fe.Model(log_joint=lambda z: -0.5 * np.square(z).sum(axis=-1), dim=2, vectorized=True)
LINEAR = fe.LinearGaussian(
    [[1.0, 2.0], [0.0, 1.0], [8.0, 9.0]], [[1.0, 0.5], [0.0, 1.0]], noise_cov=0.5
)
NARROW = fe.Gaussian([[0.2, 0.1]] * 3, scale=0.45)
# Heavy lower tails of all terms, so that each has a k-hat.
HEAVY = fe.StudentT(0.4, np.zeros((3, 2)), scale=1.0)
SOBOL = as_sampling("sobol", 8, "box_muller", False)


def request_for(model, q, draws, sampling=IID, sizes=(1, 5)):
    return new_request(model, q, draws, 3, 7, "float64", sizes, True, sampling)


def by_slices(request, backend, monkeypatch, numbers, threads=None):
    """The quantities by `stored_quantities`, in small slices, and how many slices there were."""
    monkeypatch.setattr(stored, "STORED_NUMBERS", numbers)
    parts = []
    for points in stored.slices_of_points(request):
        terms = backend.terms(request, points)
        parts.append(stored.stored_quantities(terms, request, points, no_tick, threads))
    return {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}, len(parts)


@pytest.mark.parametrize(("sampling", "draws"), [(IID, 20_001), (IID, 3), (SOBOL, 2**14)])
@pytest.mark.parametrize(
    ("model", "q"),
    [(LINEAR, NARROW), (LINEAR, HEAVY), (HOST, fe.Gaussian([[0.1, 0.0]] * 3, scale=0.8))],
)
@pytest.mark.parametrize("threads", [None, 1])
def test_bits_of_an_estimate(model, q, sampling, draws, threads, monkeypatch):
    sizes = (1, 3) if draws == 3 else (1, 5)
    request, backend = request_for(model, q, draws, sampling, sizes), CPUBackend(threads)
    expected = backend.quantities(request, no_tick)
    values, slices = by_slices(request, backend, monkeypatch, 3 * draws, threads)
    assert slices == (1 if model is HOST and draws == 3 else 3)
    assert set(values) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(values[name], array, err_msg=name)
    if q is HEAVY and draws > 3:
        assert np.isfinite(values["pareto_k_elbo"]).any()
        assert np.isfinite(values["pareto_k_likelihood"]).any()


@pytest.mark.parametrize(("sampling", "draws"), [(IID, 700), (SOBOL, 256)])
def test_terms_of_some_data_points(sampling, draws):
    request, points = request_for(LINEAR, NARROW, draws, sampling), np.array([1, 2])
    for backend in (CPUBackend(), NumPyBackend()):
        every, some = backend.terms(request), backend.terms(request, points)
        for own, array in zip(some, every, strict=True):
            np.testing.assert_array_equal(own, array[1:])


def test_slices_of_points(monkeypatch):
    request = request_for(LINEAR, NARROW, 1000)
    monkeypatch.setattr(stored, "STORED_NUMBERS", 6000)
    assert [part.tolist() for part in stored.slices_of_points(request)] == [[0, 1], [2]]
    assert [part.tolist() for part in stored.slices_of_points(request, 7)] == [[0], [1], [2]]
    few = request._replace(rows=np.array([2]))
    assert [part.tolist() for part in stored.slices_of_points(few)] == [[0]]


def test_a_data_point_that_does_not_fit():
    request = request_for(LINEAR, NARROW, 2**39)
    with pytest.raises(MemoryError, match="the terms of all draws would need 13194139533312 bytes"):
        next(stored.slices_of_points(request))
