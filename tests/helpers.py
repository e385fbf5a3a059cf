"""Helpers for several test files."""

import contextlib
import math
import sys
import warnings
from pathlib import Path

import mpmath
import numpy as np
from scipy.special import logsumexp

import fastelbo as fe
from fastelbo.kernels.draws.blocks import ZERO
from fastelbo.kernels.jit.compile import kernel
from fastelbo.models import plans
from fastelbo.models.protocol import Points

# For tests that are not about the warnings of an estimate.
IGNORE_DIAGNOSTICS = "ignore::fastelbo.errors.FastElboWarning"


@contextlib.contextmanager
def quiet():
    """Suppress warnings about an estimate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fe.errors.FastElboWarning)
        yield


def ulps(got, exact):
    """Distances in units in the last place of ``exact``."""
    return np.abs(got - exact) / np.spacing(np.abs(exact))


def bits(estimate):
    """The bits of every array of an estimate."""
    return {name: np.asarray(value).tobytes() for name, value in estimate.to_dict().items()}


def linear_gaussian(x=1.0):
    """z ~ N(0, 1), x | z ~ N(z, 1): posterior N(x/2, 1/2)."""
    return fe.LinearGaussian(np.reshape(x, (-1, 1)), [[1.0]], noise_cov=1.0)


def lognormal(variances):
    """A p and a q whose weights are log-normal, each with its relative variance."""
    means = np.sqrt(np.log1p(np.asarray(variances, dtype=float)))
    return fe.Gaussian(means[:, None], scale=1.0), fe.Gaussian([0.0], scale=1.0)


def elementwise(function):
    """A loop around one scalar function. LLVM vectorises it as it does in the blocks."""

    def run(x, out):
        for k in range(x.size):
            out[k] = function(x[k])

    compiled = kernel(run)

    def call(x):
        out = np.empty_like(x)
        compiled(x, out)
        return out

    return call


def plainly(function):
    """The same source as plain Python."""

    def call(x):
        with np.errstate(all="ignore"):
            number = float if x.dtype == np.float64 else x.dtype.type
            return np.array([function(number(value)) for value in x])

    return call


def errors(function, got, x):
    """Errors in ulp of the exact value, which has 40 more digits than a float."""
    with mpmath.workprec(200), np.errstate(over="ignore"):
        exact = [function(mpmath.mpf(float(value))) for value in x]
        rounded = np.array([float(value) for value in exact]).astype(got.dtype)
        infinite = np.isinf(rounded)
        np.testing.assert_array_equal(got[infinite], rounded[infinite])
        gaps = [
            float(abs(mpmath.mpf(float(g)) - e)) if math.isfinite(r) else 0.0
            for g, e, r in zip(got, exact, rounded, strict=True)
        ]
    with np.errstate(invalid="ignore"):
        return np.where(infinite, 0.0, np.array(gaps) / np.spacing(np.abs(rounded)))


def assert_single_precision(model, q, n_samples, **options):
    """Check the docstring's bound for all draws and log densities, none much narrower than q."""
    exact = fe.elbo_terms(model, q, n_samples, rng=1)
    got = fe.elbo_terms(model, q, n_samples, rng=1, precision="float32", **options)
    batch = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    plan = plans.plan(model, q, Points(batch))
    allowed = 0.0
    for name, term in zip(exact._fields, [plan.likelihood, plan.prior, plan.q], strict=True):
        a, b = (np.reshape(getattr(terms, name), (-1, n_samples)) for terms in (got, exact))
        if term.kind == ZERO:
            np.testing.assert_array_equal(a, 0.0)
            continue
        peak = logsumexp(term.density.log_const, axis=-1)[:, None]
        bound = 2e-6 * (10.0 + (peak - b))
        assert (np.abs(a - b) <= bound).all(), name
        assert not np.array_equal(a, b)
        allowed = allowed + bound
    difference = np.abs(got.log_weights - exact.log_weights).reshape(-1, n_samples)
    assert (difference <= allowed).all()


class Interruption:
    """Raises KeyboardInterrupt at the n-th line of the package that this thread executes."""

    def __init__(self, n, folder=Path(fe.__file__).parent):
        self.left, self.folder = n, str(folder)

    def _trace(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(self.folder):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self._trace

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, kind, *_):
        sys.settrace(self.before)
        return kind is KeyboardInterrupt
