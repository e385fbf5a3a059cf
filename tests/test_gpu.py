"""Compiled CUDA kernels against this machine's CPU: on a GPU, or on the machine of `ptx_machine`.

``python -m pytest -m gpu`` needs an NVIDIA GPU. Under NVIDIA's compute-sanitizer, a part of the
CUDA toolkit, the same suite reports races and invalid memory accesses::

    compute-sanitizer --tool memcheck --target-processes all python -m pytest -m gpu -x
    compute-sanitizer --tool racecheck --target-processes all python -m pytest -m gpu -x -k small
    compute-sanitizer --tool synccheck --target-processes all python -m pytest -m gpu -x -k small

Without a GPU, the machine runs the same PTX and reports the same errors. A kernel takes seconds to
compile, so the machine runs only a few of the many cases, and the others with ``-m slow``.
"""

import functools

import numpy as np
import pytest
from cases import CASES, linear, triangles
from device_functions import FUNCTIONS, REFUSED, model_of, q_of
from helpers import IGNORE_DIAGNOSTICS, assert_single_precision, quiet, ulps

import fastelbo as fe
from fastelbo.kernels.draws import blocks

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)


@pytest.fixture(params=[pytest.param("GPU", marks=pytest.mark.gpu), "machine"])
def place(request):
    """Where kernels run."""
    if request.param == "GPU":
        yield
        return
    from ptx_machine.device import installed, missing

    if reason := missing():
        pytest.skip(reason)
    with installed():
        yield


def on_both(name, values, quick):
    """All values of one argument on a GPU; on the machine, those that are not quick are slow."""
    gpu = [pytest.param("GPU", value, marks=pytest.mark.gpu) for value in values]
    machine = [
        pytest.param("machine", value, marks=() if value in quick else pytest.mark.slow)
        for value in values
    ]
    return pytest.mark.parametrize(("place", name), [*gpu, *machine], indirect=["place"])


slow_on_the_machine = pytest.mark.parametrize(
    "place",
    [pytest.param("GPU", marks=pytest.mark.gpu), pytest.param("machine", marks=pytest.mark.slow)],
    indirect=True,
)


def assert_close(got, expected, tolerance=1e-9):
    for name in expected:
        if isinstance(expected[name], str):
            assert got[name] == expected[name]
            continue
        x, y = np.asarray(got[name], float), np.asarray(expected[name], float)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=name)


def both(model, q, n_samples, **options):
    with quiet():
        return [
            fe.estimate(model, q, n_samples, rng=1, backend=backend, **options).to_dict()
            for backend in ("cuda", "cpu")
        ]


# Two chunks; the second one ends within a tile.
DRAWS = 8192 + 1300


@on_both("name", CASES, [])
def test_small_estimates(place, name):
    model, q = CASES[name]()
    assert_close(*both(model, q, DRAWS, iw_sizes=(1, 7, 100)))


@on_both("name", CASES, [])
def test_small_estimates_without_groups(place, name):
    model, q = CASES[name]()
    assert_close(*both(model, q, DRAWS, iw_sizes=()))
    # Draws in single precision differ in their last digits. A narrow density magnifies this.
    single = both(model, q, DRAWS, iw_sizes=(), precision="float32", pareto_k=False)
    assert_close(*single, 1e-3)


@on_both("name", CASES, [])
def test_small_terms_in_single_precision(place, name):
    assert_single_precision(*CASES[name](), 700, backend="cuda")


GROUPS = [(2 * DRAWS, (2, 9000)), (1300, range(1, 21))]


@on_both("groups", GROUPS, [])
def test_small_estimates_with_group_sizes(place, groups):
    """A group size larger than a chunk, and more group sizes than fit into shared memory."""
    n_samples, iw_sizes = groups
    model, q = linear(model_batch=(3,), q_batch=(3,))
    assert_close(*both(model, q, n_samples, iw_sizes=iw_sizes, first_index=2**31 + 5))


@slow_on_the_machine
def test_small_terms_of_several_q(place):
    """Draws of a full Gaussian, with the density of a mixture of it and of Student-t."""
    model, q = linear("full", dim=3, q_batch=())
    qs = [q, linear("t", dim=3, seed=1)[1]]
    got, expected = (
        fe.elbo_terms(model, qs, [700, 100], rng=1, backend=backend)._asdict()
        for backend in ("cuda", "cpu")
    )
    assert_close(got, expected)


