"""L-BFGS on fixed draws: fits of a q that data points share, or that is no Gaussian."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError
from ...models.mixture import Mixture
from ...models.protocol import LatentModel
from ...models.subsets import joint_slopes
from ...random import pilot_key
from ...validation import Floats
from .component_sums import component_sums
from .fitted import FitOptions, Fitted, Recorder
from .q_vector import QVector
from .whitened_draws import default_count, student_draws, whitened_draws

_MAX_ITER = 1000
# Nats of a data point that the last iterations gained, where a fit ends.
_TOL = 1e-8
# By so many nats a data point the gradient may promise more where a line search ends.
_PROMISED = 1e-3
_WINDOW = 5
# Numbers of z of a slice of data points: 4 MB.
_SLICE = 2**19
# Of the draws of each component of a mixture: its log density is far from quadratic.
_FOR_MIXTURES = 8
# Where log densities are so much larger than at the start, their difference is rounding alone.
_CANCELLED = 1e6
# Steps that the search remembers.
_MEMORY = 20


def common_draws(model: LatentModel, q0: Any, options: FitOptions) -> Fitted:
    """The q of q0's family with the largest sum of ELBOs over data points, by L-BFGS.

    The search starts at q0, and keeps one set of whitened draws of each component, so that the
    ELBO is a smooth function: a sample average approximation (Giordano, Ingram and Broderick, 2024,
    Black box variational inference with a deterministic objective, JMLR 25). Free are means, logs
    of scales, triangular scales with the log of their diagonal, and logits, of each member of q0's
    batch. It ends when the last five iterations gained at most ``tol`` nats a data point.
    """
    from scipy.optimize import minimize

    _require_method(options)
    count = default_count(model.dim) * (_FOR_MIXTURES if isinstance(q0, Mixture) else 1)
    objective = Objective(model, q0, options.n_samples or count, options.key)
    search = _Search(objective, _TOL if options.tol is None else options.tol)
    limit = options.max_iter or _MAX_ITER
    result = minimize(
        search.loss, objective.form.start, jac=True, method="L-BFGS-B", callback=search.step,
        options={"maxiter": limit, "maxfun": 20 * limit, "maxcor": _MEMORY, "ftol": 0.0,
                 "gtol": 1e-12},
    )  # fmt: skip
    converged, message = _ended(search, result)
    q = objective.form.q(search.best)
    return Fitted(q, model, search.recorder.history, converged, message)


def _ended(search: _Search, result: Any) -> tuple[bool, str]:
    """Whether a search converged, and what ended it."""
    if search.message:
        return True, search.message
    if result.status == 1:
        return False, "max_iter was reached"
    slope = np.asarray(result.jac)
    promised = 0.5 * float(slope @ (result.hess_inv @ slope))
    if promised <= _PROMISED:
        return True, "no further gain was found"
    return False, (
        f"no step raised the ELBO, though its gradient promises {promised:.1g} nats a data point, "
        "as at an edge of the support"
    )


def _require_method(options: FitOptions) -> None:
    if options.wrt != "q":
        raise InvalidInputError('wrt must be "q" for method="lbfgs" of such a model')


class Objective:
    """The sum of ELBOs on fixed draws, as a function of a vector."""

    def __init__(self, model: LatentModel, q0: Any, count: int, key: int) -> None:
        self._model, self._batch = model, model.batch_shape
        self.form = QVector(q0, self._batch)
        self.points = math.prod(self._batch)
        normals = [
            whitened_draws(self.form.dim, count, pilot_key(key, c)) for c in range(self.form.count)
        ]
        # Of each df that occurs: shape (kinds, C, S, D), and which of them a data point has.
        _, df = self.form.constants(np.arange(self.points))
        self._kind: NDArray[np.int64] = np.zeros((self.points, self.form.count), np.int64)
        kinds = [np.array(normals)]
        if df is not None:
            values, kind = np.unique(df, return_inverse=True)
            self._kind = kind.reshape(df.shape)
            kinds = [np.array([student_draws(e, float(v)) for e in normals]) for v in values]
        self._draws = np.array(kinds)
        size = max(1, _SLICE // (self._draws[0].size * self.form.count))
        self._slices = np.split(np.arange(self.points), range(size, self.points, size))
        self._most = min(size, self.points)
        self.evaluations, self._limit = 0, math.inf

    @np.errstate(all="ignore")
    def __call__(self, vector: Floats) -> tuple[Floats, Floats]:
        """Terms of the ELBO (C, S), summed over data points, and the gradient of their mean."""
        terms, gradient = np.zeros(self._draws.shape[1:3]), np.zeros(len(vector))
        largest = 0.0
        for rows in self._slices:
            draws = self._draws
            if len(draws) > 1:
                draws = draws[self._kind[rows], np.arange(self.form.count)]
            sums = component_sums(
                self._density, self.form.parts(vector, rows), self.form.constants(rows), draws,
                rows, path=False,
            )  # fmt: skip
            terms += sums.terms.sum(axis=0)
            largest = max(largest, sums.largest)
            gradient += self.form.pull(vector, rows, sums.slopes)
        self.evaluations += self.points * terms.size
        if math.isinf(self._limit):
            self._limit = _CANCELLED * (1.0 + largest)
        if not largest <= self._limit:
            terms[:] = np.nan
        return terms, gradient

    def _density(self, z: Floats, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        if not np.isfinite(z).all():
            return np.full(z.shape[:2], np.nan), z
        return joint_slopes(self._model, self._batch, rows, z, self._most)


class _Search:
    """The loss of L-BFGS, minus the ELBO a data point, and what it has reached."""

    def __init__(self, objective: Objective, tol: float) -> None:
        self._objective, self._tol = objective, tol
        self.best, self._loss = objective.form.start, math.inf
        self._terms = np.zeros((0, 0))
        self._gains: list[float] = []
        self.recorder, self.message = Recorder(), ""
        self._iteration = 0

    def loss(self, vector: Floats) -> tuple[float, Floats]:
        """The loss and its gradient. Where the ELBO is not finite, a wall behind the best point."""
        terms, gradient = self._objective(vector)
        loss = -float(terms.mean(axis=1).sum()) / self._objective.points
        if not (math.isfinite(loss) and np.isfinite(gradient).all()):
            if self._iteration == 0 and math.isinf(self._loss):
                raise InvalidInputError(
                    "q0 must have draws at which log p(x, z) and its gradient are finite; at some "
                    "they are not"
                )
            away = vector - self.best
            height = 1e3 * (1.0 + abs(self._loss))
            return self._loss + height, 2.0 * height * away / max(float(away @ away), 1e-300)
        if loss < self._loss:
            first = math.isinf(self._loss)
            self.best, self._loss, self._terms = np.array(vector), loss, terms
            if first:
                self._record()
        return loss, -gradient / self._objective.points

    def step(self, _: Floats) -> None:
        """After an iteration: end the search if the last ones gained too little."""
        self._iteration += 1
        self._record()
        self._gains.append(self._loss)
        if len(self._gains) > _WINDOW and self._gains[-1 - _WINDOW] - self._loss <= self._tol:
            self.message = (
                f"the last {_WINDOW} iterations gained at most {self._tol:g} nats a data point"
            )
            raise StopIteration

    def _record(self) -> None:
        """An entry of the history; its error is that of sums over pairs of draws."""
        half = self._terms.shape[1] // 2
        pairs = 0.5 * (self._terms[:, :half] + self._terms[:, half:])
        se = math.sqrt(float(pairs.var(axis=1, ddof=1).sum()) / half) if half > 1 else math.nan
        elbo = float(pairs.mean(axis=1).sum())
        self.recorder.add(self._iteration, elbo, se, self._objective.evaluations)
