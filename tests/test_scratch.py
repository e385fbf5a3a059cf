"""Memory that is used again."""

from __future__ import annotations

import threading

import numpy as np

from fastelbo.engine import scratch as module
from fastelbo.engine.scratch import scratch

_SHAPE = (4, 3, module._LEAST)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_when_nobody_refers_to_it() -> None:
    first = scratch(_SHAPE)
    address = _address(first)
    del first
    second = scratch((6, module._LEAST))
    assert _address(second) == address


def test_memory_with_a_view_is_left_alone() -> None:
    first = scratch(_SHAPE)
    first[...] = 1.0
    view = first[:, 1, 5:9][::2]
    del first
    second = scratch(_SHAPE)
    second[...] = 2.0
    assert np.array_equal(view, np.ones((2, 4)))
    assert not np.shares_memory(view, second)


def test_a_small_array_does_not_hold_large_memory() -> None:
    scratch(_SHAPE)
    small = scratch((module._LEAST,))
    assert small.base is not None
    assert small.base.size == small.size


def test_larger_arrays_and_small_ones_are_new() -> None:
    for size in (module._MOST + 1, module._LEAST - 1):
        assert scratch((size,)).base is None


def test_threads_have_memory_of_their_own() -> None:
    addresses: list[int] = []
    both = threading.Barrier(2)

    def run() -> None:
        array = scratch(_SHAPE)
        both.wait()
        addresses.append(_address(array))
        both.wait()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(addresses)) == 2
