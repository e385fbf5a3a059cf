"""Gradients of bounds under a Mixture, from draws of each component by the reparameterisation.

A draw of a mixture has no derivative in its weights. So each component c makes n draws of its own,
weighed by its probability pi_c (Morningstar et al., 2021, AISTATS), with l = log p - log q and q
the whole mixture:

    ELBO  = sum_c pi_c E_c l                                      ("stl", "total")
    SIWAE = E log sum_c pi_c / k sum_j exp l(z_cj), j = 1 to k    ("siwae")

A draw has three coefficients. With a of its path h = grad_z l, b of its scores d log q, and e of
d log pi_c = 1{j = c} - pi_j,

    d m_j = a 1{j = c} h + b r_j u_j,    d L_j = tril(d m_j y_j') - b r_j diag(1 / L_j),
    d logit_j = e (1{j = c} - pi_j) + b (r_j - pi_j),

in the notation of `component_scores`. They are (1, 0, l) for "stl", (1, -1, l) for "total", whose
scores have the mean 0, and (w, -w, w) for "siwae", w being the normalised weights of the draws of a
group. There the scores must stay: the draws of other components are in w. Gradients of the model
are sums of its scores, weighed by a.

The draws of component c have the key ``pilot_key(key, 2^20 + c)``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from ..arrays.inputs import constant
from ..errors import InvalidInputError, InvalidWeightError
from ..kernels.cpu import gradients
from ..kernels.cpu.launch import launch, new_counter, sample
from ..kernels.draws.blocks import SUPPLIED
from ..models.component_scores import ComponentDraws, Scores
from ..models.linear_gaussian import LinearGaussian
from ..models.linear_scores import LinearScores, Product, batches, numbers_of_draw
from ..models.mixture import Mixture
from ..models.protocol import LatentModel, Points
from ..models.slopes import gradient_calls
from ..progress import Tick, no_tick
from ..random import pilot_key
from ..results.gradient import ElboGradient
from ..validation import Floats, broadcast_shape
from ..weights.bounds import Bound
from .exact_gradients import PointSums
from .requests import kind_of

_FIRST_COMPONENT = 2**20
# Numbers that the arrays of a block of groups hold for a data point, and for all together, about.
_BLOCK, _PART = 2**17, 2**20
_MOST_GROUPS = 4096
# Fixed cost of a draw, in multiply-adds.
_DRAW_WORK = 64
_unflagged = np.errstate(all="ignore")


class MixtureTask(NamedTuple):
    """What is asked for, checked."""

    model: LatentModel
    q: Mixture
    n_groups: int
    k: int
    estimator: str  # "stl", "total" or "siwae"
    wrt: Collection[str]  # "q", "model", "log_scale"
    key: int
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


def mixture_gradient(task: MixtureTask, per_point: bool, tick: Tick = no_tick) -> ElboGradient:
    """The bound of a mixture q and its gradients, with standard errors."""
    _check(task)
    batch = task.batch
    sums = {
        name: tuple(PointSums(batch, batch if per_point else own, event) for _ in range(2))
        for name, (own, event) in _shapes(task).items()
    }
    count = math.prod(batch)
    groups = max(1, min(_MOST_GROUPS, _BLOCK // (task.k * task.numbers_of_draw)))
    most = max(1, _PART // (groups * task.k * task.numbers_of_draw))
    for lo in range(0, count, most):
        rows = slice(lo, min(lo + most, count))
        means, variances = _of_points(task, Points(batch, rows), rows, groups, tick)
        for name, (total, spread) in sums.items():
            total.add(rows, means[name])
            spread.add(rows, variances[name])
    with np.errstate(all="ignore"):
        bounds: dict[str, Any] = {
            name: Bound(total.total(), np.sqrt(spread.total()))
            for name, (total, spread) in sums.items()
        }
    return ElboGradient(
        bounds.pop("value"), **bounds, estimator=task.estimator, k=task.k,
        n_samples=task.n_groups * task.k, n_groups=task.n_groups,
    )  # fmt: skip


def _check(task: MixtureTask) -> None:
    if "log_scale" in task.wrt and task.q.components.scale is None:
        raise InvalidInputError(
            'wrt must not have "log_scale" for a q with scale_tril or cov: it is for a diagonal '
            f"scale; got {task.q!r}"
        )
    if task.of_model and not isinstance(task.model, LinearGaussian):
        raise InvalidInputError(
            f'wrt must be "q" or "log_scale" for a model that is no LinearGaussian; got "model" '
            f"for {kind_of(task.model)}"
        )


def _shapes(task: MixtureTask) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """The batch and the event shape of the value and of each gradient."""
    q, count, dim = task.q, task.q.weights.shape[-1], task.q.dim
    # The value has a batch of none where it is summed.
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {"value": ((), ())}
    if task.of_q:
        own = q.components._parameter_shapes()
        shapes["logits"] = (q.weights.shape[:-1], (count,))
        shapes["mean"] = (own["mean"][:-1], (count, dim))
        if q.components.scale is None:
            shapes["scale_tril"] = (own["scale_tril"][:-1], (count, dim, dim))
        else:
            name = "log_scale" if "log_scale" in task.wrt else "scale"
            shapes[name] = (own["scale"][:-1], (count, dim))
    if task.of_model:
        assert isinstance(task.model, LinearGaussian)
        features = task.model.loadings.shape[0]
        events: dict[str, tuple[int, ...]] = {
            "loadings": (features, dim),
            "offset": (features,),
            "noise_cov": task.model.noise_cov.shape,
            "prior_mean": (dim,),
            "prior_cov": (dim, dim),
        }
        shapes |= {name: (batch, events[name]) for name, batch in batches(task.model).items()}
    return shapes


@_unflagged
def _of_points(
    task: MixtureTask, points: Points, rows: slice, groups: int, tick: Tick
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Means and variances of the value and the gradients of some data points."""
    members = rows.stop - rows.start
    sources = [_Source(task, c, points, rows) for c in range(task.q.weights.shape[-1])]
    weights = np.broadcast_to(points.select(task.q.weights, 1), (members, len(sources)))
    together = task.estimator == "siwae"
    moments = [_Moments() for _ in (sources[:1] if together else sources)]
    for first in range(0, task.n_groups, groups):
        stop = min(first + groups, task.n_groups)
        parts = [source.at(first, stop) for source in sources]
        if together:
            moments[0].push(_siwae(task, sources, parts, weights))
        else:
            for c, (source, part) in enumerate(zip(sources, parts, strict=True)):
                moments[c].push(_of_component(task, source, part, weights))
        tick(members * (stop - first) * task.k * len(sources))
    # Each component has draws of its own, so that variances add.
    shares = np.ones((members, 1)) if together else weights
    means: dict[str, Floats] = {}
    variances: dict[str, Floats] = {}
    for c, each in enumerate(moments):
        for name, mean in each.mean.items():
            share = shares[:, c].reshape(-1, *(1,) * (mean.ndim - 1))
            means[name] = means.get(name, 0.0) + np.where(share > 0.0, share * mean, 0.0)
            own = np.where(share > 0.0, share**2 * each.variance(name), 0.0)
            variances[name] = variances.get(name, 0.0) + own
    return means, variances


