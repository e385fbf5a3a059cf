"""Bounds of groups of draws of a mixture's components, their gradients, and the moments of these.

The formulas are those of `mixture_gradients`. Sums over the draws of a group are elementwise, one
draw after the other, so that they have the same bits for any number of data points.
"""

from __future__ import annotations

import numpy as np

from ...errors import InvalidWeightError
from ...models.linear_scores import Product
from ...special import logsumexp
from ...validation import Floats
from .component_parts import ComponentPart, ComponentSource, MixtureTask


def single_draws(
    task: MixtureTask, source: ComponentSource, part: ComponentPart, weights: Floats
) -> dict[str, Floats]:
    """The values and gradients of groups of single draws of one component."""
    ones = np.ones(part.log_weight.shape)
    score = -1.0 if task.estimator == "total" else 0.0
    found = _summed(task, source, part, weights, ones, score, part.log_weight)
    return found | {"value": part.log_weight[..., 0]}


def siwae_groups(
    task: MixtureTask, sources: list[ComponentSource], parts: list[ComponentPart], weights: Floats
) -> dict[str, Floats]:
    """The bounds of groups of k draws of each component, and their gradients."""
    own = weights.T[:, :, None, None]
    logs = np.stack([part.log_weight for part in parts])
    logs = np.where(own > 0.0, logs + np.log(own / task.k), -np.inf)
    value = logsumexp(logs, axis=(0, 3))
    empty = np.isneginf(value).any(axis=1)
    if empty.any():
        point = sources[0].rows.start + int(empty.argmax())
        raise InvalidWeightError(
            f"draws must have finite log weights: those of a group of data point {point} are all "
            "-inf, so that its bound has no gradient"
        )
    shares = np.exp(logs - value[..., None])
    found: dict[str, Floats] = {"value": value}
    for source, part, share in zip(sources, parts, shares, strict=True):
        for name, array in _summed(task, source, part, weights, share, -1.0, share).items():
            found[name] = found[name] + array if name in found else array
    return found


def _summed(
    task: MixtureTask,
    source: ComponentSource,
    part: ComponentPart,
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
            shares = np.where(a > 0.0, a * part.scores.shares[j], 0.0)
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


def _scale(source: ComponentSource, row: Floats, draws: Floats, less: Floats | None) -> Floats:
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


class GroupMoments:
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
