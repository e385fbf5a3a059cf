"""Which axis the draws are on: never another than the caller means without a word."""

import warnings

import numpy as np
import pytest
import xarray
from helpers import IGNORE_DIAGNOSTICS
from public_calls import content

import fastelbo as fe
from fastelbo import errors

CHAINS, DRAWS, POINTS = 4, 250, 7
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(CHAINS, DRAWS, POINTS))
# Chains one after the other, as (points, draws).
JOINED = WEIGHTS.reshape(CHAINS * DRAWS, POINTS).T.copy()
P, Q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([[0.0], [0.1], [0.2], [0.3]], scale=1.25)
TERMS = fe.elbo_terms(P, Q, 1000, rng=0)

# Every function of log weights that has an axis of draws.
FUNCTIONS = {
    "summarize": fe.summarize,
    "ess": fe.ess,
    "psis": fe.psis,
    "pareto_k": fe.pareto_k,
    # Chains that are known have a relative efficiency, which joined ones have not.
    "loo": lambda *args, **options: fe.loo(*args, **{"r_eff": 1.0, **options}),
    "iw_elbo": lambda *args, **options: fe.iw_elbo(*args, k=3, **options),
    "renyi_bound": lambda *args, **options: fe.renyi_bound(*args, alpha=0.5, **options),
    "cubo": fe.cubo,
    "jackknife": fe.jackknife,
    "resample": lambda *args, **options: fe.resample(*args, n=5, rng=0, **options),
    "pieces": lambda piece, **options: fe.summarize(iter([piece]), **options),
}
each_function = pytest.mark.parametrize("name", FUNCTIONS)
with_var = pytest.mark.parametrize("name", ["summarize", "ess", "psis", "pareto_k", "loo"])
quiet = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)


def joined(name, points=JOINED):
    """The result of the function for draws that are on the axis where it looks for them."""
    result = content(FUNCTIONS[name](points.T if name == "loo" else points))
    return result[1:] if name == "psis" else result


def called(name, value, **options):
    result = content(FUNCTIONS[name](value, **options))
    # The smoothed weights have the shape of the input.
    return result[1:] if name == "psis" else result


def named(*dims, values=WEIGHTS):
    """The weights with the dimensions chain, draw, point in another order, or with other names."""
    array = xarray.DataArray(values, dims=("chain", "draw", "point"))
    return array.transpose(*dims)


# --- names --------------------------------------------------------------------------------------


@quiet
@each_function
@pytest.mark.parametrize(
    "dims", [("chain", "draw", "point"), ("point", "chain", "draw"), ("draw", "point", "chain")]
)
def test_dimensions_of_any_order(name, dims):
    np.testing.assert_equal(called(name, named(*dims)), joined(name))


@quiet
@each_function
def test_names_of_other_kinds(name):
    array = named("chain", "point", "draw")
    stacked = array.stack(sample=("chain", "draw"))
    np.testing.assert_equal(called(name, stacked.transpose("sample", "point")), joined(name))
    np.testing.assert_equal(called(name, stacked.transpose("point", "sample")), joined(name))
    single = array.isel(chain=0, drop=True)
    np.testing.assert_equal(called(name, single), joined(name, WEIGHTS[0].T))
    np.testing.assert_equal(called(name, single.T), joined(name, WEIGHTS[0].T))


@quiet
@each_function
def test_dim(name):
    array = named("draw", "point", "chain").rename(chain="walker", draw="step")
    expected = joined(name)
    np.testing.assert_equal(called(name, array, dim=("walker", "step")), expected)
    np.testing.assert_equal(called(name, array, dim=["walker", "step"]), expected)
    single = array.isel(walker=0, drop=True)
    np.testing.assert_equal(called(name, single, dim="step"), joined(name, WEIGHTS[0].T))


@quiet
def test_some_of_the_draws_dimensions():
    each_chain = fe.summarize(named("draw", "chain", "point"), dim="draw")
    np.testing.assert_array_equal(each_chain.elbo, fe.summarize(WEIGHTS, axis=1).elbo)


@each_function
@pytest.mark.parametrize("dims", [("walker", "step", "point"), ("chain", "step", "point")])
def test_names_that_say_nothing_are_asked_for(name, dims):
    array = xarray.DataArray(WEIGHTS, dims=dims)
    for value in (array, array[0]):
        with pytest.raises(errors.InvalidInputError, match=r"dim must say .*'step'.*; got None"):
            called(name, value)


@quiet
@each_function
def test_one_dimension_is_that_of_the_draws(name):
    if name != "loo":
        array = xarray.DataArray(JOINED[0], dims="step")
        np.testing.assert_equal(called(name, array), joined(name, JOINED[0]))


@quiet
@each_function
def test_without_names_the_place_counts(name):
    np.testing.assert_equal(
        called(name, xarray.DataArray(JOINED.T if name == "loo" else JOINED)), joined(name)
    )


@quiet
@each_function
def test_axis_goes_before_names(name):
    array = xarray.DataArray(JOINED, dims=("draw", "point"))
    np.testing.assert_equal(called(name, array, axis=1), joined(name))


