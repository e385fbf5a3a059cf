"""Every public call with arguments of every kind: it answers, or it raises an error that it should.

    FASTELBO_FUZZ_SECONDS=1200 python -m pytest -m fuzz

tries other calls at each run. With ``FASTELBO_FUZZ_SEED=0``, or another number, each run makes the
same calls, and the more of them the longer it takes: no change fails by bad luck. A few calls of
each function are part of the default suite.
"""

import functools
import importlib.util
import itertools
import os
import random
import sys
import time
import warnings

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import public_api
import pytest
from fuzz_strategies import (
    accumulators,
    build,
    built,
    categorical_arguments,
    categoricals,
    checkpoints,
    comparable,
    counts,
    estimates,
    finite,
    fitted_mixtures,
    floats,
    gaussian_arguments,
    gaussians,
    in_replicates,
    keywords,
    linear_arguments,
    linear_models,
    log_weights,
    mixture_arguments,
    mixture_model_arguments,
    mixture_models,
    mixtures,
    pairs,
    points,
    proposals,
    proposals_arguments,
    real_array,
    several,
    student_arguments,
    students,
    with_one_of_anything,
)
from hypothesis import HealthCheck, given, seed, settings
from public_api import leaves

import fastelbo as fe
from fastelbo.kernels.cpu.launch import mixture_expectations
from fastelbo.models.protocol import Points

pytest.importorskip("matplotlib").use("Agg")

SECONDS = float(os.environ.get("FASTELBO_FUZZ_SECONDS", "60"))
SEED = os.environ.get("FASTELBO_FUZZ_SEED")
# Paths that cannot be read raise the system's errors.
ALLOWED = (fe.errors.FastElboError, TypeError, ValueError, OverflowError, MemoryError, OSError)
# NaN by what their documentation says, whatever the input.
DOCUMENTED = {"pareto_k", "pareto_k_elbo", "min_draws", "tail_length", "variance_ratio"}
DOCUMENTED |= {"r_hat", "ess_bulk", "elpd_loo_mcse"}
# Results may be NaN: of negative sums and of no elements; of log weights alone.
MAY_BE_NAN = {"logsumexp", "logmeanexp"}
# NaN where a parameter makes no sense.
# Where log p is -inf, its gradient says nothing.
MAY_BE_NAN |= {"LinearGaussian.log_joint_gradient", "Model.log_joint_gradient"}
MAY_BE_NAN |= {name for name in public_api.functions() if name.startswith("math.")}
# Moments that a Student-t does not have.
MAY_BE_NAN |= {f"{kind}.{name}" for kind in ("StudentT", "Mixture") for name in ("mean", "cov")}


class Call:
    """A public call with its arguments."""

    def __init__(self, name, function, receiver, given):
        self.name, self.function, self.receiver, self.given = name, function, receiver, given

    def __call__(self):
        return self.function(**self.given)

    def __repr__(self):
        given = ", ".join(f"{name}={shown(value)}" for name, value in self.given.items())
        return f"{self.name}({given}) of {shown(self.receiver)}"


def shown(value):
    """A value with its parameters, whatever its own text leaves out."""
    if isinstance(value, (fe.Estimate, tuple)) or not type(value).__module__.startswith("fastelbo"):
        return repr(value)
    parts = ((name, part) for name, part in vars(value).items() if name[0] != "_")
    inside = ", ".join(f"{name}={shown(part)}" for name, part in parts)
    return f"{type(value).__name__}({inside})"


# --- the arguments of functions and of methods that take some -----------------------------------

