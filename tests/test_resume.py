"""Runs that go on where others ended have the bits of undisturbed ones."""

import errno
import math
import os
import pickle

import numpy as np
import pytest
from helpers import Interruption, bits

import fastelbo as fe
from fastelbo.engine import checkpoints
from fastelbo.engine.cpu import CPUBackend
from fastelbo.engine.generations import Generations
from fastelbo.engine.identity import machine
from fastelbo.engine.journal import RunJournal
from fastelbo.engine.loop import Position
from fastelbo.engine.requests import new_request
from fastelbo.engine.states import States
from fastelbo.models.sampling import as_sampling
from fastelbo.progress import no_tick
from fastelbo.version import STREAM_VERSION

pytestmark = pytest.mark.filterwarnings(
    "ignore::fastelbo.errors.HighParetoKWarning",
    "ignore::fastelbo.errors.ShortTailWarning",
    "ignore::fastelbo.errors.LowESSWarning",
)


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


# --- public calls -------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 2))


def log_joint(z, x, rate):
    return -0.5 * (z[0] ** 2 + z[1] ** 2) - rate * (x[0] - z[0] - math.sin(z[1])) ** 2


def of_many(z, x):
    return -0.5 * (z**2).sum(-1) - 0.7 * (x[:, 0] - z[..., 0] - np.sin(z[..., 1])) ** 2


LINEAR = fe.LinearGaussian(X, [[1.0, 0.5], [0.0, 1.0]], noise_cov=0.5)
NORMAL = fe.Gaussian(np.zeros(2), scale=0.8)
MIXTURE = fe.Mixture([0.4, 0.6], fe.Gaussian([[-0.3, 0.0], [0.4, 0.2]], scale=0.9))
OWN = fe.Model(log_joint=log_joint, dim=2, data=X, params=(0.7,))
HOST = fe.Model(log_joint=of_many, dim=2, data=X, vectorized=True)
RUNS = {
    "linear": (LINEAR, NORMAL, {}),
    "mixture": (LINEAR, MIXTURE, {"iw_sizes": [3, 50, 9000]}),
    "student": (fe.StudentT(4.0, np.zeros(2), scale=1.0), fe.StudentT(3.0, X, scale=1.1), {}),
    "float32": (LINEAR, NORMAL, {"precision": "float32", "first_index": 5}),
    "own": (OWN, NORMAL, {}),
    "host": (HOST, NORMAL, {}),
    "host of batches": (
        fe.Model(log_joint=of_many, dim=2, data=X, vectorized=True, batch_size=1000), NORMAL, {},
    ),
    "without k-hat": (LINEAR, NORMAL, {"pareto_k": False, "iw_sizes": []}),
    "one data point": (fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.3], scale=1.2), {}),
    "closed KL": (LINEAR, NORMAL, {"analytic_kl": True}),
}  # fmt: skip


def all_bits(estimate):
    tail = b"" if estimate._tail is None else estimate._tail.tobytes()
    return bits(estimate) | {"tail": tail}


def run(name, n, **more):
    model, q, options = RUNS[name]
    return fe.estimate(model, q, n, **({"rng": 3} | options | more))


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(
    ("before", "after"), [(20_000, 50_000), (16_384, 16_384), (16_384, 24_576), (20_000, 20_001)]
)
def test_more_draws_go_on_with_the_bits_of_one_run(name, before, after):
    first = run(name, before, keep_state=True)
    assert all_bits(first) == all_bits(run(name, before))
    more = run(name, after, previous=first, rng=None)
    assert all_bits(more) == all_bits(run(name, after))
    assert first.state.n_samples == before // 8192 * 8192


def begun_at(monkeypatch):
    """A list to which runs add the first step of each slice."""
    steps, own = [], RunJournal.first_step

    def first_step(journal, lo):
        steps.append(own(journal, lo))
        return steps[-1]

    monkeypatch.setattr(RunJournal, "first_step", first_step)
    return steps


def test_runs_that_grow_draw_again_only_what_they_must(monkeypatch):
    steps, est = begun_at(monkeypatch), None
    for n, begins in ((9000, 0), (30_000, 1), (120_000, 3), (200_000, 0), (2_000_000, 24)):
        steps.clear()
        est = run("linear", n, previous=est, keep_state=True)
        # Of 9000 draws, tails are kept for 144000.
        assert set(steps) == {begins}, n
        assert all_bits(est) == all_bits(run("linear", n)), n
    assert est.state.nbytes < 3 * 8 * 5000


