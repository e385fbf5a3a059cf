"""One hash of the bits of many results, to be compared before and after a change of the source.

    python tests/fingerprint.py [--each]

prints the sha256 of all results, ``--each`` a short hash of each group of them before it. Only
public calls are made, with fixed seeds. Of a result count names, types, shapes and bits, and the
kinds of warnings, but no text. No number of threads changes the hash.

The hash is of one kind of processor and one set of libraries. numba 0.68 gave the same bits with
AVX-512 and with AVX2 alone (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES), for its vectors are of 256 bits
either way. But NumPy 2.4 has other exponentials and logarithms for AVX-512
(NPY_DISABLE_CPU_FEATURES), and OpenBLAS other products for each processor (OPENBLAS_CORETYPE).
"""

import argparse
import hashlib
import itertools
import math
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from cases import CASES, QS, linear, scales, triangles

import fastelbo as fe

GROUPS = {}
CHUNK = 8192
LEVELS = (0.5, 0.95, 0.999)


def group(name):
    """Decorate a generator of results, all of which are hashed under that name."""

    def keep(function):
        GROUPS[name] = function
        return function

    return keep


# --- what is hashed -----------------------------------------------------------------------------


def feed(digest, value):
    """Put a result into the digest: arrays bit by bit, containers in their order."""
    if isinstance(value, dict):
        feed(digest, list(value.items()))
    elif isinstance(value, (tuple, list)):
        digest.update(f"{type(value).__name__} {len(value)};".encode())
        for part in value:
            feed(digest, part)
    elif isinstance(value, str):
        digest.update(f"{value};".encode())
    else:
        array = np.asarray(value)
        assert array.dtype.kind in "fiub", value
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(array.tobytes())


def hashed(results):
    """The hash of what a group yields, and of the warnings meanwhile."""
    digest = hashlib.sha256()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for result in results:
            feed(digest, result)
            feed(digest, [kind.category.__name__ for kind in caught])
            caught.clear()
    return digest


def everything(est):
    """All that an estimate tells."""
    quantities = ["log_evidence", "elbo", "expected_log_likelihood", "kl", "jensen_gap"]
    intervals = [est.confidence_interval(name) for name in quantities]
    intervals += [est.confidence_interval("log_evidence", level) for level in LEVELS]
    intervals += [est.confidence_interval("iw_elbo", k=k) for k in est.iw_sizes]
    bounds = est.bounds()
    facts = [est.to_dict(), intervals, est.min_draws, est.iw_sizes, est.independent]
    facts += [bounds.names, bounds.value, bounds.se, bounds.bias]
    if est.independent:
        total = est.total()
        public = [(name, value) for name, value in vars(total).items() if name[0] != "_"]
        facts += [public, total.bias_correction, total.confidence_interval()]
    return facts


# --- estimates ----------------------------------------------------------------------------------


def draws_of(i):
    """Some cases take several chunks, the last of them not full; of the others no block is."""
    return 2 * CHUNK + 3333 if i % 8 == 3 else 1000 + 37 * (i % 7)


def estimates(names):
    places = {name: i for i, name in enumerate(CASES)}
    for name in names:
        i, (model, q) = places[name], CASES[name]()
        yield name, everything(fe.estimate(model, q, draws_of(i), rng=i, backend="cpu"))
        if i % 4 == 0:
            single = {"backend": "cpu", "precision": "float32", "iw_sizes": (2, 7)}
            yield everything(fe.estimate(model, q, draws_of(i), rng=i, **single))
        if i % 9 == 0:
            yield fe.elbo_terms(model, q, 333, rng=i, backend="cpu")
            yield fe.log_weights(model, q, 100, rng=i, backend="cpu", first_index=5)
            yield fe.elbo_terms(model, q, 77, rng=i, backend="cpu", precision="float32")


def kind_of(name):
    return name.split("-")[0] if "-" in name else "others"


for kind in (*QS, "others"):
    chosen = [name for name in CASES if kind_of(name) == kind]
    GROUPS[f"estimate, {kind}"] = lambda chosen=chosen: estimates(chosen)