_seeds = st.integers(0, 2**70) | st.none()
_sizes = st.integers(1, 20) | st.lists(st.integers(1, 20), max_size=3)
_axes = st.none() | st.integers(-3, 2) | st.lists(st.integers(-2, 2), max_size=2).map(tuple)
_draws = {
    "rng": _seeds,
    "backend": st.sampled_from(["auto", "cpu", "numpy", "cuda"]),
    "precision": st.sampled_from(["float64", "float32"]),
    "device": st.just(0),
    "first_index": st.sampled_from([0, 5, 2**31]),
    "n_threads": st.sampled_from([None, 1, 3]),
}
_estimate_options = _draws | {
    "iw_sizes": st.none() | st.lists(st.integers(1, 9), max_size=3),
    "analytic_kl": st.booleans(),
    "pareto_k": st.booleans(),
    "moments": st.booleans(),
    "responsibilities": st.just(False),
    "progress": st.just(False),
}
_targets = {
    "target_se": st.floats(1e-3, 10.0) | st.just(5e-324),
    "target_total_se": st.floats(1e-3, 10.0),
    "max_samples": st.integers(1, 3000),
}
_sized = _estimate_options | {"n_samples": counts}
_kept = {"keep_state": st.booleans(), "checkpoint_every": st.floats(1e-3, 1e3)}
_no_dim = {"dim": st.none()}
_efficiency = _no_dim | {"r_eff": st.floats(0.01, 3.0) | floats, "axis": st.integers(-2, 1)}
_levels = st.floats(0.0, 1.0) | st.sampled_from([1.0 - 2.0**-53, 5e-324, 0.95])
_quantities = st.sampled_from(
    ["log_evidence", "elbo", "expected_log_likelihood", "kl", "jensen_gap", "iw_elbo"]
)


_left_out = built(fe.loo, log_weights(most=99).map(lambda r: np.atleast_2d(np.array(r)).T))
_bridges = built(fe.bridge_log_ratios, log_weights(most=99), log_weights())


def joined(first, second):
    """Strategy of the keyword arguments of both."""
    return st.tuples(first, second).map(lambda both: {**both[0], **both[1]})


