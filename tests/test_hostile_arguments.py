"""Every argument of every public function: bad values raise errors that name the argument."""

import inspect
import pathlib

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS
from public_calls import ACCUMULATOR, CALLS, ESTIMATE, MIXTURE, P, Q, X, content

import fastelbo as fe
from fastelbo import errors

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

CALLS = CALLS | {
    "LogWeightAccumulator.save": (ACCUMULATOR.save, {"path": "checkpoint"}),
    "LogWeightAccumulator.load": (fe.LogWeightAccumulator.load, {"path": "checkpoint"}),
    "Estimate.plot": (ESTIMATE.plot, {"kind": "bounds"}),
}


class Hostile:
    """A value whose text is an error, too."""

    def __repr__(self):
        raise RuntimeError("no text")


VALUES = {
    "text": "x",
    "long text": "x" * 10_000,
    "bytes": b"x",
    "True": True,
    "NumPy's True": np.True_,
    "float": 1.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "-1": -1,
    "0": 0,
    "complex": 2.0 + 3.0j,
    "empty list": [],
    "list of texts": ["a", "b"],
    "long list": list(range(10_000)),
    "dictionary": {},
    "set": {"x"},
    "object": object(),
    "hostile": Hostile(),
    "class": float,
    "function": len,
    "slice": slice(None),
    "array": np.array([1, 2]),
    "array of floats": np.array([[0.5, np.nan]]),
    "array of texts": np.array(["x", "y"]),
    "array of objects": np.array([object()]),
    "empty array": np.zeros(0),
    "0-d text": np.array("x"),
    "0-d float": np.array(1.5),
    "0-d bool": np.array(True),
    "date": np.datetime64(5, "ns"),
    "array of complex": np.zeros(3, complex),
    "masked": np.ma.masked_array([1.0, 2.0], [True, False]),
    "Generator class": np.random.Generator,
    "path": pathlib.Path("/no/such/file"),
}

# Arguments that are passed on to other libraries as they are.
PASSED_ON = {"ax", "options"}
ARGUMENTS = [
    (call, name)
    for call, (function, _) in CALLS.items()
    for name in inspect.signature(function).parameters
    if name not in PASSED_ON
]


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ACCUMULATOR.save("checkpoint")


@pytest.mark.parametrize(("call", "name"), ARGUMENTS)
def test_bad_values_are_named(call, name):
    function, given = CALLS[call]
    if name != "r_eff":
        # Its shape is that of the data points.
        given = {key: value for key, value in given.items() if key != "r_eff"}
    for kind, value in VALUES.items():
        error = error_of(function, given | {name: value})
        assert error is not None or kind not in ("object", "hostile"), f"{kind} is taken"
        if isinstance(error, OSError):
            # Files that are not there, checkpoints that cannot be written.
            texts = value if isinstance(value, list) else [value]
            assert all(isinstance(each, (str, pathlib.Path)) for each in texts), (
                f"{kind}: {error!r}"
            )
        elif error is not None:
            assert isinstance(error, errors.FastElboError), f"{kind}: {error!r}"
            assert isinstance(error, (ValueError, TypeError)), f"{kind}: {error!r}"
            message = str(error)
            assert name in message.replace("log weights", "log_weights"), f"{kind}: {message}"
            assert len(message) < 500, f"{kind}: {message}"


def error_of(function, arguments):
    try:
        function(**arguments)
    except Exception as error:
        return error
    return None


# Values that a user may well pass, and what they stand for.
SAME = {
    "int": (3, [np.int64(3), np.uint8(3), np.array(3)]),
    "flag": (True, [np.True_, np.array(True)]),
    "number": (0.5, [np.float32(0.5), np.array(0.5), np.float64(0.5)]),
}
PLACES = {
    "int": [
        ("estimate", "n_samples"),
        ("estimate", "n_threads"),
        ("estimate", "first_index"),
        ("elbo_terms", "n_samples"),
        ("log_weights", "n_samples"),
        ("expectation", "n_samples"),
        ("importance_resample", "n"),
        ("iw_elbo", "k"),
        ("resample", "n"),
        ("Gaussian.sample", "n"),
        ("Categorical.sample", "n"),
        ("Estimate.summary", "max_rows"),
        ("Supplied", "dim"),
    ],
    "flag": [
        ("estimate", "pareto_k"),
        ("estimate", "analytic_kl"),
        ("summarize", "pareto_k"),
        ("estimate", "moments"),
        ("estimate, components", "responsibilities"),
        ("importance_resample", "replace"),
        ("resample", "replace"),
        ("logsumexp", "keepdims"),
        ("logsumexp", "return_sign"),
        ("logmeanexp", "keepdims"),
    ],
    "number": [("renyi_bound", "alpha"), ("Total.confidence_interval", "confidence_level")],
}


OF_COMPONENTS = fe.MixtureModel(X[:, :1], MIXTURE)
# A call that takes few of the arguments of its function.
SUMMED = {
    "estimate, components": (
        fe.estimate, {"model": OF_COMPONENTS, "q": OF_COMPONENTS.exact_posterior()},
    )
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "call", "name"),
    [(kind, *place) for kind, places in PLACES.items() for place in places],
)
def test_scalars_of_numpy_are_taken(kind, call, name):
    function, given = (CALLS | SUMMED)[call]
    plain, others = SAME[kind]
    want = content(function(**(given | {name: plain})))
    for other in others:
        np.testing.assert_equal(content(function(**(given | {name: other}))), want)


def test_numbers_that_are_too_large():
    for call, name in (("estimate", "n_samples"), ("Gaussian.sample", "n"), ("estimate", "rng")):
        function, given = CALLS[call]
        if name == "rng":
            function(**(given | {name: 2**100}))
            continue
        with pytest.raises(OverflowError, match=f"{name} must be at most"):
            function(**(given | {name: 2**100}))


def test_merging_what_is_no_accumulator():
    accumulator = fe.LogWeightAccumulator()
    for other in ("x", None, P, fe.LogWeightAccumulator):
        with pytest.raises(errors.InvalidInputError, match="other must be a LogWeightAccumulator"):
            accumulator.merge(other)


@pytest.mark.parametrize("axis", [[], (), [0, 1], "x", 1.5, True, np.True_, 5, np.zeros(2), {}])
@pytest.mark.parametrize("function", [fe.psis, fe.ess, fe.summarize, fe.pareto_k, fe.loo, fe.cubo])
def test_axes_that_are_none(function, axis):
    with pytest.raises(errors.InvalidInputError, match="axis must"):
        function(np.zeros((30, 30)), axis=axis)


def test_flags_that_were_meant_as_numbers():
    with pytest.raises(errors.InvalidInputError, match=r"pareto_k must be True or False, got 0\.7"):
        fe.estimate(P, Q, pareto_k=0.7)


@pytest.mark.parametrize(
    "bad",
    [np.complex64(1), np.array(0.5 + 0j), np.timedelta64(1, "s"), np.bool_(True), np.str_("1")],
)
def test_scalars_of_numpy_that_are_no_real_numbers_are_refused(bad):
    rows = np.zeros((2, 30))
    total = fe.summarize(np.arange(60.0).reshape(2, 30) / 60.0).total()
    for name, call in (
        ("n", lambda: fe.cubo(rows, bad)),
        ("alpha", lambda: fe.renyi_bound(rows, bad)),
        ("threshold", lambda: fe.plotting.plot_pareto_k([0.1], bad)),
        ("confidence_level", lambda: total.confidence_interval("elbo", bad)),
    ):
        with pytest.raises(fe.errors.InvalidInputError, match=f"{name} must be a real number"):
            call()