@group("estimate, options")
def options():
    model, q = linear("full", "gaussian", "full", dim=5, features=8, model_batch=(4,))
    for given in (
        {"n_samples": 1},
        {"n_samples": 20},
        {"iw_sizes": ()},
        {"iw_sizes": (), "pareto_k": False},
        {"iw_sizes": (1, 3, 50, 999)},
        {"analytic_kl": True},
        {"first_index": 2**20},
        {"n_threads": 1},
        {"rng": np.random.default_rng(3)},
        {"rng": np.random.SeedSequence(3)},
        {"n_samples": 8 * CHUNK, "iw_sizes": (CHUNK + 1,)},
        {"backend": "numpy"},
        {"backend": "numpy", "n_samples": CHUNK + 10},
    ):
        yield everything(fe.estimate(model, q, **({"rng": 1, "backend": "cpu"} | given)))
    for i, name in enumerate(list(CASES)[::10]):
        yield everything(fe.estimate(*CASES[name](), 500, rng=i, backend="numpy"))


@group("estimate, quasi-random")
def quasi_random():
    own = {"sampler": "sobol", "rng": 5}
    for i, name in enumerate(list(CASES)[::5]):
        model, q = CASES[name]()
        draws = {"n_samples": 16 << (4, 9, 12)[i % 3], "backend": "cpu"}
        for transform in ("box_muller", "inverse"):
            given = own | draws | {"transform": transform, "rotate": i % 4 > 0}
            yield name, everything(fe.estimate(model, q, **given))
            yield fe.log_weights(model, q, **given), fe.elbo_terms(model, q, **given)
        yield everything(fe.estimate(model, q, precision="float32", replicates=8, **own | draws))
        yield q.sample(16 * 8, **own), q.sample(3 * 512, transform="inverse", replicates=3, **own)
        yield everything(fe.summarize(fe.log_weights(model, q, 512, **own), replicates=16))
    model, q = linear("full", "gaussian", "full", dim=5, features=8, model_batch=(4,))
    for given in ({"target_se": 0.05}, {"target_total_se": 0.1}):
        yield everything(fe.estimate(model, q, **given, **own, backend="cpu"))


@group("closed forms")
def closed_forms():
    for name in CASES:
        model, q = CASES[name]()
        if isinstance(model, fe.LinearGaussian):
            posterior = model.exact_posterior()
            yield name, model.exact_log_evidence(), *parameters(posterior)
            if isinstance(q, fe.Gaussian) and isinstance(posterior, fe.Gaussian):
                yield fe.kl_divergence(q, q), fe.kl_divergence(q, model.prior)
                yield fe.exact_elbo(model, q)
                for k in (1, 3, 40):
                    found = fe.elbo_gradient(model, q, 80, k=k, rng=1)
                    yield found.value, *found.gradients.values()


def parameters(distribution):
    if isinstance(distribution, fe.Mixture):
        return distribution.weights, *parameters(distribution.components)
    scale = distribution.scale_tril if distribution.scale is None else distribution.scale
    return distribution.mean, scale


# --- distributions ------------------------------------------------------------------------------


def distributions():
    """Every kind of approximation, of one member and of several, and other ways to make one."""
    for i, (kind, dim) in enumerate(itertools.product(QS, (1, 2, 3, 8, 17))):
        rng = np.random.default_rng(i)
        for batch in ((), (3,), (2, 1)):
            yield f"{kind} {dim} {batch}", QS[kind](rng, rng.normal(size=(*batch, dim)), 0.7)
    rng = np.random.default_rng(0)
    factor = triangles(rng, 4)
    yield "covariance", fe.Gaussian(rng.normal(size=4), cov=factor @ factor.T)
    yield "scalar", fe.Gaussian(0.5, scale=2.0)
    yield "few degrees", fe.StudentT(0.3, rng.normal(size=3), scale=scales(rng, 3))


@group("sample")
def samples():
    for i, (name, distribution) in enumerate(distributions()):
        yield name, distribution.sample(150 + i, rng=i), distribution.sample(3, rng=i)
    yield fe.Gaussian(np.zeros(7), scale=1.0).sample(30_000, rng=0)
    probs = np.random.default_rng(0).dirichlet(np.ones(5), (2, 3))
    yield fe.Categorical(probs).sample(1000, rng=0), fe.Categorical([1.0]).sample(10, rng=0)


