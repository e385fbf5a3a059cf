"""No function raises or warns about floating-point flags that its answer has no part in."""

import contextlib
import functools
import itertools
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import public_api
import pytest
from helpers import quiet
from public_api import leaves, strict

import fastelbo as fe
from fastelbo.kernels.cpu.launch import mixture_expectations
from fastelbo.models.protocol import Points

pytest.importorskip("matplotlib").use("Agg")

_RNG = np.random.default_rng(0)
_NORMAL = _RNG.normal(size=(2, 150))
LARGEST = np.finfo(float).max


def _with(value, at=7):
    row = _NORMAL.copy()
    row[:, at] = value
    return row


ROWS = {
    "ordinary": _NORMAL,
    "wide": 400.0 * _NORMAL,
    "subnormal weights": np.linspace(-745.2, 0.0, 150),
    "narrow": 1e-9 * _NORMAL,
    "flagged": 1.5 * np.abs(_RNG.standard_exponential((2, 150))),
    "endless": 40.0 * _NORMAL,
    "ties": np.repeat([0.0, -800.0, 1.0], 50),
    "equal": np.zeros(200),
    "next to equal": np.where(np.arange(60) == 3, 5e-324, 0.0),
    "squares of 0": 1e-160 * _NORMAL,
    "subnormal": 1e-310 * _NORMAL,
    "one": np.array([0.5]),
    "two": np.array([0.5, -900.0]),
    "empty batch": np.zeros((0, 60)),
    "impossible": _with(-1e300),
    "largest": _with(LARGEST),
    "both signs": np.tile([1e308, -1e308], 60),
    "one weight of 0": _with(-np.inf),
    "weights of 0": np.where(_NORMAL > 0.0, -np.inf, 800.0 * _NORMAL),
    "all of weight 0": np.full(60, -np.inf),
    "one of weight": np.where(np.arange(60) == 3, 5.0, -np.inf),
    "float32": (30.0 * _NORMAL).astype(np.float32),
    "float16": (100.0 * _NORMAL).astype(np.float16),
    "integers": np.arange(-200, 0),
}

DISTRIBUTIONS = {
    "Gaussian": lambda: [
        fe.Gaussian([0.0], scale=1.0),
        fe.Gaussian([0.0, 1.0], scale=[1e-300, 1e300]),
        fe.Gaussian([1e308], scale=1e-308),
        fe.Gaussian([0.0, 0.0], scale_tril=[[1e-160, 0.0], [1e-160, 1e150]]),
        fe.Gaussian([0.0, 0.0], cov=[[1.0, 1e-200], [1e-200, 1.0]]),
        fe.Gaussian(np.zeros((0, 2)), scale=1.0),
        fe.Gaussian(np.array([[1e-320], [1.0]]), scale=1.0),
    ],
    "StudentT": lambda: [
        fe.StudentT(3.0, [0.0], scale=1.0),
        fe.StudentT([0.1, 1e300, np.inf], [0.0, 1.0, 2.0], scale=1e-200),
        fe.StudentT([LARGEST, 1e308], [0.0, 1.0, 2.0], scale=1.0),
        fe.StudentT([LARGEST, 1e308], np.zeros(4), scale=1.0),
        fe.StudentT(2.0, [1e300, 0.0], scale_tril=[[1e-170, 0.0], [1e150, 1e-170]]),
        fe.StudentT(np.zeros((0,)), [0.0], scale=1.0),
    ],
    "Mixture": lambda: [
        fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1.0]], scale=1.0)),
        fe.Mixture([1e-320, 1.0, 0.0], fe.Gaussian([[0.0], [1e200], [-1e300]], scale=1e-9)),
        fe.Mixture([1.0 - 1e-9, 1e-9], fe.StudentT([0.1, 1e200], [[-1e154], [3.0]], scale=1e-90)),
        fe.Mixture([0.3, 0.7], fe.Gaussian(1e155 * np.eye(2), scale_tril=1e-10 * np.eye(2))),
        fe.Mixture([0.3, 0.7], fe.Gaussian(np.zeros((0, 2, 1)), scale=1.0)),
        fe.Mixture(np.full(7, 1 / 7), fe.Gaussian(np.full((7, 1), LARGEST), scale=1.0)),
        fe.Mixture(logits=[1e308, -1e308], components=fe.Gaussian([[0.0], [1.0]], scale=1.0)),
    ],
    "Categorical": lambda: [
        fe.Categorical([0.25, 0.75]),
        fe.Categorical([1e-320, 1.0, 0.0]),
        fe.Categorical([0.4, 5e-324, 0.6]),
        fe.Categorical(np.zeros((0, 3))),
    ],
}


