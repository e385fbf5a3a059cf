"""Sharing parts between threads."""

import threading

import numpy as np
import pytest

from fastelbo.kernels.cpu.launch import launch
from fastelbo.kernels.jit.compile import block
from fastelbo.kernels.jit.threads import most_threads, run_on_threads


@block
def count_parts(part, parts, taken):
    # Parts have very different sizes, so that threads overtake one another.
    for _ in range(1 + (part * 7919) % 1000):
        taken[part] += 1


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_each_part_is_taken_once(n_threads):
    parts = 8 * min(n_threads, most_threads())
    for _ in range(200):
        taken = np.zeros(8 * n_threads, np.int64)
        launch(count_parts, taken, n_threads=n_threads)
        expected = 1 + (np.arange(len(taken)) * 7919) % 1000
        np.testing.assert_array_equal(taken[:parts], expected[:parts])
        assert not taken[parts:].any()


def test_an_error_in_any_thread_is_raised():
    caller = threading.get_ident()
    met = threading.Barrier(2)

    def fail_elsewhere():
        met.wait(timeout=30)
        if threading.get_ident() != caller:
            raise ZeroDivisionError

    if most_threads() < 2:
        pytest.skip("one thread only")
    with pytest.raises(ZeroDivisionError):
        run_on_threads(2, fail_elsewhere)


def test_an_error_here_waits_for_the_others():
    if most_threads() < 2:
        pytest.skip("one thread only")
    caller, met, done = threading.get_ident(), threading.Barrier(2), threading.Event()

    def fail_here():
        met.wait(timeout=30)
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        threading.Event().wait(0.2)
        done.set()

    with pytest.raises(KeyboardInterrupt):
        run_on_threads(2, fail_here)
    assert done.is_set()