def test_batches_of_other_sizes_are_drawn_again(monkeypatch):
    # A function on the host may give other last bits for another number of rows.
    first = {name: run(name, 20_000, keep_state=True) for name in ("host", "host of batches")}
    steps = begun_at(monkeypatch)
    for name, begins in (("host", 0), ("host of batches", 2)):
        steps.clear()
        more = run(name, 22_000, previous=first[name])
        assert set(steps) == {begins}
        assert all_bits(more) == all_bits(run(name, 22_000))


def test_few_draws_have_no_state(monkeypatch):
    for n in (15, 50):
        few = run("linear", n, keep_state=True)
        assert (few.state.n_samples, few.state.nbytes) == (0, 0)
        # By default, more draws have more iw_sizes, and a k-hat.
        assert all_bits(run("linear", 5000, previous=few)) == all_bits(run("linear", 5000))


def test_a_state_is_in_no_export_and_is_pickled():
    plain, kept = run("linear", 20_000), run("linear", 20_000, keep_state=True)
    assert repr(kept) == repr(plain)
    assert kept.summary() == plain.summary()
    assert kept.to_dict().keys() == plain.to_dict().keys()
    copy = pickle.loads(pickle.dumps(kept))
    assert len(pickle.dumps(kept)) > kept.state.nbytes
    assert repr(copy.state) == repr(kept.state)
    assert not copy.state.last.flags.writeable
    assert all_bits(run("linear", 40_000, previous=copy)) == all_bits(run("linear", 40_000))
    with pytest.raises(fe.errors.InvalidInputError, match="keep_state=True"):
        _ = plain.state


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rng": 4}, "key of rng"),
        ({"model": fe.LinearGaussian(X.copy(), [[1.0, 0.5], [0.0, 1.0]], noise_cov=0.5)}, None),
        ({"model": fe.LinearGaussian(X + 1e-9, [[1.0, 0.5], [0.0, 1.0]], noise_cov=0.5)}, "x"),
        ({"model": fe.LinearGaussian(X, [[1.0, 0.5], [0.0, 1.1]], noise_cov=0.5)}, "loadings"),
        ({"model": OWN}, "model"),
        ({"q": fe.Gaussian(np.zeros(2), scale=0.81)}, "q.scale"),
        ({"q": fe.Gaussian(np.zeros((3, 2)), scale=0.8)}, "q.mean"),
        ({"precision": "float32"}, "precision float64, not float32"),
        ({"first_index": 1}, "first_index 0, not 1"),
        ({"iw_sizes": [10]}, r"iw_sizes \[10, 100\], not \[10\]"),
        ({"pareto_k": False}, "pareto_k True, not False"),
        ({"n_samples": 10_000}, "n_samples 20000, not 10000"),
    ],
)
def test_other_runs_are_refused_by_name(tmp_path, change, named):
    given = {"model": LINEAR, "q": NORMAL, "n_samples": 20_000, "rng": 3}
    path = tmp_path / "run.ckpt"
    kept = fe.estimate(**given, keep_state=True, checkpoint=path)
    content, given = path.read_bytes(), given | change
    if named is None:
        # The same numbers in another model.
        assert all_bits(fe.estimate(**given, checkpoint=path)) == all_bits(kept)
        return
    with pytest.raises(fe.errors.CheckpointMismatchError, match=named):
        fe.estimate(**given, checkpoint=path)
    assert path.read_bytes() == content
    with pytest.raises(fe.errors.InvalidInputError, match=f"previous must be .*{named}"):
        fe.estimate(**given, previous=kept)


def test_other_functions_and_arguments_are_refused_by_name(tmp_path):
    def with_rate(factor):
        def density(z, x, rate):
            return -0.5 * factor * (z[0] ** 2 + z[1] ** 2) - rate * (x[0] - z[0] - z[1]) ** 2

        return density

    def model(factor=1.0, rate=0.7, data=X):
        return fe.Model(log_joint=with_rate(factor), dim=2, data=data, params=(rate,))

    path = tmp_path / "run.ckpt"
    expected = fe.estimate(model(), NORMAL, 9000, rng=0, checkpoint=path)
    assert all_bits(fe.estimate(model(), NORMAL, 9000, checkpoint=path)) == all_bits(expected)
    for other, named in (
        (model(2.0), "likelihood.function"),
        (model(rate=0.8), "function.values"),
        (model(data=X + 1), "function.data"),
    ):
        with pytest.raises(fe.errors.CheckpointMismatchError, match=named):
            fe.estimate(other, NORMAL, 9000, checkpoint=path)


