"""Mixed load from eight threads for a while: every answer is its serial one, and memory is flat.

FASTELBO_SOAK_SECONDS=1200 python -m pytest -m soak
"""

import os
import random
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from public_api import leaves

import fastelbo as fe
from fastelbo.kernels.draws.blocks import CHUNK

SECONDS = float(os.environ.get("FASTELBO_SOAK_SECONDS", "30"))
THREADS = 8
# Memory is compared from this share of the time on: before, threads start and heaps grow.
WARM = 0.4
MOST_GROWTH = 1.05
STATM = Path("/proc/self/statm")

WEIGHTS = np.random.default_rng(0).standard_t(4, size=(4, 2 * CHUNK + 100))
LONG = np.random.default_rng(1).normal(size=(2, 300_000))
Q = fe.Gaussian(np.full((5, 3), 0.1), scale=1.2)
MODEL = fe.LinearGaussian(
    np.random.default_rng(2).normal(size=(5, 4)),
    np.random.default_rng(3).normal(size=(4, 3)),
    noise_cov=0.5,
)
SINGLE = fe.Gaussian(np.ones(2), cov=[[1.0, 0.3], [0.3, 2.0]])


def banana(z):
    return -0.5 * z[0] ** 2 - 2.0 * (z[1] - z[0] ** 2) ** 2


OWN = fe.Model(log_joint=banana, dim=2)


def accumulate():
    accumulator = fe.LogWeightAccumulator((10,), 200)
    for piece in np.array_split(WEIGHTS, 7, axis=1):
        accumulator.update(piece)
    return accumulator.result()


# Calls of a few milliseconds each, of kernels on one thread and on several.
CALLS = {
    "estimate": lambda: fe.estimate(MODEL, Q, 20_000, rng=0),
    "float32": lambda: fe.estimate(MODEL, Q, 20_000, rng=0, precision="float32"),
    "sobol": lambda: fe.estimate(MODEL, Q, 2**12, rng=0, sampler="sobol"),
    "own model": lambda: fe.estimate(OWN, fe.Gaussian([0.0, 1.0], scale=1.5), 30_000, rng=0),
    "terms": lambda: fe.elbo_terms(MODEL, Q, 3000, rng=0),
    "expectation": lambda: fe.expectation("mean", MODEL, Q, n_samples=3000, rng=0),
    "summarize": lambda: fe.summarize(WEIGHTS),
    "psis": lambda: fe.psis(WEIGHTS),
    "loo": lambda: fe.loo(WEIGHTS[:, :3000].T - 2.0),
    "logsumexp": lambda: fe.logsumexp(LONG, axis=1),
    "short logsumexp": lambda: fe.logsumexp(WEIGHTS[:, :50], axis=1),
    "iw_elbo": lambda: fe.iw_elbo(WEIGHTS, 5),
    "resample": lambda: fe.resample(WEIGHTS, 500, rng=0),
    "elbo_gradient": lambda: fe.elbo_gradient(MODEL, Q, 5000, rng=0),
    "adapt": lambda: fe.adapt(SINGLE, target_se=0.05, round_size=500, rng=0).estimate,
    "fit": lambda: fe.fit(MODEL, max_iter=3, n_eval=500, rng=0).q.mean,
    "own fit": lambda: fe.fit(OWN, max_iter=5, n_eval=500, rng=0).q.mean,
    "accumulator": accumulate,
}


def answer(name):
    found = [part.tobytes() for _, part in leaves(CALLS[name]())]
    assert found
    return found


def resident():
    """Pages in memory, or None where the system does not say."""
    return int(STATM.read_text().split()[1]) if STATM.exists() else None


def growth(pages):
    """How much larger the median of the last third is than that of the first."""
    third = len(pages) // 3
    return np.median(pages[-third:]) / np.median(pages[:third])


@pytest.mark.soak
def test_eight_threads_give_the_serial_answers_in_flat_memory():
    stop, wrong, done = threading.Event(), [], []

    def work(seed):
        chosen = random.Random(seed)
        while not stop.is_set():
            name = chosen.choice(list(CALLS))
            try:
                if answer(name) != serial[name]:
                    wrong.append(f"{name} has another answer")
            except BaseException as error:
                wrong.append(f"{name} raises {error!r}")
            done.append(name)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fe.errors.FastElboWarning)
        serial = {name: answer(name) for name in CALLS}
        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
        for worker in workers:
            worker.start()
        start, pages = time.monotonic(), []
        try:
            while time.monotonic() - start < SECONDS and not wrong:
                if time.monotonic() - start > WARM * SECONDS:
                    pages.append(resident())
                time.sleep(0.2)
        finally:
            stop.set()
            for worker in workers:
                worker.join()
    assert wrong == []
    assert set(done) == set(CALLS)
    print(f"{len(done)} calls")
    if None not in pages:
        print(f"memory grew by {growth(pages):.4f}, to {pages[-1] * 4096 / 2**20:.0f} MB")
        assert growth(pages) < MOST_GROWTH
