"""Models whose density a function of NumPy, torch or JAX computes on the host, in batches."""

import functools
import itertools
import pickle
import traceback
import tracemalloc

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, bits

import fastelbo as fe
from fastelbo.engine.gradients import states
from fastelbo.errors import InvalidInputError, InvalidWeightError, UnsupportedDTypeError
from fastelbo.kernels.draws.blocks import CHUNK, LANES
from fastelbo.models.host import Batch, HostDensity
from fastelbo.models.slopes import log_joint_and_gradient
from fastelbo.models.terms import Supplied

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

RNG = np.random.default_rng(0)
LOADINGS = RNG.normal(size=(4, 2))
X = RNG.normal(size=(7, 4))
LINEAR = fe.LinearGaussian(X, LOADINGS, noise_cov=0.5)
POSTERIOR = LINEAR.exact_posterior()
Q = fe.Gaussian(POSTERIOR.mean, cov=1.5 * POSTERIOR.cov)
CONST = -0.5 * 4 * np.log(2.0 * np.pi * 0.5)
# Of one point that all draws share, and a mixture as q.
ONE = fe.LinearGaussian(X[0], LOADINGS, noise_cov=0.5)
MIXTURE = fe.Mixture([0.4, 0.6], fe.Gaussian([[0.0, 0.5], [1.0, 0.0]], scale=[0.7]))


def log_likelihood(z, x):
    residual = x - z @ LOADINGS.T
    return CONST - (residual * residual).sum(-1)


def of_one(z):
    return log_likelihood(z, X[0])


def of_torch(z, x):
    torch = pytest.importorskip("torch")
    residual = x - z @ torch.from_numpy(LOADINGS).T
    return CONST - (residual * residual).sum(-1)


@pytest.fixture
def jax():
    found = pytest.importorskip("jax")
    before = found.config.jax_enable_x64
    found.config.update("jax_enable_x64", True)
    yield found
    found.config.update("jax_enable_x64", before)


def model(function=log_likelihood, **options):
    options = {"prior": LINEAR.prior, "data": X, "vectorized": True} | options
    return fe.Model(log_likelihood=function, **options)


def joint(function, dim=2, **options):
    return fe.Model(log_joint=function, dim=dim, vectorized=True, **options)


def same(got, expected, tolerance=1e-12):
    for name in ("log_evidence", "elbo", "kl", "expected_log_likelihood", "elbo_se", "pareto_k"):
        np.testing.assert_allclose(
            getattr(got, name), getattr(expected, name), rtol=tolerance, atol=tolerance
        )
    for k in got.iw_sizes:
        np.testing.assert_allclose(got.iw_elbo(k), expected.iw_elbo(k), rtol=tolerance)


class WithValues:
    """A prior, and the values of a host density at the draws, computed before."""

    def __init__(self, host, q, n_samples, **options):
        terms = fe.elbo_terms(host, q, n_samples, 3, **options)
        self.prior, self.dim = host.prior, host.dim
        self.likelihood = Supplied(terms.log_likelihood, host.dim)
        self.batch_shape = np.broadcast_shapes(host.batch_shape, q.batch_shape)


# --- the same answers as other models -----------------------------------------------------------


@pytest.mark.parametrize("n_samples", [1, 30, 1000, 5000, 2 * CHUNK + 700])
@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_equals_the_built_in_model(n_samples, backend):
    got, expected = (
        fe.estimate(m, Q, n_samples, rng=3, backend=backend) for m in (model(), LINEAR)
    )
    # Values agree to 1e-14; k-hats follow differences of the largest.
    same(got, expected, 1e-10)


@pytest.mark.parametrize("q", [fe.Gaussian([0.0, 0.0], scale=1.0), MIXTURE])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_one_density_for_every_kind_of_q(q, precision):
    host = model(of_one, data=None)
    got, expected = (fe.estimate(m, q, 3000, rng=3, precision=precision) for m in (host, ONE))
    same(got, expected, 1e-10 if precision == "float64" else 1e-4)


def test_a_density_is_shared_by_the_batch_of_q():
    got, expected = (fe.estimate(m, Q, 3000, rng=3) for m in (model(of_one, data=None), ONE))
    same(got, expected, 1e-10)


