"""Tasks for the workers of a cluster: which draws they have, and how many are planned at once."""

import functools
import itertools
import pickle
import sys
import tracemalloc

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.engine.cluster import orders, task_sizes, travelling, workers
from fastelbo.engine.cluster.task_sizes import Limits, Part, TaskSizes, parts
from fastelbo.engine.cpu import CPUBackend
from fastelbo.engine.loop import Position
from fastelbo.engine.lowered import lower
from fastelbo.engine.requests import new_request
from fastelbo.engine.states import States
from fastelbo.kernels.draws.blocks import CHUNK, Cut
from fastelbo.kernels.state.state import state_size

pytest.importorskip("cloudpickle")


class Begun:
    """A journal of a run that has come to some step of its first slice."""

    def __init__(self, step, points=1):
        self.start = Position(0, points, step)

    def first_step(self, lo):
        return self.start.step if lo == 0 else 0


def sizes(total=10**12, draws=CHUNK, threads=4):
    return TaskSizes(total, draws, lambda: threads)


def no_slice(lo, points):
    pass


# --- parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [1, 1000, 10**5, 10**7])
@pytest.mark.parametrize("cut", [Cut(1, 100, CHUNK), Cut(1, 50_001, CHUNK), Cut(4, 4096, 1024)])
@pytest.mark.parametrize("journal", [None, Begun(0), Begun(1, 3)])
def test_parts_have_all_draws_in_order(draws, cut, journal):
    if journal is not None and journal.start.step >= cut.steps:
        return
    begun = []
    found = list(
        parts(
            23, cut, 1, sizes(draws=draws), Limits(10, 40),
            lambda lo, points: begun.append((lo, points)), journal,
        )
    )  # fmt: skip
    expected = Position() if journal is None else journal.start
    lo, step = 0, expected.step
    for part in found:
        assert (part.lo, part.first) == (lo, step)
        assert part.first < part.stop <= cut.steps
        if journal is not None and part.stop == cut.steps:
            # The last chunk, which is not whole, is apart.
            assert cut.draws % cut.chunk == 0 or part.first == cut.steps - 1
        step = part.stop
        if step == cut.steps:
            lo, step = lo + part.points, 0
    assert (lo, step) == (23, 0)
    assert begun == list(dict.fromkeys((part.lo, part.points) for part in found))


def test_slices_of_which_nothing_is_left_begin_too():
    journal, begun = Begun(0), []
    journal.first_step = lambda lo: 7
    cut = Cut(1, 7 * CHUNK, CHUNK)
    assert not list(
        parts(5, cut, 1, sizes(), Limits(1, 1), lambda *each: begun.append(each), journal)
    )
    assert sum(points for _, points in begun) == 5


def test_groups_stay_together():
    cut = Cut(1, 100, CHUNK)
    found = list(parts(23, cut, 4, sizes(draws=600), Limits(10, 40), no_slice))
    assert [part.points for part in found] == [4, 4, 4, 4, 4, 3]


def test_tasks_take_about_a_second_and_less_at_the_end():
    timed = sizes(total=10**9, draws=1000)
    assert timed.draws() == 1000
    timed.took(1000, 10.0)  # with compilation
    timed.took(1000, 1e-4)
    assert timed.draws() == 10**7
    timed.give(10**9 - 10**6)
    assert timed.draws() == int(1e7 * task_sizes._LEAST_SECONDS)


def test_tasks_are_longer_on_many_threads():
    timed = sizes(total=10**15, threads=1000)
    timed.took(10**6, 1.0)
    assert timed.draws() == 10**7
    # At the end, too, the scheduler keeps up.
    timed.give(10**15 - 10**6)
    assert timed.draws() == int(10**6 * 1000 / task_sizes._MOST_TASKS / task_sizes._SHORTER)


def test_results_are_bounded():
    timed = sizes(total=10**15, draws=10**15)
    limits = Limits(100, 40)
    for cut in (Cut(1, 1000, CHUNK), Cut(1, 10**10, CHUNK)):
        for part in itertools.islice(parts(10**7, cut, 1, timed, limits, no_slice), 3):
            assert part.points * (100 + 40 * (part.stop - part.first)) <= limits.most


# --- a large run --------------------------------------------------------------------------------

K = 10**12


def large_request():
    model = fe.LinearGaussian([[0.5, 1.0]], [[1.0], [0.3]], noise_cov=0.5)
    return new_request(model, fe.Gaussian([0.3], scale=0.9), K, 7, 0, "float64", (10, 100), True)