def linear_models():
    far = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0, 0.0], [900.0, 0.0]], scale=1.0))
    for x, w, noise, prior in [
        ([[1.0]], [[1.0]], 1.0, None),
        (np.zeros((3, 2)), np.eye(2), 1e-300, None),
        ([1e150, 1.0], np.eye(2), [1e200, 1e-200], None),
        ([[0.0, 1e5], [1.0, 2.0]], np.eye(2), np.eye(2), far),
        ([3.0], [[1e-200, 1e100]], 1e-9, far),
        (np.zeros((0, 2)), np.eye(2), 1.0, far),
        ([2e-162, -1e-162], [[1.0], [1.0]], 1.0, None),
    ]:
        yield fe.LinearGaussian(x, w, noise_cov=noise, prior=prior)


def mixture_models():
    for x in (0.0, 1e8, 1e160, 1e308):
        far = fe.Mixture([0.3, 0.7], fe.Gaussian([[0.0], [2000.0]], scale=1e-3))
        yield fe.MixtureModel([[x]], far)
    tiny = fe.Mixture([1e-320, 1.0, 0.0], fe.StudentT(2.0, [[1e-320], [1.0], [1e300]], scale=1.0))
    yield fe.MixtureModel([[0.0], [1e-310]], tiny)
    yield fe.MixtureModel(np.zeros((0, 1)), tiny)


def in_replicates(rows, **options):
    """Rows and the same in another order, as two replicates."""
    return fe.summarize(np.stack([rows, rows[..., ::-1]], axis=-2), replicates=2, **options)


@functools.cache
def estimates():
    return list(_estimates())


def _estimates():
    for rows in ROWS.values():
        yield fe.summarize(rows)
        yield fe.summarize(rows, pareto_k=False, iw_sizes=[1], rows="shared")
        yield in_replicates(rows)
    yield from made(lambda p, q: fe.estimate(p, q, 300, rng=0), pairs())
    yield from (
        fe.estimate(
            model,
            fe.Categorical(np.full(model.n_classes, 1.0 / model.n_classes)),
            responsibilities=True,
        )
        for model in mixture_models()
    )


@functools.cache
def pairs():
    return list(_pairs())


def _pairs():
    """Models and approximations, of one dimension and batches that broadcast."""
    plain = [q for name in ("Gaussian", "StudentT", "Mixture") for q in DISTRIBUTIONS[name]()]
    for p, q in itertools.product([*plain, *linear_models()], plain):
        if p.dim == q.dim and 0 not in (*p.batch_shape, *q.batch_shape):
            yield p, q


def several():
    """Proposals of pairs of distributions of one dimension."""
    by_dim = {}
    for name in ("Gaussian", "StudentT", "Mixture"):
        for q in DISTRIBUTIONS[name]():
            by_dim.setdefault((q.dim, q.batch_shape), []).append(q)
    return [fe.Proposals(qs) for qs in by_dim.values()]


def accumulators():
    for rows in ROWS.values():
        accumulator = fe.LogWeightAccumulator()
        accumulator.update(rows)
        accumulator.update(rows)
        yield accumulator