def test_data_broadcast_against_q():
    q = fe.Gaussian(np.zeros((3, 1, 2)), scale=np.array([[[0.5]], [[1.0]], [[1.5]]]))
    got, expected = (fe.estimate(m, q, 700, rng=3) for m in (model(), LINEAR))
    assert got.batch_shape == (3, 7)
    same(got, expected, 1e-10)
    one = model(data=X[2:3])
    got, expected = (
        fe.estimate(m, Q, 700, rng=3)
        for m in (one, fe.LinearGaussian(X[2:3], LOADINGS, noise_cov=0.5))
    )
    same(got, expected, 1e-10)


@pytest.mark.parametrize("q", [Q, MIXTURE])
@pytest.mark.parametrize("n_samples", [100, CHUNK + 5000])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_bits_of_the_same_values_supplied(q, n_samples, precision):
    host = model()
    supplied = WithValues(host, q, n_samples, precision=precision)
    got, expected = (
        fe.estimate(m, q, n_samples, rng=3, precision=precision) for m in (host, supplied)
    )
    assert bits(got) == bits(expected)


def test_bits_do_not_depend_on_threads_or_on_the_clock(monkeypatch):
    expected = fe.estimate(model(), Q, 3 * CHUNK, rng=3)
    assert bits(fe.estimate(model(), Q, 3 * CHUNK, rng=3, n_threads=1)) == bits(expected)
    # Every launch takes as little, or as much, as it can.
    for seconds in (1e-9, 1e9):
        monkeypatch.setattr("fastelbo.kernels.cpu.launch._SLICE_SECONDS", seconds)
        assert bits(fe.estimate(model(), Q, 3 * CHUNK, rng=3)) == bits(expected)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 5000, 20_000, 10**6])
def test_batches_of_any_size(batch_size):
    n_samples = 200 if batch_size < 10 else 3 * CHUNK + 10
    seen = []

    def function(z, x):
        seen.append(z.shape)
        return log_likelihood(z, x)

    host, expected = model(function, batch_size=batch_size), model()
    got = fe.estimate(host, Q, n_samples, rng=3)
    assert max(k * n for k, n, _ in seen) <= max(batch_size, 1) + len(X)
    same(got, fe.estimate(expected, Q, n_samples, rng=3), 1e-10)
    a, b = (fe.elbo_terms(m, Q, n_samples, rng=3).log_likelihood for m in (host, expected))
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_batches_follow_the_shapes():
    of = HostDensity(of_one, 2).batch
    assert of(5000, 1) == Batch(5000, 1)
    assert of(200_000, 10) == Batch(4096, 1)
    assert of(1000, 10) == Batch(1000, 4)
    assert of(1, 10) == Batch(1, 10)
    wide = HostDensity(of_one, 10_000).batch(10**6, 1)
    assert wide.draws == LANES
    assert HostDensity(of_one, 2, batch_size=100).batch(30, 10) == Batch(30, 3)


def test_a_minibatch_has_the_draws_of_the_whole():
    whole = fe.estimate(model(), Q, 1000, rng=3)
    part = model(data=X[2:5])
    q = fe.Gaussian(Q.mean[2:5], scale_tril=np.broadcast_to(Q.scale_tril, (7, 2, 2))[2:5])
    got = fe.estimate(part, q, 1000, rng=3, first_index=2)
    np.testing.assert_allclose(got.log_evidence, whole.log_evidence[2:5], rtol=1e-13)


def test_heavy_tails_of_terms_are_drawn_again():
    # The lower tail of the log weights is heavy: the terms' own k-hats need the values again.
    p = fe.Gaussian([0.0], scale=1.0)
    host = fe.Model(log_likelihood=lambda z: -(np.abs(z[..., 0]) ** 12), prior=p, vectorized=True)
    q = fe.StudentT(2.0, [0.0], scale=3.0)
    supplied = WithValues(host, q, CHUNK + 10)
    got, expected = (fe.estimate(m, q, CHUNK + 10, rng=3) for m in (host, supplied))
    assert np.isnan(got.elbo_se)
    assert bits(got) == bits(expected)


