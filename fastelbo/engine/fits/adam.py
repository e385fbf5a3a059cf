"""Adam on fresh draws: fits by batches of data points, and of models on the host."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError
from ...kernels.cpu.launch import sample
from ...models.location_scale import Gaussian, StudentT
from ...models.plans import draw_sampler
from ...models.protocol import LatentModel, Points
from ...models.subsets import joint_slopes
from ...progress import progress_bar
from ...random import pilot_key
from ...validation import Floats
from .component_sums import Sums, component_sums
from .fitted import FitOptions, Fitted, Recorder
from .q_vector import QVector

_STEPS = 2000
_RATE = 0.05
# The rate falls to this share of the first one, by the same factor each step.
_LAST_SHARE = 1e-3
_DRAWS = 4
# Gain of a look in nats a data point, below which a fit ends even if draws agree on it.
_TOL = 1e-6
_DECAYS = (0.9, 0.999)
_TINY = 1e-8
# The ELBO on common draws is looked at so many times.
_WINDOWS = 20
# Most data points, and draws of each, of such a look.
_HELD_OUT = 1000
_HELD_OUT_DRAWS = 64
# Keys beside those of the steps, which count from 0.
_OF_DATA, _OF_LOOKS = 2**31, 2**31 + 1


def adam(model: LatentModel, q0: Any, options: FitOptions) -> Fitted:
    """The q of q0's family with the largest sum of ELBOs, by Adam on fresh draws.

    A step takes ``batch_size`` data points, all by default, in an order that is shuffled each time
    all were taken, and ``n_samples`` draws of each (4 by default), of each component of a mixture.
    Gradients are those by the path of a draw alone (sticking the landing), which have no noise
    where q is the posterior. The rate falls to a thousandth of the first over ``max_iter`` steps
    (2000 by default): a constant one would leave q as noisy as its last steps. q is the mean of the
    iterates of the last half.

    Twenty times the ELBO of that mean is estimated on common draws, those of no step. From the
    middle of the steps on, the fit ends when two gains in a row are below their standard error, or
    below ``tol`` nats a data point, 1e-6 by default.

    References
    ----------
    Kingma and Ba (2015), Adam: a method for stochastic optimization, ICLR. Polyak and Juditsky
    (1992), Acceleration of stochastic approximation by averaging, SIAM J. Control 30.
    """
    if options.wrt != "q":
        raise InvalidInputError('wrt must be "q" for method="adam"')
    return _Adam(model, q0, options).fit()


class _Adam:
    def __init__(self, model: LatentModel, q0: Any, options: FitOptions) -> None:
        self._model, self._batch, self._options = model, model.batch_shape, options
        self._form = QVector(q0, self._batch)
        self._points = math.prod(self._batch)
        self._size = min(options.batch_size or self._points, self._points)
        if self._size < self._points and not self._form.shared:
            raise InvalidInputError(
                "batch_size must be left out where data points have q of their own: a step would "
                'not move the q of other points. method="newton" fits each data point by itself; '
                "a q0 without a batch is one q for all"
            )
        self._draws = options.n_samples or _DRAWS
        self._evaluations = 0
        shuffled = np.random.default_rng(pilot_key(options.key, _OF_DATA)).permutation(self._points)
        self._held_out = np.sort(shuffled[:_HELD_OUT])
        self._order = _Order(self._points, self._size, pilot_key(options.key, _OF_DATA))

    def fit(self) -> Fitted:
        """Take the steps."""
        options, steps = self._options, self._options.max_iter or _STEPS
        rate = options.learning_rate or _RATE
        vector = self._form.start
        first, second = np.zeros_like(vector), np.zeros_like(vector)
        windows = _Windows(len(vector), steps)
        recorder, stop = Recorder(), _Stop(_TOL if options.tol is None else options.tol)
        self._look(vector, 0, recorder, stop)
        message, converged = "max_iter was reached while the ELBO still rose", False
        with progress_bar(options.progress, steps) as tick:
            for step in range(steps):
                slope = self._gradient(vector, step)
                first += (1.0 - _DECAYS[0]) * (slope - first)
                second += (1.0 - _DECAYS[1]) * (slope**2 - second)
                mean, square = (
                    each / (1.0 - decay ** (step + 1))
                    for each, decay in zip((first, second), _DECAYS, strict=True)
                )
                now = rate * _LAST_SHARE ** (step / steps)
                vector = vector + now * mean / (np.sqrt(square) + _TINY)
                tick(1)
                if windows.add(vector):
                    self._look(windows.mean, step + 1, recorder, stop)
                    if stop.is_met and 2 * (step + 1) >= steps:
                        converged = True
                        message = (
                            "the ELBO on common draws gained less than its standard error or tol"
                        )
                        break
        q = self._form.q(windows.mean)
        return Fitted(q, self._model, recorder.history, converged, message)

    def _gradient(self, vector: Floats, step: int) -> Floats:
        """Of the mean over data points, on fresh draws."""
        rows = self._order.next()
        draws = self._fresh(rows, self._draws, pilot_key(self._options.key, step))
        slopes = self._sums(vector, rows, draws, step).slopes
        return self._form.pull(vector, rows, slopes) / len(rows)

    def _look(self, vector: Floats, step: int, recorder: Recorder, stop: _Stop) -> None:
        """The ELBO on common draws: an entry of the history."""
        rows = self._held_out
        draws = self._fresh(rows, _HELD_OUT_DRAWS, pilot_key(self._options.key, _OF_LOOKS))
        terms = self._sums(vector, rows, draws, step).terms.sum(axis=1)
        stop.add(terms)
        share = self._points / len(rows)
        each = terms.var(axis=1, ddof=1) / terms.shape[1]
        se = share * math.sqrt(float(each.sum()))
        recorder.add(step, share * float(terms.mean(axis=1).sum()), se, self._evaluations)

    @np.errstate(all="ignore")
    def _sums(self, vector: Floats, rows: NDArray[np.int64], draws: Floats, step: int) -> Sums:
        self._evaluations += math.prod(draws.shape[:3])
        sums = component_sums(
            self._density, self._form.parts(vector, rows), self._form.constants(rows), draws, rows,
            path=True,
        )  # fmt: skip
        fits = np.isfinite(sums.terms).all(axis=(1, 2))
        for slope in sums.slopes:
            fits &= np.isfinite(slope).reshape(len(rows), -1).all(axis=1)
        if not fits.all():
            i = int(rows[fits.argmin()])
            raise InvalidInputError(
                "model must have finite log densities and gradients at all draws of q; after "
                f"{step} steps one of data point {i} is not: another q0 or a smaller learning_rate "
                "may help"
            )
        return sums

    def _density(self, z: Floats, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        if not np.isfinite(z).all():
            return np.full(z.shape[:2], np.nan), np.full(z.shape, np.nan)
        return joint_slopes(self._model, self._batch, rows, z)

    def _fresh(self, rows: NDArray[np.int64], count: int, key: int) -> Floats:
        """Standardised draws (n, C, S, D) by their addresses."""
        dim, components = self._form.dim, self._form.count
        members = len(rows) * components
        _, df = self._form.constants(rows)
        law: Gaussian | StudentT = Gaussian(np.zeros(dim), scale=1.0)
        batch: tuple[int, ...] = ()
        if df is not None:
            law, batch = StudentT(df.reshape(-1), np.zeros(dim), scale=1.0), (members,)
        addresses = (rows[:, None] * components + np.arange(components)).reshape(-1)
        addresses.setflags(write=False)
        drawn = sample(
            draw_sampler(law, Points(batch), "float64"), members, count, dim, key, points=addresses,
            n_threads=self._options.n_threads,
        )  # fmt: skip
        return np.swapaxes(drawn, 0, 1).reshape(len(rows), components, count, dim)


class _Order:
    """Batches of data points; each point once before any again."""

    def __init__(self, points: int, size: int, key: int) -> None:
        self._points, self._size = points, size
        self._rng, self._left = np.random.default_rng(key), np.arange(0)

    def next(self) -> NDArray[np.int64]:
        """The data points of a step, in ascending order."""
        if self._size == self._points:
            return np.arange(self._points)
        if len(self._left) < self._size:
            self._left = self._rng.permutation(self._points)
        taken, self._left = self._left[: self._size], self._left[self._size :]
        return np.sort(taken)


class _Windows:
    """Means of the iterates of the last half, by windows."""

    def __init__(self, size: int, steps: int) -> None:
        self._length = max(1, steps // _WINDOWS)
        self._sums: list[Floats] = []
        self._sum, self._count = np.zeros(size), 0

    def add(self, vector: Floats) -> bool:
        """Whether a window ends with this iterate."""
        self._sum, self._count = self._sum + vector, self._count + 1
        if self._count < self._length:
            return False
        self._sums.append(self._sum / self._count)
        self._sum, self._count = np.zeros_like(vector), 0
        return True

    @property
    def mean(self) -> Floats:
        half = self._sums[len(self._sums) // 2 :] or [self._sum / max(1, self._count)]
        return np.asarray(np.mean(half, axis=0))


class _Stop:
    """Whether the last two gains were below their standard errors, or the tolerance."""

    def __init__(self, tol: float) -> None:
        self._tol, self._last, self._small = tol, np.zeros((0, 0)), 0

    def add(self, terms: Floats) -> None:
        """Take log p - log q (n, S) at common draws."""
        if len(self._last):
            gain = terms - self._last
            # Data points are fixed; draws are not.
            each = gain.var(axis=1, ddof=1) / gain.shape[1]
            se = math.sqrt(float(each.sum()))
            total = float(gain.mean(axis=1).sum())
            small = total <= max(se, self._tol * len(terms))
            self._small = self._small + 1 if small else 0
        self._last = terms

    @property
    def is_met(self) -> bool:
        return self._small >= 2
