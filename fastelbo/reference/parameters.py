"""Parameters of distributions: which entries of a batch belong to which data point."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .stream import Array

EVENT_AXES = {"mean": 1, "scale": 1, "scale_tril": 2, "parameter": 0}


def simple(dist: Any) -> Any:
    """The distribution itself, a Gaussian or StudentT, or the components of a mixture."""
    return dist.components if dist.family == "mixture" else dist


def with_parameters(dist: Any, change: Callable[[Array, int], Array]) -> Any:
    """The Gaussian or StudentT with parameters change(parameter, number of its event axes)."""
    parameters = {name: getattr(dist, name, None) for name in EVENT_AXES}
    changed = {
        name: None if p is None else change(np.asarray(p), EVENT_AXES[name])
        for name, p in parameters.items()
    }
    return SimpleNamespace(family=dist.family, **changed)


def stacked(parameter: Array, event_axes: int, n_components: int) -> Array:
    """The parameter with a component axis of full length, even if it only broadcasts along it."""
    split = parameter.ndim - event_axes
    lead = np.broadcast_shapes(parameter.shape[:split], (n_components,))
    return np.broadcast_to(parameter, lead + parameter.shape[split:])


def component(mixture: Any, c: int) -> Any:
    """Component c of a mixture."""
    n_components = mixture.weights.shape[-1]
    return with_parameters(
        mixture.components,
        lambda p, event_axes: np.moveaxis(stacked(p, event_axes, n_components), -1 - event_axes, 0)[
            c
        ],
    )


def select_rows(dist: Any, shape: tuple[int, ...], rows: NDArray[np.intp]) -> Any:
    """The distribution at ``rows`` of its batch, broadcast to ``shape`` and flattened.

    A parameter without a batch stays as it is.
    """
    if dist.family != "mixture":
        return with_parameters(dist, lambda p, event_axes: take(p, event_axes, shape, rows))
    n_components = dist.weights.shape[-1]
    components = with_parameters(
        dist.components,
        lambda p, event_axes: take(
            stacked(p, event_axes, n_components), event_axes + 1, shape, rows
        ),
    )
    return SimpleNamespace(
        family="mixture", weights=take(dist.weights, 1, shape, rows), components=components
    )


def take(
    array: NDArray[Any], event_axes: int, shape: tuple[int, ...], rows: NDArray[np.intp]
) -> NDArray[Any]:
    """One parameter at ``rows`` of its batch, broadcast to ``shape`` and flattened."""
    split = array.ndim - event_axes
    if split == 0:
        return array
    return np.asarray(
        np.broadcast_to(array, shape + array.shape[split:])[np.unravel_index(rows, shape)]
    )