def test_log_prob_takes_any_axes():
    density = HostDensity(log_likelihood, 2, data=X)
    z = RNG.normal(size=(3, 5, 7, 2))
    expected = log_likelihood(z, X)
    np.testing.assert_allclose(density.log_prob(z), expected, rtol=1e-13)
    small = HostDensity(log_likelihood, 2, data=X, batch_size=3)
    np.testing.assert_allclose(small.log_prob(z), expected, rtol=1e-13)
    np.testing.assert_allclose(density.log_prob(z[0, 0, 0]), log_likelihood(z[0, 0, 0], X))
    np.testing.assert_allclose(model().log_joint(z), LINEAR.log_joint(z), rtol=1e-12)
    assert density.log_prob(np.empty((0, 7, 2))).shape == (0, 7)


def test_memory_is_flat_in_the_number_of_draws(monkeypatch):
    monkeypatch.setattr("fastelbo.kernels.cpu.launch._SLICE_SECONDS", 1e9)

    def peak(n_samples):
        host = joint(lambda z: -0.5 * (z * z).sum(-1), batch_size=1000)
        q = fe.Gaussian([0.0, 0.0], scale=1.5)
        tracemalloc.start()
        fe.estimate(host, q, n_samples, rng=0, iw_sizes=(), pareto_k=False)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(128 * CHUNK)
    assert peak(512 * CHUNK) < 1.1 * peak(128 * CHUNK)


# --- torch and JAX ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [1000, CHUNK + 10])
def test_torch(n_samples):
    torch = pytest.importorskip("torch")
    expected = fe.estimate(model(), Q, n_samples, rng=3)
    for data in (X, torch.tensor(X, requires_grad=True)):
        for function in (of_torch, torch.compile(of_torch, backend="eager")):
            host = model(function, data=data, array_namespace="torch")
            same(fe.estimate(host, Q, n_samples, rng=3), expected, 1e-10)


def test_torch_runs_without_gradients_and_detaches_what_has_one():
    torch = pytest.importorskip("torch")
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    modes = []

    def function(z):
        modes.append((torch.is_grad_enabled(), z.requires_grad))
        with torch.enable_grad():
            return -(z * z * weight).sum(-1)

    got = fe.log_weights(joint(function, array_namespace="torch"), Q, 10, rng=3)
    assert set(modes) == {(False, False)}
    assert np.isfinite(got).all()


def test_torch_and_its_own_gradients():
    torch = pytest.importorskip("torch")

    def function(z):
        with torch.enable_grad():
            z = z.requires_grad_()
            value = -0.5 * (z * z).sum(-1)
            (slope,) = torch.autograd.grad(value.sum(), z)
        return value + 0.0 * slope.sum(-1)

    got = fe.log_weights(joint(function, array_namespace="torch"), Q, 10, rng=3)
    expected = fe.log_weights(joint(lambda z: -0.5 * (z * z).sum(-1)), Q, 10, rng=3)
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def gradients_of(function, namespace, **options):
    """Values and slopes of a model of X at draws of each data point, and those of LINEAR."""
    host = model(function, array_namespace=namespace, **options)
    z = np.random.default_rng(5).normal(size=(900, 7, 2))
    got, expected = (log_joint_and_gradient(m, z) for m in (host, LINEAR))
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12, atol=1e-12)
    return host


def test_gradients_of_torch():
    torch = pytest.importorskip("torch")
    gradients_of(of_torch, "torch")
    gradients_of(lambda z, x: of_torch(z.mul_(1.0), x), "torch")  # it may write to its z

    def by_hand(z, x):
        loadings = torch.from_numpy(LOADINGS)
        return 2.0 * (x - z @ loadings.T) @ loadings

    gradients_of(lambda z, x: of_torch(z.detach(), x), "torch", grad=by_hand)
    constant = joint(lambda z: torch.zeros(len(z)), array_namespace="torch")
    with pytest.raises(InvalidInputError, match="no gradient in z"):
        log_joint_and_gradient(constant, np.zeros(2))


