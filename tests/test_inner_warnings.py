"""Warnings of inner calls are of one thread."""

import threading

import pytest

import fastelbo as fe
from fastelbo.inner_warnings import collected, warn


def test_what_is_collected_is_not_shown():
    with collected() as found:
        warn("one", UserWarning)
        with collected() as inner:
            warn(fe.errors.LowESSWarning("two"))
        warn("three")
    assert list(map(repr, found)) == ["UserWarning('one')", "UserWarning('three')"]
    assert list(map(repr, inner)) == ["LowESSWarning('two')"]
    with pytest.warns(UserWarning, match="four") as caught:
        warn("four", UserWarning)
    assert caught[0].filename == __file__


def test_another_thread_warns_meanwhile():
    begun, end, found = threading.Event(), threading.Event(), []

    def collect():
        with collected() as own:
            begun.set()
            assert end.wait(60)
            warn("of its own")
        found.extend(own)

    thread = threading.Thread(target=collect)
    thread.start()
    assert begun.wait(60)
    with pytest.warns(UserWarning, match="of this thread"):
        warn("of this thread")
    end.set()
    thread.join()
    assert [str(each) for each in found] == ["of its own"]