_single = st.integers(1, 3).flatmap(lambda d: gaussians(d, ()) | students(d, ()))
FUNCTIONS = {
    "cubo": keywords({"n": st.floats(1.0, 400.0)}, log_weights=log_weights()),
    "renyi_bound": keywords(log_weights=log_weights(), alpha=st.floats(-9.0, 9.0) | floats),
    "iw_elbo": keywords(
        {"method": st.sampled_from(["auto", "complete", "partitions"]), "rng": _seeds},
        log_weights=log_weights(least=20),
        k=_sizes,
    ),
    "jackknife": keywords({"order": st.integers(1, 2)}, log_weights=log_weights(least=3)),
    "resample": keywords(
        {
            "method": st.sampled_from(["systematic", "stratified", "multinomial", "residual"]),
            "replace": st.booleans(),
            "rng": _seeds,
        },
        log_weights=log_weights(),
        n=st.integers(1, 30),
    ),
    "logsumexp": keywords(
        {
            "axis": _axes,
            "b": floats | real_array,
            "keepdims": st.booleans(),
            "return_sign": st.booleans(),
        },
        a=log_weights() | real_array,
    ),
    "logmeanexp": keywords(
        {"axis": _axes, "keepdims": st.booleans()}, a=log_weights() | real_array
    ),
    "ess": keywords(_no_dim | {"axis": st.integers(-2, 1)}, log_weights=log_weights()),
    "psis": keywords(_efficiency, log_ratios=log_weights(least=1, most=200)),
    "pareto_k": keywords(_efficiency, log_ratios=log_weights(least=1, most=200)),
    "loo": keywords(
        {"r_eff": st.floats(0.01, 3.0), "log_p": log_weights(), "log_q": log_weights()},
        log_likelihood=log_weights(most=200).map(lambda rows: np.atleast_2d(np.asarray(rows)).T),
    ),
    "loo_compare": keywords(models=st.lists(_left_out, max_size=3)),
    "bridge": keywords(
        {"rng": _seeds, "n_proposal": st.integers(1, 300), "df": st.floats(2.0, 50.0)},
        draws=log_weights(most=200).map(lambda rows: np.asarray(rows)[..., None]),
        model=gaussians(1, ()),
    ),
    "bridge_log_ratios": keywords(
        {"n_eff": st.floats(0.0, 1e3)}, l1=log_weights(most=200), l2=log_weights()
    ),
    "bayes_factor": keywords(a=estimates() | _bridges, b=estimates() | _bridges),
    "summarize": keywords(
        _no_dim
        | {
            "axis": st.integers(-2, 1),
            "iw_sizes": st.none() | st.lists(st.integers(1, 9), max_size=3),
            "pareto_k": st.booleans(),
            "progress": st.just(False),
            "rows": st.sampled_from(["independent", "shared"]),
        },
        log_weights=log_weights() | log_weights().map(lambda rows: iter([rows, rows])),
    )
    | keywords(
        {
            "iw_sizes": st.none() | st.lists(st.integers(1, 2), max_size=2),
            "pareto_k": st.booleans(),
        },
        log_weights=log_weights().map(in_replicates),
        replicates=st.just(2),
    ),
    "estimate": joined(pairs(), keywords(_sized | _kept) | keywords(_estimate_options | _targets))
    | joined(several(), keywords(_sized)),
    "elbo_terms": joined(pairs() | several(), keywords(_draws, n_samples=counts)),
    "defensive": st.integers(1, 3).flatmap(
        lambda d: keywords(
            {"share": st.floats(0.0, 1.0) | floats}, q=gaussians(d), wide=mixtures(d)
        )
    ),
    "log_weights": joined(pairs(), keywords(_draws, n_samples=counts)),
    "expectation": joined(
        pairs(),
        keywords(
            _draws | {"probs": real_array, "vectorized": st.booleans()},
            n_samples=counts,
            f=st.sampled_from(["mean", "cov", "quantiles"]),
        ),
    ),
    "importance_resample": joined(
        pairs(),
        keywords(
            _draws
            | {
                "n_samples": counts,
                "method": st.sampled_from(["systematic", "stratified", "multinomial", "residual"]),
                "replace": st.booleans(),
            },
            n=st.integers(1, 20),
        ),
    ),
    "draw": keywords(
        {"first_index": st.integers(0, 5), "precision": st.sampled_from(["float64", "float32"])},
        q=gaussians(),
        i=st.integers(0, 3),
        k=st.integers(0, 2**40 - 1),
        key=st.integers(0, 2**64 - 1),
    ),
    "laplace": keywords(
        {
            "df": st.floats(0.1, 50.0) | st.none(),
            "inflate": st.floats(0.1, 9.0),
            "restarts": st.integers(1, 3),
            "rng": _seeds,
        },
        model=_single,
    ),
    "adapt": keywords(
        {
            "rng": _seeds,
            "n_components": st.integers(1, 3),
            "df": st.floats(2.5, 50.0),
            "round_size": st.integers(30, 100),
            "defensive": st.floats(0.05, 0.5),
            "max_rounds": st.integers(1, 5),
        },
        model=_single,
        target_se=st.just(0.1),
        max_evaluations=st.just(3000),
    ),
    "fit": st.integers(1, 2).flatmap(
        lambda d: keywords(
            {"q0": gaussians(d), "wrt": st.sampled_from(["q", "model"]), "rng": _seeds},
            model=linear_models(d),
            max_iter=st.just(3),
            n_eval=st.integers(0, 50),
        )
    ),
    "fit_mixture": keywords(
        {
            "covariance_type": st.sampled_from(["full", "tied", "diag", "spherical"]),
            "init": mixtures(),
            "n_init": st.integers(1, 2),
            "max_iter": st.integers(1, 30),
            "var_floor": st.sampled_from([1e-12, 1e-3, 0.5]),
            "rng": _seeds,
        },
        x=st.integers(1, 3).flatmap(
            lambda d: hnp.arrays(
                np.float64, st.tuples(st.integers(1, 20), st.just(d)), elements=finite
            )
        ),
        n_components=st.integers(1, 3),
    ),
    "kl_divergence": st.one_of(
        st.integers(1, 3).flatmap(lambda d: keywords(q=gaussians(d), p=gaussians(d))),
        st.integers(1, 3).flatmap(lambda c: keywords(q=categoricals(c), p=categoricals(c))),
    ),
    "elbo_gradient": st.integers(1, 3).flatmap(
        lambda d: keywords(
            {"k": st.integers(1, 4), "per_point": st.booleans()},
            model=linear_models(d),
            q=gaussians(d) | students(d),
            n_samples=st.integers(4, 20),
        )
    ),
    "exact_elbo": st.one_of(
        st.integers(1, 3).flatmap(
            lambda d: keywords(model=linear_models(d), q=gaussians(d) | students(d))
        ),
        keywords(model=mixture_models(), q=categoricals()),
    ),
    "plotting.plot": keywords(estimate=estimates(), kind=st.sampled_from(["bounds", "pareto_k"])),
    "plotting.plot_bounds": keywords(
        {"exact": real_array | floats, "point": st.none() | st.integers(-2, 2)},
        estimate=estimates(),
    ),
    "plotting.plot_convergence": keywords(
        {"exact": real_array}, estimates=st.lists(estimates(), min_size=1, max_size=2)
    ),
    "plotting.plot_pareto_k": keywords({"threshold": floats}, pareto_k=real_array),
} | {
    name: keywords(**dict.fromkeys(public_api.parameters(function), floats | real_array))
    for name, function in public_api.functions().items()
    if name.startswith("math.")
}