def made(function, arguments=None):
    """What a function gives for rows, or other arguments, where it takes them."""
    for given in arguments or ((rows,) for rows in ROWS.values()):
        with contextlib.suppress(fe.errors.InvalidInputError):
            yield function(*given)


def comparable():
    """Estimates, and others of the same data points."""
    for rows in ROWS.values():
        yield fe.summarize(rows), fe.summarize(rows[..., ::-1], pareto_k=False)


def left_out():
    """Pairs of cross-validations of the same number of observations."""
    for result in made(lambda rows: fe.loo(np.atleast_2d(rows).T)):
        yield [result, result._replace(pointwise=result.pointwise[::-1])]


def bridges():
    return made(lambda rows: fe.bridge_log_ratios(rows, rows.reshape(-1)))


def own_models():
    """Models of functions, of which one overflows."""
    data = np.array([0.5, 1e200])
    yield fe.Model(log_joint=lambda z, x: -((z[0] - x) ** 2) - z[1] ** 2, dim=2, data=data)
    yield fe.Model(log_likelihood=lambda z: -np.exp(z[0]), prior=fe.Gaussian([0.0], scale=1.0))


def adaptation():
    return fe.adapt(fe.Gaussian([0.0], scale=1.0), target_se=0.1, round_size=50, rng=0)


RECEIVERS = {
    **DISTRIBUTIONS,
    "Model": own_models,
    "LinearGaussian": linear_models,
    "MixtureModel": mixture_models,
    "Estimate": estimates,
    "Adaptation": lambda: [adaptation()],
    "AdaptationRound": lambda: adaptation().history,
    "Total": lambda: (est.total() for est in estimates() if est.independent),
    "BoundTable": lambda: (est.bounds() for est in estimates()),
    "Interval": lambda: (est.confidence_interval() for est in estimates()),
    "Difference": lambda: (est - other for est, other in comparable()),
    "Bound": lambda: made(fe.cubo),
    "Proposals": several,
    "SmoothedWeights": lambda: made(fe.psis),
    "LooResult": lambda: made(lambda rows: fe.loo(np.atleast_2d(rows).T)),
    "LooComparison": lambda: made(fe.loo_compare, ((results,) for results in left_out())),
    "BridgeEstimate": bridges,
    "LogWeightAccumulator": accumulators,
    "ElboTerms": lambda: made(lambda p, q: fe.elbo_terms(p, q, 100, rng=0), pairs()),
    "Expectation": lambda: made(
        lambda p, q: fe.expectation("mean", p, q, 100, rng=0), pairs()[::5]
    ),
    "PosteriorDraws": lambda: made(
        lambda p, q: fe.importance_resample(p, q, 10, rng=0), pairs()[::5]
    ),
    "Digits": lambda: [fe.datasets.load_digits()],
    "Fit": lambda: made(lambda model, given: fe.fit(model, rng=0, **given), list(fits())[::4]),
    "FitHistory": lambda: [fe.fit(fe.LinearGaussian([1.0], [[1.0]], noise_cov=1.0)).history],
    "MixtureFit": lambda: mixture_fits(),
    "ElboGradient": lambda: made(
        lambda model, q: fe.elbo_gradient(model, q, 20, rng=0),
        itertools.product(linear_models(), DISTRIBUTIONS["Gaussian"]()),
    ),
    "MixtureHistory": lambda: [fit.history for fit in mixture_fits()],
}


def fits_of_mixtures():
    x = np.concatenate([_NORMAL.T, _NORMAL.T + 5.0])
    flat = np.column_stack([x, x[:, 0], np.full(len(x), 1e-320)])
    for points in (
        x,
        1e-300 * x,
        1e300 * x,
        x + np.array([1e9, -1e-300]),
        flat,
        x[:1] * [[1.0], [2.0]],
    ):
        for kind in ("full", "tied", "diag", "spherical"):
            yield points, {"covariance_type": kind, "n_init": 2}
    yield x, {"weights": np.geomspace(1e-320, 1e300, len(x)), "n_init": 2}
    yield x, {"init": fe.Mixture([1e-320, 1.0], fe.Gaussian([[0.0, 0.0], [1e3, 0.0]], scale=9.0))}