@slow_on_the_machine
def test_small_replicates(place):
    """Quasi-random draws: two chunks of each of two replicates, and groups across these."""
    model, q = linear(dim=3)
    assert_close(*both(model, q, 2 * 2048, sampler="sobol", replicates=2, iw_sizes=(1, 2)))


@slow_on_the_machine
def test_small_estimates_beyond_shared_memory(place):
    model, q = linear("mixture_full", "mixture", dim=30, features=31)
    assert_close(*both(model, q, 1000))


@pytest.mark.gpu
def test_many_draws():
    model, q = linear("full", "mixture", dim=10, features=12, model_batch=(5,), q_batch=(5,))
    assert_close(*both(model, q, 10**6 + 17, iw_sizes=(10, 10_000)))


def test_words_are_the_same_and_normals_within_4_ulp(place):
    # Imported here, because numba.cuda must not be imported without a device.
    from device_draws import words_and_normals

    (words, normals), (expected_words, expected_normals) = words_and_normals()
    np.testing.assert_array_equal(words, expected_words)
    assert ulps(normals, expected_normals).max() <= 4.0


@on_both("iw_sizes", [(1, 7, 100), ()], [])
def test_small_runs_are_alike_to_the_bit(place, iw_sizes):
    model, q = CASES["diagonal-standard-scalar"]()
    first, second = (both(model, q, DRAWS, iw_sizes=iw_sizes)[0] for _ in range(2))
    for field, value in first.items():
        np.testing.assert_array_equal(value, second[field], err_msg=field)


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["torch", "cupy", "jax.numpy"])
def test_arrays_of_other_libraries(library):
    xp = pytest.importorskip(library)
    if library == "torch" and not xp.cuda.is_available():
        pytest.skip("torch sees no device")
    x = np.random.default_rng(0).standard_normal((20, 30_000), np.float32)
    there = xp.as_tensor(x, device="cuda") if library == "torch" else xp.asarray(x)
    if not hasattr(there, "__cuda_array_interface__"):
        pytest.skip(f"{library} sees no device")
    assert_close(fe.summarize(there).to_dict(), fe.summarize(x).to_dict())
    z = there.reshape(-1, 4)
    p = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0] * 4, [1.0] * 4], scale=1.0))
    expected = p.log_prob(x.reshape(-1, 4))
    result = p.log_prob(z)
    np.testing.assert_allclose(result.copy_to_host(), expected, rtol=1e-9, atol=1e-9)
    # The library takes the result without a copy.
    if library == "torch":
        back = xp.as_tensor(result, device="cuda").cpu().numpy()
        np.testing.assert_array_equal(back, result.copy_to_host())
    if library == "cupy":
        np.testing.assert_array_equal(xp.asnumpy(xp.asarray(result)), result.copy_to_host())


@on_both("dtype", ["float32", "float64"], ["float64"])
def test_small_summaries(place, dtype):
    from fastelbo.kernels.cuda import device

    x = np.random.default_rng(1).standard_cauchy((4, DRAWS))
    x[1] = np.round(x[1])  # most of the largest values are equal
    x[2] = np.sort(x[2])  # each value is the largest so far
    x[3, ::3] = -np.inf
    x = x.astype(dtype)
    there = device.put(x)
    for options in ({}, {"iw_sizes": ()}, {"iw_sizes": (), "pareto_k": False}):
        got, expected = (fe.summarize(rows, **options).to_dict() for rows in (there, x))
        # Without groups, rows of float32 have weights of single precision.
        assert_close(got, expected, 1e-9 if dtype == "float64" or not options else 5e-7)


def test_small_summaries_of_several_spans(place, monkeypatch):
    """Two spans of a chunk and a part of a third; a group size larger than a chunk."""
    from fastelbo.kernels.cuda import device, drivers, launch

    for module in (blocks, drivers, launch):
        monkeypatch.setattr(module, "SPAN", 1)
    # A kernel of its own, which no other test gets.
    monkeypatch.setattr(drivers, "fold", functools.cache(drivers.fold.__wrapped__))
    x = np.random.default_rng(2).standard_t(3, (2, 2 * 8192 + 300))
    options = {"iw_sizes": (10, 9000)}
    got, expected = (fe.summarize(rows, **options).to_dict() for rows in (device.put(x), x))
    assert_close(got, expected, 1e-12)