def own_density(z, x):
    return -0.5 * np.sum((z - x) ** 2)


CONSTRUCTORS = {
    "Gaussian": gaussian_arguments(),
    "StudentT": student_arguments(),
    "Mixture": mixture_arguments(),
    "Categorical": categorical_arguments(),
    "Proposals": proposals_arguments(),
    "LinearGaussian": linear_arguments(),
    "Model": keywords(log_joint=st.just(own_density), dim=st.just(1), data=real_array),
    "MixtureModel": mixture_model_arguments(),
    "LogWeightAccumulator": keywords(
        {
            "iw_sizes": st.lists(st.integers(1, 20), max_size=3),
            "tail_draws": st.integers(0, 4097),
            "first_draw": st.sampled_from([0, 8192, 5, 2**62]),
        }
    ),
}


@functools.cache
def _adaptation():
    return build(fe.adapt, fe.Gaussian([0.0], scale=1.0), target_se=0.1, round_size=50, rng=0)


@functools.cache
def _fit():
    return build(fe.fit, fe.LinearGaussian([[1.0], [2.0]], [[1.0]], noise_cov=1.0))


@functools.cache
def _gradient():
    return build(
        fe.elbo_gradient,
        fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0),
        fe.Gaussian([0.2], scale=0.9),
        20,
        rng=0,
    )


@functools.cache
def _mixture_fit():
    return build(fe.fit_mixture, fe.datasets.load_faithful(), 2, rng=0, n_init=1)


RECEIVERS = {
    "Gaussian": gaussians(),
    "StudentT": students(),
    "Mixture": mixtures(),
    "Categorical": categoricals(),
    "Proposals": proposals(),
    "LinearGaussian": linear_models(),
    "Model": st.just(fe.Model(log_joint=lambda z: -(z[0] ** 2) - z[1] ** 4, dim=2)),
    "MixtureModel": mixture_models(),
    "LogWeightAccumulator": accumulators(),
    "Estimate": estimates(),
    "Total": estimates().map(lambda each: build(each.total)),
    "Adaptation": st.builds(_adaptation),
    "AdaptationRound": st.builds(lambda: _adaptation().history[0]),
    "BoundTable": estimates().map(lambda each: each.bounds()),
    "Interval": estimates().map(lambda each: build(each.confidence_interval)),
    "Difference": comparable().map(lambda both: build(lambda: both[0] - both[1])),
    "Bound": built(fe.cubo, log_weights()),
    "SmoothedWeights": built(fe.psis, log_weights(most=200)),
    "LooResult": _left_out,
    "LooComparison": built(fe.loo_compare, st.lists(_left_out, min_size=2, max_size=3)),
    "BridgeEstimate": _bridges,
    "ElboTerms": pairs().map(lambda pair: build(fe.elbo_terms, **pair, n_samples=20, rng=0)),
    "Expectation": pairs().map(lambda pair: build(fe.expectation, "mean", **pair, n_samples=20)),
    "PosteriorDraws": pairs().map(lambda pair: build(fe.importance_resample, **pair, n=5, rng=0)),
    "ElboGradient": st.builds(_gradient),
    "Digits": st.builds(fe.datasets.load_digits),
    "Fit": st.builds(_fit),
    "FitHistory": st.builds(lambda: _fit().history),
    "MixtureFit": st.builds(_mixture_fit),
    "MixtureHistory": st.builds(lambda: _mixture_fit().history),
}


def _distribution_methods(name):
    return {
        f"{name}.sample": lambda q: keywords({"rng": _seeds}, n=st.integers(0, 50)),
        f"{name}.log_prob": lambda q: keywords(z=points(q)),
    }


