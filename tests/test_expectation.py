"""Posterior expectations: known answers, plain oracles, what is refused and what is warned of."""

import math

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, quiet
from posteriors import EIGHT_SCHOOLS

import fastelbo as fe
from fastelbo.errors import (
    AllWeightsZeroWarning,
    HighParetoKWarning,
    InvalidInputError,
    InvalidWeightError,
    LowESSWarning,
    ShortTailWarning,
    UnsupportedDTypeError,
)


def facts(z):
    mu, tau = z[0], math.exp(z[1])
    return mu, tau, z[1], (mu - 4.39682071) ** 2, (tau - 3.59770548) ** 2


def is_large(z, tau):
    return math.exp(z[1]) > tau


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_eight_schools():
    model = EIGHT_SCHOOLS.model
    q = fe.adapt(model, rng=0).q
    got = fe.expectation(facts, model, q, 100_000, rng=1)
    # By quadrature: two means, that of log tau, and two variances.
    exact = [4.39682071, 3.59770548, 0.8021419, 3.317704**2, 3.219958**2]
    assert got.value.shape == (5,)
    assert np.isfinite(got.se).all()
    assert (np.abs(got.value - exact) < 4.0 * got.se).all()
    assert (got.se < [0.03, 0.03, 0.02, 0.3, 0.8]).all()
    large = fe.expectation(is_large, model, q, 100_000, rng=2, params=(5.0,))
    assert abs(large.value - 0.2492488) < 4.0 * large.se < 0.02
    mean = fe.expectation("mean", model, q, 100_000, rng=1)
    np.testing.assert_allclose(mean.value[:2], got.value[[0, 2]], rtol=1e-11)


# --- oracles ------------------------------------------------------------------------------------

P = fe.StudentT(9.0, [1.0, 2.0], scale=[1.0, 2.0])
Q = fe.StudentT(5.0, [0.5, 2.0], scale=[1.5, 2.5])
N = 5000


def parts(p=P, q=Q, n=N, rng=1):
    return np.exp(fe.log_weights(p, q, n, rng=rng)), q.sample(n, rng=rng)


def plain(f, w):
    """Value, error, ESS and plain mean with its error, of values (n,)."""
    value = (f * w).sum() / w.sum()
    d = (f - value) * w
    ess = np.abs(d).sum() ** 2 / (d**2).sum()
    fw = f * w
    return value, np.sqrt((d**2).sum()) / w.sum(), ess, fw.mean(), fw.std() / np.sqrt(len(w) - 1)


def test_mean_is_that_of_numpy():
    w, z = parts()
    got = fe.expectation("mean", P, Q, N, rng=1)
    for d in range(2):
        value, se, ess, mean, mean_se = plain(z[:, d], w)
        np.testing.assert_allclose(got.value[d], value, rtol=1e-13)
        np.testing.assert_allclose(got.se[d], se, rtol=1e-12)
        np.testing.assert_allclose(got.ess[d], ess, rtol=1e-12)
        np.testing.assert_allclose(got.unnormalised[d], mean, rtol=1e-13)
        np.testing.assert_allclose(got.unnormalised_se[d], mean_se, rtol=1e-10)
        k = fe.pareto_k(np.log(np.abs(z[:, d] * w)))
        np.testing.assert_allclose(got.pareto_k[d], k, rtol=1e-9)
        k = fe.pareto_k(np.log(np.abs((z[:, d] - value) * w)))
        np.testing.assert_allclose(got.pareto_k_centred[d], k, rtol=1e-6)
    np.testing.assert_allclose(got.pareto_k_weights, fe.pareto_k(np.log(w)), rtol=1e-12)


def test_covariance_is_that_of_numpy():
    w, z = parts()
    got = fe.expectation("cov", P, Q, N, rng=1)
    d = z - (w[:, None] * z).sum(axis=0) / w.sum()
    for i in range(2):
        for j in range(2):
            value, se, ess, *_ = plain(d[:, i] * d[:, j], w)
            np.testing.assert_allclose(got.value[i, j], value, rtol=1e-11, atol=1e-12)
            np.testing.assert_allclose(got.se[i, j], se, rtol=1e-11)
            np.testing.assert_allclose(got.ess[i, j], ess, rtol=1e-11)
    assert got.unnormalised is None