@group("log_prob")
def log_probs():
    for i, (name, distribution) in enumerate(distributions()):
        shape = (150 + i, *distribution.batch_shape, distribution.dim)
        points = 2.0 * np.random.default_rng(i).normal(size=shape)
        yield name, distribution.log_prob(points), distribution.log_prob(points[0])
        points[0] = 1e10
        yield distribution.log_prob(points), distribution.log_prob(points.astype(np.float32))
        if not isinstance(distribution, fe.Mixture):
            yield distribution.entropy()
    q = fe.Categorical(np.random.default_rng(0).dirichlet(np.ones(5), 3))
    yield q.log_prob(np.arange(5)[:, None, None]), q.entropy(), fe.kl_divergence(q, q)


@group("MixtureModel")
def mixture_models():
    for i, (kind, dim, count) in enumerate(
        itertools.product(("diagonal", "full", "t", "t_df"), (1, 2, 5, 16), (1, 3, 8))
    ):
        rng = np.random.default_rng(i)
        mean = rng.normal(size=(count, dim))
        if kind == "full":
            components = fe.Gaussian(mean, scale_tril=triangles(rng, count, dim))
        elif kind == "diagonal":
            components = fe.Gaussian(mean, scale=scales(rng, count, dim))
        else:
            df = 4.0 if kind == "t" else rng.uniform(1.0, 9.0, count)
            components = fe.StudentT(df, mean, scale=scales(rng, count, dim))
        mixture = fe.Mixture(rng.dirichlet(np.ones(count)), components)
        model = fe.MixtureModel(2.0 * rng.normal(size=(7, 53, dim)), mixture)
        posterior = model.exact_posterior()
        yield model.exact_log_evidence(), posterior.probs, model.component_log_prob()
        for q in (
            posterior,
            fe.Categorical(rng.dirichlet(np.ones(count), (7, 53))),
            fe.Categorical(rng.dirichlet(np.ones(count))),
            fe.Categorical(np.eye(count)[0]),
        ):
            yield everything(fe.estimate(model, q))


@group("parameters")
def given_parameters():
    rng = np.random.default_rng(11)
    tril = triangles(rng, 3, 4)
    cov, mean = tril @ np.swapaxes(tril, -1, -2), rng.normal(size=(3, 4))
    for dist in (
        fe.Gaussian(mean, cov=cov.astype(np.float32)),
        fe.Gaussian(mean, precision=cov),
        fe.Gaussian(mean, scale=[[1.0], [2.0], [0.5]]),
        fe.StudentT([3.0, 5.0, np.inf], mean, cov=cov),
    ):
        yield parameters(dist), dist.cov, dist.sample(50, rng=1)
        mixture = fe.Mixture(logits=[0.1, -3.0, -np.inf], components=dist)
        yield mixture.weights, mixture.mean, mixture.cov
        yield mixture.sample(500, rng=2, return_component=True)


@group("expectation, importance_resample")
def posteriors():
    model, q = linear("full", model_batch=(4,), q_batch=(4,))
    functions = ["mean", "cov", "quantiles", lambda z: z[0] * z[1], lambda z: (z[0], z[1] > 0.0)]
    for i, f in enumerate(functions):
        for given in ({}, {"sampler": "sobol"}, {"precision": "float32"}):
            n = 16 * 512 if "sampler" in given else CHUNK + 777
            got = fe.expectation(f, model, q, n, rng=i, backend="cpu", **given)
            yield [value for value in vars(got).values() if isinstance(value, np.ndarray)]
            yield got.confidence_interval()
    for replace in (True, False):
        got = fe.importance_resample(model, q, 100, rng=3, backend="cpu", replace=replace)
        yield got.draws, got.log_weights, got.index, got.pareto_k, got.ess
    est = fe.estimate(model, q, 3000, rng=4, backend="cpu", moments=True)
    yield everything(est), est.posterior_mean, est.posterior_mean_se, est.posterior_cov


# --- users' models ------------------------------------------------------------------------------


def by_loops(z, x, scale):
    total = -0.5 * (z[0] ** 2 + z[1] ** 2)
    for j in range(len(scale)):
        r = (x[j] - z[0] - math.exp(0.3 * z[1]) * math.sin(j + z[0])) / scale[j]
        total -= math.log1p(r * r) if r > 0.0 else 0.5 * math.tanh(r) ** 2
    return total + math.lgamma(1.0 + z[0] * z[0]) - math.erf(z[1])


