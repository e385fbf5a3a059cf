"""Finite mixtures."""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_floats, as_unchecked_floats
from ..caching import cached_property
from ..errors import InvalidInputError
from ..kernels.cpu import launch
from ..random import RandomState
from ..special import softmax
from ..validation import (
    Floats,
    Integers,
    as_flag,
    broadcast_shape,
    probabilities,
    require_memory,
)
from . import lowering, scikit_learn
from .distributions import Elliptical
from .location_scale import Gaussian, LocationScale
from .lowering import Components
from .protocol import Points
from .sampling import DEFAULT_REPLICATES, DEFAULT_TRANSFORM, as_sampling


class Mixture(Elliptical):
    """Finite mixture of Gaussian or Student-t components.

    Parameters
    ----------
    weights : array_like, shape (..., C)
        Component weights, summing to 1 within 1e-6 (then renormalised); zeros are allowed.
    components : Gaussian or StudentT
        A batch of components: the last axis of its ``batch_shape`` has length C.
    logits : array_like, shape (..., C)
        Logarithms of the weights up to a constant, in the place of ``weights``: they are
        ``exp(logits) / sum(exp(logits))``. -inf is a weight of 0, and so is a logit more than 708
        below the largest, whose weight is no normal float64.

    Raises
    ------
    InvalidInputError
        Weights that are negative or do not sum to 1, logits that are NaN, +inf or all -inf, both or
        neither of them, or a number of components that differs.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.Mixture([0.5, 0.5], fe.Gaussian([[-3.0], [3.0]], scale=1.0))
    Mixture(dim=1, batch_shape=(), components=2)
    """

    family = "mixture"
    weights: Floats
    components: LocationScale

    @overload
    def __init__(self, weights: ArrayLike, components: LocationScale) -> None: ...
    @overload
    def __init__(self, *, components: LocationScale, logits: ArrayLike) -> None: ...
    def __init__(
        self,
        weights: ArrayLike | None = None,
        components: LocationScale | None = None,
        *,
        logits: ArrayLike | None = None,
    ) -> None:
        if not isinstance(components, LocationScale):
            raise InvalidInputError(
                "components must be a batch of a location-scale distribution, such as a Gaussian "
                f"or StudentT; got {type(components).__name__}"
            )
        if (weights is None) == (logits is None):
            raise InvalidInputError(
                "exactly one of weights and logits is expected, got "
                + ("none" if weights is None else "both")
            )
        name = "weights" if logits is None else "logits"
        shares = (
            probabilities(as_floats(weights, name), name) if logits is None else _softmax(logits)
        )
        batch = components.batch_shape
        if not batch or batch[-1] != shares.shape[-1]:
            raise InvalidInputError(
                f"components must have a batch whose last axis is the number of {name}, "
                f"{shares.shape[-1]}; got batch_shape {batch}"
            )
        self._set(weights=shares, components=components)
        _ = self.batch_shape

    @classmethod
    def from_sklearn(cls, gm: Any) -> Mixture:
        """The density that a fitted ``sklearn.mixture.GaussianMixture`` stands for.

        Parameters
        ----------
        gm : sklearn.mixture.GaussianMixture
            Fitted, of any ``covariance_type``: "full", "tied", "diag" or "spherical". A
            ``BayesianGaussianMixture`` gives its ``weights_``, ``means_`` and ``covariances_``;
            its ``score_samples`` is another quantity, an average over its posterior.

        Returns
        -------
        Mixture
            Without a batch. Its `log_prob` is ``gm.score_samples``, to rounding.

        Raises
        ------
        InvalidInputError
            If ``gm`` is not fitted.

        Examples
        --------
        ``fe.Mixture.from_sklearn(GaussianMixture(3).fit(x))``. Any object with the attributes of a
        fitted one will do:

        >>> import fastelbo as fe
        >>> from types import SimpleNamespace
        >>> gm = SimpleNamespace(
        ...     covariance_type="spherical",
        ...     weights_=[0.5, 0.5],
        ...     means_=[[-3.0, 0.0], [3.0, 0.0]],
        ...     covariances_=[1.0, 4.0],
        ... )
        >>> fe.Mixture.from_sklearn(gm).components.scale
        array([[1., 1.],
               [2., 2.]])
        """
        return cls(*scikit_learn.parameters(gm))

    def to_sklearn(self) -> Any:
        """A fitted ``sklearn.mixture.GaussianMixture`` with this density.

        Returns
        -------
        sklearn.mixture.GaussianMixture
            ``predict``, ``score_samples`` and ``sample`` work. Its ``covariance_type`` is the most
            special one that has these components: "spherical" or "diag" for a ``scale``, "tied" for
            one ``scale_tril`` that all components share, else "full".

        Raises
        ------
        InvalidInputError
            If the mixture has a batch, or components that are not Gaussian.
        ImportError
            If scikit-learn is not installed (``pip install scikit-learn``).
        """
        if self.batch_shape or not isinstance(self.components, Gaussian):
            raise InvalidInputError(
                "to_sklearn() needs a mixture of Gaussians without a batch, got one of "
                f"{self.components!r}"
            )
        return scikit_learn.fitted(self.weights, self.components)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return broadcast_shape(
            weights=self.weights.shape[:-1], components=self.components.batch_shape[:-1]
        )

    @property
    def dim(self) -> int:
        return self.components.dim

    @property
    def mean(self) -> Floats:
        """Mean, shape (..., D); NaN where a component of positive weight has none."""
        return np.array(np.broadcast_to(self._central()[0], (*self.batch_shape, self.dim)))

    @property
    def cov(self) -> Floats:
        """Covariance matrix, shape (..., D, D); NaN where a component of positive weight has none.

        ``sum_c w_c (S_c + (m_c - m)(m_c - m)')`` for components with means m_c and covariances S_c.
        """
        mean, own_means, own_covs = self._central()
        # Squares beyond the largest float are infinite.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            gap = own_means - mean[..., None, :]
            cov = self._averaged(own_covs + gap[..., :, None] * gap[..., None, :], 2)
        return np.array(np.broadcast_to(cov, (*self.batch_shape, self.dim, self.dim)))

    def _central(self) -> tuple[Floats, Floats, Floats]:
        """The mean, and the means and covariances of the components."""
        own_means, own_covs = self.components._moments()
        with np.errstate(over="ignore", under="ignore"):
            return self._averaged(own_means, 1), own_means, own_covs

    def _averaged(self, values: Floats, event_axes: int) -> Floats:
        """The weighted mean over components, of those alone that have a weight."""
        weights = self.weights.reshape(*self.weights.shape, *(1,) * event_axes)
        terms = weights * np.where(weights > 0.0, values, 0.0)
        return np.asarray(terms.sum(axis=-1 - event_axes))

    @overload
    def sample(
        self,
        n: int,
        rng: RandomState = None,
        *,
        sampler: str = "iid",
        replicates: int = DEFAULT_REPLICATES,
        transform: str = DEFAULT_TRANSFORM,
        return_component: Literal[False] = False,
    ) -> Floats: ...
    @overload
    def sample(
        self,
        n: int,
        rng: RandomState = None,
        *,
        sampler: str = "iid",
        replicates: int = DEFAULT_REPLICATES,
        transform: str = DEFAULT_TRANSFORM,
        return_component: Literal[True],
    ) -> tuple[Floats, Integers]: ...
    def sample(
        self,
        n: int,
        rng: RandomState = None,
        *,
        sampler: str = "iid",
        replicates: int = DEFAULT_REPLICATES,
        transform: str = DEFAULT_TRANSFORM,
        return_component: bool = False,
    ) -> Floats | tuple[Floats, Integers]:
        """Draws, and which components they are from.

        Parameters
        ----------
        n : int
            Number of draws for each member of the batch.
        rng : None, int, SeedSequence or Generator
            An int repeats the draws, a Generator advances.
        sampler, replicates, transform
            Independent or quasi-random draws, as for `Gaussian.sample`.
        return_component : bool
            Whether to return the numbers of the components too. The draws are the same.

        Returns
        -------
        draws : ndarray, shape (n, *batch_shape, D), or (replicates, n / replicates, ...)
            The draws that `fastelbo.estimate` makes for the same seed, draw by draw.
        component : ndarray of int64, of the shape of the draws without its last axis
            Only with ``return_component=True``.

        Examples
        --------
        >>> import fastelbo as fe
        >>> mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[-30.0], [30.0]], scale=1.0))
        >>> draws, component = mixture.sample(1000, rng=0, return_component=True)
        >>> bool(((draws[:, 0] > 0.0) == (component == 1)).all())
        True
        """
        sampling = as_sampling(sampler, replicates, transform, False)
        draws, key, design = self._draws(n, rng, sampling)
        if not as_flag(return_component, "return_component"):
            return draws
        members, shape = math.prod(self.batch_shape), draws.shape[:-1]
        require_memory("sample", draws.nbytes + 8 * math.prod(shape))
        points = Points(self.batch_shape)
        limits = lowering.thresholds(points.select(self._components.log_weight, 1))
        chooser = lowering.chooser(limits)
        if design is not None:
            chooser = design.sampler(chooser, points)
        drawn = launch.sample(chooser, members, draws.size // max(1, members * self.dim), 1, key)
        return draws, drawn.astype(np.int64).reshape(shape)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, components={self.weights.shape[-1]})"

    @cached_property
    def _components(self) -> Components:
        own, count = self.components, self.weights.shape[-1]

        def counted(array: Floats | None, event_axes: int) -> Floats | None:
            """The array with its component axis spelled out, which sharing may have left out."""
            if array is None:
                return None
            split = array.ndim - event_axes
            batch = np.broadcast_shapes(array.shape[:split], (count,))
            return np.broadcast_to(array, (*batch, *array.shape[split:]))

        mean = counted(own.mean, 1)
        assert mean is not None
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weights)
        return Components(
            log_weight,
            mean,
            counted(own.scale, 1),
            counted(own.scale_tril, 2),
            own.radial,
            np.atleast_1d(own._log_base),
            counted(own.parameter, 0),
        )


@np.errstate(over="ignore", under="ignore")
def _softmax(logits: ArrayLike) -> Floats:
    """Weights from their logarithms up to a constant."""
    given = as_unchecked_floats(logits, "logits")
    if given.ndim == 0 or given.shape[-1] == 0:
        raise InvalidInputError(
            f"logits must have a last axis of length at least 1, got shape {given.shape}"
        )
    largest = given.max(axis=-1)
    if not np.isfinite(largest).all():
        raise InvalidInputError(
            "logits must not be NaN or +inf, nor all -inf along the last axis; got one with a "
            f"maximum of {largest[~np.isfinite(largest)][0]}"
        )
    weights = softmax(given, axis=-1)
    return np.where(weights < np.finfo(float).tiny, 0.0, weights)