def test_quantiles_are_those_of_numpy():
    w, z = parts()
    probs = [0.1, 0.5, 0.975]
    got = fe.expectation("quantiles", P, Q, N, rng=1, probs=probs)
    assert got.value.shape == (3, 2)
    assert got.probs.tolist() == probs
    assert not got.note
    for d in range(2):
        order = np.argsort(z[:, d])
        x, own = z[order, d], w[order]
        reached = (np.cumsum(own) - 0.5 * own) / own.sum()
        for j, p in enumerate(probs):
            value = np.interp(p, reached, x)
            np.testing.assert_allclose(got.value[j, d], value, rtol=1e-12)
            indicator = (z[:, d] <= value) - p
            s = np.sqrt((w**2 * indicator**2).sum()) / w.sum()
            ends = np.interp([p - 1.96 * s, p + 1.96 * s], reached, x)
            np.testing.assert_allclose(got.se[j, d], np.diff(ends)[0] / 3.92, rtol=1e-9)
            ess = (w * np.abs(indicator)).sum() ** 2 / (w**2 * indicator**2).sum()
            np.testing.assert_allclose(got.ess[j, d], ess, rtol=1e-10)


def test_quantiles_of_equal_weights_are_those_of_the_draws():
    q = fe.Gaussian([0.0], scale=1.0)
    with quiet():
        got = fe.expectation("quantiles", q, q, 1000, rng=0, probs=[0.25, 0.5])
    exact = np.quantile(q.sample(1000, rng=0)[:, 0], [0.25, 0.5], method="hazen")
    np.testing.assert_allclose(got.value[:, 0], exact, rtol=1e-12)


def test_quantiles_from_fewer_draws_say_so(monkeypatch):
    from fastelbo.engine import quantiles

    monkeypatch.setattr(quantiles, "MOST_DRAWS", 1000)
    got = fe.expectation("quantiles", P, Q, N, rng=1)
    assert got.note == "quantiles are from the first 1000 of 5000 draws"
    assert got.note in repr(got)
    first = fe.expectation("quantiles", P, Q, 1000, rng=1)
    np.testing.assert_array_equal(got.value, first.value)
    sobol = fe.expectation("quantiles", P, Q, 16 * 256, rng=1, sampler="sobol", rotate=False)
    assert "first 512 of 4096" in sobol.note


def pair(z):
    return z[0], z[0] * math.sin(z[1])


def vector(z, a):
    return np.array([z[0], a[0] * z[0] * z[1]])


