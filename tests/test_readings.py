"""What is read from states, against the same formulas in NumPy: the same bits."""

import numpy as np
import pytest

from fastelbo.engine.readings import make_readings, read
from fastelbo.kernels.state import groups
from fastelbo.kernels.state.state import (
    BAD,
    CO_MOMENT,
    COUNT,
    FINITE,
    FIRST_BAD,
    GROUPS,
    LOG_LIKELIHOOD,
    LOG_RATIO,
    LOG_WEIGHT,
    M2,
    M2_WEIGHT,
    MAX,
    MIN,
    REST_HI,
    REST_LO,
    SCALE,
    SUM_HI,
    SUM_LO,
    TERM_SIZE,
    state_size,
)

LARGEST = np.finfo(np.float64).max
SIZES = 3


def mean(fields, offset, infinite):
    finite = fields[offset + FINITE]
    value = (fields[offset + SUM_HI] + fields[offset + SUM_LO]) / finite / fields[offset + SCALE]
    return np.where(finite == fields[COUNT], np.clip(value, -LARGEST, LARGEST), infinite)


def error(fields, offset):
    n = fields[COUNT]
    se = np.sqrt(fields[offset + M2] / (n - 1.0) / n) / fields[offset + SCALE]
    return np.where(fields[offset + FINITE] == n, se, np.nan)


@np.errstate(all="ignore")
def plain(states):
    """All quantities of states, which have one row per data point."""
    fields = np.ascontiguousarray(states.T)
    n, finite = fields[COUNT], fields[LOG_WEIGHT + FINITE]
    zero, some = n - finite, finite > 0
    rest = fields[REST_HI] + fields[REST_LO]
    total = 1.0 + rest
    m2 = fields[M2_WEIGHT] + (total / finite) ** 2 * (finite * zero / n)
    mean_weight = total / n
    variance = m2 / (n - 1.0) / mean_weight**2
    ess = np.clip(n / (1.0 + m2 / n / mean_weight**2), 1.0, np.maximum(finite, 1.0))
    scale, second = fields[LOG_WEIGHT + SCALE], fields[LOG_WEIGHT + M2]
    gap_variance = (
        variance * scale * scale
        + second / (n - 1.0)
        - 2.0 * fields[CO_MOMENT] * scale / (n - 1.0) / mean_weight
    )
    gap_se = np.sqrt(np.maximum(gap_variance, 0.0) / n) / scale
    centre = (fields[LOG_WEIGHT + SUM_HI] + fields[LOG_WEIGHT + SUM_LO]) / finite
    farthest = np.abs(fields[[MIN, MAX]] * scale - centre).max(axis=0)
    value = fields[MAX] + (np.log1p(rest) - np.log(n))
    own = fields[GROUPS:].reshape(SIZES, groups.GROUP_SIZE, -1).transpose(1, 2, 0)
    closed, of_closed = own[groups.CLOSED], own[groups.CLOSED_SCALE]
    whole = (own[groups.CLOSED_ZERO] == 0) & (closed > 0)
    bound = np.clip(own[groups.CLOSED_MEAN] / of_closed, -LARGEST, LARGEST)
    bound_se = np.sqrt(own[groups.CLOSED_M2] / (closed - 1.0) / closed) / of_closed
    return {
        "log_evidence": np.where(some, value, -np.inf),
        "elbo": mean(fields, LOG_WEIGHT, -np.inf),
        "expected_log_likelihood": mean(fields, LOG_LIKELIHOOD, -np.inf),
        "kl": mean(fields, LOG_RATIO, np.inf),
        "relative_variance": np.where(some, variance, np.nan),
        "ess": np.where(some, ess, 0.0),
        "elbo_se": error(fields, LOG_WEIGHT),
        "expected_log_likelihood_se": error(fields, LOG_LIKELIHOOD),
        "kl_se": error(fields, LOG_RATIO),
        "jensen_gap_se": np.where(zero == 0, gap_se, np.nan),
        "n_zero": zero,
        "largest_share": farthest**2 / second,
        "n_bad": fields[BAD],
        "first_bad": fields[FIRST_BAD],
        "iw_value": np.where(whole, bound, np.where(closed > 0, -np.inf, np.nan)),
        "iw_se": np.where(whole, bound_se, np.nan),
    }


def random_states(points, rng):
    """States in the ranges of their fields, and edge values among them."""
    states = rng.normal(size=(points, state_size(SIZES)))
    n = rng.integers(1, 50, points).astype(float)
    finite = np.where(rng.random(points) < 0.3, np.floor(n * rng.random(points)), n)
    states[:, COUNT], states[:, BAD] = n, rng.random(points) < 0.1
    states[:, REST_HI] = rng.random(points) * n
    states[:, REST_LO] *= 1e-17
    states[:, MIN] = states[:, MAX] - rng.exponential(size=points)
    states[:, M2_WEIGHT] = np.abs(states[:, M2_WEIGHT])
    for offset in (LOG_WEIGHT, LOG_LIKELIHOOD, LOG_RATIO):
        states[:, offset + FINITE] = np.where(rng.random(points) < 0.8, finite, n)
        states[:, offset + M2] = np.abs(states[:, offset + M2])
        states[:, offset + SCALE] = np.where(rng.random(points) < 0.1, 1e-160, 1.0)
    states[:, LOG_WEIGHT + FINITE] = finite
    own = states[:, GROUPS:].reshape(points, SIZES, groups.GROUP_SIZE)
    own[..., groups.CLOSED] = rng.integers(0, 4, (points, SIZES))
    own[..., groups.CLOSED_ZERO] = rng.random((points, SIZES)) < 0.2
    own[..., groups.CLOSED_M2] = np.abs(own[..., groups.CLOSED_M2])
    own[..., groups.CLOSED_SCALE] = 1.0
    edge = rng.random(states.shape) < 0.01
    edge[:, LOG_WEIGHT + FINITE] = edge[:, MAX] = False
    states[edge] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, LARGEST, 5e-324], edge.sum())
    return states


@np.errstate(divide="ignore")
@pytest.mark.parametrize(("points", "threads"), [(0, None), (1, None), (40, 1), (9001, 2)])
def test_same_bits_as_numpy(points, threads):
    assert GROUPS == LOG_RATIO + TERM_SIZE
    states = random_states(points, np.random.default_rng(points))
    got = make_readings(points, SIZES)
    read(states, got, threads)
    for name, want in plain(states).items():
        value = getattr(got, name)
        np.testing.assert_array_equal(value, want, err_msg=name)
        # A zero has its sign, too.
        np.testing.assert_array_equal(1.0 / value[want == 0.0], 1.0 / want[want == 0.0])
