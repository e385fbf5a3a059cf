"""What several test files need."""

import contextlib
import warnings

import numpy as np

import fastelbo as fe

# Where the warnings about an estimate are not the point of a test.
IGNORE_DIAGNOSTICS = "ignore::fastelbo.errors.FastElboWarning"


@contextlib.contextmanager
def quiet():
    """No warnings about an estimate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fe.errors.FastElboWarning)
        yield


def ulps(got, exact):
    """Distances in units in the last place of ``exact``."""
    return np.abs(got - exact) / np.spacing(np.abs(exact))


def bits(estimate):
    """Every array of an estimate, bit by bit."""
    return {name: np.asarray(value).tobytes() for name, value in estimate.to_dict().items()}


def linear_gaussian(x=1.0):
    """z ~ N(0, 1), x | z ~ N(z, 1): posterior N(x/2, 1/2)."""
    return fe.LinearGaussian(np.reshape(x, (-1, 1)), [[1.0]], noise_cov=1.0)
