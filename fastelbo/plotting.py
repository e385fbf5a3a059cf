"""Figures: data in, Axes out. matplotlib is imported when a figure is drawn, not before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .errors import InvalidInputError
from .results import Bound, Estimate
from .validation import Floats, as_floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_convergence"]

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
_EVIDENCE, _ELBO = ("#0072B2", "o"), ("#CC79A7", "D")
_BOUNDS = (("#E69F00", "^"), ("#009E73", "s"), ("#56B4E9", "v"), ("#D55E00", "P"))
_SIZE_INCHES = (8.0, 4.2)
_BAND_SES = 1.96
# Differences from the exact value are drawn to scale below this, in nats, and by decades above.
_LINEAR_NATS = 0.01


def new_figure() -> Figure:
    """An empty figure, or an ImportError that tells how to install matplotlib."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'plotting needs matplotlib, which comes with: pip install "fastelbo[plot]"'
        ) from error
    figure: Figure = pyplot.figure(figsize=_SIZE_INCHES, layout="constrained")
    return figure


def plot_convergence(
    estimates: Sequence[Estimate], exact: ArrayLike | None = None, *, ax: Axes | None = None
) -> Axes:
    """Evidence, ELBO and importance-weighted bounds against the number of draws.

    Parameters
    ----------
    estimates : sequence of Estimate
        Of the same data points, from different numbers of draws.
    exact : array_like, optional
        Exact log evidence in nats, with an entry a data point. It becomes a line at 0, and what is
        drawn is the difference from it, on a scale that shows large and small ones.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes
        Means over the data points in nats, with bands of +-1.96 standard errors.

    Raises
    ------
    InvalidInputError
        No estimates, estimates of different data points or without draws, or an ``exact`` of
        another shape.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    >>> q = fe.Gaussian([0.4], scale=0.8)
    >>> estimates = [fe.estimate(model, q, n_samples=2**p, rng=0) for p in range(9, 13)]
    >>> ax = fe.plotting.plot_convergence(estimates, model.exact_log_evidence())
    >>> ax.get_xlabel()
    'draws K'
    """
    shape = _common_batch(estimates)
    reference = np.zeros(shape) if exact is None else as_floats(exact, "exact")
    if reference.shape != shape:
        raise InvalidInputError(
            f"exact must have the shape of the estimates, {shape}; got {reference.shape}"
        )
    if ax is None:
        ax = new_figure().add_subplot()

    if exact is not None:
        ax.axhline(0.0, color="black", linestyle="--", linewidth=1, label="exact log evidence")
        # Before the curves, so that the margins are those of this scale.
        ax.set_yscale("asinh", linear_width=_LINEAR_NATS)
    estimates = sorted(estimates, key=lambda estimate: estimate.n_samples)
    sizes = sorted({k for estimate in estimates for k in estimate.iw_sizes}, reverse=True)
    _draw_curve(ax, estimates, reference, 0, "log evidence", _EVIDENCE)
    for i, k in enumerate(sizes):
        known = [estimate for estimate in estimates if k in estimate.iw_sizes]
        _draw_curve(ax, known, reference, k, f"IW bound, k = {k}", _BOUNDS[i % len(_BOUNDS)])
    _draw_curve(ax, estimates, reference, 1, "ELBO", _ELBO)

    ax.set_xscale("log", base=2)
    ax.set_xlabel("draws K")
    ax.set_ylabel("nats" if exact is None else "difference from exact log evidence (nats)")
    if exact is not None:
        _decade_ticks(ax)
    of = "" if reference.size == 1 else f"mean of {reference.size} data points\n"
    title = f"{of}± {_BAND_SES} SE"
    ax.legend(
        title=title, alignment="left", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _draw_curve(
    ax: Axes,
    estimates: Sequence[Estimate],
    reference: Floats,
    k: int,
    label: str,
    style: tuple[str, str],
) -> None:
    """One quantity with its band: the bound of group size k, or the log evidence for k = 0."""
    draws = [estimate.n_samples for estimate in estimates]
    mean, se = np.array([_mean(_quantity(estimate, k), reference) for estimate in estimates]).T
    colour, marker = style
    ax.plot(draws, mean, color=colour, marker=marker, markersize=4, label=label)
    low, high = mean - _BAND_SES * se, mean + _BAND_SES * se
    ax.fill_between(draws, low, high, color=colour, alpha=0.2, linewidth=0)


def _common_batch(estimates: Sequence[Estimate]) -> tuple[int, ...]:
    """The batch shape of the estimates, which must be of the same data points."""
    shapes = {estimate.batch_shape for estimate in estimates}
    if len(shapes) != 1:
        raise InvalidInputError(
            f"estimates must be of the same data points, got batch shapes {sorted(shapes)}"
        )
    if not all(estimate.n_samples and estimate.independent for estimate in estimates):
        raise InvalidInputError(
            "estimates must have draws, and entries that are data points (not only q's batch)"
        )
    return shapes.pop()


def _quantity(estimate: Estimate, k: int) -> Bound:
    """The bound of group size k; 0 stands for the log evidence itself."""
    if k == 0:
        return Bound(estimate.log_evidence, estimate.log_evidence_se)
    return estimate.iw_elbo(k)


def _mean(bound: Bound, reference: Floats) -> tuple[float, float]:
    """Mean difference over data points, and its standard error."""
    return (
        float((bound.value - reference).mean()),
        float(np.sqrt((bound.se**2).sum()) / bound.se.size),
    )


def _decade_ticks(ax: Axes) -> None:
    """A tick at 0 and at each power of ten of either sign, small ones between."""
    from matplotlib.ticker import FixedLocator, NullFormatter

    limits = low, high = ax.get_ylim()
    decades = _LINEAR_NATS * 10.0 ** np.arange(6)
    decades = np.concatenate([-decades, [0.0], decades])
    between = np.outer(np.arange(2, 10), decades[decades != 0.0]).reshape(-1)
    for set_locator, ticks in (
        (ax.yaxis.set_major_locator, decades),
        (ax.yaxis.set_minor_locator, between),
    ):
        set_locator(FixedLocator(ticks[(low <= ticks) & (ticks <= high)].tolist()))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(limits)