def test_gradients_of_jax(jax):
    shapes = []

    def of_jax(z, x):
        shapes.append((z.shape, x.shape))  # as it is traced
        residual = x - z @ jax.numpy.asarray(LOADINGS).T
        return CONST - (residual * residual).sum(-1)

    host = gradients_of(of_jax, "jax")
    traced = len(shapes)
    assert traced == len(set(shapes))
    log_joint_and_gradient(host, np.zeros((900, 7, 2)))
    assert len(shapes) == traced  # compiled once a shape
    again = pickle.loads(pickle.dumps(model(of_one, data=None, array_namespace="jax")))
    values, slopes = again.likelihood.value_and_gradient(np.zeros((3, 1, 2)), np.zeros(1, int))
    assert values.shape == (3, 1)
    np.testing.assert_allclose(slopes[0, 0], 2.0 * X[0] @ LOADINGS, rtol=1e-12)


def test_torch_sees_the_draws_without_a_copy(monkeypatch):
    torch = pytest.importorskip("torch")
    from fastelbo.engine import host

    made, seen = [], []
    aligned = host._aligned
    monkeypatch.setattr(host, "_aligned", lambda *args: made.append(aligned(*args)) or made[-1])
    function = lambda z: seen.append(z.data_ptr()) or torch.zeros(len(z))  # noqa: E731
    fe.log_weights(joint(function, array_namespace="torch"), Q, 5000, rng=3)
    assert seen == [array.ctypes.data for array in made]


@pytest.mark.parametrize("n_samples", [10, CHUNK + 10])
def test_jax(jax, n_samples):
    loadings = jax.numpy.asarray(LOADINGS)

    @jax.jit
    def function(z, x):
        shapes.append(z.shape)
        residual = x - z @ loadings.T
        return CONST - (residual * residual).sum(-1)

    expected = fe.estimate(model(), Q, n_samples, rng=3)
    for data in (X, jax.numpy.asarray(X)):
        shapes = []
        host = model(function, data=data, array_namespace="jax", device="cpu:0")
        same(fe.estimate(host, Q, n_samples, rng=3), expected, 1e-10)
        # Compiled for one shape.
        assert len(shapes) <= 1


def test_jax_sees_the_draws_without_a_copy(jax, monkeypatch):
    from fastelbo.engine import host

    made, seen = [], []
    aligned = host._aligned
    monkeypatch.setattr(host, "_aligned", lambda *args: made.append(aligned(*args)) or made[-1])

    def function(z):
        seen.append(z.unsafe_buffer_pointer())
        return z.sum(-1)

    fe.log_weights(joint(function, array_namespace="jax"), Q, 4096, rng=3)
    assert seen == [array.ctypes.data for array in made]


def test_jax_without_float64_is_explained(jax):
    jax.config.update("jax_enable_x64", False)
    host = joint(lambda z: -0.5 * (z * z).sum(-1), array_namespace="jax")
    with pytest.raises(InvalidInputError, match=r'config\.update\("jax_enable_x64", True\)'):
        fe.estimate(host, Q, 100, rng=3)
    with pytest.raises(InvalidInputError, match=r"data is float64.*jax_enable_x64"):
        model(array_namespace="jax")
    got = fe.estimate(host, Q, 100, rng=3, precision="float32")
    assert np.isfinite(got.log_evidence).all()


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_half_and_single_precision_are_taken(name, jax):
    pytest.importorskip(name)
    xp = pytest.importorskip({"torch": "torch", "jax": "jax.numpy"}[name])
    for dtype in (xp.float32, xp.bfloat16, xp.float16):
        host = joint(lambda z, dtype=dtype: xp.asarray(z.sum(-1), dtype=dtype),
                     array_namespace=name)  # fmt: skip
        got = fe.elbo_terms(host, Q, 50, rng=3).log_likelihood
        expected = fe.elbo_terms(joint(lambda z: z.sum(-1)), Q, 50, rng=3).log_likelihood
        np.testing.assert_allclose(got, expected, rtol=0.02, atol=0.02)
        assert got.dtype == np.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"array_namespace": "numpy", "device": "cpu"}, "device must be None"),
        ({"array_namespace": "torch", "device": "teapot"}, "device must be one of torch"),
        ({"array_namespace": "jax", "device": "teapot"}, "device must be one of JAX"),
        ({"array_namespace": "jax", "device": "cpu:99"}, "device must be one of JAX"),
        ({"array_namespace": "jax", "device": 3.0}, "device must be one of JAX"),
        ({"array_namespace": "cupy"}, "array_namespace"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"data": 1.0}, "data must have"),
        ({"data": np.empty((0, 4))}, "data must have"),
    ],
)
def test_options_that_are_refused(options, message, jax):
    if options.get("array_namespace") == "torch":
        pytest.importorskip("torch")
    with pytest.raises(InvalidInputError, match=message):
        HostDensity(of_one, 2, **options)


