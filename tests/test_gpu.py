"""A real NVIDIA GPU against this machine's CPU: ``python -m pytest -m gpu``.

The simulator knows nothing of races, registers and memory that is not there. Under NVIDIA's
compute-sanitizer, of the CUDA toolkit, the same suite tells of them::

    compute-sanitizer --tool memcheck --target-processes all python -m pytest -m gpu -x
    compute-sanitizer --tool racecheck --target-processes all python -m pytest -m gpu -x -k small
    compute-sanitizer --tool synccheck --target-processes all python -m pytest -m gpu -x -k small
"""

import numpy as np
import pytest
from cases import CASES, linear
from helpers import IGNORE_DIAGNOSTICS, assert_single_precision, quiet, ulps

import fastelbo as fe

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)]


def assert_close(got, expected, tolerance=1e-9):
    for name in expected:
        x, y = np.asarray(got[name], float), np.asarray(expected[name], float)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=name)


def both(model, q, n_samples, **options):
    with quiet():
        return [
            fe.estimate(model, q, n_samples, rng=1, backend=backend, **options).to_dict()
            for backend in ("cuda", "cpu")
        ]


@pytest.mark.parametrize("name", CASES)
def test_small_estimates(name):
    model, q = CASES[name]()
    assert_close(*both(model, q, 3000, iw_sizes=(1, 7, 100)))


@pytest.mark.parametrize("name", CASES)
def test_small_estimates_without_groups(name):
    model, q = CASES[name]()
    assert_close(*both(model, q, 3000, iw_sizes=()))
    # Draws of single precision differ in their last digits, which a narrow density magnifies.
    single = both(model, q, 3000, iw_sizes=(), precision="float32", pareto_k=False)
    assert_close(*single, 1e-3)


@pytest.mark.parametrize("name", CASES)
def test_small_terms_in_single_precision(name):
    assert_single_precision(*CASES[name](), 700, backend="cuda")


def test_many_draws():
    model, q = linear("full", "mixture", dim=10, features=12, model_batch=(5,), q_batch=(5,))
    assert_close(*both(model, q, 10**6 + 17, iw_sizes=(10, 10_000)))


def test_words_are_the_same_and_normals_within_4_ulp():
    # Here, for without a device numba.cuda is not to be imported.
    from device_draws import words_and_normals

    (words, normals), (expected_words, expected_normals) = words_and_normals()
    np.testing.assert_array_equal(words, expected_words)
    assert ulps(normals, expected_normals).max() <= 4.0


def test_runs_are_alike_to_the_bit():
    model, q = linear("mixture_t", "mixture", dim=5, model_batch=(3,))
    first, second = (both(model, q, 50_000)[0] for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("library", ["torch", "cupy", "jax.numpy"])
def test_arrays_of_other_libraries(library):
    xp = pytest.importorskip(library)
    x = np.random.default_rng(0).standard_normal((20, 30_000), np.float32)
    there = xp.as_tensor(x, device="cuda") if library == "torch" else xp.asarray(x)
    if not hasattr(there, "__cuda_array_interface__"):
        pytest.skip(f"{library} sees no device")
    assert_close(fe.summarize(there).to_dict(), fe.summarize(x).to_dict())
    z = there.reshape(-1, 4)
    p = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0] * 4, [1.0] * 4], scale=1.0))
    np.testing.assert_allclose(
        p.log_prob(z).copy_to_host(), p.log_prob(x.reshape(-1, 4)), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("dim", [1, 2, 5, 8, 13, 32, 64, 65])
def test_small_log_prob_of_full_covariances(dim):
    from fastelbo.kernels import device

    rng = np.random.default_rng(dim)
    tril = np.tril(rng.normal(size=(6, dim, dim)), -1) / np.sqrt(dim) + np.eye(dim)
    mean = rng.normal(size=(6, dim))
    p = fe.Mixture(np.full(6, 1.0 / 6.0), fe.Gaussian(mean, scale_tril=tril))
    z = rng.normal(size=(1001, dim))
    got = device.fetch(p.log_prob(device.put(z)))
    np.testing.assert_allclose(got, p.log_prob(z), rtol=1e-9, atol=1e-9)


def test_mixture_model():
    rng = np.random.default_rng(0)
    mixture = fe.Mixture(np.full(5, 0.2), fe.Gaussian(rng.normal(size=(5, 3)), scale=1.0))
    model = fe.MixtureModel(rng.normal(size=(1000, 3)), mixture)
    q = fe.Categorical(rng.dirichlet(np.ones(5), 1000))
    got, expected = (fe.estimate(model, q, backend=b).to_dict() for b in ("cuda", "cpu"))
    assert_close(got, expected)