def large_orders(request, journal=None):
    limits = Limits(request.form.capacity, state_size(2))
    found = orders.Orders(
        request, workers.chunk_states, (request.form,), limits, exact=True, threads=lambda: 1000,
        journal=journal,
    )  # fmt: skip
    found._sizes = sizes(draws=CHUNK)  # tasks of one chunk: 122 million of them
    return found


@pytest.mark.parametrize("first", [0, -(-K // CHUNK) - 1000])
def test_the_first_and_last_tasks_of_a_large_run(first):
    request = large_request()
    states, found = States(1, request.form), large_orders(request, Begun(first))
    count = 0
    for task in itertools.islice(found.tasks(no_slice), 1000):
        assert task.place == Part(0, 1, first + count, first + count + 1)
        states.append(*workers.run(task.order, *(each.content for each in task.apart)).value)
        count += 1
    assert count == 1000
    expected = CPUBackend().slice(request, 0, 1)
    expected.append(first, first + 1000)
    assert states.moments.tobytes() == expected.states().moments.tobytes()
    for got, wanted in zip(states.tails(K), expected.states().tails(K), strict=True):
        assert got.tobytes() == wanted.tobytes()


def test_planning_a_large_run_takes_no_memory():
    tasks = large_orders(large_request()).tasks(no_slice)
    next(tasks)
    tracemalloc.start()
    try:
        for task in itertools.islice(tasks, 5000):
            assert len(task.order.points.header) < 20_000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# --- what travels -------------------------------------------------------------------------------


def test_a_task_has_the_parameters_of_its_own_data_points():
    rng = np.random.default_rng(0)
    model = fe.LinearGaussian(
        rng.normal(size=(10_000, 20)), rng.normal(size=(20, 4)), noise_cov=1.0
    )
    q = fe.Gaussian(np.zeros((10_000, 4)), scale=1.0)
    request = new_request(model, q, 1000, 0, 0, "float64", (), True)
    few, _ = travelling.pack_points(lower(request, slice(5, 10)))
    many, apart = travelling.pack_points(lower(request, slice(0, 5000)))
    assert len(few.header) < 10_000
    assert len(many.header) + sum(len(each.content) for each in apart) > 300_000


def test_large_arrays_are_apart_and_known_by_their_content():
    array = np.arange(travelling.LARGE, dtype=np.uint8)
    frozen = array.copy()
    frozen.setflags(write=False)
    packed, apart = travelling.pack({"a": array, "b": frozen, "c": np.ones(3)})
    assert len(packed.header) < 2000
    assert apart[0] == apart[1]
    value = travelling.unpack(packed, [each.content for each in apart])
    assert value["a"].flags.writeable
    assert not value["b"].flags.writeable
    assert value["a"].tobytes() == value["b"].tobytes() == array.tobytes()
    # Nobody writes to what was sent.
    value["a"][:] = 0
    again = travelling.unpack(packed, [each.content for each in apart])
    assert again["a"].tobytes() == array.tobytes()


def test_names_of_tasks_depend_on_what_they_make():
    def names(request):
        return [task.name for task in itertools.islice(large_orders(request).tasks(no_slice), 3)]

    request = large_request()
    assert names(request) == names(large_request())
    assert len({*names(request), *names(request._replace(key=8)),
                *names(request._replace(first_index=1))}) == 9  # fmt: skip


def test_an_order_is_small_and_can_be_pickled():
    task = next(large_orders(large_request()).tasks(no_slice))
    assert pickle.loads(pickle.dumps(task.order)) == task.order


def test_models_that_cannot_travel():
    from fastelbo.models.terms import Supplied, Zero

    class Given:
        dim, batch_shape = 1, ()
        prior, likelihood = Supplied(np.zeros(10), 1), Zero(1)

    q = fe.Gaussian([0.0], scale=1.0)
    request = new_request(Given(), q, 10, 0, 0, "float64", (), True)
    with pytest.raises(fe.errors.InvalidInputError, match=r"client must be left out.* supplied"):
        travelling.pack_functions(request)
    lock = __import__("threading").Lock()
    model = fe.Model(log_joint=lambda z: z[:, 0] * bool(lock), dim=1, vectorized=True)
    request = new_request(model, q, 10, 0, 0, "float64", (), True)
    with pytest.raises(fe.errors.InvalidInputError, match=r"cannot be sent to workers: .*pickle"):
        travelling.pack_functions(request)


# --- without the library ------------------------------------------------------------------------


def test_a_client_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    p = fe.Gaussian([0.0], scale=1.0)
    message = r'client= needs distributed; install it with: pip install "fastelbo\[dask\]"'
    for call in (fe.estimate, fe.elbo_terms, functools.partial(fe.expectation, "mean")):
        with pytest.raises(ImportError, match=message):
            call(p, p, 10, rng=0, client=object())
