"""Estimates that go on where others ended: from a checkpoint, or from a kept state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import CheckpointMismatchError, InvalidInputError
from ..kernels.cpu.launch import SLICE_NUMBERS
from ..progress import Tick
from ..random import Key, RandomState
from ..results.estimate import Estimate
from ..results.kept_state import KeptState
from ..validation import as_flag, as_number, require_memory, shown
from ..weights.pareto import kept_draws
from .checkpoints import ESTIMATE, Arrays, Facts, as_path
from .folded import Folded
from .generations import Generations, warn_at_call
from .identity import difference, facts_of, machine
from .journal import Base, Found, RunJournal
from .loop import Position
from .lowered import host_densities
from .states import Quantities
from .task import Backend, EstimateRequest, Resumable

DEFAULT_EVERY = 60.0
# A kept state has the largest log weights that so many times the draws need.
_GROWTH = 16
# The fact that may grow.
_DRAWS = "n_samples"


class Resume:
    """What a call of `fastelbo.estimate` asks to go on from, and to keep.

    A context, in which the run has its checkpoint to itself.
    """

    def __init__(self, checkpoint: Any, every: Any, previous: Any, keep_state: Any) -> None:
        self.keeps = as_flag(keep_state, "keep_state")
        self._previous = None if previous is None else _state_of(previous)
        self._file: Generations | None = None
        self._saved: tuple[Facts, Arrays] | None = None
        self._every = as_number(every, "checkpoint_every")
        if not 0.0 < self._every < math.inf:
            raise InvalidInputError(
                f"checkpoint_every must be a positive number of seconds, got {shown(self._every)}"
            )
        if checkpoint is not None:
            self._file = Generations(as_path(checkpoint, "checkpoint"), ESTIMATE)
        # The state that the call leaves, if it was asked for.
        self.state: KeptState | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """The arguments that were given, of these."""
        given = {
            "checkpoint": None if self._file is None else str(self._file.path),
            "previous": self._previous,
            "keep_state": self.keeps or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def refuse(self, because: str) -> None:
        """Raise an error if something was asked."""
        for name, value in self.asked.items():
            none = "False" if name == "keep_state" else "None"
            raise InvalidInputError(f"{name} must be {none} {because}; got {shown(value)}")

    def __enter__(self) -> Resume:
        if self._file is not None:
            self._saved = self._file.read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._file is not None:
            self._file.close()

    def seed(self, rng: RandomState) -> RandomState | Key:
        """The seed; without one, the key of what the run goes on from."""
        if rng is not None:
            return rng
        if self._saved is not None:
            return Key(self._saved[0]["facts"]["key"])
        return None if self._previous is None else Key(self._previous.facts["key"])

    def quantities(self, backend: Backend, request: EstimateRequest, tick: Tick) -> Quantities:
        """The quantities of a request, from what is there already."""
        if not self.asked:
            return backend.quantities(request, tick)
        if not isinstance(backend, Resumable):
            self.refuse('but for backend="cpu" and "auto", whose states are in main memory')
        assert isinstance(backend, Resumable)
        if request.design is not None and (self.keeps or self._previous is not None):
            self._refuse_sobol()
        facts = facts_of(request)
        found, base, capacity = self._start(request, facts)
        request = request._replace(form=request.form._replace(capacity=capacity))
        numbers = request.points * request.form.size
        if self.keeps:
            require_memory("the state that keep_state=True keeps", 8 * numbers)
        cut = request.cut
        fits = self._file is not None and request.design is None and numbers <= SLICE_NUMBERS
        save = None
        if self._file is not None:
            known = {"facts": facts, "capacity": capacity, "machine": machine()}
            if found is None:
                # A path that nobody can write to is told at once, and a new key is not lost.
                self._file.write({**known, "position": Position()}, {})
            save = partial(self._save, known)
        journal = RunJournal(
            cut.draws // cut.chunk, found=found, base=base, keeps=self.keeps or fits, save=save,
            every=self._every,
        )  # fmt: skip
        values = backend.resumed(request, tick, journal)
        if self.keeps:
            self.state = _kept_state(request, facts, journal.kept())
        return values

    def _save(self, known: Facts, position: Position, arrays: Arrays) -> None:
        assert self._file is not None
        self._file.try_to_write({**known, "position": position}, arrays)

    def _refuse_sobol(self) -> None:
        name = "keep_state" if self.keeps else "previous"
        raise InvalidInputError(
            f'{name} must not be given with sampler="sobol": of more draws, each replicate has '
            "other addresses"
        )

    # --- where to begin -------------------------------------------------------------------------

    def _start(
        self, request: EstimateRequest, facts: Facts
    ) -> tuple[Found | None, Base | None, int]:
        """What was found in the checkpoint, the states to go on from, and how long tails are."""
        needed = kept_draws(request.n_samples) if request.form.capacity else 0
        found, ended, bases = None, None, []
        if self._saved is not None:
            known, arrays = self._saved
            self._check_checkpoint(known, facts, request)
            ended = Found.of(Position(*known["position"]), arrays)
            if known["facts"][_DRAWS] == request.n_samples:
                found, needed = ended, known["capacity"]
                self._require_kept(found, request)
            else:
                bases.append((known["facts"][_DRAWS], known["capacity"], ended.kept))
        if self._previous is not None:
            state = self._previous
            self._check_previous(state, facts, request)
            bases.append((state.facts[_DRAWS], state.capacity, _folded(state)))
        for draws, capacity, folded in bases:
            steps, fits = draws // request.cut.chunk, capacity >= needed
            if found is not None:
                fits = capacity == needed
            if steps and fits and folded is not None and _same_batches(request, draws):
                return found, Base(steps, folded), capacity
        if self.keeps and needed and found is None:
            needed = kept_draws(_GROWTH * request.n_samples)
        return found, None, needed

    def _require_kept(self, found: Found, request: EstimateRequest) -> None:
        """Raise an error if states are wanted of data points whose states are gone."""
        assert self._file is not None
        whole = request.n_samples >= request.cut.chunk
        if self.keeps and whole and found.position.lo and found.kept is None:
            raise CheckpointMismatchError(
                f"checkpoint {self._file.path} is of another run: keep_state False, not True, and "
                f"too many states to be kept without it. Give another path"
            )

    def _check_checkpoint(self, known: Facts, facts: Facts, request: EstimateRequest) -> None:
        """Raise an error if the checkpoint is of another run; warn if it is of another machine."""
        assert self._file is not None
        path, theirs, draws = self._file.path, known["facts"], known["facts"][_DRAWS]
        ended = known["position"][0] >= request.points
        grows = ended and draws < request.n_samples and request.design is None
        other = difference(theirs, facts, *(_grown(draws, request) if grows else ()))
        if other.startswith(_DRAWS):
            other += " (only a run that has ended goes on with more draws, and none with fewer)"
        if other:
            raise CheckpointMismatchError(
                f"checkpoint {path} is of another run: {other}. Give the arguments of that run, or "
                "another path, or remove it to begin anew"
            )
        _warn_of_machine(f"checkpoint {path}", known["machine"])

    def _check_previous(self, state: KeptState, facts: Facts, request: EstimateRequest) -> None:
        """Raise an error if the estimate is not of the same run, with no more draws."""
        draws = state.facts[_DRAWS]
        grows = draws < request.n_samples
        other = difference(state.facts, facts, *(_grown(draws, request) if grows else ()))
        if other:
            raise InvalidInputError(
                "previous must be an estimate of the same model, q and options, with no more "
                f"draws; it has {other}"
            )
        _warn_of_machine("previous", state.machine)


def _grown(draws: int, request: EstimateRequest) -> tuple[str, ...]:
    """What may differ where a run of so many draws goes on."""
    # Nothing is kept of less than a chunk, and by default it has fewer groups, or no k-hat.
    return (_DRAWS,) if draws >= request.cut.chunk else (_DRAWS, "iw_sizes", "pareto_k")


def _warn_of_machine(what: str, known: Mapping[str, Any]) -> None:
    others = difference(known, machine())
    if others:
        warn_at_call(f"{what} was made where the last bits may differ: {others}")


def _state_of(previous: Any) -> KeptState:
    state = getattr(previous, "_state", None) if isinstance(previous, Estimate) else None
    if state is None:
        raise InvalidInputError(
            f"previous must be an Estimate of estimate(..., keep_state=True), got {shown(previous)}"
        )
    assert isinstance(state, KeptState)
    return state


def _same_batches(request: EstimateRequest, draws: int) -> bool:
    """Whether functions on the host get the same batches for fewer draws: bits depend on them."""
    return all(
        density.batch(draws, request.points) == density.batch(request.n_samples, request.points)
        for density in host_densities(request).values()
    )


def _folded(state: KeptState) -> Folded:
    return Folded(state.earlier, state.last, state.top_rows, state.last[:0])


def _kept_state(request: EstimateRequest, facts: Facts, folded: Folded | None) -> KeptState:
    if folded is None:
        none = np.empty((0, 0))
        folded = Folded(none, none, none[..., None], none)
    chunk = request.cut.chunk
    return KeptState(
        request.n_samples // chunk * chunk, facts, machine(), request.form.capacity,
        folded.earlier, folded.last, folded.top_rows,
    )  # fmt: skip