# --- what functions do --------------------------------------------------------------------------


def test_an_error_of_the_function_keeps_its_traceback():
    def log_joint(z):
        return {}["key of mine"]

    with pytest.raises(KeyError, match="key of mine") as caught:
        fe.estimate(joint(log_joint), Q, 100, rng=3)
    text = "".join(traceback.format_exception(caught.value))
    assert "key of mine" in text.split("fastelbo called")[0]
    (note,) = caught.value.__notes__
    line = log_joint.__code__.co_firstlineno
    assert f"{__file__}, line {line})" in note
    assert "shape (700, 2) and dtype float64" in note


def test_an_interrupt_passes():
    def log_joint(z):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fe.estimate(joint(log_joint), Q, 100, rng=3)


WRONG = {
    "scalar": (lambda z: z.sum(), InvalidInputError, r"shape \(\); sum over the last axis alone"),
    "float": (lambda z: 1.5, InvalidInputError, r"returned shape \(\)"),
    "column": (
        lambda z: z.sum(-1, keepdims=True), InvalidInputError, r"shape \(700, 1\); drop its last",
    ),
    "row": (lambda z: z.sum(-1)[None], InvalidInputError, r"shape \(1, 700\)"),
    "no sum": (lambda z: -z * z, InvalidInputError, r"shape \(700, 2\); sum over the last axis"),
    "other sum": (lambda z: z.sum(0), InvalidInputError, r"shape \(2,\); sum over the last axis"),
    "too few": (lambda z: z[1:, 0], InvalidInputError, r"shape \(699,\)"),
    "complex": (lambda z: z[:, 0] + 0j, UnsupportedDTypeError, "complex128"),
    "truths": (lambda z: z[:, 0] > 0, UnsupportedDTypeError, "returned truths.* bool"),
    "objects": (lambda z: z[:, 0].astype(object), UnsupportedDTypeError, "object"),
    "text": (lambda z: "log", UnsupportedDTypeError, "returned 'log'"),
    "None": (lambda z: None, UnsupportedDTypeError, "returned None"),
    "pair": (lambda z: (z[:, 0], z), InvalidInputError, "returned"),
    "generator": (lambda z: (float(v) for v in z[:, 0]), UnsupportedDTypeError, "returned"),
    "masked": (lambda z: np.ma.masked_less(z[:, 0], 0.0), UnsupportedDTypeError, "masked"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_functions_may_not_return(name):
    function, kind, message = WRONG[name]
    with pytest.raises(kind, match=message) as caught:
        fe.estimate(joint(function), Q, 100, rng=3)
    assert f"{__file__}, line {function.__code__.co_firstlineno}" in str(caught.value)


@pytest.mark.parametrize("n_samples", [2, 7])
def test_wrong_axes_are_seen_where_lengths_agree(n_samples):
    # As many draws as coordinates, or as data points.
    q = fe.Gaussian(np.zeros(n_samples), scale=1.0)
    with pytest.raises(InvalidInputError, match="sum over the last axis"):
        fe.estimate(joint(lambda z: -(z * z).sum(0), n_samples), q, n_samples, rng=3)
    whole = fe.estimate(joint(lambda z: -(z * z).sum(-1), n_samples), q, n_samples, rng=3)
    assert np.isfinite(whole.elbo)


def test_data_points_and_draws_the_wrong_way_round_are_seen():
    for n_samples in (1, 7, 700):
        with pytest.raises(InvalidInputError, match="transpose it"):
            fe.estimate(model(lambda z, x: log_likelihood(z, x).T), Q, n_samples, rng=3)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: np.float32(-0.5) * (z * z).sum(-1).astype(np.float32),
        lambda z: (-0.5 * (z * z).sum(-1)).astype(">f8"),
        lambda z: (-0.5 * (z * z).sum(-1)).tolist(),
        functools.partial(lambda scale, z: scale * (z * z).sum(-1), -0.5),
    ],
)
def test_what_functions_may_return(function):
    got = fe.elbo_terms(joint(function), Q, 100, rng=3).log_likelihood
    expected = fe.elbo_terms(joint(lambda z: -0.5 * (z * z).sum(-1)), Q, 100, rng=3)
    np.testing.assert_allclose(got, expected.log_likelihood, rtol=1e-6)


