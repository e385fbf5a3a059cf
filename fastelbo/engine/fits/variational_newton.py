"""Newton's method for the ELBO of a Gaussian q of each data point, on fixed draws."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError
from ...models.location_scale import Gaussian
from ...models.protocol import LatentModel
from ...models.subsets import joint_slopes
from ...results.fit import FitHistory
from ...validation import Floats, broadcast_shape, shown
from .fitted import FitOptions, Fitted
from .newton_steps import Diagonal, Full, Local
from .whitened_draws import default_count, whitened_draws

_LOG_2PI = math.log(2.0 * math.pi)
# density(z (S, n, D), rows (n,)): log p(x, z), shape (S, n), and its gradient (S, n, D).
Density = Callable[[Floats, NDArray[np.int64]], tuple[Floats, Floats]]

_MAX_ITER = 500
# Nats of a data point that a step may still gain where its iterations end.
_TOL = 1e-8
# Numbers of z of a block of data points, which goes through all its iterations by itself: 4 MB.
_BLOCK = 2**19
# A data point ends, too, where so many iterations gained no more than the tolerance.
_WINDOW = 20
# A start whose draws leave the support is narrowed so many times, each by half.
_NARROWINGS = 40
# Beyond, means and scales are lost: squares overflow.
_FAR = 1e150
# Of the terms of an ELBO: what rounding may change.
_ROUNDING = 2.0**-46


def newton(model: LatentModel, q0: Any, options: FitOptions) -> Fitted:
    """The Gaussian q of each data point with the largest ELBO: variational Newton.

    q0 is where the data points start; its scale, diagonal or full, is the form of q. On S fixed
    draws m + C e, with moments exactly those of e, the gradient of the ELBO by m is ``E g``, and
    Stein's lemma gives the mean curvature from gradients alone: ``K = -C' E[g e']``, made
    symmetric, in q's own coordinates. A step of rate r makes q's precision ``(1 - r) 1 + r K``, or
    its diagonal for a diagonal q, and moves m by ``r C ((1 - r) 1 + r K)^-1 C' E g``. For r = 1 it
    ends at the optimum of a quadratic log density. Each data point has a rate: it starts at 1,
    halves where a step would lower the ELBO on these draws, and doubles after another, up to 1. So
    the ELBO never falls. A data point ends where a step would gain no more than ``tol`` nats, 1e-8
    by default, or twenty gained no more: as at a kink, or at an edge of the support. The fit has
    not converged if the gradient there promises more than the standard error of the ELBO.

    References
    ----------
    Opper and Archambeau (2009), The variational Gaussian approximation revisited, Neural
    Computation 21. Khan and Lin (2017), Conjugate-computation variational inference, AISTATS.
    """
    if isinstance(q0, type) or not isinstance(q0, Gaussian):
        raise InvalidInputError(
            f'q0 must be a Gaussian for method="newton", got {shown(q0)}; "lbfgs" and "adam" fit '
            "other distributions"
        )
    batch, dim = broadcast_shape(model=model.batch_shape, q0=q0.batch_shape), model.dim
    form: type[Diagonal | Full] = Full if q0.scale is None else Diagonal
    scale = q0.scale_tril if q0.scale is None else q0.scale
    assert scale is not None
    event = (dim,) * form.event_axes
    draws = whitened_draws(dim, options.n_samples or default_count(dim), options.key)
    size, count = _block_size(draws), math.prod(batch)
    run = Newton(
        lambda z, rows: joint_slopes(model, batch, rows, z, min(size, count)),
        form,
        np.broadcast_to(q0.mean, (*batch, dim)).reshape(-1, dim),
        np.broadcast_to(scale, (*batch, *event)).reshape(-1, *event),
        draws,
        tol=_TOL if options.tol is None else options.tol,
        max_iter=options.max_iter or _MAX_ITER,
    )
    found: dict[str, Any] = {form.name: run.scale.reshape(*batch, *event)}
    q = Gaussian(run.mean.reshape(*batch, dim), **found)
    return Fitted(q, model, run.history, run.converged, run.message)


def _block_size(draws: Floats) -> int:
    return max(1, _BLOCK // draws.size)


_Answer = TypeVar("_Answer")


def _by_points(compute: Callable[[slice], _Answer], rows: NDArray[np.int64]) -> _Answer:
    """What an operation on matrices of all data points gives; an error names the data point."""
    try:
        return compute(np.s_[:])
    except np.linalg.LinAlgError as error:
        reason, bad = str(error), "some data points"
    for i, row in enumerate(rows):
        try:
            compute(np.s_[i : i + 1])
        except np.linalg.LinAlgError as error:
            reason, bad = str(error), f"data point {row}"
            break
    raise InvalidInputError(
        f"model and q0 must have a curvature that has an inverse: that of {bad} has none ({reason})"
    )


class _State(NamedTuple):
    """q of some data points, and what the draws say of it. All arrays begin with their axis."""

    rows: NDArray[np.int64]
    mean: Floats
    scale: Floats
    pairs: Floats  # log p - log q, means of the two draws of a pair, (n, S / 2)
    elbo: Floats  # -inf where a draw has no finite log p or gradient
    rounding: Floats
    slope: Floats
    values: Floats
    matrix: Floats
    move: Floats

    @property
    def local(self) -> Local:
        return Local(self.slope, self.values, self.matrix, self.move)

    @property
    def se(self) -> Floats:
        """Standard errors of the ELBOs, as if pairs of draws were independent."""
        count = self.pairs.shape[1]
        if count < 2:
            return np.full(len(self.rows), np.inf)
        return np.asarray(self.pairs.std(axis=1, ddof=1) / math.sqrt(count))

    def part(self, keep: NDArray[np.bool_] | slice) -> _State:
        return _State(*[array[keep] for array in self])  # type: ignore[arg-type]

    def replace(self, new: _State, where: NDArray[np.bool_]) -> _State:
        """The state with other entries for some data points."""
        if where.all():
            return new
        for own, other in zip(self, new, strict=True):
            own[where] = other[where]
        return self


class Newton:
    """The fit of all data points, a block of them after the other."""

    def __init__(
        self,
        density: Density,
        form: type[Diagonal | Full],
        mean: Floats,
        scale: Floats,
        draws: Floats,
        *,
        tol: float,
        max_iter: int,
    ) -> None:
        self._density, self._form, self._draws = density, form, draws
        self._tol, self._max_iter = tol, max_iter
        self.mean, self.scale = np.array(mean), np.array(scale)
        self._stuck = self._unfinished = 0
        size = _block_size(draws)
        blocks = np.split(np.arange(len(mean)), range(size, len(mean), size))
        self.history = _merged([self._fit(rows) for rows in blocks])
        self.scale = form.finished(self.scale)

    @property
    def converged(self) -> bool:
        """Whether all data points met the tolerance."""
        return not (self._stuck or self._unfinished)

    @property
    def message(self) -> str:
        """Why the fit ended."""
        if self.converged:
            return f"a further step gains at most {self._tol:g} nats a data point"
        parts = []
        if self._unfinished:
            parts.append(f"{self._unfinished} data points did not finish in {self._max_iter} steps")
        if self._stuck:
            parts.append(
                f"{self._stuck} data points ended where no step raised the ELBO as its gradient "
                "promised, as at an edge of the support"
            )
        return "; ".join(parts)

    def _fit(self, rows: NDArray[np.int64]) -> Floats:
        """Fit some data points; a row an iteration: seconds, evaluations, sums of ``pairs``."""
        start, history = time.perf_counter(), []
        at, narrowings = self._first(rows)
        rate = np.ones(len(rows))
        ended = np.zeros(len(self._draws) // 2)  # sums of the data points that are finished
        mark = np.full(len(rows), -np.inf)  # ELBOs at the start of a window
        evaluations = len(rows) * len(self._draws) * (1 + narrowings)
        for iteration in range(self._max_iter + 1):
            seconds = time.perf_counter() - start
            history.append([seconds, evaluations, *(ended + at.pairs.sum(axis=0))])
            gain, tol = at.local.gain, np.maximum(self._tol, at.rounding)
            left = gain > tol
            if iteration % _WINDOW == 0:
                left &= at.elbo - mark > tol
                mark = at.elbo.copy()
            last = iteration == self._max_iter
            out = at if last else at.part(~left)
            self.mean[out.rows], self.scale[out.rows] = out.mean, out.scale
            self._stuck += int((~left & (gain > np.maximum(tol, at.se))).sum())
            if last or not left.any():
                self._unfinished += int(left.sum())
                break
            if not left.all():
                ended = ended + out.pairs.sum(axis=0)
                at, rate, mark = at.part(left), rate[left], mark[left]
            new = self._state(at.rows, *self._step(at, rate))
            evaluations += len(rate) * len(self._draws)
            better = new.elbo >= at.elbo - at.rounding
            at = at.replace(new, better)
            rate = np.where(better, np.minimum(1.0, 2.0 * rate), 0.5 * rate)
        return np.array(history)

    def _step(self, at: _State, rate: Floats) -> tuple[Floats, Floats]:
        def of(some: slice) -> tuple[Floats, Floats]:
            part = at.part(some)
            return self._form.step(part.mean, part.scale, part.local, rate[some])

        return _by_points(of, at.rows)

    def _first(self, rows: NDArray[np.int64]) -> tuple[_State, int]:
        """The state at q0, narrowed where draws leave the support, and how often that was."""
        mean, scale = self.mean[rows], self.scale[rows]
        lost = np.ones(len(rows), np.bool_)
        for narrowings in range(_NARROWINGS):
            state = self._state(rows, mean, scale)
            lost = np.isneginf(state.elbo)
            if not lost.any():
                return state, narrowings
            scale[lost] *= 0.5
        i = int(lost.argmax())
        raise InvalidInputError(
            "q0 must have means at and near which log p(x, z) and its gradient are finite: they "
            f"are not for data point {rows[i]}, at {np.array2string(mean[i], threshold=6)}"
        )

    @np.errstate(all="ignore")
    def _state(self, rows: NDArray[np.int64], mean: Floats, scale: Floats) -> _State:
        """The ELBO on the draws, and its derivatives in the coordinates of q."""
        draws, half, (n, dim) = self._draws, len(self._draws) // 2, mean.shape
        lost = ~(np.abs(mean).max(axis=1) < _FAR)
        lost |= ~(np.abs(scale).reshape(n, -1).max(axis=1) < _FAR)
        z = self._form.spread(scale, draws)
        z += mean
        z[:, lost] = 0.0
        values, slopes = self._density(z, rows)
        slope = slopes.mean(axis=0)
        # A pair of draws is e and -e: E[g e'] takes the difference of its gradients.
        odd = (slopes[:half] - slopes[half:]).reshape(half, n * dim)
        stein = (odd.T @ draws[:half] / len(draws)).reshape(n, dim, dim)
        lost |= ~(np.isfinite(values).all(axis=0) & np.isfinite(slope).all(axis=1))
        lost |= ~np.isfinite(stein).all(axis=(1, 2))
        if lost.any():
            values = values.copy()
            values[:, lost], slope[lost], stein[lost] = 0.0, 0.0, 0.0
        entropy = self._form.log_det(scale)[:, None] + 0.5 * (
            (draws[:half] ** 2).sum(axis=1) + dim * _LOG_2PI
        )
        pairs = 0.5 * (values[:half] + values[half:]).T + entropy
        elbo = np.where(lost, -np.inf, pairs.mean(axis=1))
        rounding = _ROUNDING * (np.abs(values).mean(axis=0) + np.abs(entropy).max(axis=1))
        local = _by_points(lambda i: self._form.local(scale[i], slope[i], stein[i]), rows)
        return _State(rows, mean, scale, pairs, elbo, rounding, *local)


def _merged(runs: list[Floats]) -> FitHistory:
    """The history of all blocks, as if their iterations had alternated."""
    length = max(len(run) for run in runs)
    rows = sum(np.concatenate([run, np.repeat(run[-1:], length - len(run), 0)]) for run in runs)
    pairs = np.asarray(rows)[:, 2:]
    # Data points share their draws, so that the error is that of their sums.
    se = np.full(length, np.nan)
    if pairs.shape[1] > 1:
        se = pairs.std(axis=1, ddof=1) / math.sqrt(pairs.shape[1])
    seconds, evaluations = np.asarray(rows)[:, :2].T
    return FitHistory(np.arange(length), seconds, pairs.mean(axis=1), se, evaluations)
