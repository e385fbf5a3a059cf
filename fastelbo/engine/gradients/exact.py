"""ELBOs and their gradients without draws: in closed form, or summed over classes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from ...errors import InvalidInputError
from ...kernels.cpu.launch import mixture_expectations
from ...models import linear_elbo
from ...models.categorical import Categorical
from ...models.linear_gaussian import LinearGaussian
from ...models.location_scale import Gaussian, LocationScale, StudentT
from ...models.mixture_model import MixtureModel
from ...models.protocol import Points
from ...results.gradient import ElboGradient
from ...validation import Floats, Integers, broadcast_shape
from ...weights.bounds import Bound
from ..exact import require_classes
from ..requests import kind_of

# Numbers that the arrays of a part of the data points hold, about.
_PART = 2**20
# What leaves the range of floats is infinite or NaN, which is refused.
_unflagged = np.errstate(all="ignore")


@_unflagged
def exact_elbo(model: LinearGaussian | MixtureModel, q: LocationScale | Categorical) -> Floats:
    """The ELBO ``E_q[log p(x, z) - log q(z)]`` without draws, where it has a closed form.

    Parameters
    ----------
    model : LinearGaussian or MixtureModel
        A `LinearGaussian` must have a Gaussian prior.
    q : Gaussian, StudentT or Categorical
        A Gaussian or a Student-t for a `LinearGaussian`, a Categorical for a `MixtureModel`. Its
        batch broadcasts against that of the model.

    Returns
    -------
    ndarray
        In nats, one entry a data point. -inf for a Student-t with ``df`` up to 2, under which
        ``E |z|^2`` is infinite, and for a Categorical with a class of weight 0 in the model.

    Raises
    ------
    InvalidInputError
        For any other pair, for dimensions that disagree, and for parameters that differ so much in
        size that their products are beyond the largest float. `estimate` gives the ELBO of other
        pairs, with a standard error.

    Notes
    -----
    With the residual r at the mean m of q, whose covariance is C, and the prior N(m0, S0), it is
    ``log N(r; 0, noise) - tr(W' noise^-1 W C) / 2 - KL(q || prior)`` (Bishop, 2006, Pattern
    Recognition and Machine Learning, section 12.2, has the moments).

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)

    The ELBO of the posterior is the log evidence:

    >>> float(fe.exact_elbo(model, model.exact_posterior()).round(6)[0])
    -1.515512
    >>> float(fe.exact_elbo(model, fe.Gaussian([0.0], scale=1.0)).round(6)[0])
    -1.918939
    """
    shape = _checked(model, q)
    if isinstance(q, Categorical):
        assert isinstance(model, MixtureModel)
        sums = model.expectations(q.probs, mixture_expectations)
        return _finite("elbo", sums.log_evidence - sums.jensen_gap)
    assert isinstance(model, LinearGaussian)
    elbo = np.empty(math.prod(shape))
    for points, rows in _parts(shape, model.x.shape[-1] + 8 * model.dim**2):
        elbo[rows] = linear_elbo.whitened(model, q, points).elbo
    return _finite("elbo", elbo.reshape(shape))


def has_exact_gradient(model: object, q: object) -> bool:
    """Whether `exact_gradient` knows the pair."""
    if isinstance(model, LinearGaussian):
        return isinstance(model.prior, Gaussian) and isinstance(q, (Gaussian, StudentT))
    return isinstance(model, MixtureModel) and isinstance(q, Categorical)


@_unflagged
def exact_gradient(
    model: LinearGaussian | MixtureModel,
    q: LocationScale | Categorical,
    wrt: Collection[str],
    per_point: bool,
) -> ElboGradient:
    """The gradients of `exact_elbo` by the parameters of "q", with "log_scale", and of "model"."""
    shape = _checked(model, q)
    if isinstance(q, Categorical):
        assert isinstance(model, MixtureModel)
        return _of_classes(model, q, shape, wrt, per_point)
    assert isinstance(model, LinearGaussian)
    if isinstance(q, StudentT) and (q.df <= 2.0).any():
        raise InvalidInputError(
            "q must have df above 2: the exact ELBO is -inf otherwise, and has no gradient; got "
            f"df = {q.df.min()}"
        )
    if "log_scale" in wrt and q.scale is None:
        raise InvalidInputError(
            'wrt must not have "log_scale" for a q with scale_tril or cov: it is for a diagonal '
            f"scale; got {q!r}"
        )
    return _of_linear(model, q, shape, wrt, per_point)


def _of_linear(
    model: LinearGaussian,
    q: LocationScale,
    shape: tuple[int, ...],
    wrt: Collection[str],
    per_point: bool,
) -> ElboGradient:
    features, dim = model.loadings.shape
    sums: dict[str, PointSums] = {}

    def of(name: str, own: tuple[int, ...], values: Floats) -> PointSums:
        if name not in sums:
            sums[name] = PointSums(shape, shape if per_point else own, values.shape[1:])
        return sums[name]

    def add(whole: PointSums, rows: slice, part: Floats, summed: bool) -> None:
        if summed:
            whole.add_sum(part)
        else:
            whole.add(rows, part)

    elbo = np.empty(math.prod(shape))
    width = features + 8 * dim**2
    if per_point and "model" in wrt:
        width += features * dim + model.noise_cov.size
    for points, rows in _parts(shape, width):
        count = rows.stop - rows.start
        white = linear_elbo.whitened(model, q, points)
        elbo[rows] = white.elbo
        if "q" in wrt or "log_scale" in wrt:
            own = q._parameter_shapes()
            mean, scale = linear_elbo.gradients_of_q(model, white)
            of("mean", own["mean"], mean).add(rows, mean)
            name = "scale_tril" if q.scale is None else "scale"
            own_scale = own[name]
            if q.scale is not None:
                scale = np.diagonal(scale, axis1=-2, axis2=-1)
                if "log_scale" in wrt:
                    name, scale = "log_scale", scale * points.select(q.scale, 1)
            of(name, own_scale, scale).add(rows, scale)
        if "model" in wrt:
            parts = linear_elbo.gradients_of_likelihood(model, white, points, count, not per_point)
            for name, part in zip(("loadings", "offset", "noise_cov"), parts, strict=True):
                add(of(name, (), part), rows, part, not per_point)
            own = model.prior._parameter_shapes()
            own_scale = own["scale_tril" if model.prior.scale is None else "scale"]
            together = not per_point and math.prod(model.prior.batch_shape) == 1
            found = linear_elbo.gradients_of_prior(white, count, together)
            names = ("prior_mean", own["mean"]), ("prior_cov", own_scale)
            for (name, batch), part in zip(names, found, strict=True):
                add(of(name, batch, part), rows, part, together)
    value = elbo.reshape(shape) if per_point else elbo.sum()
    return _exact(value, {name: each.total() for name, each in sums.items()})


def _of_classes(
    model: MixtureModel,
    q: Categorical,
    shape: tuple[int, ...],
    wrt: Collection[str],
    per_point: bool,
) -> ElboGradient:
    """d logit_c = q_c (l_c - E_q l), l_c = log p(x, c) - log q_c."""
    if "model" in wrt or "log_scale" in wrt:
        other = "model" if "model" in wrt else "log_scale"
        raise InvalidInputError(
            f'wrt must be "q" for a MixtureModel, whose own parameters have no gradients; got '
            f'"{other}"'
        )
    own = shape if per_point else q.batch_shape
    sums = PointSums(shape, own, q.probs.shape[-1:])
    log_weights = np.log(model.mixture.weights)
    for points, rows in _parts(shape, model.x.shape[-1] * model.n_classes):
        log_prob = MixtureModel(points.select(model.x, 1), model.mixture).component_log_prob()
        probs = points.select(q.probs, 1)
        # Nothing of the size of the largest density is in the differences.
        terms = log_prob - log_prob.max(axis=-1, keepdims=True) + (log_weights - np.log(probs))
        shares = np.where(probs > 0.0, probs * terms, 0.0)
        mean = shares.sum(axis=-1, keepdims=True)
        sums.add(rows, shares - np.where(probs > 0.0, probs * mean, 0.0))
    elbo = exact_elbo(model, q)
    return _exact(elbo if per_point else elbo.sum(), {"logits": sums.total()})


class PointSums:
    """The gradients of data points, summed over those that share a parameter."""

    def __init__(
        self, shape: tuple[int, ...], own: tuple[int, ...], event: tuple[int, ...]
    ) -> None:
        members = math.prod(own)
        self._shape = (*own, *event)
        self._values = np.zeros((members, *event))
        self._all = members == math.prod(shape)
        self._places: Integers | None = None
        if members > 1 and not self._all:
            of_members = np.arange(members).reshape(own)
            self._places = np.broadcast_to(of_members, shape).reshape(-1)

    def add(self, rows: slice, values: Floats) -> None:
        """Add what data points of ``rows`` have, (n or 1, ...); the 1 is that of each."""
        spread = np.broadcast_to(values, (rows.stop - rows.start, *values.shape[1:]))
        if self._all:
            self._values[rows] = spread
        elif self._places is None:
            self._values += spread.sum(axis=0)
        else:
            np.add.at(self._values, self._places[rows], spread)

    def add_sum(self, values: Floats) -> None:
        """Add what all data points of a part have together, (1, ...)."""
        self._values += values

    def total(self) -> Floats:
        """The sums, with the batch of the parameter in front."""
        return self._values.reshape(self._shape)


def _parts(shape: tuple[int, ...], width: int) -> Iterator[tuple[Points, slice]]:
    """Slices of the data points of which arrays of ``width`` numbers each stay small."""
    count = math.prod(shape)
    size = max(1, _PART // max(1, width))
    for first in range(0, max(1, count), size):
        rows = slice(first, min(first + size, count))
        yield Points(shape, rows), rows


def _checked(model: object, q: object) -> tuple[int, ...]:
    """The common batch of a pair that has a closed form."""
    if not has_exact_gradient(model, q):
        prior = ""
        if isinstance(model, LinearGaussian) and not isinstance(model.prior, Gaussian):
            prior = f" with a {kind_of(model.prior)} as prior"
        raise InvalidInputError(
            "model and q must be a LinearGaussian with a Gaussian prior and a Gaussian or "
            "StudentT, or a MixtureModel and a Categorical: others have no closed form; got "
            f"{kind_of(model)}{prior} and {kind_of(q)}"
        )
    if isinstance(model, MixtureModel):
        assert isinstance(q, Categorical)
        require_classes(model, q)
    else:
        assert isinstance(model, LinearGaussian)
        assert isinstance(q, LocationScale)
        if model.dim != q.dim:
            raise InvalidInputError(
                f"model and q must have the same dimension, got {model.dim} and {q.dim}: "
                f"{model!r}, {q!r}"
            )
    return broadcast_shape(model=model.batch_shape, q=q.batch_shape)


def _exact(value: Floats, gradients: dict[str, Floats]) -> ElboGradient:
    bounds: dict[str, Any] = {name: _bound(name, array) for name, array in gradients.items()}
    return ElboGradient(_bound("elbo", value), **bounds, estimator="exact")


def _bound(name: str, value: Floats) -> Bound:
    """A value that is exact."""
    value = np.asarray(value)
    if not np.isfinite(value).all():
        raise InvalidInputError(
            f"model and q must differ less in size, and q have no class of weight 0 in the model: "
            f"the exact {name} is {value[~np.isfinite(value)].flat[0]} somewhere, or is not known"
        )
    return Bound(value, np.zeros(value.shape))


def _finite(name: str, value: Floats) -> Floats:
    """The values, -inf among them, but not NaN."""
    if np.isnan(value).any():
        raise InvalidInputError(
            f"model and q must differ less in size: on the way to the {name}, products and ratios "
            "of their parameters are beyond the largest float"
        )
    return np.asarray(value)