def test_functions_on_the_host_are_known_by_their_values(tmp_path):
    class Scaled:
        def __init__(self, factor):
            self.factor = factor

        def log_joint(self, z):
            return -0.5 * self.factor * (z**2).sum(-1)

    def model(factor):
        return fe.Model(log_joint=Scaled(factor).log_joint, dim=2, vectorized=True)

    path, q = tmp_path / "run.ckpt", fe.Gaussian(np.zeros(2), scale=0.8)
    expected = fe.estimate(model(1.0), q, 9000, rng=0, checkpoint=path)
    assert all_bits(fe.estimate(model(1.0), q, 9000, checkpoint=path)) == all_bits(expected)
    with pytest.raises(fe.errors.CheckpointMismatchError, match=r"likelihood\.values"):
        fe.estimate(model(1.5), q, 9000, checkpoint=path)


REFUSED = {
    "target_se": ({"target_se": 0.1, "n_samples": None}, "target_se"),
    "moments": ({"moments": True}, "moments=True"),
    "several": ({"q": [NORMAL, MIXTURE]}, "several q"),
    "numpy": ({"backend": "numpy"}, "backend"),
    "exact": (
        {
            "model": fe.MixtureModel(X, MIXTURE), "q": fe.Categorical([0.5, 0.5]),
            "n_samples": None,
        },
        "MixtureModel",
    ),
}  # fmt: skip


