"""Estimates on the workers of a cluster: the bits of one process, and clear errors."""

import re

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, bits

import fastelbo as fe
from fastelbo import cli, demo
from fastelbo.engine.cluster import task_sizes
from fastelbo.engine.cluster import terms as dask_terms
from fastelbo.engine.states import States
from fastelbo.kernels.draws.blocks import CHUNK, SPAN
from fastelbo.models import compiled

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)]

N = 6


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """Tasks are of a few chunks, so that there are many."""
    monkeypatch.setattr(task_sizes, "_SECONDS", 0.01)
    monkeypatch.setattr(task_sizes, "_LEAST_SECONDS", 0.001)


def linear(n=N):
    rng = np.random.default_rng(3)
    return fe.LinearGaussian(rng.normal(size=(n, 7)), rng.normal(size=(7, 3)), noise_cov=0.7)


def mixture(spread=1.0, shape=()):
    means = spread * np.array([[-1.0, 0.0, 1.0], [1.0, 0.5, 0.0]])
    components = fe.Gaussian(np.broadcast_to(means, (*shape, 2, 3)), scale=0.8)
    return fe.Mixture([0.3, 0.7], components)


def gaussian(model, scale=1.2):
    posterior = model.exact_posterior()
    return fe.Gaussian(posterior.mean, scale_tril=scale * np.linalg.cholesky(posterior.cov))


def narrow(model):
    return gaussian(model, 0.6)


def student(df):
    return lambda model: fe.StudentT(df, model.exact_posterior().mean, scale=0.9)


def user_model(points=N):
    """A function that is sent by value, with data and an array that all data points share."""
    weights = np.linspace(0.5, 1.5, 40_000)  # above what travels apart

    def log_joint(z, x, weights):
        total = -0.5 * (z[0] * z[0] + z[1] * z[1] + z[2] * z[2])
        for j in range(3):
            total -= weights[j] * (x[j] - z[j]) ** 2
        return total

    data = np.linspace(-1.0, 1.0, 3 * points).reshape(points, 3)
    return fe.Model(log_joint=log_joint, dim=3, data=data, params=(weights,))


def host_model(points=N):
    """A function of arrays, with data."""

    def log_joint(z, x):
        return -0.5 * (z**2).sum(-1) - np.abs(z - x).sum(-1)

    data = np.linspace(-1.0, 1.0, 3 * points).reshape(points, 3)
    return fe.Model(log_joint=log_joint, dim=3, data=data, vectorized=True)


def wide(points=()):
    return fe.Gaussian(np.zeros((*points, 3)), scale=0.9)


# Models, q, and options of an estimate.
CASES = {
    "linear": (linear, gaussian, {}),
    "no k-hat": (linear, gaussian, {"pareto_k": False}),
    "one data point": (lambda: linear(1), gaussian, {"n_samples": 300_000}),
    "few draws": (lambda: linear(500), gaussian, {"n_samples": 200}),
    "heavy lower tails": (linear, student(1.2), {}),
    "heavy lower tails, sobol": (linear, student(1.2), {"sampler": "sobol", "n_samples": 2**15}),
    "narrow": (linear, narrow, {}),
    "float32": (linear, gaussian, {"precision": "float32"}),
    "iw_sizes": (linear, gaussian, {"iw_sizes": [1, 7, 100, 12_345]}),
    "first_index": (linear, gaussian, {"first_index": 10**6}),
    "mixture q": (linear, lambda _: mixture(), {}),
    "mixtures": (lambda: mixture(2.0), lambda _: mixture(shape=(N,)), {}),
    "student": (linear, student(5.0), {}),
    "sobol": (linear, gaussian, {"sampler": "sobol", "n_samples": 2**15}),
    "sobol, inverse": (
        linear, narrow,
        {"sampler": "sobol", "n_samples": 2**17, "transform": "inverse", "replicates": 8},
    ),
    "sobol, pilot": (
        user_model, lambda _: mixture(), {"sampler": "sobol", "n_samples": 2**14},
    ),
    "target_se": (linear, gaussian, {"n_samples": None, "target_se": 0.01}),
    "total": (linear, gaussian, {"n_samples": None, "target_total_se": 0.02}),
    "moments": (linear, gaussian, {"moments": True}),
    "several q": (linear, lambda m: [gaussian(m), wide((N,))], {}),
    "user": (user_model, lambda _: wide(), {}),
    "user, one data point": (
        lambda: fe.Model(log_joint=lambda z: -0.5 * (z[0] ** 2 + z[1] ** 4 + z[2] ** 2), dim=3),
        lambda _: wide(), {},
    ),
    "user, sobol": (user_model, lambda _: wide(), {"sampler": "sobol", "n_samples": 2**14}),
    "host": (host_model, lambda _: wide(), {}),
    "host, few draws": (lambda: host_model(40), lambda _: wide(), {"n_samples": 100}),
    "host, sobol": (host_model, lambda _: wide(), {"sampler": "sobol", "n_samples": 2**14}),
}  # fmt: skip


ON_FOUR = [
    "linear",
    "mixtures",
    "float32",
    "iw_sizes",
    "sobol",
    "heavy lower tails",
    "user",
    "host",
]


@pytest.mark.parametrize("name", CASES)
def test_the_bits_of_one_process(one_worker, name):
    compare(one_worker, name)


@pytest.mark.parametrize("name", ON_FOUR)
def test_the_bits_of_one_process_on_four_workers(four_workers, name):
    compare(four_workers, name)


