"""Quantities of draws whose log densities are in memory, and slices of data points that fit there.

The kernel of estimates takes the log densities as values that are supplied for its draws. So the
quantities are, to the last bit, those of an estimate that makes the draws and stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..arrays.inputs import constant
from ..kernels.cpu import drivers
from ..kernels.cpu.launch import ELEMENT_WORK, SLICE_NUMBERS, Pace, launch, new_counter
from ..kernels.draws.blocks import Cut, Plan, Term
from ..models.lowering import no_coordinates
from ..models.terms import supplied_term
from ..progress import Tick, no_tick
from ..validation import Floats, require_memory
from .host import Plans, Range, group_size, ranges_of_steps
from .loop import HostSlice, Slice, folded_quantities
from .lower_tails import Indices, with_tails_of_densities
from .states import Quantities, StateForm, States
from .task import EstimateRequest

# Log likelihood, log prior and log q (points, draws).
StoredTerms = tuple[Floats, Floats, Floats]

_FIRST_ELEMENTS = 2**22
# Most supplied values at once, of one data point or several: 64 MB.
_SUPPLIED_ELEMENTS = 2**23
# Most numbers that are stored for the draws of a slice of data points: 128 MB.
STORED_NUMBERS = 2**24


def slices_of_points(
    request: EstimateRequest, numbers: int = 3, what: str = "the terms of all draws"
) -> Iterator[Indices]:
    """Slices of the data points of a request, with ``numbers`` numbers stored for each draw.

    Each begins where batches of a function on the host begin, so that no slice changes a bit.

    Raises
    ------
    MemoryError
        If a single slice, of at least one data point, exceeds the main memory.
    """
    a_point, group = numbers * request.n_samples, group_size(request)
    count = max(1, STORED_NUMBERS // a_point // group) * group
    require_memory(what, 8 * a_point * min(count, request.points))
    # Without data points, there is one slice without any.
    for lo in range(0, max(1, request.points), count):
        yield np.arange(lo, min(lo + count, request.points))


def stored_quantities(
    terms: StoredTerms,
    request: EstimateRequest,
    points: Indices,
    tick: Tick = no_tick,
    n_threads: int | None = None,
) -> Quantities:
    """The quantities of some data points of a request, from the terms of all their draws."""
    cut, form = request.cut, request.form
    places = request.places(points)
    assert not isinstance(places, slice)

    def plans(lo: int, stop: int) -> Plans:
        rows = [each[lo:stop] for each in terms]
        return lambda ranges: _plan(rows, cut, ranges)

    values = supplied_quantities(
        plans, places, cut, form, tick, key=request.key, first_index=request.first_index,
        n_threads=n_threads,
    )  # fmt: skip

    def fill(_: EstimateRequest, rows: Indices, first: int, stop: int, out: Floats) -> None:
        for each, array in zip(out, terms, strict=True):
            each[:] = array[rows, first:stop]

    return with_tails_of_densities(values, request, fill)


def _plan(terms: list[Floats], cut: Cut, ranges: list[Range]) -> Plan:
    """The plan of draws without coordinates, all of whose log densities are known."""

    def term(values: Floats) -> Term:
        if cut.replicates > 1:
            values = np.concatenate([values[:, start:end] for start, end in ranges], axis=1)
        return supplied_term(values)

    likelihood, prior, q = map(term, terms)
    return Plan(no_coordinates(), q, prior, likelihood, 0)


def supplied_quantities(
    plans: Callable[[int, int], Plans],
    points: Indices,
    cut: Cut,
    form: StateForm,
    tick: Tick,
    *,
    key: int = 0,
    first_index: int = 0,
    n_threads: int | None = None,
) -> Quantities:
    """Fold and read the states of draws whose log densities ``plans(lo, stop)`` supply.

    Those are the plans of data points lo to stop, whose addresses are ``first_index + points``.
    Key and addresses fix the order of draws in groups across replicates.
    """
    pace = Pace(max(1, _FIRST_ELEMENTS // cut.drawn(1)))

    def part(lo: int, stop: int) -> HostSlice:
        states, own = States(stop - lo, form, n_threads), plans(lo, stop)

        def fill(first: int, last: int, moments: Floats, top_rows: Floats) -> None:
            counter, draws = new_counter(), cut.drawn(last) - cut.drawn(first)
            launch(
                drivers.driver_of_states(cut), own(ranges_of_steps(cut, first, last)),
                np.uint64(key), first_index,
                constant(points[lo:stop]), cut, first, states.iw_sizes, states.capacity,
                states.top_rows, moments, top_rows, counter, n_threads=n_threads,
                work=ELEMENT_WORK * (stop - lo) * draws, counter=counter,
            )  # fmt: skip

        return HostSlice(states, fill, most_states=_SUPPLIED_ELEMENTS // cut.chunk)

    def source(run: Callable[[Slice], None]) -> None:
        most = SLICE_NUMBERS // (form.size + cut.drawn(1))
        lo = 0
        while lo < len(points):
            stop = lo + max(1, min(pace.size // cut.steps, most, len(points) - lo))
            run(part(lo, stop))
            lo = stop

    return folded_quantities(source, len(points), cut, form, pace, tick)
