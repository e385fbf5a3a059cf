"""Figures: data in, Axes out. matplotlib is imported when the first figure is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from .arrays.inputs import as_floats, as_unchecked_floats
from .errors import InvalidInputError
from .validation import MAX_POINTS, Floats, as_choice, as_count, as_number, as_sequence, shown
from .weights.bounds import Bound
from .weights.pareto import REPLICATED_WARNED, Counts, in_words, k_limit
from .weights.scaled import mean_and_error, root_sum_of_squares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot", "plot_bounds", "plot_convergence", "plot_pareto_k"]

# The palette of Okabe and Ito: colour-blind readers can tell its colours apart.
_EVIDENCE, _ELBO = ("#0072B2", "o"), ("#CC79A7", "D")
_BOUNDS = (("#E69F00", "^"), ("#009E73", "s"), ("#56B4E9", "v"), ("#D55E00", "P"))
_SIZE_INCHES = (8.0, 4.2)
_BAND_SES = 1.96
# The axis of differences is linear below this value, in nats, and logarithmic above it.
_LINEAR_NATS = 0.01
# Larger numbers overflow in matplotlib; they are not drawn, as infinite ones are not.
_LARGEST_DRAWN = 1e100
# More data points than this get smaller marks.
_MANY_POINTS = 200


def new_figure() -> Figure:
    """An empty figure. Without matplotlib, an ImportError says how to install it."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'plotting needs matplotlib; install it with: pip install "fastelbo[plot]"'
        ) from error
    figure: Figure = pyplot.figure(figsize=_SIZE_INCHES, layout="constrained")
    return figure


@runtime_checkable
class Drawable(Protocol):
    """The attributes of a `fastelbo.Estimate` that figures read."""

    @property
    def n_samples(self) -> Counts: ...
    @property
    def replicates(self) -> int: ...
    @property
    def independent(self) -> bool: ...
    @property
    def batch_shape(self) -> tuple[int, ...]: ...
    @property
    def log_evidence(self) -> Floats: ...
    @property
    def log_evidence_se(self) -> Floats: ...
    @property
    def pareto_k(self) -> Floats: ...
    @property
    def iw_sizes(self) -> tuple[int, ...]: ...

    def iw_elbo(self, k: int) -> Bound: ...


def plot(estimate: Drawable, kind: str, **options: Any) -> Axes:
    """The figure of an estimate with the name ``kind``; see `Estimate.plot`."""
    if as_choice(kind, "kind", ("bounds", "pareto_k")) == "bounds":
        return plot_bounds(estimate, **options)
    _require_estimate(estimate, "estimate")
    limit = k_limit(estimate.n_samples, estimate.replicates)
    doubtful = REPLICATED_WARNED if estimate.replicates > 1 else None
    return _draw_pareto_k(estimate.pareto_k.reshape(-1), limit, doubtful, **options)


def plot_both(estimate: Drawable, figure: Figure) -> None:
    """The bounds, and below them k-hat if any data point has one."""
    has_k = bool(np.isfinite(estimate.pareto_k).any())
    figure.set_figheight(_SIZE_INCHES[1] * (1 + has_k))
    bounds, *k_hat = figure.subplots(1 + has_k, squeeze=False)[:, 0]
    plot(estimate, "bounds", ax=bounds)
    for ax in k_hat:
        plot(estimate, "pareto_k", ax=ax)