def test_functions_may_write_to_z_and_keep_it():
    kept = []

    def in_place(z):
        kept.append(z)
        z *= z
        return -0.5 * z.sum(-1)

    got = fe.estimate(joint(in_place), Q, CHUNK, rng=3)
    copies = [z.copy() for z in kept]
    assert bits(got) == bits(fe.estimate(joint(lambda z: -0.5 * (z * z).sum(-1)), Q, CHUNK, rng=3))
    for z, copy in zip(kept, copies, strict=False):
        np.testing.assert_array_equal(z, copy)
    z = np.ones((7, 2))
    joint(in_place).log_joint(z)
    assert (z == 1.0).all()


def test_functions_may_not_write_to_data():
    def numpy_function(z, x):
        x += 1.0
        return log_likelihood(z, x)

    data = X.copy()
    with pytest.raises(ValueError, match="read-only"):
        fe.estimate(model(numpy_function, data=data), Q, 100, rng=3)
    np.testing.assert_array_equal(data, X)
    torch = pytest.importorskip("torch")

    def torch_function(z, x):
        x += 1.0
        return of_torch(z, x)

    host = model(torch_function, data=torch.from_numpy(data), array_namespace="torch")
    with pytest.raises(InvalidInputError, match="wrote to its data"):
        fe.estimate(host, Q, 100, rng=3)
    np.testing.assert_array_equal(data, X)


def test_data_are_copied():
    data = X.copy()
    host = model(data=data)
    data[:] = np.nan
    assert np.isfinite(fe.estimate(host, Q, 100, rng=3).elbo).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_values_that_are_no_log_densities_are_named(bad, backend):
    def function(z, x):
        values = log_likelihood(z, x)
        if x.shape[0] > 3 and len(values) > 5:
            values[5, 3] = bad
        return values

    with pytest.raises(InvalidWeightError, match="data point 3, draw 5:"):
        fe.estimate(model(function), Q, 100, rng=3, backend=backend)


def test_a_weight_of_zero_is_taken():
    def function(z):
        return np.where(z[:, 0] > 0.0, -0.5 * (z * z).sum(-1), -np.inf)

    got = fe.estimate(joint(function), fe.Gaussian([0.0, 0.0], scale=1.0), 10_000, rng=3)
    assert 4000 < got.n_zero < 6000
    assert abs(got.log_evidence - np.log(np.pi)) < 5.0 * got.log_evidence_se


def test_a_prior_may_be_one():
    class Both:
        prior = HostDensity(lambda z: -(z * z).sum(-1), 2)
        likelihood = HostDensity(log_likelihood, 2, data=X)
        dim, batch_shape = 2, (7,)

    terms = fe.elbo_terms(Both(), Q, 600, rng=3)
    whole = joint(lambda z: -(z * z).sum(-1))
    np.testing.assert_allclose(
        terms.log_prior, fe.elbo_terms(whole, Q, 600, rng=3).log_likelihood, rtol=1e-13
    )
    np.testing.assert_allclose(
        terms.log_likelihood, fe.elbo_terms(model(), Q, 600, rng=3).log_likelihood, rtol=1e-13
    )


def test_progress_counts_every_draw(monkeypatch):
    tqdm = pytest.importorskip("tqdm.auto")
    done = []

    class Bar(tqdm.tqdm):
        def update(self, n=1):
            done.append(n)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    fe.estimate(model(), Q, 5000, rng=3, progress=True)
    assert sum(done) == 5000 * len(X)


