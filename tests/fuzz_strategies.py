"""Strategies for the arguments of public calls: what they expect, and anything at all."""

import array
import collections
import decimal
import fractions
import warnings
from pathlib import Path
from types import SimpleNamespace

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import xarray as xr
from hypothesis import reject

import fastelbo as fe

LARGEST = np.finfo(float).max
# Largest number of draws: no call takes much memory, and none takes long.
_MOST_DRAWS = 20_000


def build(function, /, *args, **kwargs):
    """A valid object; what the library refuses is drawn again."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return function(*args, **kwargs)
        except (fe.errors.FastElboError, OverflowError):
            reject()


def built(function, /, *args, **kwargs):
    """Strategy of what a function gives for drawn arguments."""
    return st.builds(lambda *a, **k: build(function, *a, **k), *args, **kwargs)


# --- numbers and arrays -------------------------------------------------------------------------

_SPECIAL = [0.0, -0.0, 1.0, -1.0, 5e-324, 1e-310, 1e-160, 1e-16, 0.7, 40.0, -745.2, 1e16, 1e154]
_SPECIAL += [1e308, -1e308, LARGEST, -LARGEST, -1e300, -1e16]
special = st.sampled_from(_SPECIAL)
ordinary = st.floats(-5.0, 5.0)
finite = ordinary | special | st.floats(allow_nan=False, allow_infinity=False)
floats = finite | st.sampled_from([np.nan, np.inf, -np.inf])
log_weight = ordinary | special | st.sampled_from([-np.inf, -800.0, -1e6])
counts = st.integers(1, 60) | st.sampled_from([100, 300, 8191, 8193, _MOST_DRAWS])
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
_REAL = st.sampled_from([np.float64, np.float32, np.float16, ">f8", np.int8, np.int64, np.uint16])


def _as_type(values, dtype):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return values.astype(dtype)


def _strided(values, way):
    if way == "reversed":
        return values[..., ::-1]
    if way == "fortran":
        return np.asfortranarray(values)
    if way == "list":
        return values.tolist()
    return values


layouts = st.sampled_from(["plain", "plain", "reversed", "fortran", "list"])


@st.composite
def log_weights(draw, least=1, most=60):
    """Rows of log weights, of few or of many different values, in any type and layout."""
    batch = draw(st.sampled_from([(), (), (1,), (3,), (2, 2), (0,)]))
    shape = (*batch, draw(st.integers(least, most) | st.sampled_from([least, 21, most])))
    if draw(st.booleans()):
        scale = draw(st.sampled_from([0.0, 1e-9, 1.0, 30.0, 1e4, 1e300]))
        values = np.random.default_rng(draw(st.integers(0, 9))).normal(size=shape) * scale
        flat = values.reshape(-1)
        for _ in range(draw(st.integers(0, 3)) if flat.size else 0):
            flat[draw(st.integers(0, flat.size - 1))] = draw(log_weight)
    else:
        values = draw(hnp.arrays(np.float64, shape, elements=log_weight))
    return _strided(_as_type(values, draw(_REAL)) if draw(st.booleans()) else values, draw(layouts))


any_array = hnp.arrays(hnp.scalar_dtypes(), shapes)
real_array = hnp.arrays(np.float64, shapes, elements=floats)


# --- anything -----------------------------------------------------------------------------------


class _Raises:
    def __array__(self, dtype=None, copy=None):
        raise ValueError("no array today")


class _Objects:
    def __array__(self, dtype=None, copy=None):
        return np.array([None, {}], dtype=object)


class _Sequence:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index >= 3:
            raise IndexError
        return float(index)


class _Index:
    def __index__(self):
        return 2


_OBJECTS = [
    object, _Raises, _Objects, _Sequence, _Index, dict, set, frozenset, bytearray,
    lambda: len, lambda: fe.Gaussian, lambda: ..., lambda: NotImplemented, lambda: slice(3),
    lambda: range(3), lambda: iter([0.0, 1.0]), lambda: iter([np.zeros(3), np.zeros(2)]),
    lambda: (np.zeros(4) for _ in range(3)), lambda: memoryview(b"abcd"), lambda: 1j,
    lambda: decimal.Decimal("1.5"), lambda: fractions.Fraction(1, 3),
    lambda: array.array("d", [0.0, 1.0]), lambda: collections.deque([0.0, 1.0]),
    lambda: np.ma.masked_invalid([0.0, np.nan]), lambda: np.broadcast_to(0.5, (2**18, 3)),
    lambda: np.zeros(2, "V3"), lambda: np.zeros(2, "i4,f8"), lambda: np.array([0.0, None], object),
    lambda: np.zeros((2, 3), np.longdouble), lambda: np.zeros((3, 0)),
    lambda: np.float64(2.0), lambda: np.int8(2), lambda: np.bool_(True),
    lambda: np.datetime64("2020-01-01"), lambda: np.longdouble(1.0), lambda: np.str_("auto"),
    lambda: np.random.default_rng(0), lambda: np.random.SeedSequence(1),
    lambda: np.random.RandomState(0), lambda: Path("missing.npy"), lambda: Path("."),
    lambda: pd.Series([0.0, 1.0, 2.0]), lambda: pd.Series(["a", "b"]),
    lambda: pd.DataFrame({"a": [0.0, 1.0], "b": [1.0, None]}), lambda: pd.Index([1, 2, 3]),
    lambda: pd.array([1.0, None], dtype="Float64"), lambda: pd.Categorical(["a", "b"]),
    lambda: xr.DataArray(np.zeros((4, 3)), dims=("draw", "x")), lambda: xr.Dataset({"a": 1.0}),
    lambda: fe.Gaussian([0.0], scale=1.0), lambda: fe.Categorical([0.5, 0.5]),
    lambda: fe.StudentT(3.0, [[0.0], [1.0]], scale=1.0),
    lambda: fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1.0]], scale=1.0)),
    lambda: fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0), fe.LogWeightAccumulator,
    lambda: build(fe.summarize, np.zeros((2, 30))),
]  # fmt: skip

# No number of draws between those that are quick and those that no machine holds.
_integers = st.integers(-3, 70) | st.sampled_from([2**45, 2**62, 2**63, 2**64, 10**40, -(2**63)])
# No slash: no path leads out of the test's folder.
_texts = st.text(st.characters(exclude_characters="/"), max_size=4)
_scalars = st.none() | st.booleans() | _integers | floats | _texts | st.binary(max_size=4)
_nested = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
anything = st.one_of(
    _scalars,
    _nested,
    st.tuples(_scalars, _scalars),
    st.dictionaries(_texts, _scalars, max_size=2),
    any_array,
    real_array,
    st.sampled_from(_OBJECTS).map(lambda make: make()),
)


@st.composite
def with_one_of_anything(draw, valid):
    """Valid keyword arguments, one of which may be replaced by anything."""
    given = dict(draw(valid))
    if given and draw(st.booleans()):
        given[draw(st.sampled_from(sorted(given)))] = draw(anything)
    return given


def keywords(optional=None, /, **required):
    """Strategy of keyword arguments."""
    return st.fixed_dictionaries(required, optional=optional or {})


# --- distributions and models -------------------------------------------------------------------

dims = st.integers(1, 3)
batches = st.sampled_from([(), (), (1,), (2,), (2, 1), (0,)])
_FAR = [1e-300, 1e-9, 1e9, 1e300, 1e-310, 1e150, 1e-150, 1e-308, 5e-324, LARGEST]
positive = st.floats(0.1, 3.0) | st.sampled_from(_FAR)


@st.composite
def _lower(draw, dim, batch=()):
    below = np.tril(draw(hnp.arrays(np.float64, (*batch, dim, dim), elements=ordinary)), -1)
    diagonal = draw(hnp.arrays(np.float64, (*batch, dim), elements=positive))
    return below + diagonal[..., None] * np.eye(dim)


@st.composite
def gaussian_arguments(draw, dim=None, batch=None, precisions=True):
    dim = draw(dims) if dim is None else dim
    batch = draw(batches) if batch is None else batch
    mean = draw(hnp.arrays(np.float64, (*batch, dim), elements=ordinary | finite))
    ways = ["scale", "scale", "scale_tril", "cov", *["precision"] * precisions]
    way = draw(st.sampled_from(ways))
    own = batch if draw(st.booleans()) else ()
    if way == "scale":
        value = draw(positive | hnp.arrays(np.float64, (*own, dim), elements=positive))
    else:
        value = draw(_lower(dim, own))
        if way in ("cov", "precision"):
            with np.errstate(all="ignore"):
                value = value @ np.swapaxes(value, -1, -2)
    return {"mean": mean, way: value}


@st.composite
def student_arguments(draw, dim=None, batch=None):
    given = draw(gaussian_arguments(dim, batch, precisions=False))
    df = st.floats(0.1, 40.0) | st.sampled_from([0.1, 1.0, 1e16, 1e300, LARGEST, np.inf])
    return {"df": draw(df | hnp.arrays(np.float64, given["mean"].shape[:-1], elements=df)), **given}


@st.composite
def probabilities(draw, count, batch=()):
    shares = st.floats(0.0, 1.0) | st.sampled_from([0.0, 1e-300, 5e-324, 1e-20, 1.0])
    values = draw(hnp.arrays(np.float64, (*batch, count), elements=shares))
    values[..., draw(st.integers(0, count - 1))] += 1.0
    # Now and then, what is none.
    unit = draw(st.sampled_from([*[1.0] * 9, 1e308]))
    return unit * (values / values.sum(axis=-1, keepdims=True))


@st.composite
def gaussians(draw, dim=None, batch=None):
    return build(fe.Gaussian, **draw(gaussian_arguments(dim, batch)))


@st.composite
def students(draw, dim=None, batch=None):
    return build(fe.StudentT, **draw(student_arguments(dim, batch)))


@st.composite
def mixture_arguments(draw, dim=None, batch=None, components=None):
    batch, count = draw(batches) if batch is None else batch, draw(st.integers(1, 3))
    kind = components or draw(st.sampled_from([gaussians, students]))
    own, parts = batch if draw(st.booleans()) else (), draw(kind(dim, (*batch, count)))
    if draw(st.integers(0, 3)) == 0:
        logits = draw(hnp.arrays(np.float64, (*own, count), elements=log_weight))
        return {"logits": logits, "components": parts}
    return {"weights": draw(probabilities(count, own)), "components": parts}


@st.composite
def mixtures(draw, dim=None, batch=None, components=None):
    return build(fe.Mixture, **draw(mixture_arguments(dim, batch, components)))


@st.composite
def fitted_mixtures(draw):
    """Objects with the attributes of a fitted mixture of scikit-learn."""
    kind = draw(st.sampled_from(["full", "tied", "diag", "spherical", "other"]))
    count, dim = draw(st.integers(1, 3)), draw(dims)
    shape = {"full": (count, dim, dim), "tied": (dim, dim), "diag": (count, dim)}.get(
        kind, (count,)
    )
    covariances = draw(hnp.arrays(np.float64, shape, elements=positive))
    if kind in ("full", "tied"):
        covariances = covariances * np.eye(dim)
    means = draw(hnp.arrays(np.float64, (count, dim), elements=finite))
    return SimpleNamespace(
        covariance_type=kind,
        weights_=draw(probabilities(count)),
        means_=means,
        covariances_=covariances,
    )


@st.composite
def categorical_arguments(draw, count=None):
    count = draw(st.integers(1, 3)) if count is None else count
    return {"probs": draw(probabilities(count, draw(batches)))}


@st.composite
def categoricals(draw, count=None):
    return build(fe.Categorical, **draw(categorical_arguments(count)))


@st.composite
def linear_arguments(draw, dim=None):
    dim, features = draw(dims) if dim is None else dim, draw(st.integers(1, 3))
    noises = positive | hnp.arrays(np.float64, features, elements=positive)
    given = {
        "x": draw(hnp.arrays(np.float64, (*draw(batches), features), elements=ordinary | finite)),
        "loadings": draw(hnp.arrays(np.float64, (features, dim), elements=ordinary | special)),
        "noise_cov": draw(noises | _lower(features).map(_squared)),
    }
    if draw(st.booleans()):
        given["offset"] = draw(ordinary | finite)
    if draw(st.booleans()):
        given["prior"] = draw(gaussians(dim, ()) | mixtures(dim, (), gaussians))
    return given


def _squared(factor):
    with np.errstate(all="ignore"):
        return factor @ factor.T


@st.composite
def linear_models(draw, dim=None):
    return build(fe.LinearGaussian, **draw(linear_arguments(dim)))


@st.composite
def mixture_model_arguments(draw):
    mixture = draw(mixtures(batch=()))
    shape = (*draw(batches), mixture.dim)
    return {"x": draw(hnp.arrays(np.float64, shape, elements=finite)), "mixture": mixture}


@st.composite
def mixture_models(draw):
    return build(fe.MixtureModel, **draw(mixture_model_arguments()))


@st.composite
def proposals_arguments(draw, dim=None):
    """Several q of one dimension, and now and then shares that are none."""
    dim = draw(dims) if dim is None else dim
    kinds = gaussians(dim, ()) | students(dim) | mixtures(dim, ())
    given = {"qs": draw(st.lists(kinds, min_size=1, max_size=3))}
    if draw(st.booleans()):
        given["shares"] = draw(probabilities(len(given["qs"])))
    return given


@st.composite
def proposals(draw, dim=None):
    return build(fe.Proposals, **draw(proposals_arguments(dim)))


@st.composite
def several(draw):
    """A model and several approximations of its dimension."""
    dim = draw(dims)
    model = draw(st.one_of(gaussians(dim), mixtures(dim), linear_models(dim)))
    qs = draw(proposals(dim))
    return {"model": model, "q": draw(st.sampled_from([qs, list(qs.qs)]))}


@st.composite
def pairs(draw):
    """A model and an approximation of one dimension, or of as many classes."""
    if draw(st.integers(0, 7)) == 0:
        model = draw(mixture_models())
        return {"model": model, "q": draw(categoricals(model.n_classes))}
    dim = draw(dims)
    model = draw(st.one_of(gaussians(dim), students(dim), mixtures(dim), linear_models(dim)))
    batch = draw(st.sampled_from([(), model.batch_shape]))
    q = draw(st.one_of(gaussians(dim, batch), students(dim, batch), mixtures(dim, batch)))
    return {"model": model, "q": q}


@st.composite
def points(draw, q):
    """Points for a log density: near, far, or at its location."""
    if isinstance(q, fe.Categorical):
        return draw(st.integers(0, q.probs.shape[-1] - 1)) + np.zeros((*q.batch_shape, 1), int)
    shape = (*draw(st.sampled_from([(), (3,), (0,)])), *q.batch_shape, q.dim)
    return draw(hnp.arrays(np.float64, shape, elements=finite))


# --- results and accumulators -------------------------------------------------------------------


def in_replicates(rows):
    """Rows and the same in another order, as two replicates."""
    rows = np.asarray(rows)
    return np.stack([rows, rows[..., ::-1]], axis=-2)


@st.composite
def estimates(draw):
    if draw(st.integers(0, 5)) == 0:
        rows = draw(log_weights().map(in_replicates))
        return build(fe.summarize, rows, pareto_k=draw(st.booleans()), replicates=2)
    if draw(st.booleans()):
        return build(
            fe.summarize,
            draw(log_weights()),
            pareto_k=draw(st.booleans()),
            rows=draw(st.sampled_from(["independent", "independent", "shared"])),
        )
    pair = draw(pairs())
    n_samples = None if isinstance(pair["model"], fe.MixtureModel) else draw(st.integers(1, 80))
    return build(fe.estimate, **pair, n_samples=n_samples, rng=0)


@st.composite
def comparable(draw):
    """Two estimates, often of the same data points."""
    rows = draw(log_weights())
    first, second = (build(fe.summarize, rows, pareto_k=draw(st.booleans())) for _ in range(2))
    return first, draw(st.just(second) | estimates())


@st.composite
def accumulators(draw, updated=None):
    sizes = draw(st.just((10, 100)) | st.lists(st.integers(1, 30), max_size=3))
    accumulator = build(
        fe.LogWeightAccumulator,
        sizes,
        draw(st.sampled_from([0, 50, 4096])),
        first_draw=draw(st.sampled_from([0, 0, 8192])),
    )
    if draw(st.booleans()) if updated is None else updated:
        build(accumulator.update, draw(log_weights()))
    return accumulator


@st.composite
def checkpoints(draw):
    """The path of a checkpoint in the current folder, whole or damaged."""
    path = Path("checkpoint.npz")
    build(draw(accumulators()).save, path)
    content = bytearray(path.read_bytes())
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del content[draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    return path