def by_arrays(z, x, scale):
    r = np.outer(scale, scale) @ x + np.sum(z) * scale
    return (
        -np.dot(r, r) * np.exp(-(z[0] ** 2))
        - np.logaddexp(z[1], np.max(z))
        - 0.7 * abs(z[1]) ** 1.3
    )


def by_one_draw(z, x, scale):
    total, k = -0.5 * (z[0] ** 2 + z[1] ** 2), 0
    while k < 3 and total < -0.1 * k:
        total -= scale[k] * math.exp(-(z[k % 2] ** 2))
        k += 1
    return total + 0.0 * x[0]


def by_batches(z, x):
    return -0.5 * np.square(x[:, None, :2] - z).sum(-1)


@group("Model")
def users_models():
    rng = np.random.default_rng(11)
    data, scale = rng.normal(size=(3, 4)), np.array([0.5, 1.0, 2.0, 0.7])
    prior, q = fe.Gaussian([0.0, 0.5], scale=1.5), fe.StudentT(5.0, [0.1, 0.0], scale=[1.0, 0.8])
    z = rng.normal(size=(50, 3, 2))
    for function in (by_loops, by_arrays, by_one_draw):
        joint = fe.Model(log_joint=function, dim=2, data=data, params=(scale,))
        given = fe.Model(log_likelihood=function, prior=prior, data=data, params=(scale,))
        for model in (joint, given):
            yield function.__name__, everything(fe.estimate(model, q, CHUNK + 777, rng=5))
            yield model.log_joint(z), fe.log_weights(model, q, 100, rng=6)
        yield joint.log_joint_gradient(z) if function is not by_one_draw else ()
    host = fe.Model(log_joint=by_batches, dim=2, data=data, vectorized=True, batch_size=300)
    yield everything(fe.estimate(host, q, 1000, rng=7)), fe.draw(q, 2, 9, key=12)


@group("differences")
def differences():
    model, q = linear("full", model_batch=(4,), q_batch=(4,))
    first, second = (fe.estimate(model, q, 1000, rng=seed, backend="cpu") for seed in (1, 2))
    noise = np.random.default_rng(3).normal(size=(2, 1000, 5))
    for got in (first - second, fe.loo(0.1 * noise[0]) - fe.loo(noise[1])):
        yield got.quantity, got.value, got.se, got.flagged, got.confidence_interval()


# --- log weights --------------------------------------------------------------------------------


def weights(seed, *shape, zeros=0.0, spread=2.0):
    """Log weights, some of them -inf."""
    rng = np.random.default_rng(seed)
    values = spread * rng.normal(size=shape) - 50.0
    values[rng.uniform(size=shape) < zeros] = -np.inf
    return values


DTYPES = [
    "f2", "f4", "f8", ">f2", ">f4", ">f8", "i1", "i2", "i4", "i8", ">i4", "u1", "u2", "u4", "u8",
    ">u8", "?",
]  # fmt: skip


def arrays():
    """Log weights of every shape, order and type, as (name, array, axis)."""
    long = weights(0, 4, 2 * CHUNK + 2345, zeros=0.01)
    yield "rows", long, -1
    yield "columns", np.ascontiguousarray(long.T), 0
    yield "rows in Fortran order", np.asfortranarray(long), 1
    yield "columns in Fortran order", long.T, 0
    yield "in the middle", np.ascontiguousarray(long.reshape(2, 2, -1).swapaxes(1, 2)), 1
    yield "strided", long[::2, ::3], 1
    yield "backwards", long[:, ::-1], 1
    yield "one row", weights(1, 5 * CHUNK), 0
    yield "many columns", weights(2, 1000, 37), 0
    yield "many rows", weights(3, 41, 999, zeros=0.1), 1
    for length in (1, 2, 5, 20, 21, 100):
        yield f"{length} draws", weights(4, 3, length, zeros=0.05), -1
    yield "zeros", np.full((2, 1000), -np.inf), -1
    yield "constant", np.full((2, 1000), 3.0), -1
    yield "heavy", weights(5, 3, 3000, spread=20.0), -1
    yield "far", weights(6, 3, 3000) * 1e4, -1
    yield "no data points", np.empty((0, 100)), -1
    for dtype in DTYPES:
        values = np.round(weights(7, 3, CHUNK + 100) + 60.0).clip(0.0, 1e3).astype(dtype)
        yield dtype, values, -1
        yield f"{dtype}, columns", np.ascontiguousarray(values.T), 0