@functools.cache
def mixture_fits():
    calls = fits_of_mixtures()
    return [fe.fit_mixture(x, 2, rng=0, **given) for x, given in itertools.islice(calls, 0, 28, 5)]


def fits():
    """Calls of `fit`: closed, by draws, and of models."""
    for model in linear_models():
        yield model, {}
        q0 = fe.Gaussian(np.zeros((*model.batch_shape, model.dim)), scale=1.0)
        yield model, {"q0": q0}
        yield model, {"q0": q0, "method": "newton", "max_iter": 5, "n_eval": 20}
    for model in mixture_models():
        yield model, {}
        yield model, {"wrt": "model"}
    x = np.concatenate([_NORMAL.T, _NORMAL.T + 5.0])
    x = np.column_stack([x, x[:, 0] * 1e-3, x[::-1, 1]])
    for points in (x, 1e-150 * x, 1e-300 * x, 1e150 * x, x + 1e9, x[:3], np.ones_like(x)):
        for noise in (1.0, np.full(4, 1e-3)):
            model = fe.LinearGaussian(points, np.ones((4, 1)), noise_cov=noise)
            yield model, {"wrt": "model"}
            yield model, {"wrt": "model", "method": "em", "max_iter": 5}


QUANTITIES = ("log_evidence", "elbo", "expected_log_likelihood", "kl", "jensen_gap")
LEVELS = (5e-324, np.float64(5e-324), np.array(1e-310), 1e-300, 1e-16, 0.5, 0.95, 1.0 - 2.0**-53)
POINTS = (0.0, 1e-320, -1e154, 1e200, LARGEST, -LARGEST)


def on_rows(function, *variants):
    return lambda: [
        (function, (rows,), given) for rows in ROWS.values() for given in variants or ({},)
    ]


def on_pairs(function, *variants):
    return lambda: [
        (function, (p, q, 200), {"rng": 0, **given})
        for p, q in pairs()
        for given in variants or ({},)
    ]


def drawn(function, estimates_of):
    def calls():
        kept = ("ordinary", "endless", "largest", "both signs", "all of weight 0", "empty batch")
        return [(closing, (function, estimates_of(ROWS[name])), {}) for name in kept]

    return calls


def closing(function, value):
    """Draw a figure and forget it; matplotlib's own flags are its own."""
    from matplotlib import pyplot

    try:
        ax = function(value)
        ax.figure.canvas.draw()
        return ax.get_xlabel()
    finally:
        pyplot.close("all")


def of_numbers(function):
    """Calls of a function of `fastelbo.math`, with numbers and with vectors of all sizes."""
    edges = [0.0, 1.0, -1.0, 1e-320, 1e300, -800.0, np.inf, -np.inf, np.nan]
    n = len(public_api.parameters(function))
    return lambda: [(function, given, {}) for given in itertools.product([*edges, edges], repeat=n)]


def on_single(function, **options):
    """Calls with distributions without a batch as models."""
    models = [fe.Gaussian([0.0, 1.0], scale=[1e-3, 1e3]), fe.StudentT(3.0, [5.0], scale=2.0)]
    return lambda: [(function, (model,), {"rng": 0, **options}) for model in models]