class _Part(NamedTuple):
    """Draws of one component: (m data points, g groups, k draws, ...)."""

    log_weight: Floats
    path: Floats  # h = grad_z log p - grad_z log q
    scores: Scores
    moved: Floats  # z less its mean


class _Source:
    """Draws of component c for some data points, by address."""

    def __init__(self, task: MixtureTask, c: int, points: Points, rows: slice) -> None:
        self.task, self.place, self.rows = task, c, rows
        self.draws = ComponentDraws(task.q, c, points)
        frame = self.draws.frame
        model = task.model
        self._prior, self._likelihood = (
            each.term(points, frame) for each in (model.prior, model.likelihood)
        )
        if SUPPLIED in (self._prior.kind, self._likelihood.kind):
            raise InvalidInputError("model must have a density that is known at any z")
        self.linear = None
        if task.of_model:
            assert isinstance(model, LinearGaussian)
            self.linear = LinearScores(model, points, frame.centre)
        self.diagonals = self.draws.diagonals

    def at(self, first: int, stop: int) -> _Part:
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
        scores = self.draws.at(v)
        pulled = (scores.shares[..., None] * scores.pulls).sum(axis=0)
        path = self.draws.slopes_in_z(np.swapaxes(slopes, 0, 1)) + pulled
        log_weight = values.T - scores.log_q
        self._require_finite(log_weight, path, first * task.k)

        def grouped(array: Floats, axes: int) -> Floats:
            lead = array.shape[: array.ndim - axes - 1]
            return array.reshape(*lead, groups, task.k, *array.shape[array.ndim - axes :])

        return _Part(
            grouped(log_weight, 0),
            grouped(path, 1),
            Scores(*(grouped(each, axes) for each, axes in zip(scores, (0, 0, 1, 1), strict=True))),
            grouped(self.draws.latents(v), 1),
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


def _of_component(
    task: MixtureTask, source: _Source, part: _Part, weights: Floats
) -> dict[str, Floats]:
    """The values and gradients of groups of single draws of one component."""
    ones = np.ones(part.log_weight.shape)
    score = -1.0 if task.estimator == "total" else 0.0
    found = _summed(task, source, part, weights, ones, score, part.log_weight)
    return found | {"value": part.log_weight[..., 0]}


def _siwae(
    task: MixtureTask, sources: list[_Source], parts: list[_Part], weights: Floats
) -> dict[str, Floats]:
    """The bounds of groups of k draws of each component, and their gradients."""
    logs = np.stack([part.log_weight for part in parts])
    logs = logs + np.log(weights / task.k).T[:, :, None, None]
    value = logsumexp(logs, axis=(0, 3))
    if np.isneginf(value).any():
        raise InvalidWeightError(
            "draws must have finite log weights: those of a group are all -inf, so that its bound "
            "has no gradient"
        )
    shares = np.exp(logs - value[..., None])
    found: dict[str, Floats] = {"value": value}
    for source, part, share in zip(sources, parts, shares, strict=True):
        own = _summed(task, source, part, weights, share, -1.0, share)
        for name, array in own.items():
            found[name] = found[name] + array if name in found else array
    return found


def _summed(
    task: MixtureTask,
    source: _Source,
    part: _Part,
    weights: Floats,
    a: Floats,
    score: float,
    e: Floats,
) -> dict[str, Floats]:
    """The gradients of groups from the draws of one component, b = score a."""
    found: dict[str, Floats] = {}
    counts = (a > 0.0)[..., None]
    if task.of_q:
        means, scales, logits = [], [], []
        for j in range(weights.shape[1]):
            row = np.zeros_like(part.path)
            shares = a * part.scores.shares[j]
            if j == source.place:
                row = np.where(counts, a[..., None] * part.path, 0.0)
            if score:
                row = row + score * shares[..., None] * part.scores.pulls[j]
            own = 1.0 if j == source.place else 0.0
            prior = weights[:, j, None]
            logits.append((own - prior) * e.sum(-1))
            less = None
            if score:
                logits[-1] = logits[-1] + score * (shares.sum(-1) - prior * a.sum(-1))
                less = score * shares.sum(-1)[..., None] / source.diagonals[j]
            means.append(row.sum(axis=2))
            scales.append(_scale(source, row, part.scores.draws[j], less))
        found["logits"], found["mean"] = np.stack(logits, axis=2), np.stack(means, axis=2)
        name = "scale_tril" if source.draws.full else "scale"
        found[name] = np.stack(scales, axis=2)
        if "log_scale" in task.wrt:
            found["log_scale"] = found.pop("scale") * np.stack(source.diagonals, axis=2)
    if source.linear is not None:
        shape = part.moved.shape
        flat = part.moved.reshape(shape[0], -1, shape[-1])
        for name, product in source.linear.at(flat).items():
            found[name] = _weighed(product, a)
    return found


def _scale(source: _Source, row: Floats, draws: Floats, less: Floats | None) -> Floats:
    """Sums over the draws of groups of tril(row draws'), or of its diagonal, less a diagonal."""
    if not source.draws.full:
        total: Floats = (row * draws).sum(axis=2)
        return total if less is None else total - less
    total = np.tril(_outer(row, draws))
    if less is not None:
        np.einsum("...dd->...d", total)[...] -= less
    return total


def _outer(left: Floats, right: Floats) -> Floats:
    """Sums over the draws of groups of left right', one draw after the other."""
    total = left[:, :, 0, :, None] * right[:, :, 0, None, :]
    for j in range(1, left.shape[2]):
        total += left[:, :, j, :, None] * right[:, :, j, None, :]
    return np.asarray(total)


def _weighed(product: Product, a: Floats) -> Floats:
    """The sums of a product over the draws of groups, weighed by a."""

    def grouped(array: Floats) -> Floats:
        shaped: Floats = array.reshape(*a.shape, array.shape[-1])
        return shaped

    left = np.where(a[..., None] > 0.0, a[..., None] * grouped(product.left), 0.0)
    if product.right is None:
        return np.asarray(product.factor * left.sum(axis=2))
    right = grouped(product.right)
    total = (left * right).sum(axis=2) if product.diagonal else _outer(left, right)
    if product.less is not None:
        weight = a.sum(axis=-1).reshape(*a.shape[:2], *(1,) * (total.ndim - 2))
        total = total - weight * product.less[:, None]
    return np.asarray(product.factor * total)


class _Moments:
    """Means and centred second moments over groups, merged as by Chan, Golub and LeVeque (1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: dict[str, Floats] = {}
        self._square: dict[str, Floats] = {}

    def push(self, values: dict[str, Floats]) -> None:
        """Add groups, which are along axis 1."""
        added = next(iter(values.values())).shape[1]
        count = self.count + added
        for name, array in values.items():
            mean = array.mean(axis=1)
            square = ((array - mean[:, None]) ** 2).sum(axis=1)
            if self.count:
                shift = mean - self.mean[name]
                square = self._square[name] + square + shift**2 * (self.count * added / count)
                mean = self.mean[name] + shift * (added / count)
            self.mean[name], self._square[name] = mean, square
        self.count = count

    def variance(self, name: str) -> Floats:
        """The variances of the means; NaN for one group."""
        if self.count < 2:
            return np.full_like(self._square[name], np.nan)
        return self._square[name] / (self.count - 1.0) / self.count
