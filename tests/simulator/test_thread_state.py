"""Each thread's sums of its own draws, against the state that a CPU makes from the draws."""

import numpy as np
import pytest
from test_device_arrays import rows_of_all_kinds
from test_parity import assert_close
from test_state import push

from fastelbo.kernels.cuda import device, thread_state
from fastelbo.kernels.cuda.block_state import SLOTS
from fastelbo.kernels.cuda.device import BLOCK_THREADS, TILE, TURNS, cuda, device_kernel
from fastelbo.kernels.state.state import (
    BAD,
    FIRST_BAD,
    LOG_LIKELIHOOD,
    LOG_RATIO,
    MAX,
    MIN,
    REST_HI,
    REST_LO,
    state_size,
)


@device_kernel
def fill_state(log_weight, log_likelihood, log_ratio, like, state):
    me = cuda.threadIdx.x
    slots = cuda.shared.array((SLOTS, BLOCK_THREADS), np.float64)
    sums = cuda.shared.array((thread_state.STORED, BLOCK_THREADS), np.float64)
    tile = cuda.shared.array(TILE, np.float64)
    terms = cuda.local.array((2, TURNS), np.float64)
    thread_state.open_sums(sums, tile)
    for first in range(0, log_weight.size, TILE):
        n = min(TILE, log_weight.size - first)
        for k in range(me, n, BLOCK_THREADS):
            tile[k] = log_weight[first + k]
            terms[0, k // BLOCK_THREADS], terms[1, k // BLOCK_THREADS] = (
                log_likelihood[first + k],
                log_ratio[first + k],
            )
        thread_state.push_draws(sums, tile, terms, first, n, like)
    share, likelihoods, ratios = thread_state.stored(sums)
    thread_state.set_weights(state, share, log_weight.size, like, slots)
    thread_state.set_term(state, LOG_LIKELIHOOD, likelihoods, slots)
    thread_state.set_term(state, LOG_RATIO, ratios, slots)


def state_of(log_weight, log_likelihood, log_ratio, dtype=np.float64):
    there = device.put(np.zeros(state_size(0)))
    arrays = map(device.put, (log_weight, log_likelihood, log_ratio, np.zeros(1, dtype)))
    device.launch(fill_state, 1, *arrays, there)
    return device.fetch(there)


def fields(state):
    """Fields that threads sum, and that do not depend on which of the largest weights is left out.

    The smallest log weight is set apart, by the kernel.
    """
    apart = (MIN, REST_HI, REST_LO)
    named = {f"field {k}": value for k, value in enumerate(state) if k not in apart}
    return named | {"rest": state[REST_HI] + state[REST_LO]}


@pytest.mark.parametrize("row", range(12))
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 5e-7)])
def test_draws_of_all_kinds(row, dtype, tolerance):
    # With float32, only the weights have single precision; the log weights are not rounded.
    log_weight = rows_of_all_kinds()[row]
    log_likelihood = np.random.default_rng(1).normal(-40.0, 3.0, log_weight.size)
    # Some terms are infinite, of weight 0.
    log_likelihood[::41] = -np.inf
    log_prior = np.random.default_rng(2).normal(size=log_weight.size)
    log_q = log_prior + np.linspace(-1.0, 1.0, log_weight.size)
    expected = push(np.array([log_likelihood, log_prior, log_q]), sizes=[])
    weights = push(
        np.array([log_weight, np.zeros_like(log_weight), np.zeros_like(log_weight)]), sizes=[]
    )
    expected[:LOG_LIKELIHOOD] = weights[:LOG_LIKELIHOOD]
    got = state_of(log_weight, log_likelihood, log_q - log_prior, dtype)
    assert_close(fields(got), fields(expected), tolerance)


@pytest.mark.parametrize("places", [[5], [290, 3], [31, 32, 63], [299]])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_counted(value, places):
    x = np.random.default_rng(0).normal(size=300)
    x[places] = value
    state = state_of(x, x, x)
    assert state[BAD] == len(places)
    assert state[FIRST_BAD] == min(places)
    assert state[MAX] == x[np.isfinite(x)].max()