@each_function
@pytest.mark.parametrize("dim", ["time", ("chain", "time"), (), ("draw", "draw"), 3, ["x" * 500]])
def test_bad_dim(name, dim):
    with pytest.raises(
        errors.InvalidInputError, match=r"dim must be .* 'draw', 'point'; got"
    ) as caught:
        called(name, named("chain", "draw", "point"), dim=dim)
    assert len(str(caught.value)) < 400


@each_function
def test_dim_needs_names(name):
    with pytest.raises(errors.InvalidInputError, match=r"dim must be None, got 'draw'.*say axis"):
        called(name, JOINED, dim="draw")
    with pytest.raises(errors.InvalidInputError, match=r"axis and dim .* got 0 and 'draw'"):
        called(name, named("chain", "draw", "point"), axis=0, dim="draw")


@quiet
def test_loo_of_several_dimensions_of_observations():
    array = xarray.DataArray(
        RNG.normal(size=(CHAINS, 3, DRAWS, 2)), dims=("chain", "school", "draw", "time")
    )
    matrix = array.values.transpose(0, 2, 1, 3).reshape(CHAINS * DRAWS, 6)
    np.testing.assert_equal(content(fe.loo(array, 1.0)), content(fe.loo(matrix)))


@quiet
def test_smoothed_weights_keep_their_places():
    array = named("draw", "point", "chain")
    smoothed = fe.psis(array).log_weights
    assert smoothed.shape == array.shape
    expected = fe.psis(JOINED).log_weights.reshape(POINTS, CHAINS, DRAWS)
    np.testing.assert_array_equal(smoothed, expected.transpose(2, 0, 1))


# --- collections of variables -------------------------------------------------------------------


class InferenceData:
    """As ArviZ's: groups, each a Dataset."""

    def __init__(self, **groups):
        self._groups = groups

    def groups(self):
        return list(self._groups)

    def __getitem__(self, name):
        return self._groups[name]


Y = named("chain", "draw", "point")
OTHER = xarray.Dataset({"mu": Y[..., 0] + 1.0, "y": Y + 2.0})
COLLECTIONS = {
    "Dataset": (xarray.Dataset({"mu": Y[..., 0] + 1.0, "y": Y}), "y"),
    "DataTree": (
        xarray.DataTree.from_dict({"posterior": OTHER, "log_likelihood": xarray.Dataset({"y": Y})}),
        "log_likelihood/y",
    ),
    "InferenceData": (
        InferenceData(posterior=OTHER, log_likelihood=xarray.Dataset({"y": Y})),
        "log_likelihood/y",
    ),
}


@quiet
@with_var
@pytest.mark.parametrize("kind", COLLECTIONS)
def test_variables(name, kind):
    value, var = COLLECTIONS[kind]
    np.testing.assert_equal(called(name, value, var=var), joined(name))
    for wrong in ("nu", 3, None):
        if name == "loo" and wrong is None and kind != "Dataset":
            continue
        with pytest.raises(errors.InvalidInputError, match=f"var must name .*{var}.*got {wrong!r}"):
            called(name, value, var=wrong)


@quiet
@with_var
def test_the_only_variable_needs_no_name(name):
    np.testing.assert_equal(called(name, xarray.Dataset({"y": Y})), joined(name))


@quiet
@pytest.mark.parametrize("kind", ["DataTree", "InferenceData"])
def test_loo_looks_into_the_log_likelihood(kind):
    for options in ({}, {"var": "y"}):
        np.testing.assert_equal(called("loo", COLLECTIONS[kind][0], **options), joined("loo"))


@with_var
def test_var_needs_variables(name):
    with pytest.raises(errors.InvalidInputError, match="var must be None, got 'y'"):
        called(name, JOINED, var="y")


# --- the terms of log weights -------------------------------------------------------------------

NAMES = ("log_evidence", "elbo", "expected_log_likelihood", "kl", "jensen_gap")
MODEL = fe.LinearGaussian([[1.0], [2.0]], [[1.0]], noise_cov=1.0)
NEAR = fe.Gaussian([0.4], scale=0.8)


@pytest.mark.parametrize("pareto_k", [True, False])
def test_terms_are_taken_whole(pareto_k):
    got = fe.summarize(fe.elbo_terms(MODEL, NEAR, 20_000, rng=0), pareto_k=pareto_k)
    want = fe.estimate(MODEL, NEAR, 20_000, rng=0, pareto_k=pareto_k)
    for name in (*NAMES, *(f"{name}_se" for name in NAMES)):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-12)
    assert np.isfinite(got.kl_se).all()


@quiet
def test_heavy_terms_have_no_errors():
    # The ELBO of a Cauchy q is -inf by its KL; the likelihood is 1.
    p, q = fe.Gaussian([0.0], scale=1.0), fe.StudentT(1.0, [0.0], scale=1.0)
    got, want = fe.summarize(fe.elbo_terms(p, q, 10_000, rng=0)), fe.estimate(p, q, 10_000, rng=0)
    assert np.isnan(got.elbo_se)
    assert np.isnan(got.kl_se)
    assert got.expected_log_likelihood_se == want.expected_log_likelihood_se == 0.0
    np.testing.assert_allclose(got.kl, want.kl, rtol=1e-12)