FUNCTIONS = {
    "laplace": on_single(fe.laplace, restarts=2),
    "adapt": on_single(fe.adapt, target_se=0.1, round_size=50),
    "cubo": on_rows(fe.cubo, {}, {"n": 1.0}, {"n": 300.0}),
    "renyi_bound": on_rows(fe.renyi_bound, *({"alpha": a} for a in (0, 1, 0.5, 1.0 - 1e-12, -3))),
    "iw_elbo": on_rows(
        fe.iw_elbo,
        {"k": 1},
        {"k": [1, 2, 30], "rng": 0},
        {"k": [2, 3], "method": "partitions", "rng": 0},
        {"k": [2, 60], "method": "complete", "rng": 0},
    ),
    "jackknife": on_rows(fe.jackknife, {"order": 1}, {"order": 2}),
    "resample": on_rows(
        fe.resample,
        *({"n": 5, "rng": 0, "method": m} for m in ("systematic", "stratified", "residual")),
        {"n": 5, "rng": 0, "method": "multinomial"},
        {"n": 1, "rng": 0, "replace": False},
    ),
    "logsumexp": lambda: [
        (fe.logsumexp, (rows,), {"axis": axis, "b": b, "return_sign": b is not None})
        for rows in ROWS.values()
        for axis in (None, -1)
        for b in (None, 1e-300, -1e300, np.zeros(rows.shape[-1:]))
    ],
    "logmeanexp": on_rows(fe.logmeanexp, {}, {"axis": -1, "keepdims": True}, {"axis": 0}),
    "ess": on_rows(fe.ess),
    "psis": on_rows(fe.psis, {}, {"r_eff": 1e-300}, {"r_eff": 1e300}),
    "pareto_k": on_rows(fe.pareto_k, {}, {"r_eff": 0.5}),
    "loo": lambda: [
        (fe.loo, (np.atleast_2d(rows).T,), given)
        for rows in ROWS.values()
        for given in (
            {},
            dict.fromkeys(("log_p", "log_q"), np.linspace(0.0, 800.0, rows.shape[-1])),
        )
    ],
    "loo_compare": lambda: [(fe.loo_compare, (results,), {}) for results in left_out()],
    "bridge": lambda: [
        (fe.bridge, (rows[..., None], fe.Gaussian([0.0], scale=scale)), {"rng": 0, "df": df})
        for rows in ROWS.values()
        for scale, df in ((1.0, None), (1e-160, 3.0), (1e100, None))
    ],
    "bridge_log_ratios": lambda: [
        (fe.bridge_log_ratios, (rows, rows.reshape(-1)), given)
        for rows in ROWS.values()
        for given in ({}, {"n_eff": 5e-324}, {"n_eff": 1e300})
    ],
    "bayes_factor": lambda: [(fe.bayes_factor, both, {}) for both in itertools.pairwise(bridges())],
    "summarize": on_rows(
        fe.summarize, {}, {"pareto_k": False}, {"iw_sizes": [1, 2]}, {"rows": "shared"}
    ),
    "summarize of replicates": on_rows(in_replicates, {}, {"pareto_k": False}, {"iw_sizes": [1]}),
    "expectation": lambda: [
        (fe.expectation, (("mean", "cov", "quantiles")[i % 3], p, q, 100), {"rng": 0})
        for i, (p, q) in enumerate(pairs())
    ],
    "importance_resample": lambda: [
        (fe.importance_resample, (p, q, 10), {"rng": 0, "replace": i % 2 == 0})
        for i, (p, q) in enumerate(pairs()[::3])
    ],
    "estimate": lambda: [
        *on_pairs(
            fe.estimate,
            {},
            {"precision": "float32"},
            {"iw_sizes": [2], "moments": True},
            {"backend": "numpy"},
        )(),
        *[
            (fe.estimate, (each.qs[0], each, 200), {"rng": 0, **given})
            for each in several()
            for given in ({}, {"precision": "float32"}, {"backend": "numpy"})
        ],
    ],
    "defensive": lambda: [
        (fe.defensive, (q, q), {"share": share})
        for q in DISTRIBUTIONS["Gaussian"]()
        for share in (5e-324, 0.5, 1.0 - 2.0**-53)
    ],
    "elbo_terms": on_pairs(fe.elbo_terms, {}, {"precision": "float32"}, {"backend": "numpy"}),
    "log_weights": on_pairs(fe.log_weights),
    "draw": lambda: [
        (fe.draw, (q, 0, 3), {"key": 5, "precision": precision})
        for q in DISTRIBUTIONS["Gaussian"]()
        for precision in ("float64", "float32")
    ],
    "kl_divergence": lambda: [
        (fe.kl_divergence, (q, p), {})
        for name in ("Gaussian", "Categorical")
        for q, p in itertools.product(DISTRIBUTIONS[name](), repeat=2)
    ],
    "elbo_gradient": lambda: [
        (fe.elbo_gradient, (model, q, 20), {"rng": 0})
        for model in linear_models()
        for q in DISTRIBUTIONS["Gaussian"]() + DISTRIBUTIONS["StudentT"]()
    ],
    "exact_elbo": lambda: [
        *[
            (fe.exact_elbo, (model, q), {})
            for model in linear_models()
            for q in DISTRIBUTIONS["Gaussian"]() + DISTRIBUTIONS["StudentT"]()
        ],
        *[(fe.exact_elbo, (model, model.exact_posterior()), {}) for model in mixture_models()],
    ],
    "plotting.plot": drawn(lambda est: fe.plotting.plot(est, "pareto_k"), fe.summarize),
    "plotting.plot_bounds": drawn(fe.plotting.plot_bounds, fe.summarize),
    "plotting.plot_convergence": drawn(fe.plotting.plot_convergence, lambda r: [fe.summarize(r)]),
    "fit": lambda: [(fe.fit, (model,), {"rng": 0, **given}) for model, given in fits()],
    "fit_mixture": lambda: [
        (fe.fit_mixture, (x, 2), {"rng": 0, **given}) for x, given in fits_of_mixtures()
    ],
    "plotting.plot_pareto_k": drawn(
        fe.plotting.plot_pareto_k, lambda rows: fe.summarize(rows).pareto_k
    ),
} | {
    name: of_numbers(function)
    for name, function in public_api.functions().items()
    if name.startswith("math.")
}

