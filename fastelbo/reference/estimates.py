"""Terms of every draw, and their summaries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.special import rel_entr

from .densities import TERMS, component_log_prob, log_density, log_mean
from .draws import sample
from .parameters import select_rows, simple
from .stream import Array, address

# Numbers in the largest temporary array. About ten such arrays exist at once: 80 MB. Larger arrays
# are no faster.
BLOCK_LENGTH = 2**20


def elbo_terms(
    model: Any, q: Any, n_samples: int, key: int, first_index: int = 0
) -> tuple[Array, Array, Array]:
    """Terms of the log weights of draws ``z_ik ~ q_i``.

    Parameters
    ----------
    model
        Its ``prior`` is a distribution, its ``likelihood`` one that `log_likelihood` accepts.
    q
        Gaussian, StudentT or Mixture.
    n_samples
        Number of draws K per data point.
    key
        64-bit key of the stream.
    first_index
        Address of the first data point.

    Returns
    -------
    log_likelihood, log_prior, log_q : arrays of shape (N, K)
        ``log p(x_i | z_ik)``, ``log p(z_ik)`` and ``log q_i(z_ik)``. N is the length of the two
        batches, broadcast and flattened; it is 1 without a batch.
    """
    prior, likelihood = model.prior, model.likelihood
    shape = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    n_points = int(np.prod(shape, dtype=np.int64))
    address([first_index, first_index + max(n_points, 1) - 1], 32, "index")
    address(n_samples - 1, 40, "draw")

    # A block limits two sizes: numbers of a draw times draws times points, and the parameters of
    # the points.
    dim = simple(q).mean.shape[-1]
    dists = [dist for dist in (q, prior) if dist.family not in TERMS]
    n_components = max(dist.weights.shape[-1] if dist.family == "mixture" else 1 for dist in dists)
    is_full = any(simple(dist).scale_tril is not None for dist in dists)
    is_linear = likelihood.family == "linear_gaussian"
    width = max(dim, n_components, likelihood.loadings.shape[0] if is_linear else 1)
    draw_step = min(n_samples, max(1, BLOCK_LENGTH // width))
    point_step = max(
        1, BLOCK_LENGTH // max(width * draw_step, n_components * dim * (dim if is_full else 1))
    )
    log_lik, log_prior, log_q = (np.empty((n_points, n_samples)) for _ in range(3))
    for i in range(0, n_points, point_step):
        points = np.arange(i, min(i + point_step, n_points))
        q_rows = select_rows(q, shape, points)
        for k in range(0, n_samples, draw_step):
            draws = np.arange(k, min(k + draw_step, n_samples))
            block = np.s_[i : i + points.size, k : k + draws.size]
            z = sample(q_rows, key, first_index + points, draws)
            for out, density in ((log_lik, likelihood), (log_prior, prior), (log_q, q)):
                out[block] = log_density(density, z, shape, points, draws)
    return log_lik, log_prior, log_q


def summaries(
    log_likelihood: Array, log_prior: Array, log_q: Array, iw_sizes: Iterable[int] = ()
) -> dict[str, Any]:
    """Summaries of each row of draws, in two passes.

    Parameters
    ----------
    log_likelihood, log_prior, log_q
        Terms of the log weight ``l = log_likelihood + log_prior - log_q``, shape (N, K).
    iw_sizes
        Group sizes k of importance-weighted bounds; those above K are left out.

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
    """
    log_weights = log_likelihood + log_prior - log_q
    n_samples, is_zero = log_weights.shape[-1], np.isneginf(log_weights)
    shift = np.where(is_zero.all(axis=-1), 0.0, log_weights.max(axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.exp(log_weights - shift[:, None])
        mean = weights.mean(axis=-1)
        relative = weights / mean[:, None]
        ess = n_samples / (1.0 + _variance(relative, ddof=0))
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
    for size in iw_sizes:
        n_groups = n_samples // size
        if n_groups > 0:
            groups = log_weights[:, : n_groups * size].reshape(-1, n_groups, size)
            result["iw"][size] = _mean_and_se(log_mean(1.0 / size, groups))
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
        | c), ``kl`` = sum_c q_c log(q_c / w_c) and ``elbo``, their difference, with 0 log 0 = 0.
        If q puts mass on a component of weight zero, kl is inf and elbo -inf.
    """
    logs = component_log_prob(model.mixture, model.x)
    expected = (probs * np.where(probs > 0.0, logs, 0.0)).sum(axis=-1)
    kl = np.zeros_like(expected) + rel_entr(probs, model.mixture.weights).sum(axis=-1)
    log_evidence = np.zeros_like(expected) + log_mean(model.mixture.weights, logs)
    return {
        "log_evidence": log_evidence,
        "elbo": expected - kl,
        "expected_log_likelihood": expected,
        "kl": kl,
    }
