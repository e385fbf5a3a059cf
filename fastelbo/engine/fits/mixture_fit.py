"""Maximum likelihood of Gaussian mixtures, by expectation-maximisation from several starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...errors import FitNotConvergedWarning, InvalidInputError, VarianceFloorWarning
from ...inner_warnings import warn
from ...kernels.cpu.mixture_em import mixture_sums
from ...models.gaussian_components import COVARIANCE_TYPES, GaussianComponents
from ...models.location_scale import Gaussian
from ...models.mixture import Mixture
from ...models.mixture_model import MixtureModel
from ...random import RandomState, generator
from ...results.mixture_fit import MixtureFit, MixtureHistory
from ...validation import as_choice, as_count, as_number, shown
from ...weights.bounds import Bound
from .mixture_data import MixtureData, points_of, standardised, weights_of
from .mixture_starts import drawn_start, given_start
from .mixture_steps import Climb, climb

_STARTS = 10
_LEAST_FLOOR = 1e-12
# Components and coordinates that a message lists.
_LISTED = 8


def fit_mixture(
    x: ArrayLike,
    n_components: int,
    *,
    covariance_type: str = "full",
    weights: ArrayLike | None = None,
    init: Mixture | None = None,
    n_init: int | None = None,
    max_iter: int = 1000,
    tol: float = 1e-6,
    var_floor: float = 1e-6,
    rng: RandomState = None,
    n_threads: int | None = None,
) -> MixtureFit:
    """Gaussian mixture of largest likelihood, by expectation-maximisation (Dempster et al., 1977).

    Parameters
    ----------
    x : array_like, shape (N, D)
        Data points.
    n_components : int
        C, the number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}
        A covariance matrix for each component, one for all, diagonal ones, or one variance for each
        component.
    weights : array_like, shape (N,), optional
        Weights of the data points, 0 or more: a weight of 2 is a point that came twice.
    init : Mixture, optional
        C Gaussian components to begin at. Their covariances are taken in the form of
        ``covariance_type``: their diagonals, the mean of those, or the mean covariance.
    n_init : int, optional
        Number of starts; by default 10, and with ``init`` 1. The first is ``init``, others are
        the clusters of k-means, of up to 16384 of the points, from centres that are drawn by
        k-means++ (Arthur and Vassilvitskii, 2007).
    max_iter : int
        Most passes over the data from a start.
    tol : float
        A fit has converged when the log likelihood, for weights of mean 1, would gain no more than
        so many nats, as extrapolated from the last steps. Parameters are then within about
        ``sqrt(2 tol)`` of their standard errors.
    var_floor : float
        Least variance of a component as a share of the variance of the data, at least 1e-12: in
        every direction for "full" and "tied", of every coordinate for "diag", of the mean over
        coordinates for "spherical". Where no variance is at the floor it changes nothing: nothing
        is added to a covariance.
    rng : None, int, SeedSequence or Generator
        Seed of the starts.
    n_threads : int, optional
        Number of threads; it never changes a result.

    Returns
    -------
    MixtureFit
        The mixture of the start with the largest likelihood, of those that ended away from the
        floor if there are any.

    Raises
    ------
    InvalidInputError
        If an argument is invalid; also if no weight is positive, if all points coincide, or if a
        point has density 0 under ``init``.

    Warns
    -----
    VarianceFloorWarning
        If a variance of the mixture is at the floor. The likelihood has no maximum then, or only
        local ones. A component without data points has the same warning.
    FitNotConvergedWarning
        If the start that was kept has not converged.

    Notes
    -----
    A pass finds p(c | x) and all moments at once. Every other pass or so is at an extrapolated
    point: SQUAREM (Varadhan and Roland, 2008), taken back where the likelihood would fall. So the
    likelihood never falls. The floor is a bound: covariances are those of largest likelihood under
    it, and have the eigenvectors of the moments (Theobald, 1975).

    A component that few points make arbitrarily narrow has unbounded likelihood (Day, 1969), so
    that the largest likelihood under a floor may be worthless. Hence starts that end at the floor
    are kept only where all do.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fit = fe.fit_mixture(fe.datasets.load_faithful(), 2, rng=0)
    >>> fit.mixture.weights.round(3).max(), round(fit.log_likelihood, 4)
    (np.float64(0.644), -1130.264)
    >>> spherical = fe.fit_mixture(fe.datasets.load_faithful(), 2, covariance_type="diag", rng=0)
    >>> fit.bic < spherical.bic
    True
    """
    count = as_count(n_components, "n_components")
    kind = as_choice(covariance_type, "covariance_type", COVARIANCE_TYPES)
    floor = as_number(var_floor, "var_floor")
    if not _LEAST_FLOOR <= floor < 1.0:
        raise InvalidInputError(
            f"var_floor must be from {_LEAST_FLOOR:g} to below 1, got {floor:g}"
        )
    tolerance = as_number(tol, "tol")
    if not tolerance >= 0.0:
        raise InvalidInputError(f"tol must be at least 0, got {tolerance:g}")
    steps = as_count(max_iter, "max_iter")
    default = _STARTS if init is None and count > 1 else 1
    starts = default if n_init is None else as_count(n_init, "n_init")
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    random = generator(rng)
    points = points_of(x)
    if init is not None:
        _require_init(init, count, points.shape[1])
    shares = weights_of(weights, len(points))
    with np.errstate(all="ignore"):
        data = standardised(points[shares > 0.0], shares[shares > 0.0], kind)
        climbs = _climbs(data, kind, count, init, starts, floor, tolerance, steps, random, threads)
        kept = _best(climbs, floor, tolerance)
        return _result(data, climbs, kept, floor)


def fit_mixture_model(model: MixtureModel, **options: Any) -> MixtureFit:
    """The mixture of a model, refitted to its data from where it is.

    The form of the covariances is that of its components: "diag" for a ``scale``, "tied" for one
    ``scale_tril`` that several share, else "full". Options are those of `fit_mixture`.
    """
    components, count = model.mixture.components, model.n_classes
    if components.scale is not None:
        kind = "diag"
    else:
        assert components.scale_tril is not None
        kind = "tied" if components.scale_tril.shape[:-2] in ((), (1,)) and count > 1 else "full"
    given: dict[str, Any] = {"covariance_type": kind, "init": model.mixture} | options
    return fit_mixture(model.x.reshape(-1, model.x.shape[-1]), count, **given)


def _require_init(init: object, count: int, dim: int) -> None:
    usable = isinstance(init, Mixture) and isinstance(init.components, Gaussian)
    if not usable or not isinstance(init, Mixture) or init.batch_shape:
        raise InvalidInputError(
            f"init must be a Mixture of Gaussians without a batch, got {shown(init)}"
        )
    if init.weights.size != count or init.dim != dim:
        raise InvalidInputError(
            f"init must have n_components = {count} components of {dim} coordinates, as x has; "
            f"got {init.weights.size} of {init.dim}"
        )
    parts = init.components
    assert isinstance(parts, Gaussian)
    cov = np.broadcast_to(parts.cov, (count, dim, dim)).reshape(count, -1)
    both = np.concatenate([np.broadcast_to(parts.mean, (count, dim)), cov], axis=1)
    if len(np.unique(both, axis=0)) < count:
        raise InvalidInputError(
            "init must have components that differ: those that coincide stay together"
        )


def _climbs(
    data: MixtureData,
    kind: str,
    count: int,
    init: Mixture | None,
    starts: int,
    floor: float,
    tol: float,
    max_iter: int,
    random: np.random.Generator,
    threads: int | None,
) -> list[Climb]:
    def step(at: GaussianComponents) -> tuple[float, GaussianComponents]:
        sums = mixture_sums(data.y, data.weights, at.whitened(), threads)
        if not np.isfinite(sums.log_likelihood):
            return sums.log_likelihood, at
        return sums.log_likelihood, at.maximised(sums, floor)

    found = []
    for number in range(starts):
        if number == 0 and init is not None:
            first = given_start(init, kind, data, floor)
        else:
            first = drawn_start(data, kind, count, floor, random)
        found.append(climb(step, first, len(data.y), floor, tol, max_iter))
        if not np.isfinite(found[-1].log_likelihoods[-1]):
            raise InvalidInputError("init must give every data point a density above 0")
    return found


def _best(climbs: Sequence[Climb], floor: float, tol: float) -> int:
    """The first start that is within the tolerance of the best, of those away from the floor."""
    ends = np.array([each.log_likelihoods[-1] for each in climbs])
    inside = np.array([not each.components.at_floor(floor) for each in climbs])
    if inside.any():
        ends = np.where(inside, ends, -np.inf)
    room = 2.0 * tol + 1e-12 * float(np.abs(ends).max(where=np.isfinite(ends), initial=0.0))
    return int(np.argmax(ends >= ends.max() - room))


def _result(data: MixtureData, climbs: Sequence[Climb], kept: int, floor: float) -> MixtureFit:
    best = climbs[kept]
    mixture = _mixture(best.components, data)
    total = data.mean_weight * len(data.y)
    log_p = mixture.log_prob(data.x)
    mean = float((data.weights * log_p).sum() / len(log_p))
    gap = data.weights * (log_p - mean)
    se = float(np.sqrt((gap**2).sum()) / len(log_p))
    # The density of y is that of x times |dx / dy|.
    shift = -data.log_volume
    history = MixtureHistory(
        np.array(best.seconds), np.array(best.log_likelihoods) / len(log_p) + shift
    )
    ends = np.array([each.log_likelihoods[-1] for each in climbs]) / len(log_p) + shift
    problems = _warned(best, data, floor)
    return MixtureFit(
        mixture=mixture, log_likelihood=mean * total,
        mean_log_likelihood=Bound(np.asarray(mean), np.asarray(se)),
        converged=best.converged, n_iter=best.n_iter, start=kept,
        start_log_likelihoods=ends * total, history=history,
        covariance_type=best.components.kind, n_parameters=best.components.parameters(),
        n_data=total, problems=problems,
    )  # fmt: skip


def _mixture(components: GaussianComponents, data: MixtureData) -> Mixture:
    """The components in the coordinates of the data."""
    mean = data.centre + data.unit * (components.mean @ data.mixing.T)
    weights = np.exp(components.log_weight)
    if components.of_matrices:
        tril = data.unit[:, None] * (data.mixing @ components.scale)
        shared = components.kind == "tied"
        return Mixture(weights, Gaussian(mean, scale_tril=tril[0] if shared else tril))
    return Mixture(weights, Gaussian(mean, scale=data.unit * components.scale))


def _warned(best: Climb, data: MixtureData, floor: float) -> tuple[str, ...]:
    """Warn of what a fit cannot promise, and return the sentences."""
    limits = [
        f"coordinate{_plural(data.constant)} of x {_verb(data.constant)} constant"
    ] if data.constant else []  # fmt: skip
    low = best.components.at_floor(floor, data.mixing)
    for c in list(low)[:_LISTED]:
        whose = "the tied covariance" if best.components.kind == "tied" else f"component {c}"
        limits.append(f"variances of {whose} are at the floor, in coordinate{_plural(low[c])}")
    if len(low) > _LISTED:
        limits.append(f"so are those of {len(low) - _LISTED} other components")
    empty = np.flatnonzero(best.components.log_weight == -np.inf).tolist()
    if empty:
        limits.append(f"component{_plural(empty)} {_verb(empty)} empty, of weight 0")
    if limits:
        _warn(
            f"{'; '.join(limits)}. Fewer components, or covariances with fewer parameters, have a "
            "maximum more often",
            VarianceFloorWarning,
        )
    if not best.converged:
        left = f"about {best.left:.2g} nats" if np.isfinite(best.left) else "an unknown amount"
        limits.append(f"the fit has not converged in {best.n_iter} passes over the data")
        _warn(
            f"{limits[-1]}: the log likelihood may still gain {left}; raise max_iter or tol",
            FitNotConvergedWarning,
        )
    return tuple(limits)


def _warn(message: str, kind: type[Warning]) -> None:
    warn(message, kind, stacklevel=5)


def _plural(numbers: Sequence[int]) -> str:
    listed = ", ".join(map(str, numbers[:_LISTED])) + (" ..." if len(numbers) > _LISTED else "")
    return f"s {listed}" if len(numbers) > 1 else f" {listed}"


def _verb(numbers: Sequence[int]) -> str:
    return "are" if len(numbers) > 1 else "is"