# Each call of these has another answer.
CHANGING = {"LogWeightAccumulator.update", "LogWeightAccumulator.merge"}
# The answer of these has times.
TIMED = {"Fit", "FitHistory", "fit", "fit_mixture"}

# Made like a fitted mixture of scikit-learn.
SKLEARN = SimpleNamespace(
    covariance_type="diag",
    weights_=[1e-320, 1.0],
    means_=[[0.0, 1e200], [3.0, -1e-310]],
    covariances_=[[1e-300, 1e300], [1e-200, 1.0]],
)

# Arguments of methods that need some, from the instance.
METHODS = {
    "sample": lambda q: [(3, 0)],
    "log_prob": lambda q: [
        (np.zeros((5, *(1,) * len(q.batch_shape), q.dim), int),)
        if isinstance(q, fe.Categorical)
        else (np.reshape(POINTS, (-1, *(1,) * len(q.batch_shape), 1)) * np.ones(q.dim),)
    ],
    "counts": lambda qs: [(1000,), ([5] * len(qs.qs),)],
    "log_joint": lambda m: [
        (np.reshape(POINTS, (-1, *(1,) * len(m.batch_shape), 1)) * np.ones(m.dim),)
    ],
    "log_joint_gradient": lambda m: METHODS["log_joint"](m),
    "source": lambda q: [(Points(q.batch_shape),)],
    "term": lambda q: [(Points(q.batch_shape), q.source(Points(q.batch_shape)).frame)],
    "expectations": lambda m: [(np.full(m.n_classes, 1 / m.n_classes), mixture_expectations)],
    "confidence_interval": lambda est: [(name, level) for name in QUANTITIES for level in LEVELS],
    "iw_elbo": lambda est: [(k,) for k in (1, *est.iw_sizes)],
    "Difference.confidence_interval": lambda _: [(level,) for level in LEVELS],
    "Expectation.confidence_interval": lambda _: [(level,) for level in LEVELS],
    "BridgeEstimate.confidence_interval": lambda _: [(level,) for level in LEVELS],
    "Estimate.__sub__": lambda est: [(est,)],
    "LooResult.__sub__": lambda result: [(result,)],
    "from_sklearn": lambda _: [(SKLEARN,)],
    "update": lambda acc: [(rows,) for rows in ROWS.values()],
    "merge": lambda acc: [(deepcopy(acc),)],
    "save": lambda acc: [],
    "load": lambda acc: [],
    "plot": lambda est: [],
    "responsibilities": lambda fit: [(fit.mixture.components.mean,)],
}