FORMS = {
    "tuple": (pair, {}, lambda z: np.stack([z[:, 0], z[:, 0] * np.sin(z[:, 1])], axis=1)),
    "vector": (
        vector,
        {"params": (np.array([2.0]),)},
        lambda z: np.stack([z[:, 0], 2.0 * z[:, 0] * z[:, 1]], axis=1),
    ),
    "number": (lambda z: z[0] * z[1], {}, lambda z: z[:, 0] * z[:, 1]),
    "truth": (lambda z: z[0] > z[1], {}, lambda z: 1.0 * (z[:, 0] > z[:, 1])),
    "sequence": (
        [lambda z: z[0] + 1.0, lambda z: z[1] < 2.0],
        {},
        lambda z: np.stack([z[:, 0] + 1.0, 1.0 * (z[:, 1] < 2.0)], axis=1),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_functions(name):
    f, options, on_arrays = FORMS[name]
    w, z = parts()
    got = fe.expectation(f, P, Q, N, rng=1, **options)
    values = on_arrays(z)
    assert got.value.shape == values.shape[1:]
    columns = values.reshape(N, -1).T
    expected = np.array([plain(column, w) for column in columns])
    for j, attribute in enumerate(["value", "se", "ess", "unnormalised"]):
        np.testing.assert_allclose(
            getattr(got, attribute).ravel(), expected[:, j], rtol=1e-9, err_msg=attribute
        )
    host = fe.expectation(on_arrays, P, Q, N, rng=1, vectorized=True)
    np.testing.assert_allclose(host.value, got.value, rtol=1e-12)
    np.testing.assert_allclose(host.se, got.se, rtol=1e-11)


@pytest.mark.parametrize("options", [{}, {"precision": "float32"}, {"backend": "numpy"}], ids=str)
def test_batches_and_threads(options):
    rng = np.random.default_rng(0)
    model = fe.LinearGaussian(rng.normal(size=(5, 3)), rng.normal(size=(3, 2)), noise_cov=1.0)
    q = fe.Gaussian(model.exact_posterior().mean, scale=0.9)
    for f, event in (("mean", (2,)), ("cov", (2, 2)), ("quantiles", (5, 2)), (pair, (2,))):
        got = fe.expectation(f, model, q, 9000, rng=0, **options)
        one = fe.expectation(f, model, q, 9000, rng=0, n_threads=1, **options)
        assert got.value.shape == (5, *event)
        assert got.pareto_k_weights.shape == (5,)
        assert got.unnormalised is None
        for name in ("value", "se", "pareto_k", "pareto_k_centred", "ess"):
            np.testing.assert_array_equal(getattr(got, name), getattr(one, name))


def test_a_minibatch_has_the_draws_of_the_whole():
    model = fe.LinearGaussian([[1.0], [2.0], [3.0]], [[1.0]], noise_cov=1.0)
    last = fe.LinearGaussian([[3.0]], [[1.0]], noise_cov=1.0)
    q = fe.Gaussian([1.0], scale=1.0)
    for f in ("mean", "quantiles", lambda z: z[0] ** 2):
        whole = fe.expectation(f, model, q, 1000, rng=0)
        part = fe.expectation(f, last, q, 1000, rng=0, first_index=2)
        np.testing.assert_array_equal(whole.value[2], part.value[0])


def test_many_pairs_are_taken_in_parts(monkeypatch):
    from fastelbo.engine import expected

    p, q = fe.Gaussian(np.zeros(4), scale=1.0), fe.StudentT(5.0, np.zeros(4), scale=1.2)
    whole = fe.expectation("cov", p, q, 2000, rng=0)
    monkeypatch.setattr(expected, "_PAIRS", 3)
    some = fe.expectation("cov", p, q, 2000, rng=0)
    np.testing.assert_array_equal(whole.value, some.value)
    np.testing.assert_array_equal(whole.pareto_k, some.pareto_k)


def test_no_data_points():
    q = fe.Gaussian(np.zeros((0, 2)), scale=1.0)
    for f, event in (("mean", (2,)), ("cov", (2, 2)), ("quantiles", (5, 2)), (pair, (2,))):
        assert fe.expectation(f, fe.Gaussian([0.0, 0.0], scale=1.0), q, 50).se.shape == (0, *event)


def test_several_q_are_those_of_numpy():
    """Errors are stratified: of w (f - value) within the draws of each q."""
    qs, counts = [fe.StudentT(5.0, [1.5, 2.0], scale=2.0), Q], [250, 750]
    got = fe.expectation(lambda z: z[0] * z[1], P, qs, counts, rng=3)
    terms = fe.log_weights(P, qs, counts, rng=3)
    mixture = fe.Proposals(qs, [0.25, 0.75])
    key = int(np.random.default_rng(3).integers(0, 2**64, dtype=np.uint64))
    from fastelbo.random import pilot_key

    z = [
        np.array([fe.draw(q, 0, k, key=pilot_key(key, 16 + j)) for k in range(n)])
        for j, (q, n) in enumerate(zip(qs, counts, strict=True))
    ]
    w = [np.exp(P.log_prob(each) - mixture.log_prob(each)) for each in z]
    np.testing.assert_allclose(np.sort(np.concatenate(w)), np.sort(np.exp(terms)), rtol=1e-10)
    f = [each[:, 0] * each[:, 1] for each in z]
    total = sum(each.sum() for each in w)
    value = sum((a * b).sum() for a, b in zip(f, w, strict=True)) / total
    np.testing.assert_allclose(got.value, value, rtol=1e-10)
    parts = [b * (a - value) for a, b in zip(f, w, strict=True)]
    variance = sum(len(each) * each.var(ddof=1) for each in parts)
    np.testing.assert_allclose(got.se, np.sqrt(variance) / total, rtol=1e-9)
    parts = [a * b for a, b in zip(f, w, strict=True)]
    variance = sum(len(each) * each.var(ddof=1) for each in parts)
    np.testing.assert_allclose(got.unnormalised, sum(map(np.sum, parts)) / 1000, rtol=1e-10)
    np.testing.assert_allclose(got.unnormalised_se, np.sqrt(variance) / 1000, rtol=1e-9)
    # Quantiles in the same way.
    got = fe.expectation("quantiles", P, qs, counts, rng=3, probs=[0.3])
    x = got.value[0, 0]
    parts = [b * ((a[:, 0] <= x) - 0.3) for a, b in zip(z, w, strict=True)]
    s = np.sqrt(sum(len(each) * each.var(ddof=1) for each in parts)) / total
    order = np.argsort(np.concatenate(z)[:, 0])
    row, own = np.concatenate(z)[order, 0], np.concatenate(w)[order]
    reached = (np.cumsum(own) - 0.5 * own) / total
    ends = np.interp([0.3 - 1.96 * s, 0.3 + 1.96 * s], reached, row)
    np.testing.assert_allclose(got.se[0, 0], np.diff(ends)[0] / 3.92, rtol=1e-8)


def test_a_list_of_one_q_has_the_errors_of_one():
    one = fe.expectation("mean", P, [Q], 20_000, rng=0)
    same = fe.expectation("mean", P, Q, 20_000, rng=1)
    np.testing.assert_allclose(one.se, same.se, rtol=0.05)


# --- closed forms -------------------------------------------------------------------------------


def linear(points=100):
    rng = np.random.default_rng(3)
    return fe.LinearGaussian(rng.normal(size=(points, 3)), rng.normal(size=(3, 2)), noise_cov=0.5)


def mixed():
    """A target of two modes; its mean and variance are known."""
    return fe.Mixture([0.3, 0.7], fe.Gaussian([[-2.0], [1.0]], scale=[[0.5], [1.0]]))


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("sampler", ["iid", "sobol"])
@pytest.mark.parametrize("family", ["Gaussian", "StudentT"])
def test_conjugate_posterior(sampler, family):
    model = linear()
    posterior = model.exact_posterior()
    shape = {} if family == "Gaussian" else {"df": 6.0}
    q = getattr(fe, family)(**shape, mean=posterior.mean + 0.1, scale=[0.8, 0.7])
    from scipy.stats import norm

    sd = np.sqrt(np.diagonal(posterior.cov, axis1=1, axis2=2))
    levels = norm.ppf([0.05, 0.25, 0.5, 0.75, 0.95])
    exact = {
        "mean": posterior.mean,
        "cov": posterior.cov,
        "quantiles": posterior.mean[:, None] + levels[:, None] * sd[:, None],
    }
    for f, answer in exact.items():
        got = fe.expectation(f, model, q, 2048, rng=0, sampler=sampler)
        z = (got.value - answer) / got.se
        assert np.isnan(z).mean() < 0.05, f
        assert 0.85 < np.sqrt(np.nanmean(z**2)) < 1.35, f
        assert np.nanmax(np.abs(z)) < (5.0 if sampler == "iid" else 9.0), f


@pytest.mark.parametrize("sampler", ["iid", "sobol"])
def test_two_modes(sampler):
    q = fe.Mixture([0.5, 0.5], fe.StudentT(5.0, [[-2.0], [1.0]], scale=[[0.6], [1.2]]))
    n = 2**16
    mean = fe.expectation("mean", mixed(), q, n, rng=0, sampler=sampler)
    assert abs(mean.value[0] - 0.1) < 5.0 * mean.se[0] < 0.1
    assert abs(mean.unnormalised[0] - 0.1) < 5.0 * mean.unnormalised_se[0] < 0.1
    variance = fe.expectation("cov", mixed(), q, n, rng=0, sampler=sampler)
    exact = 0.3 * (0.25 + 4.0) + 0.7 * 2.0 - 0.01
    assert abs(variance.value[0, 0] - exact) < 5.0 * variance.se[0, 0] < 0.2
    left = fe.expectation(lambda z: z[0] < -0.5, mixed(), q, n, rng=0, sampler=sampler)
    exact = 0.3 * 0.9986501019683699 + 0.7 * 0.06680720126885807
    assert abs(left.value - exact) < 5.0 * left.se < 0.05


def test_confidence_intervals():
    got = fe.expectation("mean", P, Q, N, rng=1)
    low, high = got.confidence_interval(0.95)
    np.testing.assert_allclose(high - got.value, 1.959963984540054 * got.se, rtol=1e-9)
    np.testing.assert_allclose(got.value - low, high - got.value, rtol=1e-9)
    even = fe.expectation("mean", P, Q, 4096, rng=1, sampler="sobol", rotate=False)
    low, high = even.confidence_interval(0.95)
    np.testing.assert_allclose(high - even.value, 2.131449545559323 * even.se, rtol=1e-9)


def test_quasi_random_draws_have_smaller_errors():
    model = linear()
    q = fe.Gaussian(model.exact_posterior().mean, scale=[0.8, 0.7])
    iid, sobol = (
        fe.expectation("mean", model, q, 4096, rng=0, sampler=sampler).se
        for sampler in ("iid", "sobol")
    )
    assert np.nanmedian(sobol / iid) < 0.5


# --- what draws cannot support ------------------------------------------------------------------


def test_high_k_leaves_no_error():
    p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.5], scale=0.3)
    for f, name in (
        ("mean", "the mean"),
        ("quantiles", "the quantiles"),
        (lambda z: z[0], "f test_high"),
    ):
        with pytest.warns(HighParetoKWarning, match=name):
            got = fe.expectation(f, p, q, 4000, rng=0)
        assert np.isnan(got.se).all()
        assert np.isfinite(got.value).all()
        assert np.isnan(got.confidence_interval()[0]).all()