def plot_bounds(
    estimate: Drawable,
    exact: ArrayLike | None = None,
    *,
    point: int | tuple[int, ...] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The bound of k weights against k: ELBO, ``iw_elbo(k)`` and log evidence.

    Parameters
    ----------
    estimate : Estimate
        The estimate of one or several data points.
    exact : array_like, optional
        Exact log evidence in nats, one entry per data point; drawn as a line.
    point : int or tuple of int, optional
        Index of one data point in the batch; by default, the mean over all data points is drawn.
    ax : matplotlib Axes, optional
        Axes to draw into; a new figure by default.

    Returns
    -------
    matplotlib Axes
        Bounds in nats, with bands of +-1.96 standard errors.

    Raises
    ------
    InvalidInputError
        If the estimate has no draws or no data points; if, without ``point``, only q has a batch;
        if ``point`` is outside of the batch; if ``exact`` has another shape.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    >>> est = fe.estimate(model, fe.Gaussian([0.4], scale=0.8), n_samples=1000, rng=0)
    >>> ax = fe.plotting.plot_bounds(est, model.exact_log_evidence())
    >>> ax.get_xlabel()
    'weights k in the bound'
    """
    _require_estimate(estimate, "estimate")
    shape = _common_batch([estimate]) if point is None else estimate.batch_shape
    place = _place(point, shape)
    draws, points = _mean_draws(estimate, place), estimate.log_evidence[place].size
    if not draws or not points:
        raise InvalidInputError(
            f"estimate must have data points and draws, got {points} data points and {draws} draws"
        )
    reference = None if exact is None else _exact(exact, shape)[place]
    if ax is None:
        ax = new_figure().add_subplot()

    if reference is not None:
        _exact_line(ax, _mean(Bound(reference, np.zeros(1)), np.zeros(()))[0])
    # The log evidence is the bound of all K weights.
    sizes = [1, *(k for k in estimate.iw_sizes if k < draws), draws]
    bounds = [_quantity(estimate, k) for k in (*sizes[:-1], 0)]
    mean, se = np.array([
        _mean(Bound(value[place], error[place]), np.zeros(())) for value, error in bounds
    ]).T  # fmt: skip
    ax.plot(sizes, mean, color="0.5", linewidth=1, zorder=1)
    half = _BAND_SES * se
    ax.fill_between(sizes, mean - half, mean + half, color="0.5", alpha=0.2, linewidth=0)
    for label, (colour, marker), part in (
        ("log evidence, k = K", _EVIDENCE, slice(-1, None)),
        ("IW bound", _BOUNDS[0], slice(1, -1)),
        ("ELBO, k = 1", _ELBO, slice(0, 1)),
    ):
        if sizes[part]:
            ax.errorbar(
                sizes[part], mean[part], half[part], color=colour, marker=marker, markersize=5,
                linestyle="none", capsize=3, label=label,
            )  # fmt: skip
    _log_axis(ax, sizes)
    ax.set_xlabel("weights k in the bound")
    ax.set_ylabel("nats")
    _finish(ax, _band_title(estimate.log_evidence[place].size))
    return ax


def plot_mixture_fit(
    seconds: Floats, log_likelihood: Floats, others: Floats, *, ax: Axes | None = None
) -> Axes:
    """The mean log likelihood of a fit as it rose, and where other starts ended."""
    if ax is None:
        ax = new_figure().add_subplot()
    colour, marker = _EVIDENCE
    ax.plot(seconds, log_likelihood, color=colour, marker=marker, markersize=4, label="kept start")
    for number, value in enumerate(others):
        label = f"ends of {len(others)} other starts" if number == 0 else None
        ax.axhline(float(value), color=_BOUNDS[0][0], linewidth=0.5, label=label)
    ax.set_xlabel("seconds")
    ax.set_ylabel("nats a data point")
    _finish(ax, "mean log likelihood")
    return ax


def plot_pareto_k(pareto_k: ArrayLike, threshold: float = 0.7, *, ax: Axes | None = None) -> Axes:
    """Pareto k-hat of each data point, with the upper limits of good and of bad values.

    Parameters
    ----------
    pareto_k : array_like
        From an `Estimate`, `psis` or `loo`. Values that are not finite are counted in the legend,
        not drawn.
    threshold : float
        The largest k-hat of an estimate that can be trusted, ``min(1 - 1 / log10 K, 0.7)``.
    ax : matplotlib Axes, optional
        Axes to draw into; a new figure by default.

    Returns
    -------
    matplotlib Axes
        k-hat against the index in the flattened batch.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastelbo as fe
    >>> ax = fe.plotting.plot_pareto_k([0.1, 0.4, 0.8])
    >>> ax.get_ylabel()
    'Pareto k-hat'
    """
    k = as_unchecked_floats(pareto_k, "pareto_k").reshape(-1)
    return _draw_pareto_k(k, as_number(threshold, "threshold"), None, ax=ax)


def _draw_pareto_k(
    k: Floats, threshold: float | Floats, doubtful: float | None, *, ax: Axes | None = None
) -> Axes:
    """k-hats and their limits, of which ``threshold`` may be one for each data point."""
    if ax is None:
        ax = new_figure().add_subplot()
    from matplotlib.ticker import MaxNLocator

    threshold = np.reshape(threshold, -1)
    good = np.minimum(threshold, np.inf if doubtful is None else doubtful)
    limits = [(good, "--", "good"), (threshold, ":", "doubtful"), (np.ones(1), "-", "bad")]
    for limit, style, name in limits if doubtful is not None else limits[::2]:
        _draw_limit(ax, limit, style, name)
    size = 4 if k.size <= _MANY_POINTS else 2
    classes = [
        ("good", _EVIDENCE, k <= good),
        ("doubtful", _BOUNDS[2], (k > good) & (k <= threshold)),
        ("bad", _BOUNDS[0], (k > threshold) & (k <= 1.0)),
        ("very bad", _BOUNDS[3], k > 1.0),
    ]
    if doubtful is None:
        del classes[1]
    for name, (colour, marker), flags in classes:
        shown = np.flatnonzero(flags & np.isfinite(k))
        ax.plot(
            shown, k[shown], marker, color=colour, markersize=size, label=f"{flags.sum()} {name}"
        )
    missing = int((~np.isfinite(k)).sum())
    if missing:
        ax.plot([], [], " ", label=f"{missing} NaN or infinite")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("data point")
    ax.set_ylabel("Pareto k-hat")
    _finish(ax, f"{k.size} data points")
    return ax


def _draw_limit(ax: Axes, limit: Floats, style: str, name: str) -> None:
    """A line for one limit of k-hat, or a step for each data point's."""
    finite = limit[np.isfinite(limit)]
    if not finite.size:
        return
    number = "1" if name == "bad" else in_words(finite, ".2f")
    options = {"color": "black", "linewidth": 1, "label": f"limit of {name}, {number}"}
    if limit.size == 1:
        ax.axhline(limit[0], linestyle=style, **options)
    else:
        ax.step(np.arange(limit.size), limit, where="mid", linestyle=style, **options)


def plot_convergence(
    estimates: Sequence[Drawable], exact: ArrayLike | None = None, *, ax: Axes | None = None
) -> Axes:
    """Evidence, ELBO and importance-weighted bounds against the number of draws.

    Parameters
    ----------
    estimates : sequence of Estimate
        Estimates of the same data points with different numbers of draws.
    exact : array_like, optional
        Exact log evidence in nats, one entry per data point. If given, the figure shows differences
        from it, on a scale for both large and small values, and a line at 0.
    ax : matplotlib Axes, optional
        Axes to draw into; a new figure by default.

    Returns
    -------
    matplotlib Axes
        Means over the data points in nats, with bands of +-1.96 standard errors.

    Raises
    ------
    InvalidInputError
        If there are no estimates, if they have different data points or no draws, or if ``exact``
        has another shape.
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
    estimates = as_sequence(estimates, "estimates", "Estimate")
    for each in estimates:
        _require_estimate(each, "estimates")
    shape = _common_batch(estimates)
    if 0 in shape:
        raise InvalidInputError(f"estimates must have data points, got batch shape {shape}")
    reference = np.zeros(shape) if exact is None else _exact(exact, shape)
    if ax is None:
        ax = new_figure().add_subplot()

    if exact is not None:
        _exact_line(ax, 0.0)
        # Set the scale before the curves are drawn, so that their margins fit it.
        ax.set_yscale("asinh", linear_width=_LINEAR_NATS)
    estimates = sorted(estimates, key=_mean_draws)
    sizes = sorted({k for estimate in estimates for k in estimate.iw_sizes}, reverse=True)
    _draw_curve(ax, estimates, reference, 0, "log evidence", _EVIDENCE)
    for i, k in enumerate(sizes):
        with_k = [estimate for estimate in estimates if k in estimate.iw_sizes]
        _draw_curve(ax, with_k, reference, k, f"IW bound, k = {k}", _BOUNDS[i % len(_BOUNDS)])
    _draw_curve(ax, estimates, reference, 1, "ELBO", _ELBO)

    _log_axis(ax, [_mean_draws(estimate) for estimate in estimates], base=2)
    ax.set_xlabel("draws K")
    ax.set_ylabel("nats" if exact is None else "difference from exact log evidence (nats)")
    if exact is not None:
        _decade_ticks(ax)
    _finish(ax, _band_title(reference.size))
    return ax


def plot_history(
    evaluations: Sequence[int],
    log_evidence: Sequence[float],
    ess: Sequence[float],
    last: int,
    value: float,
    se: float,
    *,
    ax: Axes | None = None,
) -> Axes:
    """The rounds of an adaptation, and its estimate; see `Adaptation.plot`."""
    if ax is None:
        ax = new_figure().add_subplot()
    from matplotlib.ticker import MaxNLocator

    colour, marker = _BOUNDS[0]
    ax.plot(evaluations, log_evidence, color=colour, marker=marker, markersize=4, label="rounds")
    for x, y, size in zip(evaluations, log_evidence, ess, strict=True):
        ax.annotate(f"{size:.0f}", (x, y), textcoords="offset points", xytext=(0, 6), fontsize=7)
    colour, marker = _EVIDENCE
    half = _BAND_SES * se if np.isfinite(se) else 0.0
    ax.errorbar(
        [last], [value], [half], color=colour, marker=marker, markersize=5, linestyle="none",
        capsize=3, label="estimate by fresh draws",
    )  # fmt: skip
    ax.axhline(value, color=colour, linewidth=0.5)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("evaluations of log p(x, z)")
    ax.set_ylabel("log evidence (nats)")
    _finish(ax, "numbers: effective draws" if half else "numbers: effective draws\nno SE")
    return ax


def plot_fit(
    x: Floats,
    elbo: Floats,
    elbo_se: Floats,
    label: str,
    last: Bound,
    log_evidence: Bound,
    *,
    ax: Axes | None = None,
) -> Axes:
    """The ELBO of a fit as it rose, and what fresh draws say of its end; see `Fit.plot`."""
    if ax is None:
        ax = new_figure().add_subplot()
    colour, marker = _BOUNDS[0]
    ax.plot(x, elbo, color=colour, marker=marker, markersize=4, label="ELBO of the fit")
    half = _BAND_SES * np.nan_to_num(elbo_se)
    ax.fill_between(x, elbo - half, elbo + half, color=colour, alpha=0.2, linewidth=0)
    for (value, se), name, style in (
        (last, "ELBO of q", _ELBO),
        (log_evidence, "log evidence", _EVIDENCE),
    ):
        if np.abs(value) > _LARGEST_DRAWN or np.isnan(value):
            continue
        colour, marker = style
        half = _BAND_SES * np.nan_to_num(se)
        ax.errorbar(
            x[-1:], [float(value)], [float(half)], color=colour, marker=marker, markersize=5,
            linestyle="none", capsize=3, label=f"{name}, {'fresh draws' if se else 'exact'}",
        )  # fmt: skip
        ax.axhline(float(value), color=colour, linewidth=0.5)
    ax.set_xlabel(label)
    ax.set_ylabel("nats")
    _finish(ax, f"± {_BAND_SES} SE")
    return ax


def _draw_curve(
    ax: Axes,
    estimates: Sequence[Drawable],
    reference: Floats,
    k: int,
    label: str,
    style: tuple[str, str],
) -> None:
    """Draw one quantity with its band: the bound of group size k, or the log evidence for k = 0."""
    draws = [_mean_draws(estimate) for estimate in estimates]
    mean, se = np.array([_mean(_quantity(estimate, k), reference) for estimate in estimates]).T
    colour, marker = style
    ax.plot(draws, mean, color=colour, marker=marker, markersize=4, label=label)
    low, high = mean - _BAND_SES * se, mean + _BAND_SES * se
    ax.fill_between(draws, low, high, color=colour, alpha=0.2, linewidth=0)


def _exact(exact: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Exact log evidences, checked to have the shape of the batch."""
    values = as_floats(exact, "exact")
    if values.shape != shape:
        raise InvalidInputError(
            f"exact must have the shape of the estimates, {shape}, got {values.shape}"
        )
    return values


def _exact_line(ax: Axes, value: float) -> None:
    ax.axhline(value, color="black", linestyle="--", linewidth=1, label="exact log evidence")


def _log_axis(ax: Axes, values: list[int], **options: Any) -> None:
    """A logarithmic axis of the values; it needs limits even if nothing above them is finite."""
    ax.update_datalim(np.column_stack([values, values]), updatey=False)
    ax.set_xscale("log", **options)


def _band_title(n_points: int) -> str:
    of = "" if n_points == 1 else f"mean of {n_points} data points\n"
    return f"{of}± {_BAND_SES} SE"


def _finish(ax: Axes, title: str) -> None:
    """Put the legend beside the axes, where it covers nothing."""
    ax.legend(
        title=title, alignment="left", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    ax.spines[["top", "right"]].set_visible(False)


def _place(point: int | tuple[int, ...] | None, shape: tuple[int, ...]) -> Any:
    """The index of one data point, or an index of all of them."""
    if point is None:
        return ...
    several = isinstance(point, (tuple, list)) or getattr(point, "shape", ()) != ()
    given: Any = point if several else (point,)
    index = tuple(as_count(i, "point", least=-MAX_POINTS) for i in given)
    inside = len(index) == len(shape) and all(
        -n <= i < n for i, n in zip(index, shape, strict=True)
    )
    if not inside:
        raise InvalidInputError(
            f"point must be an index into the batch {shape}, got {shown(point)}"
        )
    return index


def _require_estimate(value: object, name: str) -> None:
    if not isinstance(value, Drawable):
        raise InvalidInputError(
            f"{name} must be an Estimate, or hold them alone, got {shown(value)}"
        )


def _common_batch(estimates: Sequence[Drawable]) -> tuple[int, ...]:
    """The common batch shape of the estimates."""
    shapes = {estimate.batch_shape for estimate in estimates}
    if len(shapes) != 1:
        raise InvalidInputError(
            f"estimates must have the same data points, got batch shapes {sorted(shapes)}"
        )
    if not all(np.all(estimate.n_samples) and estimate.independent for estimate in estimates):
        raise InvalidInputError(
            "estimates must have draws and a batch of data points; got one without draws, or "
            "one whose entries are not data points with draws of their own"
        )
    return shapes.pop()


def _mean_draws(estimate: Drawable, place: Any = ...) -> int:
    """The number of draws for a data point; the mean if each has its own."""
    if np.ndim(estimate.n_samples) == 0:
        return int(estimate.n_samples)
    draws = np.asarray(estimate.n_samples)[place]
    return round(float(draws.mean())) if draws.size else 0


def _quantity(estimate: Drawable, k: int) -> Bound:
    """The bound of group size k; k = 0 means the log evidence."""
    if k == 0:
        return Bound(estimate.log_evidence, estimate.log_evidence_se)
    return estimate.iw_elbo(k)


def _mean(bound: Bound, reference: Floats) -> tuple[float, float]:
    """Mean difference over data points, and its standard error."""
    with np.errstate(over="ignore"):
        mean, _ = mean_and_error((bound.value - reference).reshape(-1))
    error = root_sum_of_squares(bound.se) / bound.se.size
    if abs(mean) > _LARGEST_DRAWN:
        mean = np.copysign(np.inf, mean)
    return float(mean), error if error <= _LARGEST_DRAWN else float("nan")


def _decade_ticks(ax: Axes) -> None:
    """Set major ticks at 0 and at each signed power of ten, and minor ticks between them."""
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
