"""Properties that are computed once."""

import threading

from fastelbo.caching import cached_property


class Slow:
    def __init__(self, begun=None, release=None):
        self.begun, self.release, self.count = begun, release, 0

    @cached_property
    def value(self):
        """What it is."""
        self.count += 1
        if self.begun is not None:
            self.begun.set()
            assert self.release.wait(60)
        return [self.count]


def test_it_is_computed_once_and_can_be_forgotten():
    slow = Slow()
    assert slow.value is slow.value
    assert slow.count == 1
    del slow.value
    assert slow.value == [2]
    assert Slow.value.__doc__ == "What it is."


def test_no_instance_waits_for_another():
    # Nor does a forked child, for a thread that it does not have.
    busy = Slow(threading.Event(), threading.Event())
    other = Slow()
    first = threading.Thread(target=lambda: busy.value)
    first.start()
    assert busy.begun.wait(60)
    second = threading.Thread(target=lambda: other.value, daemon=True)
    second.start()
    second.join(10)
    done = not second.is_alive()
    busy.release.set()
    first.join()
    second.join()
    assert done


def test_all_threads_get_the_same_object():
    slow = Slow(threading.Event(), threading.Event())
    found = []
    threads = [threading.Thread(target=lambda: found.append(slow.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    slow.release.set()
    for thread in threads:
        thread.join()
    assert all(each is slow.value for each in found)