def test_a_function_with_a_heavier_tail_than_the_weights():
    """w has k = 0.2, and w z^4 has k = 1: only the function's k-hat shows it."""
    p, q = fe.StudentT(4.0, [0.0], scale=1.0), fe.StudentT(5.0, [0.0], scale=1.0)
    with pytest.warns(HighParetoKWarning, match="1 of 2 entries"):
        got = fe.expectation([lambda z: z[0] ** 4, lambda z: z[0] > 1.0], p, q, 50_000, rng=0)
    assert np.isnan(got.se).tolist() == [True, False]
    assert got.pareto_k_weights < 0.5 < 0.7 < got.pareto_k_centred[0]


def test_weights_of_zero():
    model = fe.Model(log_joint=lambda z: -1.0 * z[0] ** 2 if z[0] > 50.0 else -np.inf, dim=1)
    q = fe.Gaussian([0.0], scale=1.0)
    for f in ("mean", "cov", "quantiles", lambda z: z[0]):
        with pytest.warns(AllWeightsZeroWarning):
            got = fe.expectation(f, model, q, 100, rng=0)
        assert np.isnan(got.value).all()
        assert np.isnan(got.se).all()


def test_values_at_weights_of_zero_do_not_count():
    model = fe.Model(log_joint=lambda z: -1.0 * z[0] ** 2 if z[0] > 0.0 else -np.inf, dim=1)
    q = fe.Gaussian([0.0], scale=1.0)
    got = fe.expectation(lambda z: math.log(z[0]), model, q, 20_000, rng=0)
    # Half-normal with variance 1/2: E log z = -(gamma + log 4) / 2 - ... of a scaled chi.
    exact = (
        0.5 * (-0.5772156649015329 - 2.0 * math.log(2.0))
        + 0.5 * math.log(2.0)
        - 0.5 * math.log(2.0)
    )
    assert abs(got.value - exact) < 4.0 * got.se < 0.1