@group("summarize")
def summaries():
    for name, array, axis in arrays():
        yield name, everything(fe.summarize(array, axis))
        yield everything(fe.summarize(array, axis, iw_sizes=(), pareto_k=False))
    for sizes in ((1,), (3, 7, 100, CHUNK + 5), (2,)):
        yield everything(fe.summarize(weights(8, 3, 2 * CHUNK + 11), iw_sizes=sizes))
    yield everything(fe.summarize([[0.0, 1.0, -np.inf], [1.0, 2.0, 3.0]], iw_sizes=(2,)))
    values = weights(9, 5, 3 * CHUNK, zeros=0.001)
    with tempfile.TemporaryDirectory() as folder:
        for i, array in enumerate((values, values.astype(np.float32), values.T)):
            path = Path(folder, f"{i}.npy")
            np.save(path, array)
            yield everything(fe.summarize(path, -1 if i < 2 else 0))
    for pieces in (np.array_split(values, n, axis=1) for n in (1, 2, 9)):
        yield everything(fe.summarize(iter(pieces)))
        yield everything(fe.summarize(iter(pieces), iw_sizes=(5,), pareto_k=False))


@group("LogWeightAccumulator")
def accumulators():
    values = weights(0, 4, 5 * CHUNK + 777, zeros=0.003)
    for given in ({}, {"iw_sizes": (3, 5000), "tail_draws": 50}, {"iw_sizes": (), "tail_draws": 0}):
        for n in (1, 2, 13):
            taken = accumulated(np.array_split(values, n, axis=1), **given)
            yield taken.n_samples, taken.exact, everything(taken.result())
    for axis, array in ((0, values.T), (1, values.astype(np.float32)), (1, values[::-1, ::-2])):
        taken = accumulated(np.array_split(array, 5, axis=axis), axis)
        yield everything(taken.result())
    # Merged: in order, in the place of chunks, and where nothing fits.
    for cuts in ((CHUNK, 3 * CHUNK), (2 * CHUNK, 4 * CHUNK), (5, 3 * CHUNK + 1)):
        parts = np.split(values, cuts, axis=1)
        firsts = [0, *cuts] if all(cut % CHUNK == 0 for cut in cuts) else [0, 0, 0]
        for starts in ([0, 0, 0], firsts):
            first, *others = [
                accumulated(np.array_split(part, 3, axis=1), first_draw=start)
                for part, start in zip(parts, starts, strict=True)
            ]
            for other in others:
                first.merge(other)
                yield first.n_samples, first.exact, everything(first.result())
            yield everything(others[-1].result())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "checkpoint")
        accumulated([values[:, :20_000]], first_draw=CHUNK).save(path)
        taken = fe.LogWeightAccumulator.load(path)
        taken.update(values[:, 20_000:])
        yield repr(taken), taken.first_draw, everything(taken.result())


def accumulated(pieces, axis=-1, **options):
    taken = fe.LogWeightAccumulator(**options)
    for piece in pieces:
        taken.update(piece, axis)
    return taken


@group("psis, pareto_k")
def smoothed():
    for name, array, axis in arrays():
        yield name, fe.psis(array, axis=axis), fe.pareto_k(array, axis=axis)
    values = np.random.default_rng(1).exponential(np.linspace(0.1, 1.2, 12), (4000, 12)).T
    yield fe.psis(values), fe.psis(values.T, axis=0), fe.psis(np.round(values, 1))
    efficiency = np.linspace(0.2, 1.5, 12)
    yield fe.psis(values, efficiency), fe.psis(values, 0.4, axis=1)
    yield fe.pareto_k(values.T, efficiency, 0), fe.pareto_k(values, 0.4)