def compare(client, name):
    """Check that an estimate has the same bits here and on the workers."""
    make, make_q, options = CASES[name]
    model = make()
    q = make_q(model)
    options = {"n_samples": 50_001, "rng": 5} | options
    expected = fe.estimate(model, q, **options)
    found = fe.estimate(model, q, **options, client=client)
    assert bits(found) == bits(expected)
    if name.startswith("heavy"):
        assert np.isfinite(expected.pareto_k_elbo).any()
    if "moments" in options:
        assert found.posterior_cov.tobytes() == expected.posterior_cov.tobytes()


def test_workers_fold_spans(four_workers, monkeypatch):
    """Three spans, of which two are whole; tasks end within spans and have several."""
    monkeypatch.setattr(task_sizes, "_SECONDS", 0.5)
    appended, own = [], States.append

    def append(states, moments, *args):
        appended.append(moments.shape[1])
        own(states, moments, *args)

    monkeypatch.setattr(States, "append", append)
    model, q, draws = linear(1), gaussian(linear(1)), 2 * SPAN * CHUNK + 12_345
    found = fe.estimate(model, q, draws, rng=5, client=four_workers)
    # Two thousand chunks have come as few states.
    assert 3 <= sum(appended) < 3 * SPAN / 2
    assert bits(found) == bits(fe.estimate(model, q, draws, rng=5))


def count_builds():
    """Count how often this process builds the machine code of a user's function."""
    original = compiled.build
    compiled.counted = 0

    def counted(*args, **options):
        compiled.counted += 1
        return original(*args, **options)

    compiled.build = counted


def builds():
    """The count, which ends here."""
    compiled.build = compiled.build.__closure__[0].cell_contents
    return compiled.counted


def test_a_worker_compiles_a_function_once(one_worker):
    model = user_model(40)
    one_worker.run(count_builds)
    fe.estimate(model, wide(), 20_000, rng=1, client=one_worker)
    assert list(one_worker.run(builds).values()) == [1]


# --- other calls --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "few draws", "mixtures", "sobol", "user", "host"])
def test_terms_are_dask_arrays_of_the_same_bits(one_worker, monkeypatch, name):
    dask = pytest.importorskip("dask")
    monkeypatch.setattr(dask_terms, "_DRAWS", 2**14)
    make, make_q, options = CASES[name]
    model = make()
    q = make_q(model)
    options = {"n_samples": 50_001, "rng": 5} | options
    expected = fe.elbo_terms(model, q, **options)
    found = fe.elbo_terms(model, q, **options, client=one_worker)
    assert type(found) is type(expected)
    arrays = *found, found.log_weights
    computed = dask.compute(*arrays)
    for array, got, each in zip(arrays, computed, (*expected, expected.log_weights), strict=True):
        assert array.shape == each.shape
        assert array.npartitions > 1
        assert got.tobytes() == each.tobytes()


def test_terms_of_a_model_without_a_batch(one_worker):
    p = fe.Gaussian(np.zeros(2), scale=1.0)
    terms = fe.elbo_terms(p, p, 3, rng=0, client=one_worker)
    assert terms.log_q.compute().tolist() == fe.elbo_terms(p, p, 3, rng=0).log_q.tolist()


def test_a_term_that_is_nan_is_named(one_worker):
    def log_joint(z):
        return -0.5 * z[0] ** 2 if z[0] < 3.5 else np.nan

    model = fe.Model(log_joint=log_joint, dim=1)
    terms = fe.elbo_terms(model, fe.Gaussian([0.0], scale=1.0), 100_000, rng=1, client=one_worker)
    with pytest.raises(fe.errors.InvalidWeightError, match=r"log_likelihood.*draw \d+"):
        terms.log_weights.sum().compute()


@pytest.mark.parametrize("f", ["mean", "quantiles"])
def test_expectations(one_worker, monkeypatch, f):
    monkeypatch.setattr("fastelbo.engine.cluster.backend._LITTLE_WORK", 0)
    model = linear()
    expected = fe.expectation(f, model, gaussian(model), 20_000, rng=1)
    found = fe.expectation(f, model, gaussian(model), 20_000, rng=1, client=one_worker)
    assert found.value.tobytes() == expected.value.tobytes()
    assert found.se.tobytes() == expected.se.tobytes()


def test_a_bad_draw_is_named_alike(one_worker):
    def log_joint(z):
        return -0.5 * z[0] ** 2 if z[0] < 3.5 else np.nan

    model = fe.Model(log_joint=log_joint, dim=1)
    q = fe.Gaussian([0.0], scale=1.0)
    messages = []
    for options in ({}, {"client": one_worker}):
        with pytest.raises(fe.errors.InvalidWeightError, match="in plain Python") as info:
            fe.estimate(model, q, 100_000, rng=1, **options)
        messages.append(str(info.value))
    assert messages[0] == messages[1]


# --- the command line ---------------------------------------------------------------------------


def test_demo_on_a_cluster(monkeypatch, capsys):
    monkeypatch.setattr(demo, "digits_report", lambda client: f"{sum(client.nthreads().values())}!")
    monkeypatch.setattr(demo, "galaxies_report", lambda: "galaxies")
    assert cli.main(["demo", "--cluster", "2"]) == 0
    assert re.search(
        r"2 workers, with a dashboard at http://127.*\n\n2!\n", capsys.readouterr().out
    )


def test_digits_report_names_the_cluster(one_worker):
    report = demo.digits_report(200, client=one_worker)
    assert "Time of one call, on 1 threads of 1 workers" in " ".join(report.split())