def test_a_constant_has_no_known_error():
    # Draws cannot tell a constant from a function that is another one at rare draws.
    with pytest.warns(ShortTailWarning, match="all draws have one value for 1 of 1 entries"):
        got = fe.expectation(lambda z: 2.5 + 0.0 * z[0], P, Q, 1000, rng=0)
    assert abs(got.value - 2.5) < 1e-15
    assert np.isnan(got.se)
    assert np.isnan(got.ess)
    assert np.isnan(got.pareto_k_centred)
    assert abs(got.unnormalised - 2.5) < 4.0 * got.unnormalised_se


def test_few_effective_draws():
    p, q = fe.Gaussian([0.0], scale=0.3), fe.Gaussian([0.0], scale=1.0)
    with pytest.warns(LowESSWarning, match="below 100 for 1 of 1 data points"):
        got = fe.expectation("mean", p, q, 100, rng=0)
    assert np.isfinite(got.se).all()


@pytest.mark.filterwarnings("ignore::fastelbo.errors.LowESSWarning")
def test_few_draws():
    with pytest.warns(ShortTailWarning):
        got = fe.expectation("mean", P, Q, 15, rng=0)
    assert np.isnan(got.pareto_k).all()
    assert np.isfinite(got.se).all()
    with pytest.warns(ShortTailWarning):
        assert np.isnan(fe.expectation("mean", P, Q, 1, rng=0).se).all()