METHODS = {
    **{
        f"{name}.log_joint": lambda model: keywords(z=points(model))
        for name in ("Gaussian", "StudentT", "Mixture", "LinearGaussian", "Model")
    },
    **{
        f"{name}.log_joint_gradient": lambda model: keywords(z=points(model))
        for name in ("LinearGaussian", "Model")
    },
    **_distribution_methods("Gaussian"),
    **_distribution_methods("StudentT"),
    **_distribution_methods("Mixture"),
    **_distribution_methods("Categorical"),
    "Proposals.log_prob": lambda qs: keywords(z=points(qs)),
    "MixtureFit.responsibilities": lambda fit: keywords(
        x=hnp.arrays(np.float64, (3, fit.mixture.dim), elements=finite)
    ),
    "Proposals.counts": lambda qs: keywords(
        n_samples=counts | st.lists(counts, min_size=len(qs.qs), max_size=len(qs.qs))
    ),
    "Mixture.sample": lambda q: keywords(
        {"rng": _seeds, "return_component": st.booleans()}, n=st.integers(0, 50)
    ),
    "Mixture.from_sklearn": lambda q: keywords(gm=fitted_mixtures()),
    "Difference.confidence_interval": lambda each: keywords({"confidence_level": _levels}),
    "Expectation.confidence_interval": lambda each: keywords({"confidence_level": _levels}),
    "BridgeEstimate.confidence_interval": lambda each: keywords({"confidence_level": _levels}),
    "Estimate.__sub__": lambda each: keywords(other=estimates() | st.just(each)),
    "LooResult.__sub__": lambda each: keywords(other=RECEIVERS["LooResult"] | st.just(each)),
    "Estimate.confidence_interval": lambda each: keywords(
        {"confidence_level": _levels, "k": st.none() | st.just(1)}, quantity=_quantities
    ),
    "Estimate.iw_elbo": lambda each: keywords(k=st.sampled_from([1, *each.iw_sizes])),
    "Estimate.summary": lambda each: keywords({"max_rows": st.integers(0, 4)}),
    "Estimate.plot": lambda each: keywords(
        {"kind": st.sampled_from(["bounds", "pareto_k"]), "point": st.none() | st.just(0)}
    ),
    "Adaptation.plot": lambda each: st.just({}),
    "MixtureFit.plot": lambda each: st.just({}),
    "Fit.plot": lambda each: keywords(x=st.sampled_from(["iteration", "seconds"])),
    "Total.confidence_interval": lambda each: keywords(
        {"confidence_level": _levels}, quantity=_quantities
    ),
    "LogWeightAccumulator.update": lambda each: keywords(
        {"axis": st.integers(-2, 1)}, log_weights=log_weights()
    ),
    "LogWeightAccumulator.merge": lambda each: keywords(other=accumulators()),
    "LogWeightAccumulator.save": lambda each: keywords(path=st.just("saved.npz")),
    "LogWeightAccumulator.load": lambda each: keywords(path=checkpoints()),
}

# Of the protocol between models and backends: they are called with valid arguments alone.
INTERNAL = {
    "source": lambda q: keywords(points=st.just(Points(q.batch_shape))),
    "term": lambda q: keywords(
        points=st.just(Points(q.batch_shape)),
        frame=st.just(build(q.source, Points(q.batch_shape)).frame),
    ),
    "expectations": lambda model: keywords(
        probs=st.just(np.full(model.n_classes, 1.0 / model.n_classes)),
        sums=st.just(mixture_expectations),
    ),
}


@st.composite
def calls(draw, name):
    """Calls of a public function, constructor, method or property."""
    kinds = public_api.classes()
    if name in public_api.functions():
        function, receiver = public_api.functions()[name], None
        takes = public_api.parameters(function)
        valid = FUNCTIONS[name] if takes else st.just({})
    elif name in kinds:
        function, receiver, valid = kinds[name], None, CONSTRUCTORS[name]
    else:
        kind, member = name.split(".")
        receiver = draw(RECEIVERS[kind])
        if public_api.is_accessor(kinds[kind], member):
            return Call(name, lambda: getattr(receiver, member), receiver, {})
        function = getattr(receiver, member)
        if member in INTERNAL:
            return Call(name, function, receiver, draw(INTERNAL[member](receiver)))
        takes = public_api.parameters(function)
        valid = METHODS[name](receiver) if takes else st.just({})
    return Call(name, function, receiver, draw(with_one_of_anything(valid)))


