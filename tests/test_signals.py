"""Ctrl-C at random times, from outside, to a process whose accumulator changes in a loop."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

# Each round does one thing, which up to three interrupts may end, and then looks at what it left.
# The lines that count and compare are never interrupted.
LOOP = """
import collections, copy, random, signal, sys, time, warnings
from pathlib import Path
import numpy as np
import fastelbo as fe
from fastelbo.kernels.jit import threads

warnings.simplefilter("ignore")
seconds, seed, path = float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
# Short calls of NumPy, too, are waited for.
threads._LONG_ARRAY = 1000
left = 0

def interrupt(*_):
    global left
    if left > 0:
        left -= 1
        raise KeyboardInterrupt

def bits(values):
    return [np.asarray(value).tobytes() for value in values]

def content(accumulator):
    result = accumulator.result().to_dict()
    return accumulator.n_samples, accumulator.exact, tuple(result), bits(result.values())

rng = np.random.default_rng(seed)
weights = rng.standard_t(3, size=(3, 40_000))
p, q = fe.Gaussian(np.zeros(3), scale=1.0), fe.Gaussian(np.ones(3), scale=1.0)
start = fe.LogWeightAccumulator((10, 300), 200)
start.update(weights[:, :20_000])
others = []
for first in (0, 8192 * 2):
    other = fe.LogWeightAccumulator((10, 300), 200, first_draw=first)
    other.update(weights[:, first:])
    others.append(other)

def estimates():
    return bits(fe.estimate(p, q, 30_000, rng=0).to_dict().values())

def bounds():
    chosen = fe.resample(weights, 5000, "residual", rng=1)
    return bits([*fe.jackknife(weights, 2), *fe.cubo(weights), chosen])

def update():
    accumulator.update(piece)

def merge():
    accumulator.merge(other)

def save():
    accumulator.save(path)

def load():
    return content(fe.LogWeightAccumulator.load(path))

pick = random.Random(seed)
signal.signal(signal.SIGINT, interrupt)
known = {function: function() for function in (estimates, bounds)}
accumulator = copy.copy(start)
save()
saved = content(accumulator)
counts = collections.Counter()
print("ready", flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    if accumulator.n_samples > 200_000:
        accumulator = copy.copy(start)
    action = pick.choice([update, merge, save, load, estimates, bounds])
    lo = pick.randrange(30_000)
    piece = weights[:, lo : lo + pick.choice([100, 10_000])]
    other = pick.choice(others)
    before, after, mine = content(accumulator), None, accumulator
    if action in (update, merge):
        accumulator = copy.copy(mine)
        action()
        after, accumulator = content(accumulator), mine
    came, outcome = None, "done"
    try:
        left = pick.randint(1, 3)
        came = action()
        left = 0
    except KeyboardInterrupt:
        outcome = "interrupted"
    except RuntimeError as error:
        # Two interrupts of one wait: Condition.wait of Python raises this in place of the second.
        assert str(error) == "release unlocked lock", error
        assert isinstance(error.__context__, KeyboardInterrupt)
        outcome = "interrupted"
    while left:
        try:
            left = 0
        except KeyboardInterrupt:
            pass
    counts[outcome, action.__name__] += 1
    now = content(accumulator)
    if action in (update, merge):
        assert now == after or (outcome == "interrupted" and now == before), action
    else:
        assert now == before, action
    if action is save:
        file = load()
        assert file == before or (outcome == "interrupted" and file == saved)
        saved = file
    if action is load:
        assert load() == saved and came in ((saved,) if outcome == "done" else (None, saved))
    if action in known:
        assert came == known[action] or (outcome == "interrupted" and came is None)
        assert action() == known[action]
for (outcome, name), count in counts.items():
    print(outcome, name, count)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
def test_interrupts_at_random_times_leave_the_old_state_or_the_new(tmp_path):
    seconds, seed = 60, 0
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(seconds), str(seed), str(tmp_path / "checkpoint")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait = random.Random(seed)
    try:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(wait.expovariate(100.0))
        # At the end it waits for its threads, which have all been told to end.
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    # An interrupt after the last round may end the process, on its way out.
    counts = dict(line.rsplit(maxsplit=1) for line in printed.splitlines())
    assert "AssertionError" not in errors
    assert process.returncode in (0, -signal.SIGINT), errors
    assert any(key.startswith("interrupted") for key in counts), errors
    names = {"update", "merge", "save", "load", "estimates", "bounds"}
    assert {key.split()[1] for key in counts} == names