def test_equal_weights_need_no_k():
    q = fe.Gaussian([0.0, 1.0], scale=1.0)
    got = fe.expectation("mean", q, q, 1000, rng=0)
    z = q.sample(1000, rng=0)
    np.testing.assert_allclose(got.value, z.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(got.se, z.std(axis=0) / np.sqrt(1000), rtol=1e-12)
    assert np.isnan(got.pareto_k_weights)


# --- what is refused ----------------------------------------------------------------------------

BAD = [
    ({"f": "median"}, "f must be"),
    ({"f": 3}, "f must be"),
    ({"f": []}, "f must be"),
    ({"f": [3]}, "f must be"),
    ({"f": "mean", "params": (1.0,)}, "params is for functions"),
    ({"f": "mean", "vectorized": True}, "vectorized is for functions"),
    ({"vectorized": 1}, "vectorized must be True or False"),
    ({"f": lambda z: "a"}, "expected one real number, or a tuple"),
    ({"f": [lambda z: z[0], lambda z: (z[0], z[1])]}, r"f\[1\] must return one number"),
    ({"f": lambda z: z[7]}, "z has dim = 2"),
    ({"f": lambda z: ()}, "1 to 256 values"),
    ({"f": lambda z, a: z[0]}, "with 0 params"),
    ({"f": lambda z: math.log(z[0])}, "f must be finite at draws of positive weight"),
    ({"f": lambda z: np.log(z[:, 0]), "vectorized": True}, "f must be finite"),
    ({"f": lambda z: z.sum(), "vectorized": True}, r"shape \(n,\) or \(n, P\)"),
    ({"f": lambda z: z.T, "vectorized": True}, r"shape \(n,\) or \(n, P\)"),
    ({"f": "mean", "probs": 0.5}, "probs must be"),
    ({"f": "quantiles", "probs": [0.0, 0.5]}, "probs must be"),
    ({"f": "quantiles", "probs": []}, "probs must be"),
    ({"n_samples": 0}, "n_samples"),
    ({"sampler": "sobol", "n_samples": 1000}, "replicates times a power of two"),
    ({"backend": "gpu"}, "backend must be"),
    ({"q": fe.Gaussian([0.0], scale=1.0)}, "same dimension"),
    ({"model": 3}, "model must be"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=range(len(BAD)))
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_bad_arguments(given, message):
    arguments = {"f": lambda z: z[0], "model": P, "q": Q, "n_samples": 100, "rng": 0} | given
    with pytest.raises(InvalidInputError, match=message):
        fe.expectation(**arguments)


def test_a_host_function_of_texts():
    with pytest.raises(UnsupportedDTypeError, match=r"shape \(n,\) or \(n, P\)"):
        fe.expectation(lambda z: "a", P, Q, 100, vectorized=True)


def test_a_host_function_that_raises():
    with pytest.raises(KeyError) as caught:
        fe.expectation(lambda z: {}[1], P, Q, 100, vectorized=True)
    assert "fastelbo called f test_a_host" in caught.value.__notes__[0]


def test_a_model_without_draws_is_refused():
    mixture = fe.MixtureModel([[0.0]], mixed())
    with pytest.raises(InvalidInputError, match="model must be one with draws"):
        fe.expectation("mean", mixture, Q)


def test_bad_weights_are_refused():
    model = fe.Model(log_joint=lambda z: -(z[0] ** 2) if z[0] < 2.0 else np.inf, dim=1)
    with pytest.raises(InvalidWeightError, match="NaN or \\+inf, the first at data point 0, draw"):
        fe.expectation("mean", model, fe.Gaussian([0.0], scale=1.0), 5000, rng=0)


def test_the_message_of_a_bad_value_names_a_draw_that_has_it():
    with pytest.raises(InvalidInputError) as caught:
        fe.expectation(lambda z: math.sqrt(z[0] + 3.0), P, Q, N, rng=1)
    text = str(caught.value)
    call = text[text.index("fastelbo.draw(") : text.index(" makes that draw")]
    z = eval(call, {"fastelbo": fe, "q": Q})
    assert z[0] < -3.0
    first = int(np.flatnonzero(Q.sample(N, rng=1)[:, 0] < -3.0)[0])
    assert f"draw {first}:" in text
    assert "raised ValueError" in text


def test_a_result_cannot_be_changed():
    got = fe.expectation("mean", P, Q, 100, rng=0)
    with pytest.raises(AttributeError, match="cannot assign"):
        got.value = 0.0
    with pytest.raises(ValueError, match="read-only"):
        got.value[0] = 0.0
    assert "Expectation of the mean of shape (2,), n_samples=100" in repr(got)


# --- coverage -----------------------------------------------------------------------------------


@pytest.mark.statistical
@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("sampler", ["iid", "sobol"])
@pytest.mark.parametrize("f", ["mean", "cov", "quantiles"])
def test_coverage(sampler, f):
    """2000 data points, each with draws of its own: 95 % intervals of one coordinate cover."""
    model = fe.LinearGaussian(np.ones((2000, 1)), [[1.0]], noise_cov=1.0)
    q = fe.StudentT(5.0, [0.3], scale=0.9)
    exact = {"mean": 0.5, "cov": 0.5, "quantiles": 0.5 + 0.5**0.5 * np.array([-1.2815516, 0.0])}
    got = fe.expectation(f, model, q, 1024, rng=0, sampler=sampler, probs=[0.1, 0.5])
    low, high = got.confidence_interval()
    answer = np.asarray(exact[f])
    answer = answer[:, None] if answer.ndim else answer
    covered = ((low <= answer) & (answer <= high)).reshape(2000, -1).mean(axis=0)
    assert ((covered > 0.925) & (covered < 0.97)).all(), covered


@pytest.mark.statistical
@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("f", ["mean", "cov", "quantiles"])
def test_errors_of_several_q(f):
    """Stratified errors are those that the values have, of 2000 data points."""
    model = fe.LinearGaussian(np.ones((2000, 1)), [[1.0]], noise_cov=1.0)
    qs = [fe.Gaussian([-0.5], scale=0.5), fe.StudentT(5.0, [0.8], scale=0.9)]
    got = fe.expectation(f, model, qs, [300, 700], rng=0, probs=[0.5])
    z = ((got.value - 0.5) / got.se).ravel()
    assert np.isnan(z).mean() < 0.02
    assert 0.95 < np.sqrt(np.nanmean(z**2)) < 1.06
    assert abs(np.nanmean(z)) < 0.15


@pytest.mark.parametrize(
    ("scale", "limit", "warning"),
    [(1.0, 9.0, fe.errors.HighParetoKWarning), (12.0, 60.0, fe.errors.ShortTailWarning)],
    ids=["bad q", "rare event"],
)
def test_an_event_without_draws_has_no_error(scale, limit, warning):
    p, q = fe.Gaussian([0.0], scale=10.0), fe.Gaussian([0.0], scale=scale)
    with pytest.warns(warning):
        found = fe.expectation(lambda z: z[:, 0] > limit, p, q, 4000, rng=0, vectorized=True)
    assert found.value == 0.0
    assert np.isnan(found.se)


def test_an_error_names_the_data_point_without_weights():
    def log_joint(z, x):
        return 0.0 if z[0] < x else -np.inf

    model = fe.Model(log_joint=log_joint, dim=1, data=[5.0, -100.0, 5.0])
    with pytest.raises(fe.errors.InvalidWeightError, match="data point 1 has 0 of 1000"):
        fe.importance_resample(model, fe.Gaussian([0.0], scale=1.0), 5, rng=0)