def calls_of(name):
    """Calls as (function, arguments, keywords)."""
    kinds = public_api.classes()
    if name in FUNCTIONS:
        yield from FUNCTIONS[name]()
    elif name in public_api.functions():
        yield public_api.functions()[name], (), {}
    elif name in kinds:
        yield lambda: list(RECEIVERS[name]()), (), {}
    else:
        kind, member = name.split(".")
        for receiver in RECEIVERS[kind]():
            if public_api.is_accessor(kinds[kind], member):
                yield getattr, (receiver, member), {}
                continue
            arguments = METHODS.get(name) or METHODS.get(member) or (lambda _: [()])
            for given in arguments(receiver):
                yield getattr(receiver, member), given, {}


# `warmup` and `show_versions` compute nothing.
NAMES = sorted({*public_api.public_names()} - {"warmup", "show_versions"} - public_api.BRIDGES)


UNANSWERED = {
    *("Mixture.to_sklearn", "PosteriorDraws.to_arviz", "Estimate.state"),
    *(f"Estimate.posterior_{name}" for name in ("mean", "mean_se", "cov")),
}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_raised_and_nothing_changes(name):
    raised, answered = [], 0
    with np.errstate(all="ignore"), quiet():
        calls = list(calls_of(name))
    for function, given, options in calls:
        try:
            with strict():
                result = function(*given, **options)
        except (fe.errors.FastElboError, ImportError):
            continue
        except (FloatingPointError, RuntimeWarning) as error:
            raised.append((error, function, given, options))
            continue
        answered += 1
        if name not in CHANGING | TIMED:
            with np.errstate(all="ignore"), quiet():
                plain = function(*given, **options)
            for (field, got), (_, expected) in zip(leaves(result), leaves(plain), strict=True):
                np.testing.assert_array_equal(got, expected, err_msg=field)
    assert not raised
    # Without the other library they have no answer, nor have moments that nobody asked for.
    assert answered or not calls or name in UNANSWERED


def far_point(**scale):
    return fe.MixtureModel([[1e308]], fe.Mixture([1.0], fe.Gaussian([[0.0]], **scale)))


COMPONENTS = fe.Gaussian([[0.0], [1.0]], scale=1.0)
BESIDE = fe.Gaussian([[1.2, 0.7], [-0.1, -1e16]], scale_tril=[[1.7, 0.0], [-1e308, 1.3]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fe.Categorical([1e308, 1e308]), "sum to 1"),
        (lambda: fe.Categorical([5e-324, 5e-324]), "sum to 1"),
        (lambda: fe.Mixture([LARGEST, LARGEST], COMPONENTS), "sum to 1"),
        (lambda: fe.Mixture(logits=[-np.inf, -np.inf], components=COMPONENTS), "logits"),
        (lambda: far_point(scale=5e-324).exact_log_evidence(), "scale must have a finite inverse"),
        (lambda: far_point(scale_tril=[[5e-324]]).exact_posterior(), "scale_tril must have"),
        (
            lambda: fe.log_weights(
                fe.Gaussian([-0.8, -1.3], scale=1e-160), fe.Mixture([0.7, 0.3], BESIDE), 5, rng=0
            ),
            "NaN or .inf, the first at data point 0, draw",
        ),
    ],
)
def test_what_is_refused_raises_the_error_of_the_library(call, message):
    with strict(), pytest.raises(fe.errors.InvalidInputError, match=message):
        call()
