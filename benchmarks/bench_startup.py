"""New processes: times of an import, of compilation, of a first estimate and a user's model."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

_ESTIMATE = """
import fastelbo as fe
model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
fe.estimate(model, fe.Gaussian([0.4], scale=0.7), rng=0)
"""
# The seconds of the estimate, and those of the compilation of each kernel, that of the model too.
_DIGITS = """
import json, time
from numba.core import event
from fastelbo.demo import digits_approximations, digits_model
from fastelbo import estimate
with event.install_recorder("numba:compile") as compiled:
    model = digits_model(range({rows}))
    q = digits_approximations(model)["wide"]
    start = time.perf_counter()
    estimate(model, q, n_samples=5120, rng=0)
    seconds = time.perf_counter() - start
kernels, running = {{}}, []
for now, each in compiled.buffer:
    if each.is_start:
        running.append(now)
    else:
        began = running.pop()
        if not running:
            kernels[each.data["dispatcher"].py_func.__name__] = round(now - began, 2)
print(json.dumps([seconds, kernels]))
"""
# A user's model, and its first estimate, after one of a built-in model in the same process.
_USERS_MODEL = """
import time
import numpy as np
import fastelbo as fe
import own
q = fe.Gaussian([0.0, 0.0], scale=1.0)
fe.estimate(fe.LinearGaussian([[1.0]], [[1.0, 1.0]], noise_cov=1.0), q, rng=0)
x = np.linspace(-1.0, 1.0, 50)
start = time.perf_counter()
model = fe.Model(log_joint=own.log_joint, dim=2, params=(x, 1.0 * (x > 0.25)))
est = fe.estimate(model, q, rng=0)
print(time.perf_counter() - start)
assert np.isfinite(est.log_evidence)
"""
_USERS_FUNCTIONS = {
    "loops": """
import math
def log_joint(z, x, y):
    total = -{number} * (z[0] ** 2 + z[1] ** 2)
    for i in range(x.shape[0]):
        eta = z[0] + z[1] * x[i]
        total += y[i] * eta - (max(eta, 0.0) + math.log1p(math.exp(-abs(eta))))
    return total
""",
    "NumPy": """
import numpy as np
def log_joint(z, x, y):
    eta = z[0] + z[1] * x
    return -{number} * np.sum(z * z) + np.dot(y, eta) - np.sum(np.logaddexp(0.0, eta))
""",
}


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
    printed = timed(_python(code, cache), "start-up: cold compilation", rounds=1)
    seconds, kernels = json.loads(printed)
    benchmark.extra_info["what"] = "digits estimate, nothing compiled"
    benchmark.extra_info["inside_seconds"] = seconds
    benchmark.extra_info["kernels"] = kernels


def test_first_estimate(timed, benchmark):
    """A small estimate in a new process, with the kernels in the cache."""
    timed(_python(_ESTIMATE), "start-up: first estimate")
    benchmark.extra_info["what"] = "import and a first small estimate, compiled before"


@pytest.mark.parametrize("style", _USERS_FUNCTIONS)
@pytest.mark.parametrize("state", ["new", "compiled before"])
def test_a_users_model(timed, benchmark, small, tmp_path, style, state):
    """The time of the model and its first estimate, inside the process."""
    folder = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.dont_write_bytecode = True"
    run = _python(folder + _USERS_MODEL)
    found: list[float] = []

    def call(number: float) -> None:
        (tmp_path / "own.py").write_text(_USERS_FUNCTIONS[style].format(number=number))
        found.append(float(run()))

    if state == "new":  # a constant that no function had before
        timed(lambda: call(time.time()), "start-up: a user's model", rounds=1 if small else 5)
    else:
        call(0.5)
        found.clear()
        timed(lambda: call(0.5), "start-up: a user's model", rounds=1 if small else 5)
    benchmark.extra_info["what"] = f"{state}: a user's model in {style}, after another estimate"
    benchmark.extra_info["seconds"] = statistics.median(found)
    assert len(found) == (1 if small else 5)