@on_both("dim", [1, 2, 5, 8, 13, 32, 64, 65], [13])
def test_small_log_prob_of_full_covariances(place, dim):
    from fastelbo.kernels.cuda import device

    rng = np.random.default_rng(dim)
    tril = triangles(rng, 6, dim)
    mean = rng.normal(size=(6, dim))
    z = rng.normal(size=(301, dim))
    for component in (
        fe.Gaussian(mean, scale_tril=tril),
        fe.StudentT(np.linspace(1.5, 9.0, 6), mean, scale_tril=tril),
    ):
        p = fe.Mixture(np.full(6, 1.0 / 6.0), component)
        got = device.fetch(p.log_prob(device.put(z)))
        np.testing.assert_allclose(got, p.log_prob(z), rtol=1e-9, atol=1e-9)


def test_small_mixture_model(place):
    rng = np.random.default_rng(0)
    mixture = fe.Mixture(np.full(5, 0.2), fe.Gaussian(rng.normal(size=(5, 3)), scale=1.0))
    model = fe.MixtureModel(rng.normal(size=(1000, 3)), mixture)
    q = fe.Categorical(rng.dirichlet(np.ones(5), 1000))
    got, expected = (fe.estimate(model, q, backend=b).to_dict() for b in ("cuda", "cpu"))
    assert_close(got, expected)


@on_both("name", FUNCTIONS, [])
@pytest.mark.filterwarnings("ignore::fastelbo.errors.OneDrawAtATimeWarning")
def test_small_functions_of_users(place, name):
    model = model_of(name, 12)
    assert_close(*both(model, q_of(model), 1300, iw_sizes=()), 1e-12)


def index_beyond(z, x):
    return -0.5 * (z[0] - x[int(4.0 - z[0])]) ** 2


def index_below(z, x):
    return -0.5 * (z[0] - x[-int(5.0 - z[0]), 1]) ** 2


def write_beyond(z):
    work = np.zeros(3)
    work[int(2.0 - z[0])] = 1.0
    return -0.5 * z[0] ** 2 - work[0]


def raises(z):
    if z[0] < -1.5:
        raise ValueError("z is too small")
    return -0.5 * z[0] ** 2


@pytest.mark.filterwarnings("ignore::fastelbo.errors.OneDrawAtATimeWarning")
@pytest.mark.parametrize(
    ("function", "params"),
    [
        pytest.param(index_beyond, (np.arange(6.0),), marks=pytest.mark.slow),
        pytest.param(index_below, (np.ones((6, 2)),), marks=pytest.mark.slow),
        (write_beyond, ()),
        pytest.param(raises, (), marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_small_errors_name_the_draw(place, function, params):
    """An index out of bounds, or an error, is a NaN at the draw that the CPU names.

    On a CPU, draws after it in the block are NaN, too, so the counts differ.
    """
    model, q = fe.Model(log_joint=function, dim=1, params=params), fe.Gaussian([0.0], scale=1.0)
    messages = []
    for backend in ("cuda", "cpu"):
        with pytest.raises(fe.errors.InvalidWeightError) as caught:
            fe.estimate(model, q, 200, rng=1, iw_sizes=(), backend=backend)
        messages.append(str(caught.value).partition("the first at")[2])
    assert "draw" in messages[0]
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", REFUSED)
def test_small_refusals_name_the_line(place, name, monkeypatch):
    function, params = REFUSED[name]
    model = fe.Model(log_joint=function, dim=3, params=params)
    with pytest.raises(fe.errors.InvalidInputError, match=r"device_functions.py:\d+ .*# here") as c:
        fe.estimate(model, q_of(model), 100, backend="cuda")
    assert 'backend="cpu"' in str(c.value)
    # "auto" would take the device.
    monkeypatch.setattr("fastelbo.engine.cuda._WORTH_A_DEVICE", 0)
    with quiet(), pytest.warns(fe.errors.NoDeviceFormWarning, match="# here"):
        found = fe.estimate(model, q_of(model), 100, rng=1)
    expected = fe.estimate(model, q_of(model), 100, rng=1, backend="cpu")
    assert found.log_evidence == expected.log_evidence


def test_small_many_arrays_are_refused(place):
    many = tuple(np.ones(2) for _ in range(30))

    def log_joint(z, *arrays):
        return -0.5 * (z[0] - arrays[0][0]) ** 2

    model = fe.Model(log_joint=log_joint, dim=1, params=many)
    with pytest.raises(fe.errors.InvalidInputError, match="bytes of params"):
        fe.estimate(model, fe.Gaussian([0.0], scale=1.0), 100, backend="cuda")
