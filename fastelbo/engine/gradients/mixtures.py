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
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import InvalidInputError
from ...models.linear_gaussian import LinearGaussian
from ...models.linear_scores import batches
from ...models.protocol import Points
from ...progress import Tick, no_tick
from ...results.gradient import ElboGradient
from ...validation import Floats
from ...weights.bounds import Bound
from ..requests import kind_of
from .component_parts import ComponentSource, MixtureTask
from .exact import PointSums
from .groups import GroupMoments, single_draws, siwae_groups
from .notes import note_of

# Numbers that the arrays of a block of groups hold for a slice of data points, about.
_PART = 2**20
_unflagged = np.errstate(all="ignore")


def mixture_gradient(task: MixtureTask, per_point: bool, tick: Tick = no_tick) -> ElboGradient:
    """The bound of a mixture q and its gradients, with standard errors."""
    _check(task)
    batch = task.batch
    sums = {
        name: tuple(PointSums(batch, batch if per_point else own, event) for _ in range(2))
        for name, (own, event) in _shapes(task).items()
    }
    count = math.prod(batch)
    groups, group, zeros = task.groups, task.points_of_batch, 0
    most = group * max(1, _PART // (groups * task.k * task.numbers_of_draw) // group)
    for lo in range(0, count, most):
        rows = slice(lo, min(lo + most, count))
        means, variances, none = _of_points(task, Points(batch, rows), rows, tick)
        zeros += none
        for name, (total, spread) in sums.items():
            total.add(rows, means[name])
            variances[name][task.heavy[rows]] = np.nan
            spread.add(rows, variances[name])
    with np.errstate(all="ignore"):
        bounds: dict[str, Any] = {
            name: Bound(total.total(), np.sqrt(spread.total()))
            for name, (total, spread) in sums.items()
        }
    return ElboGradient(
        bounds.pop("value"), **bounds, estimator=task.estimator, k=task.k,
        n_samples=task.n_groups * task.k, n_groups=task.n_groups,
        note=note_of(task.estimator, False, zeros),
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
    task: MixtureTask, points: Points, rows: slice, tick: Tick
) -> tuple[dict[str, Floats], dict[str, Floats], int]:
    """Means and variances of the value and the gradients of some data points; zero weights."""
    members = rows.stop - rows.start
    sources = [ComponentSource(task, c, points, rows) for c in range(task.q.weights.shape[-1])]
    weights = np.broadcast_to(points.select(task.q.weights, 1), (members, len(sources)))
    together = task.estimator == "siwae"
    groups, zeros = task.groups, 0
    moments = [GroupMoments() for _ in (sources[:1] if together else sources)]
    for first in range(0, task.n_groups, groups):
        stop = min(first + groups, task.n_groups)
        parts = [source.at(first, stop) for source in sources]
        zeros += sum(
            int((np.isneginf(part.log_weight) & (weights[:, c, None, None] > 0.0)).sum())
            for c, part in enumerate(parts)
        )
        if together:
            moments[0].push(siwae_groups(task, sources, parts, weights))
        else:
            for c, (source, part) in enumerate(zip(sources, parts, strict=True)):
                moments[c].push(single_draws(task, source, part, weights))
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
    return means, variances, zeros
