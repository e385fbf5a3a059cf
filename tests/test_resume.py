"""Runs that go on where others ended have the bits of undisturbed ones."""

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.engine.cpu import CPUBackend
from fastelbo.engine.loop import Position
from fastelbo.engine.requests import new_request
from fastelbo.models.sampling import as_sampling
from fastelbo.progress import no_tick


class StoppedError(Exception):
    pass


class Memory:
    """A journal that keeps one position, and stops the run after so many notes."""

    def __init__(self, notes):
        self.start, self.left = Position(), notes
        self.read, self.folded, self.closed = None, None, 0

    def first_step(self, lo):
        return self.start.step if lo == self.start.lo else 0

    def open(self, reader):
        if self.read is not None:
            reader.restore(self.read)

    def begin(self, lo, states):
        if lo == self.start.lo and self.start.step:
            states.restore(self.folded)

    def note(self, position, states, reader):
        self.start, self.folded = position, states.folded().packed()
        if position.lo:
            self.read = {name: each.copy() for name, each in reader.quantities().items()}
        self.left -= 1
        if self.left == 0:
            raise StoppedError

    def close(self):
        self.closed += 1


def request(n, points=5, sampler="iid", iw_sizes=(10,)):
    x = np.linspace(-1.0, 1.0, 3 * points).reshape(points, 3)
    model = fe.LinearGaussian(x, np.ones((3, 2)), noise_cov=0.5)
    q = fe.Gaussian(np.zeros(2), scale=0.7)
    return new_request(
        model, q, n, 7, 3, "float64", iw_sizes, True, as_sampling(sampler, 16, "box_muller", True)
    )


@pytest.mark.parametrize("sampler", ["iid", "sobol"])
@pytest.mark.parametrize("n", [2**14, 2**8])
def test_a_run_that_is_stopped_after_every_launch(monkeypatch, sampler, n):
    # Launches of one step, and slices of one data point or of all.
    wanted = request(n + 5 if sampler == "iid" else n, sampler=sampler)
    expected = CPUBackend().quantities(wanted, no_tick)
    monkeypatch.setattr("fastelbo.kernels.cpu.launch._SLICE_SECONDS", 0.0)
    monkeypatch.setattr("fastelbo.engine.cpu._FIRST_WORK", 1)
    journal, stops, done = Memory(1), 0, []
    while True:
        try:
            found = CPUBackend().resumed(wanted, done.append, journal)
            break
        except StoppedError:
            stops += 1
            journal.left = 1 + stops % 2
            assert journal.closed == stops
            done.clear()
    assert stops >= 3
    assert sum(done) == wanted.points * wanted.n_samples
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        assert found[name].tobytes() == each.tobytes(), name