def test_a_device_is_refused_before_it_is_asked():
    from fastelbo.engine.host import refuse_host_densities
    from fastelbo.engine.states import StateForm
    from fastelbo.engine.task import EstimateRequest

    request = EstimateRequest(model(), Q, (7,), 10, 1, 0, "float64", StateForm((), 0))
    with pytest.raises(InvalidInputError, match='backend must be "auto", "cpu" or "numpy"'):
        refuse_host_densities(request)


# --- gradients of bounds ------------------------------------------------------------------------


def gradient_of_one(z, x):
    return 2.0 * (x - z @ LOADINGS.T) @ LOADINGS


def with_gradient(kind, request):
    """The linear model as a function on the host whose gradient is known."""
    if kind == "grad":
        return model(grad=gradient_of_one)
    if kind == "torch":
        pytest.importorskip("torch")
        return model(of_torch, array_namespace="torch")
    jnp = request.getfixturevalue("jax").numpy
    loadings = jnp.asarray(LOADINGS)

    def of_jax(z, x):
        residual = x - z @ loadings.T
        return CONST - (residual * residual).sum(-1)

    return model(of_jax, array_namespace="jax")


GRADIENTS = [(1, "stl"), (3, "dreg"), (5, "vimco"), (40, "total"), (700, "dreg")]


@pytest.mark.parametrize("kind", ["grad", "torch", "jax"])
def test_gradients_of_bounds_are_those_of_the_same_model(kind, request):
    host = with_gradient(kind, request)
    student = fe.StudentT(5.0, POSTERIOR.mean, scale=0.7)
    for q, (k, estimator) in itertools.product((Q, student), GRADIENTS):
        options = {"n_samples": 2800, "k": k, "estimator": estimator, "wrt": "q", "rng": 1}
        got, expected = (fe.elbo_gradient(each, q, **options) for each in (host, LINEAR))
        assert got.value.value == pytest.approx(float(expected.value.value), rel=1e-12)
        for name, bound in got.gradients.items():
            other = expected.gradients[name]
            np.testing.assert_allclose(bound.value, other.value, rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(bound.se, other.se, rtol=1e-9, atol=1e-11)
    mixed, expected = (
        fe.elbo_gradient(each, MIXTURE, 600, k=2, wrt="q", rng=1) for each in (host, LINEAR)
    )
    for name, bound in mixed.gradients.items():
        np.testing.assert_allclose(bound.value, expected.gradients[name].value, rtol=1e-9)


def test_bits_of_gradients_do_not_depend_on_launches(monkeypatch):
    options = {"n_samples": 20_000, "k": 3, "wrt": "q", "rng": 1, "per_point": True}
    host = model(grad=gradient_of_one)
    whole = fe.elbo_gradient(host, Q, **options)
    for name, value in (("_FIRST_WORK", 1), ("SLICE_NUMBERS", 1)):
        monkeypatch.setattr(states, name, value)
        part = fe.elbo_gradient(host, Q, **options, n_threads=1)
        for parameter, (mean, se) in part.gradients.items():
            np.testing.assert_array_equal(mean, whole.gradients[parameter].value)
            np.testing.assert_array_equal(se, whole.gradients[parameter].se)


def test_gradients_need_a_gradient_of_the_function():
    with pytest.raises(InvalidInputError, match=r'grad=.*"torch" or "jax"'):
        fe.elbo_gradient(model(), Q, 50)
    # A score needs none.
    score = fe.elbo_gradient(model(), Q, 50, k=5, estimator="vimco", rng=0)
    expected = fe.elbo_gradient(LINEAR, Q, 50, k=5, estimator="vimco", rng=0, wrt="q")
    np.testing.assert_allclose(score.mean.value, expected.mean.value, rtol=1e-9)


@pytest.mark.parametrize("kind", ["grad", "torch", "jax"])
def test_gradients_at_given_points(kind, request):
    host, z = with_gradient(kind, request), np.random.default_rng(4).normal(size=(3, 7, 2))
    values, slopes = log_joint_and_gradient(host, z)
    expected, of_linear = log_joint_and_gradient(LINEAR, z)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_allclose(slopes, of_linear, rtol=1e-9, atol=1e-11)
    single = log_joint_and_gradient(host, z[0, 0])
    assert single[0].shape == (7,)
    np.testing.assert_allclose(single[1][0], slopes[0, 0], rtol=1e-12)