def check(call):
    """The rule for errors, warnings and NaN."""
    with np.errstate(all="raise"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call()
            shown = repr(result)
        except ALLOWED:
            return
        except ImportError:
            if call.name != "Mixture.to_sklearn":
                raise
            return
        finally:
            if "matplotlib.pyplot" in sys.modules:
                sys.modules["matplotlib.pyplot"].close("all")
    others = [each for each in caught if not issubclass(each.category, fe.errors.FastElboWarning)]
    assert not others, others[0]
    assert isinstance(shown, str)
    if caught or call.name in MAY_BE_NAN or any(_has_nan(part) for part in _inputs(call)):
        return
    fields = dict(leaves(result))
    documented = DOCUMENTED | _not_known(call.name, result) | _without_error(fields)
    if call.name == "adapt":  # It warns of the log evidence alone.
        documented |= {"elbo_se", "kl_se", "jensen_gap_se", "expected_log_likelihood_se"}
    unexplained = [name for name, part in fields.items() if name not in documented and _nan(part)]
    assert not unexplained, (unexplained, result)


def _not_known(name, result):
    """Quantities of an estimate that log weights alone, or a sum without draws, do not have."""
    if name in ("summarize", "LogWeightAccumulator.result"):
        return {f"{term}{end}" for term in ("kl", "expected_log_likelihood") for end in ("", "_se")}
    exact = isinstance(result, fe.Estimate) and not np.any(result.n_samples)
    return {"ess", "relative_variance"} if exact else set()


def _without_error(fields):
    """Standard errors of values of -inf, and of sums over fewer than two observations."""
    found = {"elpd_loo_se", "p_loo_se"} if len(fields.get("pointwise", "ab")) < 2 else set()
    for name, part in fields.items():
        if part.dtype.kind == "f" and np.isneginf(part).any():
            found |= {"se" if name == "value" else f"{name}_se", "jensen_gap", "jensen_gap_se"}
    return found


def _inputs(call):
    return call.receiver, call.given


def _has_nan(value):
    return any(_nan(part) for _, part in leaves(value))


def _nan(array):
    return array.dtype.kind in "fc" and bool(np.isnan(array).any())


WITHOUT_ARVIZ = set() if importlib.util.find_spec("arviz") else {"PosteriorDraws.to_arviz"}
NAMES = sorted({*public_api.public_names()} - public_api.BRIDGES - WITHOUT_ARVIZ)
# What takes arguments takes most of the time.
WEIGHTS = {name: 5.0 if name in {**FUNCTIONS, **CONSTRUCTORS, **METHODS} else 1.0 for name in NAMES}
QUIET = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Files are written to a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_calls(name, capsys):
    @settings(max_examples=5, derandomize=True, **QUIET)
    @given(calls(name))
    def trial(call):
        check(call)

    trial()


def seeds(name, fixed):
    """Seeds without end for the calls of a function: always the same, or others at each run."""
    source = random.SystemRandom() if fixed is None else random.Random(f"{fixed} {name}")
    while True:
        yield source.getrandbits(64)


def try_calls(name, number, attempt):
    @seed(number)
    @settings(max_examples=25, print_blob=True, **QUIET)
    @given(calls(name))
    def trial(call):
        attempt(call)

    trial()


def test_a_fixed_seed_fixes_the_calls():
    def made(fixed):
        found = []
        for number in itertools.islice(seeds("cubo", fixed), 2):
            try_calls("cubo", number, lambda call: found.append(repr(call)))
        return found

    assert made("0") == made("0")
    assert len({str(made(fixed)) for fixed in ("0", "1", None, None)}) == 4


@pytest.mark.fuzz
@pytest.mark.parametrize("name", NAMES)
def test_many_calls(name, capsys):
    end = time.monotonic() + SECONDS * WEIGHTS[name] / sum(WEIGHTS.values())
    for number in itertools.takewhile(lambda _: time.monotonic() < end, seeds(name, SEED)):
        try_calls(name, number, check)