@quiet
def test_terms_with_weights_of_zero():
    terms = fe.ElboTerms(np.array([0.0, -np.inf, 1.0]), np.zeros(3), np.array([0.0, 1.0, 2.0]))
    est = fe.summarize(terms)
    assert est.expected_log_likelihood == est.elbo == -np.inf
    assert est.kl == pytest.approx(1.0)
    assert est.kl_se == pytest.approx(3**-0.5)
    assert np.isnan(est.expected_log_likelihood_se)


@quiet
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "loo"])
def test_terms_are_their_log_weights(name):
    got, want = called(name, TERMS), joined(name, TERMS.log_weights)
    if name == "summarize":
        got |= {key: want[key] for key in want if key.startswith(("expected_log_likelihood", "kl"))}
    np.testing.assert_equal(got, want)


@quiet
def test_log_weights_alone_have_no_terms():
    accumulator = fe.LogWeightAccumulator()
    accumulator.update(JOINED)
    for est in (fe.summarize(JOINED), fe.summarize(iter([JOINED])), accumulator.result()):
        for name in ("kl", "kl_se", "expected_log_likelihood", "expected_log_likelihood_se"):
            assert np.isnan(getattr(est, name)).all()


def test_terms_are_no_log_likelihood():
    with pytest.raises(errors.InvalidInputError, match="log_likelihood must be one array, got a E"):
        fe.loo(TERMS)


# --- the wrong axis -----------------------------------------------------------------------------


def wrong(name, rows=1000, draws=4):
    values = 0.1 * np.random.default_rng(1).normal(size=(rows, draws))
    return values.T if name == "loo" else values


def axis_warnings(name, value, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        called(name, value, **options)
    found = [each for each in caught if each.category is errors.DrawsAxisWarning]
    assert all(each.filename == __file__ for each in found)
    return [str(each.message) for each in found]


@each_function
def test_few_draws_beside_a_long_axis(name):
    (message,) = axis_warnings(name, wrong(name))
    remedy, taken = (1, 0) if name == "loo" else (0, 1)
    assert f"only 4 draws, which are taken along axis {taken}" in message
    assert f"say axis={remedy}, else axis={taken}" in message


@each_function
def test_a_named_axis_is_meant(name):
    taken = 0 if name == "loo" else 1
    for axis in (0, 1, -1, -2, np.int64(0)):
        assert axis_warnings(name, wrong(name), axis=axis) == []
    dims = ("draw", "point") if taken == 0 else ("point", "draw")
    assert axis_warnings(name, xarray.DataArray(wrong(name), dims=dims)) == []


@each_function
@pytest.mark.parametrize("shape", [(1000, 100), (1000, 101), (989, 99), (39, 4), (4, 1000)])
def test_no_warning(name, shape):
    assert axis_warnings(name, wrong(name, *shape)) == []


@each_function
def test_edge_of_the_warning(name):
    assert len(axis_warnings(name, wrong(name, 990, 99))) == 1
    assert len(axis_warnings(name, wrong(name, 40, 4))) == 1


def test_pieces_are_judged_together():
    pieces = np.split(wrong("pieces", 2000, 200), 50, axis=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fe.summarize(iter(pieces))
        accumulator = fe.LogWeightAccumulator()
        for piece in pieces:
            accumulator.update(piece)
    assert not [each for each in caught if each.category is errors.DrawsAxisWarning]


def test_densities_of_a_batch_of_q():
    # `sample` and `log_prob` have draws first.
    z = Q.sample(1000, rng=0)
    log_weights = P.log_prob(z) - Q.log_prob(z)
    assert log_weights.shape == (1000, 4)
    (message,) = axis_warnings("summarize", log_weights)
    assert "say axis=0" in message
    got = fe.summarize(log_weights, axis=0)
    assert got.batch_shape == (4,)
    np.testing.assert_allclose(got.log_evidence, fe.estimate(P, Q, 1000, rng=0).log_evidence)


# --- lists of arrays ----------------------------------------------------------------------------


@quiet
@each_function
@pytest.mark.parametrize("shape", [(50,), (3, 50)])
@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_arrays_are_refused_without_an_axis(name, shape, kind):
    arrays = kind(np.random.default_rng(2).normal(size=(2, *shape)))
    with pytest.raises(errors.InvalidInputError, match=r"must be one array, got a .* of 2 arrays"):
        called(name, arrays)
    if name != "loo":
        stacked = np.stack(arrays)
        np.testing.assert_equal(called(name, arrays, axis=-1), called(name, stacked, axis=-1))


@quiet
def test_lists_of_numbers_and_of_one_array_are_taken():
    rows = WEIGHTS[0, :5]
    for value in (rows.tolist(), list(map(list, rows)), [list(row) for row in rows], [rows]):
        got = fe.summarize(value).elbo.reshape(-1)
        np.testing.assert_array_equal(got, fe.summarize(rows).elbo)
