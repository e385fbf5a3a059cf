"""Estimates of simulated kernels against the plain NumPy reference."""

import numpy as np
import pytest
from cases import CASES, linear
from device_draws import words_and_normals
from helpers import assert_single_precision, quiet, ulps
from test_protocol import GivenLikelihood

import fastelbo as fe
from fastelbo.engine.cuda import CUDABackend
from fastelbo.engine.requests import new_request
from fastelbo.models.terms import Supplied
from fastelbo.progress import no_tick

pytestmark = [
    # Plain Python warns when unsigned integers overflow.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]


def assert_close(got, expected, tolerance=1e-9):
    """Each quantity within ``tolerance (1 + |expected|)``."""
    assert got.keys() == expected.keys()
    for name in expected:
        if isinstance(expected[name], str):
            assert got[name] == expected[name]
            continue
        x, y = np.asarray(got[name], float), np.asarray(expected[name], float)
        bound = tolerance * (1.0 + np.abs(np.where(np.isfinite(y), y, 0.0)))
        equal = (x == y) | (np.isnan(x) & np.isnan(y))
        with np.errstate(invalid="ignore"):
            assert np.all(equal | (np.abs(x - y) <= bound)), (name, x, y)


def estimates(model, q, n_samples, **options):
    """The quantities of both backends."""
    with quiet():
        return [
            fe.estimate(model, q, n_samples, rng=1, backend=backend, **options).to_dict()
            for backend in ("cuda", "numpy")
        ]


# Of cases that are next to each other, one is enough for a change elsewhere. Seven has no factor in
# common with the numbers of priors and noises, so that each kind is met beside others.
each_case = pytest.mark.parametrize(
    "name",
    [
        name if i % 7 == 0 else pytest.param(name, marks=pytest.mark.slow)
        for i, name in enumerate(CASES)
    ],
)


@each_case
def test_estimate(name):
    model, q = CASES[name]()
    assert_close(*estimates(model, q, 45, iw_sizes=(1, 7, 20)))


@pytest.mark.parametrize("pareto_k", [True, False])
@pytest.mark.parametrize("name", ["mixture_full-mixture-full", "zero_weight-standard-scalar"])
def test_estimate_without_groups(name, pareto_k):
    model, q = CASES[name]()
    assert_close(*estimates(model, q, 45, iw_sizes=(), pareto_k=pareto_k))


@pytest.mark.parametrize("rows", [[1, 2], [0, 2, 3, 5], [4]])
def test_some_data_points(rows):
    x = np.linspace(-1.0, 2.0, 6)[:, None]
    model = fe.LinearGaussian(x, [[1.0]], noise_cov=0.5)
    request = new_request(model, fe.Gaussian([0.2], scale=1.0), 45, 1, 7, "float64", (7,), True)
    part = request._replace(rows=np.array(rows))
    backend = CUDABackend()
    expected, got = (backend.quantities(each, no_tick) for each in (request, part))
    assert got.keys() == expected.keys()
    for name, values in got.items():
        np.testing.assert_array_equal(values, expected[name][rows], err_msg=name)


def test_chunks_without_groups():
    # A narrow prior far away: log weights thousands apart.
    model = fe.Gaussian([0.0], scale=0.01)
    q = fe.Gaussian([0.0], scale=1.0)
    assert_close(*estimates(model, q, 8192 + 77, iw_sizes=()))


@pytest.mark.parametrize("name", ["mixture_full-mixture-full", "zero_weight-standard-scalar"])
def test_terms(name):
    model, q = CASES[name]()
    got, expected = (
        fe.elbo_terms(model, q, 20, rng=2, backend=backend) for backend in ("cuda", "numpy")
    )
    assert_close(got._asdict(), expected._asdict())


def test_several_q():
    """Of mixed families, diagonal and full: their mixture in the coordinates of each."""
    model, full = linear("full", "gaussian", model_batch=(2,), q_batch=(2,))
    others = [linear(kind, seed=seed)[1] for seed, kind in enumerate(["t", "mixture", "diagonal"])]
    got, expected = (
        fe.elbo_terms(model, [full, *others], 28, rng=2, backend=backend)
        for backend in ("cuda", "numpy")
    )
    assert_close(got._asdict(), expected._asdict())
    assert_close(*estimates(model, [full, *others], 100, iw_sizes=(1, 7)))


@pytest.mark.parametrize("chunks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_several_chunks(chunks):
    model, q = linear(dim=1, features=1)
    assert_close(*estimates(model, q, chunks * 8192 + 77, iw_sizes=(1, 7, 100, 5000)))


def test_parameters_beyond_shared_memory():
    model, q = linear("mixture_full", "mixture", dim=30, features=31)
    assert_close(*estimates(model, q, 9, iw_sizes=(2,)))


def test_many_group_sizes():
    model, q = linear()
    assert_close(*estimates(model, q, 70, iw_sizes=range(1, 21)))


def test_first_index():
    model, q = linear(model_batch=(3,), q_batch=(3,))
    got, expected = estimates(model, q, 20, first_index=2**31 + 5)
    assert_close(got, expected)
    assert got["elbo"][0] != estimates(model, q, 20)[0]["elbo"][0]


def test_small_weights_of_groups_do_not_underflow():
    # A narrow prior far away: log weights thousands apart within a tile.
    model = fe.Gaussian([0.0], scale=0.01)
    assert_close(*estimates(model, fe.Gaussian([0.0], scale=1.0), 150, iw_sizes=(1, 3, 70)))


def test_equal_weights():
    p = fe.Gaussian([0.0, 1.0], scale=1.0)
    got, expected = estimates(p, p, 400)
    assert_close(got, expected)
    assert got["log_evidence"] == 0.0


def test_no_pareto_k():
    model, q = linear()
    got, _ = estimates(model, q, 50, pareto_k=False)
    assert np.isnan(got["pareto_k"])


def test_single_precision():
    model, q = linear("mixture_full", "mixture", dim=5, features=8)
    got, expected = estimates(model, q, 40, precision="float32")
    with quiet():
        single = fe.estimate(model, q, 40, rng=1, backend="cpu", precision="float32").to_dict()
    assert_close(got, single, 1e-5)
    assert_close(got, expected, 1e-4)
    assert got["log_evidence"] != expected["log_evidence"]


@each_case
def test_accuracy_of_single_precision(name):
    assert_single_precision(*CASES[name](), 12, backend="cuda")


def test_words_are_the_same_and_normals_within_4_ulp():
    (words, normals), (expected_words, expected_normals) = words_and_normals()
    np.testing.assert_array_equal(words, expected_words)
    assert ulps(normals, expected_normals).max() <= 4.0


@pytest.mark.parametrize("iw_sizes", [(), (7,)])
def test_terms_that_overflow_are_those_of_the_host(iw_sizes):
    """A likelihood that says "impossible" by a number whose square is no float."""
    values = np.full((3, 150), -1.0)
    values[1, ::50] = -1e300
    q = fe.Gaussian(np.zeros((3, 1)), scale=1.0)
    model = GivenLikelihood(q, Supplied(values, dim=1))
    with quiet():
        got, expected = (
            fe.estimate(model, q, 150, rng=0, backend=name, iw_sizes=iw_sizes).to_dict()
            for name in ("cuda", "cpu")
        )
    assert np.isfinite(expected["expected_log_likelihood"]).all()
    assert_close(got, expected)


def test_heavy_tails_of_terms_are_drawn_again():
    model, q = linear(dim=1, features=1, model_batch=(2,), q_batch=(2,))
    q = fe.StudentT(1.0, q.mean, scale=1.0)
    got, expected = estimates(model, q, 700, iw_sizes=())
    assert_close(got, expected)
    assert np.isnan([got["elbo_se"], got["kl_se"], got["expected_log_likelihood_se"]]).all()


@pytest.mark.parametrize(
    ("q", "prior", "dim", "options"),
    [
        ("diagonal", "standard", 3, {"first_index": 2**31}),
        ("full", "gaussian", 2, {"iw_sizes": (), "pareto_k": False}),
        ("mixture_t", "mixture", 3, {"transform": "inverse"}),
        ("mixture_full", "standard", 3, {"rotate": False}),
    ],
)
def test_replicates(q, prior, dim, options, monkeypatch):
    # Replicates of two chunks. The last group sizes leave some replicates out.
    monkeypatch.setattr("fastelbo.models.nets.UNIT", 8)
    monkeypatch.setattr("fastelbo.reference.sobol.UNIT", 8)
    model, q = linear(q, prior, dim=dim, model_batch=(2,), q_batch=(2,))
    options = {"iw_sizes": (1, 2, 3), **options}
    assert_close(*estimates(model, q, 4 * 16, sampler="sobol", replicates=4, **options))


def test_terms_of_replicates():
    model, q = linear("mixture")
    got, expected = (
        fe.elbo_terms(model, q, 32, 2, sampler="sobol", replicates=4, backend=backend)._asdict()
        for backend in ("cuda", "numpy")
    )
    assert_close(got, expected)


def test_replicates_whose_terms_overflow_are_those_of_the_host():
    values = np.full((2, 64), -1.0)
    values[1, ::50] = -1e300
    q = fe.Gaussian(np.zeros((2, 1)), scale=1.0)
    model = GivenLikelihood(q, Supplied(values, dim=1))
    options = {"rng": 0, "sampler": "sobol", "replicates": 4, "iw_sizes": (1, 2)}
    with quiet():
        got, expected = (
            fe.estimate(model, q, 64, backend=name, **options) for name in ("cuda", "cpu")
        )
    assert np.isfinite(got.elbo_se).all()
    assert_close(got.to_dict(), expected.to_dict())
