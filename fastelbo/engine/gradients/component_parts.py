"""Draws of one component of a mixture q, by address, with what their gradients are made of.

The kernels make the draws, and log p(x, z) with its gradient; a function on the host is called with
batches of them. The draws of component c have the key ``pilot_key(key, 2^20 + c)``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...arrays.inputs import constant
from ...errors import InvalidInputError, InvalidWeightError
from ...kernels.cpu import gradients
from ...kernels.cpu.launch import launch, new_counter, sample
from ...models.component_scores import ComponentDraws, Scores
from ...models.host import Batch, HostDensity
from ...models.linear_gaussian import LinearGaussian
from ...models.linear_scores import LinearScores, numbers_of_draw
from ...models.mixture import Mixture
from ...models.protocol import LatentModel, Points
from ...models.slopes import gradient_calls
from ...models.terms import Supplied, Zero
from ...random import pilot_key
from ...validation import Floats, broadcast_shape

_FIRST_COMPONENT = 2**20
# Numbers that the arrays of a block of groups hold for a data point, about.
_BLOCK = 2**17
_MOST_GROUPS = 4096
# Fixed cost of a draw, in multiply-adds.
_DRAW_WORK = 64


class MixtureTask(NamedTuple):
    """What is asked for, checked."""

    model: LatentModel
    q: Mixture
    n_groups: int
    k: int
    estimator: str  # "stl", "total" or "siwae"
    wrt: Collection[str]  # "q", "model", "log_scale"
    key: int
    heavy: NDArray[np.bool_]  # data points without a standard error
    first_index: int = 0
    n_threads: int | None = None

    @property
    def batch(self) -> tuple[int, ...]:
        """The common batch of model and q."""
        return broadcast_shape(model=self.model.batch_shape, q=self.q.batch_shape)

    @property
    def of_model(self) -> bool:
        """Whether gradients of the model are asked for."""
        return "model" in self.wrt

    @property
    def of_q(self) -> bool:
        """Whether gradients of q are asked for."""
        return "q" in self.wrt or "log_scale" in self.wrt

    @property
    def numbers_of_draw(self) -> int:
        """About the numbers that a group holds for each of its draws."""
        dim, count = self.q.dim, self.q.weights.shape[-1]
        own = 4 * dim * (count + 2) + (count * dim**2 if self.q.components.scale is None else 0)
        if self.of_model and isinstance(self.model, LinearGaussian):
            own += numbers_of_draw(self.model)
        return int(own)

    @property
    def groups(self) -> int:
        """Groups of a block."""
        return max(1, min(_MOST_GROUPS, _BLOCK // (self.k * self.numbers_of_draw)))

    def host_batch(self, density: HostDensity) -> Batch:
        """The shape of batches of a density on the host."""
        return density.batch(self.groups * self.k, math.prod(self.batch))

    @property
    def points_of_batch(self) -> int:
        """Data points that share such batches. Slices begin at multiples of it."""
        parts = self.model.prior, self.model.likelihood
        return max(
            (self.host_batch(each).points for each in parts if isinstance(each, HostDensity)),
            default=1,
        )


class ComponentPart(NamedTuple):
    """Draws of one component: (m data points, g groups, k draws, ...)."""

    log_weight: Floats
    path: Floats  # h = grad_z log p - grad_z log q
    scores: Scores
    moved: Floats  # z less its mean


class ComponentSource:
    """Draws of component c for some data points, by address."""

    def __init__(self, task: MixtureTask, c: int, points: Points, rows: slice) -> None:
        self.task, self.place, self.rows = task, c, rows
        self.draws = ComponentDraws(task.q, c, points)
        frame = self.draws.frame
        model = task.model
        parts = model.prior, model.likelihood
        if any(isinstance(each, Supplied) for each in parts):
            raise InvalidInputError(
                f"model must have a gradient in z, and supplied values have none; got {model!r}"
            )
        self._on_host = [each for each in parts if isinstance(each, HostDensity)]
        self._prior, self._likelihood = (
            (Zero(model.dim) if each in self._on_host else each).term(points, frame)
            for each in parts
        )
        self.linear = None
        if task.of_model:
            assert isinstance(model, LinearGaussian)
            self.linear = LinearScores(model, points, frame.centre)
        self.diagonals = self.draws.diagonals

    def at(self, first: int, stop: int) -> ComponentPart:
        """The draws of groups first to stop."""
        task, groups = self.task, stop - first
        members, dim = self.rows.stop - self.rows.start, task.q.dim
        v = sample(
            self.draws.source.sampler, members, groups * task.k, dim,
            pilot_key(task.key, _FIRST_COMPONENT + self.place),
            points=constant(np.arange(self.rows.start, self.rows.stop)),
            first_index=task.first_index, first_draw=first * task.k, n_threads=task.n_threads,
        )  # fmt: skip
        values, slopes = self._slopes(v)
        v = np.ascontiguousarray(np.swapaxes(v, 0, 1))
        scores, moved = self.draws.at(v), self.draws.latents(v)
        pulled = (scores.shares[..., None] * scores.pulls).sum(axis=0)
        log_joint, path = values.T, self.draws.slopes_in_z(np.swapaxes(slopes, 0, 1)) + pulled
        for density in self._on_host:
            for total, each in zip((log_joint, path), self._host(density, moved), strict=True):
                total += each
        log_weight = log_joint - scores.log_q
        self._require_finite(log_weight, path, first * task.k)

        def grouped(array: Floats, axes: int) -> Floats:
            lead = array.shape[: array.ndim - axes - 1]
            return array.reshape(*lead, groups, task.k, *array.shape[array.ndim - axes :])

        return ComponentPart(
            grouped(log_weight, 0),
            grouped(path, 1),
            Scores(*(grouped(each, axes) for each, axes in zip(scores, (0, 0, 1, 1), strict=True))),
            grouped(moved, 1),
        )

    def _slopes(self, v: Floats) -> tuple[Floats, Floats]:
        """log p(x, z) (n, m), and its gradient in v, (n, m, D)."""
        values, slopes = np.empty(v.shape[:2]), np.empty(v.shape)
        counter = new_counter()
        model = self.task.model
        work = values.size * (2 * (model.prior.work + model.likelihood.work) + _DRAW_WORK)
        launch(
            gradients.joint_slopes, self._prior, self._likelihood,
            gradient_calls(model, self._prior, self._likelihood),
            constant(np.zeros((1, v.shape[2]))), constant(v), values, slopes, counter,
            work=work, counter=counter, n_threads=self.task.n_threads,
        )  # fmt: skip
        return values, slopes

    def _host(self, density: HostDensity, moved: Floats) -> tuple[Floats, Floats]:
        """A density on the host at draws (m, n, D) less their mean, and its gradients in z."""
        z = np.swapaxes(self.draws.frame.centre[:, None] + moved, 0, 1)
        rows = np.arange(self.rows.start, self.rows.stop) % math.prod(density.batch_shape)
        values, slopes = np.empty(z.shape[:2]), np.empty(z.shape)
        batch = self.task.host_batch(density)
        for j in range(0, z.shape[0], batch.draws):
            for i in range(0, z.shape[1], batch.points):
                part = np.s_[j : j + batch.draws, i : i + batch.points]
                # A private copy, as the function may write to it.
                found = density.value_and_gradient(np.array(z[part]), rows[part[1]], batch)
                values[part], slopes[part] = found
        return values.T, np.swapaxes(slopes, 0, 1)

    def _require_finite(self, log_weight: Floats, path: Floats, first: int) -> None:
        """An error for a bad log weight, or for a gradient that is not finite where it counts."""
        counts = log_weight > -np.inf if self.task.estimator == "siwae" else np.True_
        bad = np.isnan(log_weight) | (log_weight == np.inf)
        bad |= counts & ~np.isfinite(path).all(axis=-1)
        bad |= ~counts & np.isnan(log_weight)
        if self.task.estimator != "siwae":
            bad |= np.isneginf(log_weight)
        # A component without a weight does not count.
        bad &= self.draws.weights > 0.0
        if bad.any():
            i, j = np.argwhere(bad)[0]
            raise InvalidWeightError(
                f"draws must have finite log weights and gradients of log p(x, z); {bad.sum()} "
                f"have not, the first at data point {self.rows.start + i}, draw {first + j} of "
                f"component {self.place}: the log weight is {log_weight[i, j]}, the gradient "
                f"{path[i, j]}"
            )
