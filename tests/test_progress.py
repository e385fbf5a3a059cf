"""The bar of a summary: it counts every draw, and does not change the result."""

import sys

import numpy as np
import pytest
from helpers import bits

import fastelbo as fe


class Bar:
    """Stands in for tqdm's bar, and adds up what it is told."""

    def __init__(self, total, **_):
        Bar.total, Bar.done = total, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, count):
        Bar.done += count


# A row of many chunks, many short rows, and the draws on the first axis.
@pytest.mark.parametrize(("shape", "axis"), [((1, 100_001), -1), ((70, 3, 300), -1), ((999, 4), 0)])
def test_summarize_counts_every_draw(shape, axis, monkeypatch):
    log_weights = 0.1 * np.random.default_rng(0).random(shape)
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    est = fe.summarize(log_weights, axis, progress=True)
    assert Bar.done == Bar.total == log_weights.size
    assert bits(est) == bits(fe.summarize(log_weights, axis))


def test_summarize_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.warns(fe.errors.FastElboWarning, match="tqdm is not installed") as caught:
        fe.summarize(0.1 * np.random.default_rng(0).random(1000), progress=True)
    assert caught[0].filename == __file__
