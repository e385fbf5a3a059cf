"""Runs that are killed, with SIGKILL at random moments, go on to the bits of undisturbed ones.

FASTELBO_KILLS is how often. Of seconds that pass between two writes, a tenth are those of a write.
"""

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import bits

from fastelbo.engine.checkpoints import ESTIMATE, read

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="no SIGKILL"),
]

KILLS = int(os.environ.get("FASTELBO_KILLS", "6"))
RUN = """
import numpy as np
import fastelbo as fe
from fastelbo.kernels.cpu import launch
launch._SLICE_SECONDS = 0.02

def run(path, n=400_000):
    model = fe.LinearGaussian(np.eye(24, 8), np.eye(8), noise_cov=0.5)
    q = fe.Gaussian(np.zeros(8), scale=0.8)
    return fe.estimate(
        model, q, n, rng=5, checkpoint=path, checkpoint_every=0.03
    )
"""
CHILD = (
    RUN
    + """
import sys
# Kernels are loaded before.
run(None, 10_000)
print("ready", flush=True)
run(sys.argv[1])
print("done", flush=True)
"""
)
names = {}
exec(RUN, names)


def killed_after(seconds, path):
    """Begin the run in another process and kill it; whether it was killed in time."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(seconds)
    finally:
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
    return rest == ""


def test_kills_at_random_moments(tmp_path, monkeypatch):
    monkeypatch.setattr("fastelbo.kernels.cpu.launch._SLICE_SECONDS", 0.02)
    expected = bits(names["run"](None))
    start = time.perf_counter()
    assert bits(names["run"](tmp_path / "whole")) == expected
    lasts = time.perf_counter() - start
    rng, killed, begun, torn = np.random.default_rng(), 0, 0, 0
    # A run may end before it is killed, or be killed before its first write.
    for i in itertools.count():
        if (killed >= KILLS and begun > 0) or i == 10 * KILLS:
            break
        folder = tmp_path / str(i)
        folder.mkdir()
        path = folder / "run.ckpt"
        # Some are killed twice.
        for _ in range(1 + (i % 3 == 2)):
            killed += killed_after(float(rng.uniform(0.0, lasts)), path)
            torn += any(each.name.startswith(".") for each in folder.iterdir())
        if path.exists():
            facts, _ = read(path, ESTIMATE)
            lo, _, step = facts["position"]
            begun += lo + step > 0 and lo < 24
        assert bits(names["run"](path)) == expected
        assert {each.name for each in folder.iterdir()} <= {"run.ckpt", "run.ckpt.previous"}
    print(f"{killed} killed, {torn} of them in a write; {begun} runs went on from a checkpoint")
    assert killed >= KILLS
    assert begun > 0