@group("loo")
def left_out():
    rng = np.random.default_rng(0)
    for draws, n in ((4000, 30), (100, 3), (999, 1), (20, 4), (CHUNK + 5, 70)):
        y, mean = rng.normal(size=n), rng.normal(size=(draws, 1))
        values = -0.5 * (y - mean) ** 2 * rng.uniform(0.5, 4.0, n)
        for array in (values, np.asfortranarray(values), values.astype(np.float32)):
            yield fe.loo(array)[:8]
        yield fe.loo(values, rng.uniform(0.3, 1.2, n))[:8]


@group("loo completed, bridge")
def bridged():
    rng = np.random.default_rng(0)
    values = -0.5 * (rng.normal(size=30) - 0.3 * rng.normal(size=(4, 500, 1))) ** 2
    ratios = 0.1 * rng.normal(size=(2, 2000))
    results = [fe.loo(values), fe.loo(values[0], log_p=ratios[0, :500], log_q=ratios[1, :500])]
    comparison = fe.loo_compare(results)
    yield results, [value for value in vars(comparison).values() if isinstance(value, np.ndarray)]
    p, q = fe.Gaussian([0.0, 1.0], scale=1.0), fe.StudentT(5.0, [0.2, 1.0], scale=0.9)
    draws = p.sample(2000, rng=0).reshape(4, 500, 2)
    for given in ({}, {"df": 5.0}, {"q": q, "n_proposal": 700}):
        result = fe.bridge(draws, p, rng=1, **given)
        yield [value for value in vars(result).values() if value is not None]
    result = fe.bridge_log_ratios(draws[..., 0], draws[..., 1].reshape(-1), n_eff=900)
    yield [value for value in vars(result).values() if value is not None]


@group("bounds")
def bounds():
    rows = weights(0, 3, 400, zeros=0.02)
    many, few = weights(1, 2, 3000), weights(2, 7)
    for method in ("auto", "complete", "partitions"):
        yield fe.iw_elbo(rows, [1, 2, 10, 399, 400, 57], method=method, rng=0)
        yield fe.iw_elbo(few, [1, 3, 7], method=method, rng=1)
        yield fe.iw_elbo(few, 2, method=method, rng=1)
        yield fe.iw_elbo(many, (5, 100), method=method, rng=2)
    yield fe.iw_elbo(weights(3, 1, 60_000), 2000, rng=3), fe.iw_elbo(1e5 * rows, 3, rng=4)
    for array in (rows, many, few, 1e-9 * many, 10.0 * many, rows.astype(np.float32)):
        for alpha in (-1.0, -1e-6, 0.0, 0.3, 1.0 - 1e-9, 1.0, 1.5, 2.0):
            yield fe.renyi_bound(array, alpha)
        yield [fe.cubo(array, n) for n in (1.0, 1.5, 2.0, 4.0)]
        yield fe.jackknife(array), fe.jackknife(array, 2)


@group("resample")
def resampled():
    rows = weights(0, 3, 500, zeros=0.1)
    for i, method in enumerate(("systematic", "stratified", "multinomial", "residual")):
        yield fe.resample(rows, 700, method, rng=i), fe.resample(rows[0], 1, method, rng=i)
        yield fe.resample(rows, 100, method, replace=False, rng=i)


@group("logsumexp, ess")
def reductions():
    for name, array, axis in arrays():
        yield name, fe.logsumexp(array, axis=axis), fe.logmeanexp(array, axis=axis)
        yield fe.ess(array, axis=axis)
        yield fe.logsumexp(array), fe.logsumexp(array, axis=axis, keepdims=True, return_sign=True)
    cube = weights(1, 5, 60, 70, zeros=0.2)
    for axis in (0, 1, 2, (0, 1), (0, 2), (1, 2), (2, 0), None):
        yield fe.logsumexp(cube, axis), fe.logmeanexp(cube, axis, keepdims=True)
        factors = np.random.default_rng(2).normal(size=(60, 1)).round(1)
        yield fe.logsumexp(cube, axis, factors, return_sign=True), fe.logsumexp(cube, axis, factors)
    for special in ([], [0.0, -40.0], [np.inf, 0.0], [np.inf, np.nan], [-np.inf, -np.inf]):
        yield fe.logsumexp(special), fe.logmeanexp(special)
        yield fe.logsumexp(special, b=-2.0, return_sign=True)


