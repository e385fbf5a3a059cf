"""New processes: times of an import, of compilation and of a first estimate."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

_ESTIMATE = """
import fastelbo as fe
model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
fe.estimate(model, fe.Gaussian([0.4], scale=0.7), rng=0)
"""
_DIGITS = """
import time
from fastelbo.demo import digits_approximations, digits_model
from fastelbo import estimate
model = digits_model(range({rows}))
q = digits_approximations(model)["wide"]
start = time.perf_counter()
estimate(model, q, n_samples=5120, rng=0)
print(time.perf_counter() - start)
"""


def _python(code: str, cache: str | None = None) -> Callable[[], str]:
    """A call that runs the code in a new process, with compiled kernels cached in that folder."""
    environment = dict(os.environ)
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    command = [sys.executable, "-W", "ignore", "-c", code]

    def run() -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    return run


@pytest.mark.parametrize("package", ["numpy", "numba", "fastelbo"])
def test_import(timed, benchmark, package):
    timed(_python(f"import {package}"), "start-up: import")
    benchmark.extra_info["what"] = f"import {package}"


def test_cold_compilation(timed, benchmark, small, tmp_path):
    """The digits estimate with an empty cache; the time inside the process is stored too."""
    # The small size uses the user's own cache, because compilation takes long.
    code, cache = _DIGITS.format(rows=3 if small else 1797), None if small else str(tmp_path)
    inside = timed(_python(code, cache), "start-up: cold compilation", rounds=1)
    benchmark.extra_info["what"] = "digits estimate, nothing compiled"
    benchmark.extra_info["inside_seconds"] = float(inside)


def test_first_estimate(timed, benchmark):
    """A small estimate in a new process, with the kernels in the cache."""
    timed(_python(_ESTIMATE), "start-up: first estimate")
    benchmark.extra_info["what"] = "import and a first small estimate, compiled before"