@pytest.mark.parametrize("asked", ["checkpoint", "keep_state", "previous"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_state_is_refused(tmp_path, kind, asked):
    change, named = REFUSED[kind]
    values = {"checkpoint": tmp_path / "run.ckpt", "keep_state": True}
    values["previous"] = run("linear", 100, keep_state=True)
    given = {"model": LINEAR, "q": NORMAL, "n_samples": 100} | change
    with pytest.raises(fe.errors.InvalidInputError, match=f"^{asked} must be .*{named}"):
        fe.estimate(**given, **{asked: values[asked]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("every", [0, -1.0, math.inf, math.nan, "x", True, None])
def test_bad_intervals(tmp_path, every):
    with pytest.raises(fe.errors.InvalidInputError, match="checkpoint_every"):
        run("linear", 100, checkpoint=tmp_path / "a", checkpoint_every=every)


# --- checkpoints --------------------------------------------------------------------------------


def small_steps(monkeypatch):
    """Launches of one step, and slices of one data point."""
    monkeypatch.setattr("fastelbo.kernels.cpu.launch._SLICE_SECONDS", 0.0)
    monkeypatch.setattr("fastelbo.engine.cpu._FIRST_WORK", 1)


@pytest.mark.parametrize("name", ["linear", "mixture", "own", "host", "sobol"])
def test_an_interrupt_in_any_launch_leaves_what_is_done(tmp_path, monkeypatch, name):
    sobol = {"sampler": "sobol", "n_samples": 2**16, "rng": 3}
    runs = {
        "sobol": lambda **more: fe.estimate(LINEAR, NORMAL, **sobol | more),
    }
    call = runs.get(name, lambda **more: run(name, 20_000, **more))
    expected = all_bits(call())
    small_steps(monkeypatch)
    advance, path = States.advance, tmp_path / "run.ckpt"
    left = [0]

    def interrupted(states, *args):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        found = advance(states, *args)
        if left[0] == -1:
            raise KeyboardInterrupt
        return found

    steps, interrupts = begun_at(monkeypatch), 0
    monkeypatch.setattr(States, "advance", interrupted)
    while True:
        left[0] = 1 + interrupts % 3
        try:
            found = call(checkpoint=path, rng=None if interrupts else 3)
            break
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts >= 3
    assert max(steps) > 0
    assert all_bits(found) == expected
    left[0] = 0
    steps.clear()
    assert all_bits(call(checkpoint=path)) == expected
    assert steps == []


def test_an_interrupt_at_any_line(tmp_path, monkeypatch):
    expected = all_bits(run("linear", 20_000))
    small_steps(monkeypatch)

    def checkpointed(path):
        return run("linear", 20_000, checkpoint=path, checkpoint_every=1e-9)

    most = 10**9
    with Interruption(most) as interruption:
        checkpointed(tmp_path / "whole")
    for n in np.random.default_rng(5).integers(1, most - interruption.left, 12).tolist():
        path = tmp_path / str(n)
        with Interruption(n):
            checkpointed(path)
        assert all_bits(checkpointed(path)) == expected, n


def test_what_takes_long_to_write_is_written_seldom(tmp_path, monkeypatch):
    # A clock that a launch and a write move.
    now, took, saved = [0.0], [0.05], []

    def launched(states, *args, advance=States.advance):
        now[0] += 0.5
        return advance(states, *args)

    def written(files, *args):
        saved.append(now[0])
        now[0] += took[0]

    monkeypatch.setattr("fastelbo.engine.journal.time.monotonic", lambda: now[0])
    monkeypatch.setattr(States, "advance", launched)
    monkeypatch.setattr(Generations, "try_to_write", written)
    small_steps(monkeypatch)
    for took[0], least, most in ((0.05, 2.0, 2.5), (0.2, 40.0, 40.5)):
        saved.clear()
        run("one data point", 200 * 8192, checkpoint=tmp_path / str(took), checkpoint_every=2.0)
        pauses = np.diff(saved[:-1]) - took[0]
        assert len(pauses)
        assert (pauses >= least - 1e-9).all()
        assert (pauses <= most + 1e-9).all()


def test_a_run_without_a_seed_goes_on_with_its_key(tmp_path):
    path = tmp_path / "run.ckpt"
    first = run("linear", 9000, checkpoint=path, rng=None)
    assert all_bits(run("linear", 9000, checkpoint=path, rng=None)) == all_bits(first)
    key, _ = first._addresses
    again = fe.estimate(LINEAR, NORMAL, 9000, rng=None, checkpoint=path)
    assert again._addresses[0] == key
    # A generator advances.
    rng = np.random.default_rng(1)
    path = tmp_path / "other.ckpt"
    first = run("linear", 9000, checkpoint=path, rng=rng)
    with pytest.raises(fe.errors.CheckpointMismatchError, match="key of rng"):
        run("linear", 9000, checkpoint=path, rng=rng)
    same = run("linear", 9000, checkpoint=path, rng=np.random.default_rng(1))
    assert all_bits(same) == all_bits(first)


def test_a_run_that_has_ended_goes_on_with_more_draws(tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    # All tails of so many draws are as long.
    run("linear", 2_000_000, checkpoint=path)
    steps = begun_at(monkeypatch)
    more = run("linear", 2_100_000, checkpoint=path)
    assert set(steps) == {2_000_000 // 8192}
    assert all_bits(more) == all_bits(run("linear", 2_100_000))
    with pytest.raises(fe.errors.CheckpointMismatchError, match="n_samples 2100000, not 2000000"):
        run("linear", 2_000_000, checkpoint=path)
    steps.clear()
    again = run("linear", 2_100_000, checkpoint=path, keep_state=True)
    assert (steps, again.state.n_samples) == ([], 2_100_000 // 8192 * 8192)


def test_a_run_that_goes_on_from_another_has_a_checkpoint_too(tmp_path, monkeypatch):
    first = run("linear", 20_000, keep_state=True)
    expected = all_bits(run("linear", 50_000))
    small_steps(monkeypatch)
    for n in range(1, 30, 2):
        path, left, advance = tmp_path / f"{n}", [n], States.advance

        def interrupted(states, *args, left=left, advance=advance):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return advance(states, *args)

        with monkeypatch.context() as patch:
            patch.setattr(States, "advance", interrupted)
            try:
                run("linear", 50_000, checkpoint=path, previous=first, keep_state=True)
            except KeyboardInterrupt:
                pass
            else:
                break
        # With the other estimate and without it.
        more = {"previous": first} if n % 4 == 1 else {}
        found = run("linear", 50_000, checkpoint=path, keep_state=True, **more)
        assert all_bits(found) == expected
        assert all_bits(run("linear", 60_000, previous=found)) == all_bits(run("linear", 60_000))
    assert n > 10


def test_states_that_are_too_many_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("fastelbo.engine.resume.SLICE_NUMBERS", 100)
    path = tmp_path / "run.ckpt"
    expected = run("linear", 20_000, checkpoint=path)
    size = path.stat().st_size
    assert all_bits(run("linear", 20_000, checkpoint=path)) == all_bits(expected)
    with pytest.raises(fe.errors.CheckpointMismatchError, match="keep_state"):
        run("linear", 20_000, checkpoint=path, keep_state=True)
    more = run("linear", 30_000, checkpoint=path)
    assert all_bits(more) == all_bits(run("linear", 30_000))
    run("linear", 20_000, checkpoint=tmp_path / "kept", keep_state=True)
    assert (tmp_path / "kept").stat().st_size > size


# --- files --------------------------------------------------------------------------------------


def interrupted_run(path, monkeypatch, launches=4):
    """A run that left two generations of its checkpoint."""
    with monkeypatch.context() as patch:
        small_steps(patch)
        advance, left = States.advance, [launches]

        def interrupted(states, *args):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return advance(states, *args)

        patch.setattr(States, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("linear", 20_000, checkpoint=path, checkpoint_every=1e-9)


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped, lambda content: b"", lambda content: None])
def test_the_checkpoint_before_takes_the_place_of_a_damaged_one(tmp_path, monkeypatch, damage):
    path, older = tmp_path / "run.ckpt", tmp_path / "run.ckpt.previous"
    interrupted_run(path, monkeypatch)
    good, content = older.read_bytes(), damage(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    steps = begun_at(monkeypatch)
    with pytest.warns(fe.errors.CheckpointWarning, match=r"goes on from .*\.previous") as caught:
        found = run("linear", 20_000, checkpoint=path)
    assert caught[0].filename == __file__
    assert max(steps) > 0
    assert all_bits(found) == all_bits(run("linear", 20_000))
    # What is damaged takes no good one's place.
    assert older.read_bytes() == good
    assert all_bits(run("linear", 20_000, checkpoint=path)) == all_bits(found)


def test_both_generations_damaged(tmp_path, monkeypatch):
    path, older = tmp_path / "run.ckpt", tmp_path / "run.ckpt.previous"
    interrupted_run(path, monkeypatch)
    for file in (path, older):
        file.write_bytes(flipped(file.read_bytes()))
    with pytest.raises(fe.errors.CheckpointError, match=r"run.ckpt .*run.ckpt.previous .*anew"):
        run("linear", 20_000, checkpoint=path)


def test_files_of_other_kinds_are_left_as_they_are(tmp_path):
    path, kinds = tmp_path / "file", fe.errors.CheckpointMismatchError
    accumulator = fe.LogWeightAccumulator()
    accumulator.update(X)
    accumulator.save(path)
    with pytest.raises(kinds, match=r"'fastelbo accumulator'.*, expected .*'fastelbo estimate'"):
        run("linear", 9000, checkpoint=path)
    assert fe.LogWeightAccumulator.load(path).n_samples == 2
    np.save(tmp_path / "weights.npy", X)
    with pytest.raises(fe.errors.CheckpointError, match="cannot be read"):
        run("linear", 9000, checkpoint=tmp_path / "weights.npy")
    assert np.load(tmp_path / "weights.npy").shape == X.shape
    run("linear", 9000, checkpoint=tmp_path / "run.ckpt")
    with pytest.raises(kinds, match=r"'fastelbo estimate'.*, expected .*'fastelbo accumulator'"):
        fe.LogWeightAccumulator.load(tmp_path / "run.ckpt")


def test_another_stream_version_or_machine(tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr("fastelbo.engine.resume.machine", lambda: machine() | {"numba": "0.1"})
        expected = run("linear", 9000, checkpoint=path)
    with pytest.warns(fe.errors.CheckpointWarning, match=r"numba 0\.1, not") as caught:
        assert all_bits(run("linear", 9000, checkpoint=path)) == all_bits(expected)
    assert caught[0].filename == __file__
    kept = run("linear", 9000, keep_state=True)
    with monkeypatch.context() as patch:
        patch.setattr("fastelbo.engine.resume.machine", lambda: machine() | {"numba": "0.1"})
        with pytest.warns(fe.errors.CheckpointWarning, match=r"previous .*, not 0\.1") as caught:
            run("linear", 10_000, previous=kept)
    assert caught[0].filename == __file__
    monkeypatch.setitem(checkpoints._FORMAT, "stream_version", STREAM_VERSION + 1)
    found = f"'stream_version': {STREAM_VERSION}}}, expected"
    with pytest.raises(fe.errors.CheckpointMismatchError, match=found):
        run("linear", 9000, checkpoint=path)


@pytest.mark.parametrize("path", ["no folder/run.ckpt", "a" * 250, "."])
def test_a_path_that_cannot_be_written_is_told_before_the_run(tmp_path, monkeypatch, path):
    monkeypatch.setattr(CPUBackend, "resumed", lambda *_: pytest.fail("it began"))
    with pytest.raises(fe.errors.CheckpointError, match="cannot be"):
        run("linear", 9000, checkpoint=tmp_path / path)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("since", [2, 3])
def test_a_full_disk_is_one_warning_and_no_end(tmp_path, monkeypatch, since):
    path, own, calls = tmp_path / "run.ckpt", np.savez, [0]
    expected = all_bits(run("linear", 20_000))
    small_steps(monkeypatch)
    content = []

    def savez(file, **arrays):
        calls[0] += 1
        if calls[0] >= since:
            content.append(path.read_bytes())
            file.write(b"half")
            full()
        own(file, **arrays)

    monkeypatch.setattr(np, "savez", savez)
    with pytest.warns(fe.errors.CheckpointWarning, match="No space left.*goes on") as caught:
        found = run("linear", 20_000, checkpoint=path, checkpoint_every=1e-9)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert calls[0] > 5
    assert all_bits(found) == expected
    # The last good one is whole, and there are no others but the one before it.
    assert set(content) == {path.read_bytes()}
    assert {each.name for each in tmp_path.iterdir()} <= {"run.ckpt", "run.ckpt.previous"}
    monkeypatch.setattr(np, "savez", own)
    assert all_bits(run("linear", 20_000, checkpoint=path)) == expected


def test_a_limit_of_the_size_of_files(tmp_path):
    resource = pytest.importorskip("resource")
    path, size = tmp_path / "run.ckpt", 2**16
    given = fe.Gaussian(np.zeros((200, 2)), scale=1.0), fe.Gaussian(np.zeros(2), scale=1.1)
    expected = fe.estimate(*given, 20_000, rng=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.warns(fe.errors.CheckpointWarning, match="too large.*goes on"):
            found = fe.estimate(*given, 20_000, rng=0, checkpoint=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert all_bits(found) == all_bits(expected)
    assert path.stat().st_size < size
    assert all_bits(fe.estimate(*given, 20_000, rng=0, checkpoint=path)) == all_bits(expected)
    assert path.stat().st_size > size


@pytest.mark.skipif(os.name == "nt", reason="no locks")
def test_two_runs_on_one_file(tmp_path):
    path = tmp_path / "run.ckpt"
    run("linear", 9000, checkpoint=path)
    other = Generations(path, checkpoints.ESTIMATE)
    other.read()
    with pytest.raises(fe.errors.CheckpointError, match="in use by another run"):
        run("linear", 9000, checkpoint=path)
    # The lock ends with the run.
    other.close()
    run("linear", 9000, checkpoint=path)


@pytest.mark.skipif(os.name == "nt", reason="no locks")
def test_a_file_that_another_run_has_replaced_is_left_to_it(tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    small_steps(monkeypatch)
    expected, theirs, own = (
        all_bits(run("linear", 20_000)),
        b"another run",
        Generations.try_to_write,
    )

    def replaced_once(files, *args):
        if path.read_bytes() != theirs:
            path.with_name("new").write_bytes(theirs)
            os.replace(path.with_name("new"), path)
        own(files, *args)

    monkeypatch.setattr(Generations, "try_to_write", replaced_once)
    with pytest.warns(fe.errors.CheckpointWarning, match="replaced by another run") as caught:
        found = run("linear", 20_000, checkpoint=path, checkpoint_every=1e-9)
    assert len(caught) == 1
    assert path.read_bytes() == theirs
    assert all_bits(found) == expected


def test_a_file_system_without_links(tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lambda *_: full())
        interrupted_run(path, monkeypatch)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run.ckpt", "run.ckpt.previous"]
    assert all_bits(run("linear", 20_000, checkpoint=path)) == all_bits(run("linear", 20_000))
