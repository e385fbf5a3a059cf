"""Comparisons by leave-one-out cross-validation against ArviZ, closed forms and optimality."""

import warnings

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo import errors
from fastelbo.weights.stacking import stacking_weights

I = np.arange(40.0)  # noqa: E741
POINTWISE = {
    "a": -1.0 - 0.5 * np.sin(I) ** 2,
    "b": -1.1 - 0.4 * np.cos(1.3 * I) ** 2 + 0.2 * np.sin(3.0 * I),
    "c": -1.3 + 0.9 * np.sin(2.0 * I),
}


def result_of(pointwise, k=0.1, p_loo=2.0):
    """A cross-validation with these pointwise values."""
    n = len(pointwise)
    plain = fe.loo(-2.0 + 0.1 * np.random.default_rng(0).normal(size=(1000, n)))
    se = np.sqrt(n * pointwise.var(ddof=1)) if n > 1 else np.nan
    return plain._replace(
        pointwise=pointwise, elpd_loo=pointwise.sum(), elpd_loo_se=se, p_loo=p_loo,
        pareto_k=np.full(n, k),
    )  # fmt: skip


RESULTS = {name: result_of(values) for name, values in POINTWISE.items()}


def test_against_arviz_0_23_4():
    """Numbers of ``arviz.compare`` for these pointwise values; it divides variances by N."""
    comparison = fe.loo_compare(RESULTS)
    assert comparison.names == ("a", "c", "b")
    elpd = [-49.940972665238256, -51.23191295319096, -52.242501445602386]
    diff = [0.0, 1.2909402879526999, 2.3015287803641336]
    se = np.array([0.0, 4.148904066423047, 1.640115745144712]) * np.sqrt(40 / 39)
    np.testing.assert_allclose(comparison.elpd_loo, elpd, rtol=1e-12)
    np.testing.assert_allclose(comparison.elpd_diff, np.negative(diff), rtol=1e-10)
    np.testing.assert_allclose(comparison.elpd_diff_se, se, rtol=1e-10)
    weights = np.array([0.5729467873978685, 0.42705321260213136, 9.31321025517339e-17])
    np.testing.assert_allclose(comparison.weights, weights, atol=1e-3)
    pointwise = np.stack([POINTWISE[name] for name in comparison.names], axis=1)
    assert score(pointwise, comparison.weights) >= score(pointwise, weights) - 1e-8
    assert comparison.n_observations == 40
    assert not comparison.flagged.any()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_against_arviz(seed):
    arviz = pytest.importorskip("arviz")
    if not hasattr(arviz, "ELPDData"):
        pytest.skip("ArviZ 1.0 and later have another class of results")
    rng = np.random.default_rng(seed)
    base = arviz.from_dict(
        posterior={"mu": rng.normal(size=(2, 50))},
        log_likelihood={"y": rng.normal(size=(2, 50, 60))},
    )
    common = rng.normal(size=60)
    pointwise = {name: common + 0.3 * rng.normal(size=60) for name in "abcd"[: seed + 1] + "z"}
    theirs = {}
    for name, values in pointwise.items():
        theirs[name] = arviz.loo(base, pointwise=True, reff=1.0)
        theirs[name]["loo_i"][:] = values
        theirs[name]["elpd_loo"] = values.sum()
    expected = arviz.compare(theirs)
    got = fe.loo_compare({name: result_of(values) for name, values in pointwise.items()})
    assert list(got.names) == list(expected.index)
    np.testing.assert_allclose(got.elpd_diff, -expected["elpd_diff"], rtol=1e-10, atol=1e-12)
    scale = np.sqrt(60 / 59)
    np.testing.assert_allclose(got.elpd_diff_se, scale * expected["dse"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got.weights, expected["weight"], atol=1e-3)
    both = np.stack([pointwise[name] for name in got.names], axis=1)
    assert score(both, got.weights) >= score(both, expected["weight"].to_numpy()) - 1e-8


def score(pointwise, weights):
    """The sum of log densities of a mixture, whose weights sum to 1."""
    weights = np.maximum(weights, 0.0)
    with np.errstate(divide="ignore"):
        return np.logaddexp.reduce(pointwise + np.log(weights / weights.sum()), axis=1).sum()


# --- stacking -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(1, 2), (3, 2), (100, 2), (500, 3), (50, 5), (2000, 8)])
@pytest.mark.parametrize("spread", [1e-4, 0.3, 5.0, 300.0])
def test_stacking_weights_are_optimal(n, m, spread):
    log_densities = spread * np.random.default_rng([n, m]).normal(size=(n, m)) - 2.0
    weights = stacking_weights(log_densities)
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    assert (weights >= 0.0).all()
    # A concave score is within the largest slope of its maximum.
    densities = np.exp(log_densities - log_densities.max(axis=1, keepdims=True))
    slopes = (densities / (densities @ weights)[:, None]).sum(axis=0) - n
    assert slopes.max() < 1e-8 * n


def test_stacking_of_two_models_that_take_turns():
    # p and 1 - p at shares s and 1 - s: the weight of the first is (s r - (1 - s)) / (r - 1).
    log_densities = np.log([[0.8, 0.2]] * 6 + [[0.2, 0.8]] * 4)
    expected = (0.6 * 4.0 - 0.4) / 3.0
    np.testing.assert_allclose(
        stacking_weights(log_densities), [expected, 1.0 - expected], rtol=1e-6
    )


def test_stacking_of_equal_models():
    column = np.random.default_rng(0).normal(size=(50, 1))
    np.testing.assert_allclose(stacking_weights(np.repeat(column, 3, axis=1)), 1 / 3, rtol=1e-12)
    worse = np.hstack([column, column, column - 1.0])
    np.testing.assert_allclose(stacking_weights(worse), [0.5, 0.5, 0.0], atol=1e-5)


# --- the comparison -----------------------------------------------------------------------------


def test_differences_are_those_of_results():
    comparison = fe.loo_compare(RESULTS)
    best = RESULTS[comparison.names[0]]
    for name, value, se in zip(
        comparison.names, comparison.elpd_diff, comparison.elpd_diff_se, strict=True
    ):
        difference = RESULTS[name] - best
        assert value == pytest.approx(float(difference.value), abs=1e-12)
        assert se == pytest.approx(float(difference.se), abs=1e-12)


def test_a_sequence_has_numbers_for_names():
    by_name, listed = fe.loo_compare(RESULTS), fe.loo_compare(list(RESULTS.values()))
    assert listed.names == ("model1", "model3", "model2")
    np.testing.assert_array_equal(listed.weights, by_name.weights)
    reordered = fe.loo_compare(dict(reversed(RESULTS.items())))
    assert reordered.names == by_name.names
    np.testing.assert_allclose(reordered.weights, by_name.weights, atol=1e-9)


def test_tables():
    comparison = fe.loo_compare(RESULTS)
    lines = repr(comparison).splitlines()
    assert lines[0] == "Models by leave-one-out cross-validation of 40, in nats"
    assert lines[2].split() == ["model", "elpd_loo", "elpd_diff", "weight", "p_loo"]
    assert lines[3].split() == ["a", "-49.9", "+-", "1.1", "0", "0.57", "2.0"]
    assert lines[4].split()[:7] == ["c", "-51.2", "+-", "4.0", "-1.3", "+-", "4.2"]
    assert comparison._repr_html_().count("<tr>") == 4
    frame = comparison.to_pandas()
    assert frame.index.tolist() == ["a", "c", "b"]
    assert frame.loc["c", "elpd_diff"] == comparison.elpd_diff[1]
    assert frame.attrs == {"n_observations": 40}


def test_a_high_k_hat_is_named():
    models = RESULTS | {"bad <i>": result_of(POINTWISE["b"] - 1.0, k=0.9)}
    with pytest.warns(errors.HighParetoKWarning, match="an observation of 'bad <i>'") as record:
        comparison = fe.loo_compare(models)
    assert record[0].filename == __file__
    assert comparison.flagged.tolist() == [False, False, False, True]
    assert "k-hat above its threshold" in repr(comparison).splitlines()[-1]
    assert "<i>" not in comparison._repr_html_()


def test_one_observation():
    comparison = fe.loo_compare([result_of(np.array([-1.0])), result_of(np.array([-2.0]))])
    assert comparison.elpd_diff.tolist() == [0.0, -1.0]
    assert comparison.elpd_diff_se[0] == 0.0
    assert np.isnan(comparison.elpd_diff_se[1])
    assert comparison.weights.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (RESULTS["a"], "models must be at least two results, got one LooResult"),
        ([], "models must be at least two results of loo, got 0"),
        ([RESULTS["a"]], "models must be at least two results of loo, got 1"),
        (RESULTS | {"d": 3.0}, "models must be results of loo, got 3.0 for 'd'"),
        ({1: RESULTS["a"], "b": RESULTS["b"]}, "names that are strings, got 1"),
        (
            {"a": RESULTS["a"], "short": result_of(POINTWISE["a"][:30])},
            "same observations, .* got these numbers of them: a 40, short 30",
        ),
        ("ab", "models must be a sequence of results of loo"),
        (None, "models must be a sequence of results of loo"),
        (
            {"a": RESULTS["a"], "b": RESULTS["b"]._replace(pointwise=np.full(40, -np.inf))},
            "models must have finite pointwise values, got others for 'b'",
        ),
    ],
)
def test_bad_arguments(models, message):
    with pytest.raises(errors.InvalidInputError, match=message):
        fe.loo_compare(models)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_results_of_no_observations_are_refused():
    empty = fe.loo(np.zeros((100, 0)))
    with warnings.catch_warnings(), pytest.raises(errors.InvalidInputError, match="at least one"):
        fe.loo_compare([empty, empty])


@pytest.mark.filterwarnings("ignore::fastelbo.errors.ShortTailWarning")
def test_an_unknown_k_hat_is_flagged():
    log_likelihood = 0.1 * np.random.default_rng(0).normal(size=(1000, 30)) - 2.0
    good, few = fe.loo(log_likelihood), fe.loo(log_likelihood[:8] + 1.0)
    assert np.isnan(few.pareto_k).all()
    with pytest.warns(errors.HighParetoKWarning, match="or unknown, for an observation of 'few'"):
        comparison = fe.loo_compare({"good": good, "few": few})
    assert comparison.names == ("few", "good")
    assert comparison.flagged.tolist() == [True, False]
    assert (good - few).flagged
    # Where all draws say the same of an observation, no k-hat is needed.
    constant = fe.loo(np.full((1000, 30), -2.0))
    assert np.isnan(constant.pareto_k).all()
    assert not (good - constant).flagged
