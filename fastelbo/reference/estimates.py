"""Terms of every draw, and their summaries."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from .densities import (
    TERMS,
    component_log_prob,
    log_density,
    log_mean,
    nearest_components,
)
from .draws import sample
from .parameters import select_rows, simple
from .sobol import groups_of
from .stream import Array, address

# Numbers in the largest temporary array. About ten such arrays exist at once: 80 MB. Larger arrays
# are no faster.
BLOCK_LENGTH = 2**20


def elbo_terms(
    model: Any,
    q: Any,
    n_samples: int,
    key: int,
    first_index: int = 0,
    design: Any = None,
    rows: NDArray[np.intp] | None = None,
) -> tuple[Array, Array, Array]:
    """Terms of the log weights of draws ``z_ik ~ q_i``.

    Parameters
    ----------
    model
        Its ``prior`` is a distribution, its ``likelihood`` one that `log_likelihood` accepts.
    q
        Gaussian, StudentT or Mixture, or a stratum of several.
    n_samples
        Number of draws K per data point.
    key
        64-bit key of the stream.
    first_index
        Address of the first data point.
    design
        None for independent draws, or what `reference.sobol` describes.
    rows
        Data points, of the two batches broadcast and flattened; all by default.

    Returns
    -------
    log_likelihood, log_prior, log_q : arrays of shape (N, K)
        ``log p(x_i | z_ik)``, ``log p(z_ik)`` and ``log q_i(z_ik)``. N is the number of ``rows``;
        by default the length of the two batches, which is 1 without a batch.
    """
    prior, likelihood = model.prior, model.likelihood
    members = q.members if q.family == "stratum" else (q,)
    drawn = q.own if q.family == "stratum" else q
    batches = (each.batch_shape for each in members)
    shape = np.broadcast_shapes(model.batch_shape, *batches)
    n_points = int(np.prod(shape, dtype=np.int64))
    address([first_index, first_index + max(n_points, 1) - 1], 32, "index")
    address(n_samples - 1, 40, "draw")

    # A block limits two sizes: numbers of a draw times draws times points, and the parameters of
    # the points.
    dim = simple(drawn).mean.shape[-1]
    dists = [dist for dist in (*members, prior) if dist.family not in TERMS]
    n_components = max(dist.weights.shape[-1] if dist.family == "mixture" else 1 for dist in dists)
    is_full = any(simple(dist).scale_tril is not None for dist in dists)
    is_linear = likelihood.family == "linear_gaussian"
    width = max(dim, n_components, likelihood.loadings.shape[0] if is_linear else 1)
    draw_step = min(n_samples, max(1, BLOCK_LENGTH // width))
    point_step = max(
        1, BLOCK_LENGTH // max(width * draw_step, n_components * dim * (dim if is_full else 1))
    )
    rows = np.arange(n_points) if rows is None else rows
    log_lik, log_prior, log_q = (np.empty((len(rows), n_samples)) for _ in range(3))
    for i in range(0, len(rows), point_step):
        points = rows[i : i + point_step]
        q_rows, own_design = select_rows(drawn, shape, points), _design_at(design, points)
        for k in range(0, n_samples, draw_step):
            draws = np.arange(k, min(k + draw_step, n_samples))
            block = np.s_[i : i + points.size, k : k + draws.size]
            z = sample(q_rows, key, first_index + points, draws, own_design)
            for out, density in ((log_lik, likelihood), (log_prior, prior), (log_q, q)):
                out[block] = log_density(density, z, shape, points, draws)
    return log_lik, log_prior, log_q


def _design_at(design: Any, points: NDArray[np.intp]) -> Any:
    """The design with the rotations of some data points."""
    if design is None or design.rotation is None or len(design.rotation) == 1:
        return design
    names = ("replicates", "per_replicate", "transform")
    common = {name: getattr(design, name) for name in names}
    return SimpleNamespace(**common, rotation=design.rotation[points])


def summaries(
    log_likelihood: Array,
    log_prior: Array,
    log_q: Array,
    iw_sizes: Iterable[int] = (),
    design: Any = None,
    key: int = 0,
    indices: Iterable[int] | None = None,
) -> dict[str, Any]:
    """Summaries of each row of draws, in two passes.

    Parameters
    ----------
    log_likelihood, log_prior, log_q
        Terms of the log weight ``l = log_likelihood + log_prior - log_q``, shape (N, K).
    iw_sizes
        Group sizes k of importance-weighted bounds; those above K, or above the number of
        replicates of a design, are left out.
    design
        None for independent draws, or what `reference.sobol` describes.
    key, indices
        Key and data points of the draws of a design, which permute its groups; 0, 1, ... by
        default.

    Returns
    -------
    dict
        ``n_samples`` (K), ``iw`` ({k: (value, se)}, over the disjoint groups ``[g k, (g + 1)
        k)``) and arrays of shape (N,).  With w = exp(l): ``n_zero`` (count of w = 0),
        ``log_evidence`` = log mean w, ``relative_variance`` v = Var(w) / mean(w)^2,
        ``log_evidence_se`` = sqrt(v / K), ``ess`` = (sum w)^2 / sum w^2, and with their ``_se``
        ``elbo`` = mean l, ``expected_log_likelihood``, ``kl`` = mean(log_q - log_prior) and
        ``jensen_gap`` = log_evidence - elbo.  A standard error is NaN for a single
        draw or an infinite value.

        Of a design also ``replicate_log_evidence``, ``replicate_elbo``,
        ``replicate_expected_log_likelihood`` and ``replicate_kl``, estimates (N, R) from each
        replicate's draws, and ``replicate_iw``, for each size k the mean (N, R) over the groups of
        each set of k replicates, NaN beyond the R // k sets. The groups are those of
        `sobol.groups_of`.
    """
    log_weights = log_likelihood + log_prior - log_q
    n_samples, is_zero = log_weights.shape[-1], np.isneginf(log_weights)
    shift = np.where(is_zero.all(axis=-1), 0.0, log_weights.max(axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.exp(log_weights - shift[:, None])
        mean = weights.mean(axis=-1)
        relative = weights / mean[:, None]
        # Rounding may go beyond 1 and the number of positive weights.
        ess = n_samples / (1.0 + _variance(relative, ddof=0))
        ess = np.clip(ess, 1.0, np.maximum(1, (~is_zero).sum(axis=-1)))
        result: dict[str, Any] = {
            "n_samples": n_samples,
            "n_zero": is_zero.sum(axis=-1),
            "log_evidence": shift + np.log(mean),
            "relative_variance": _variance(relative, ddof=1),
            "ess": np.where(is_zero.all(axis=-1), 0.0, ess),
        }
        result["log_evidence_se"] = np.sqrt(result["relative_variance"] / n_samples)
        means = {
            "elbo": log_weights,
            "expected_log_likelihood": log_likelihood,
            "kl": log_q - log_prior,
        }
        for name, terms in means.items():
            result[name], result[f"{name}_se"] = _mean_and_se(terms)
        result["jensen_gap"] = result["log_evidence"] - result["elbo"]
        # To first order, log mean w - mean l varies like the mean of w / E(w) - l.
        result["jensen_gap_se"] = _mean_and_se(relative - log_weights)[1]
    result["iw"] = {}
    if design is not None:
        return result | _replicated(means, iw_sizes, design, key, indices)
    for size in iw_sizes:
        n_groups = n_samples // size
        if n_groups > 0:
            groups = log_weights[:, : n_groups * size].reshape(-1, n_groups, size)
            result["iw"][size] = _mean_and_se(log_mean(1.0 / size, groups))
    return result


def _replicated(
    terms: dict[str, Array],
    iw_sizes: Iterable[int],
    design: Any,
    key: int,
    indices: Iterable[int] | None,
) -> dict[str, Any]:
    """Estimates from each replicate, and from the groups that are made across replicates."""
    log_weights, n_replicates = terms["elbo"], design.replicates
    n_points = len(log_weights)

    def split(rows: Array) -> Array:
        return rows.reshape(n_points, n_replicates, design.per_replicate)

    by_replicate = split(log_weights)
    result: dict[str, Any] = {
        "replicate_log_evidence": log_mean(1.0 / design.per_replicate, by_replicate)
    }
    for name, rows in terms.items():
        with np.errstate(invalid="ignore"):
            result[f"replicate_{name}"] = split(rows).mean(axis=-1)
    result["iw"], result["replicate_iw"] = {}, {}
    for size in iw_sizes:
        sets = n_replicates // size
        if sets > 0:
            addresses = range(n_points) if indices is None else indices
            addressed = zip(addresses, log_weights, strict=True)
            groups = np.array([groups_of(design, key, i, row, size) for i, row in addressed])
            values = log_mean(1.0 / size, groups)
            result["iw"][size] = _mean_and_se(values.reshape(n_points, -1))
            means = np.full((n_points, n_replicates), np.nan)
            means[:, :sets] = values.mean(axis=-1)
            result["replicate_iw"][size] = means
    return result


def _variance(a: Array, ddof: int) -> Array:
    if a.shape[-1] <= ddof:
        return np.full(a.shape[:-1], np.nan)
    return np.asarray(
        np.square(a - a.mean(axis=-1, keepdims=True)).sum(axis=-1) / (a.shape[-1] - ddof)
    )


def _mean_and_se(a: Array) -> tuple[Array, Array]:
    mean = a.mean(axis=-1)
    with np.errstate(invalid="ignore"):
        return mean, np.where(
            np.isfinite(mean), np.sqrt(_variance(a, ddof=1) / a.shape[-1]), np.nan
        )


def exact_mixture(model: Any, probs: Array) -> dict[str, Array]:
    """Log evidence and ELBO of a latent component, summed over the components.

    Parameters
    ----------
    model
        MixtureModel of x (..., P) and weights w (C,).
    probs
        Probabilities q of the components, (..., C).

    Returns
    -------
    dict of arrays of the common batch shape
        ``log_evidence`` = log sum_c w_c p(x | c), ``expected_log_likelihood`` = sum_c q_c log p(x
        | c), ``kl`` = sum_c q_c log(q_c / w_c), ``elbo``, their difference, and ``jensen_gap``,
        that of log evidence and ELBO, with 0 log 0 = 0.
        If q puts mass on a component of weight zero, kl is inf and elbo -inf.
    """
    logs, top, below = _below_top(model)
    weights = np.asarray(model.mixture.weights)
    expected = _expectation(probs, logs)
    kl = np.zeros_like(expected) + rel_entr(probs, weights).sum(axis=-1)
    rest = log_mean(weights, below)
    gap = np.maximum(rest + (kl - _expectation(probs, below)), 0.0)
    log_evidence = np.zeros_like(expected) + (top + rest)
    return {
        "log_evidence": log_evidence,
        "elbo": log_evidence - gap,
        "expected_log_likelihood": expected,
        "kl": kl,
        "jensen_gap": gap,
    }


def responsibilities(model: Any) -> Array:
    """p(c | x) of a latent component, (..., C), for a model as of `exact_mixture`."""
    shares = model.mixture.weights * np.exp(_below_top(model)[2])
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def _below_top(model: Any) -> tuple[Array, Array, Array]:
    """Logs log p(x | c), the largest of a weight above 0, and the logs relative to it.

    An ulp of the logs may be many nats. Where all are -inf, the relative ones order components by
    their distance.
    """
    logs, weights = component_log_prob(model.mixture, model.x), np.asarray(model.mixture.weights)
    top = np.where(weights > 0.0, logs, -np.inf).max(axis=-1, keepdims=True)
    nothing = np.isneginf(top)
    ordered = np.where(nothing, nearest_components(model.mixture, model.x), logs)
    return logs, top[..., 0], ordered - np.where(nothing, 0.0, top)


def _expectation(probs: Array, values: Array) -> Array:
    """Sum of probs times values over the last axis, with 0 times anything = 0."""
    return np.asarray((probs * np.where(probs > 0.0, values, 0.0)).sum(axis=-1))