@group("several q")
def several():
    model, first = linear("full", "gaussian", "full", dim=3, features=5, model_batch=(4,))
    _, second = linear("t", dim=3, q_batch=(4,), seed=1)
    _, third = linear("mixture_t", dim=3, seed=2)
    qs = fe.Proposals([first, second, third], [0.5, 0.3, 0.2])
    yield everything(fe.estimate(model, qs, 3333, rng=1, backend="cpu"))
    yield everything(fe.estimate(model, qs, 500, rng=1, backend="cpu", precision="float32"))
    yield everything(fe.estimate(model, qs, 500, rng=1, backend="numpy"))
    own = {"backend": "cpu", "rng": 2, "first_index": 3}
    yield everything(fe.estimate(model, [third, first], [2 * CHUNK, 700], iw_sizes=(3,), **own))
    yield fe.elbo_terms(model, [second, first], [50, 70], **own)
    yield fe.log_weights(model, fe.defensive(first, third), 100, **own)
    yield qs.log_prob(np.linspace(-1.0, 1.0, 12).reshape(4, 3)), qs.counts(1001)


@group("laplace, adapt")
def adapted():
    rows = [
        (fe.Gaussian([1.0, -2.0], cov=[[2.0, 0.5], [0.5, 1.0]]), {}),
        (fe.LinearGaussian([1.0, 2.0], [[1.0, 0.0], [0.5, 1.0]], noise_cov=0.5), {}),
        (
            fe.Mixture([0.5, 0.5], fe.StudentT(4.0, [[-3.0, 0.0], [3.0, 0.0]], scale=1.0)),
            {"symmetries": [[[-1.0, 0.0], [0.0, 1.0]]]},
        ),
    ]
    for model, options in rows:
        q = fe.laplace(model, [0.5, 0.5])
        yield q.mean, q.cov, q.sample(10, rng=0)
        found = fe.adapt(model, start=[0.5, 0.5], target_se=0.03, rng=0, **options)
        yield found.history, found.evaluations, found.flagged, everything(found.estimate)
        yield found.q.weights, found.q.components.mean, found.q.components.scale_tril


@group("fit")
def fits():
    x = fe.datasets.load_digits().images[:200]
    model = fe.LinearGaussian(x, np.eye(64)[:, 20:23], noise_cov=1.0)
    for noise in ("isotropic", "diagonal"):
        fit = fe.fit(model, wrt="model", noise=noise)
        yield fit.model.loadings, fit.model.noise_cov, fit.model.offset, fit.history.elbo
    for q0 in (fe.Gaussian(np.zeros((200, 3)), scale=1.0), fe.Gaussian(np.zeros(3), scale=1.0)):
        for method in ("closed", "newton" if q0.batch_shape else "lbfgs"):
            fit = fe.fit(model, q0, method=method, rng=1)
            yield fit.q.mean, fit.q.scale, fit.elbo, fit.history.iteration, fit.history.elbo


@group("fit_mixture")
def fitted_mixtures():
    x = fe.datasets.load_faithful()
    shares = np.random.default_rng(0).uniform(size=len(x))
    for kind, given in itertools.product(
        ("full", "tied", "diag", "spherical"), ({}, {"weights": shares})
    ):
        fit = fe.fit_mixture(x, 3, covariance_type=kind, n_init=2, rng=1, **given)
        components = fit.mixture.components
        yield fit.history.log_likelihood, fit.start, fit.mean_log_likelihood
        yield fit.mixture.weights, components.mean, components.cov, fit.responsibilities(x)


@group("data sets")
def data_sets():
    yield fe.datasets.load_digits(), fe.datasets.load_galaxies(), fe.datasets.load_faithful()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--each", action="store_true", help="a short hash of each group before")
    each = parser.parse_args().each
    # An installed package may stand in for the one beside this file.
    print(f"fastelbo of {Path(fe.__file__).parent}", file=sys.stderr)
    whole = hashlib.sha256()
    for name, results in GROUPS.items():
        digest = hashed(results())
        whole.update(digest.digest())
        if each:
            print(digest.hexdigest()[:16], name, flush=True)
    print(whole.hexdigest())


if __name__ == "__main__":
    main()
