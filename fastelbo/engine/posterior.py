"""Draws of the posterior, chosen among draws of q in proportion to their weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InvalidInputError, InvalidWeightError
from ..models.proposals import Proposals, as_proposals
from ..models.protocol import ExactModel, LatentModel, Proposal
from ..models.sampling import IID
from ..random import RandomState, pilot_key
from ..results.posterior_draws import PosteriorDraws
from ..validation import Floats, Integers, as_choice, as_count, as_flag
from ..weights.diagnostics import high_k
from ..weights.function_diagnostics import warn_about_posterior
from ..weights.resampling import METHODS, resample
from .expected import of_weights
from .moments import WeightedDraws, weighted_slices
from .requests import backend_named, kind_of, new_request
from .stratified import new_strata

# Which of the keys that are made from the one of the call: that of the choice.
_KEY = 8
_PER_DRAW = 20
_LEAST_DRAWS = 1000
# Numbers of draws that are made again at once: 32 MB.
_NUMBERS = 2**22


def importance_resample(
    model: LatentModel,
    q: Proposal | Proposals | Sequence[Proposal],
    n: int,
    *,
    n_samples: int | Sequence[int] | None = None,
    method: str = "stratified",
    replace: bool = True,
    rng: RandomState = None,
    backend: str = "auto",
    precision: str = "float64",
    device: int = 0,
    first_index: int = 0,
    n_threads: int | None = None,
) -> PosteriorDraws:
    """Draws of the posterior: n of K draws of q, in proportion to their weights.

    Sampling importance resampling (Rubin, 1988). The K draws and weights are those of `estimate`
    with the same ``rng``. As K grows, the law of a chosen draw becomes the posterior.

    Parameters
    ----------
    model : Model, LinearGaussian, or a distribution
        As for `estimate`. A MixtureModel has no draws.
    q : Gaussian, StudentT or Mixture
        Approximate posterior. Its batch broadcasts against the model's batch. Of several, in a
        sequence or `Proposals`, all draws are weighed by their mixture, as for `estimate`.
    n : int
        Number of draws of the posterior for each data point.
    n_samples : int, optional
        K, the number of draws of q for each data point; by default 20 n, and at least 1000;
        for several q, also a sequence of the number for each.
    method : {"stratified", "systematic", "multinomial", "residual"}
        How draws are chosen with replacement, as for `resample`.
    replace : bool
        If False, no draw is chosen twice: they are chosen one after the other, in proportion to the
        weights of those that are left. Draws of large weight are then underrepresented, the more
        the nearer n comes to the effective sample size. But a few very large weights cannot fill
        the sample. ``method`` has no effect.
    rng : None, int, SeedSequence or Generator
        Seed of the draws and of the choice.
    backend, precision, device, first_index, n_threads
        Where and how the log weights are computed, as for `elbo_terms`: ``backend="auto"`` is
        "cuda" for long work on a machine with a GPU that fastelbo can use, else "cpu".

    Returns
    -------
    PosteriorDraws
        ``draws`` of shape (*batch, n, D), their ``log_weights`` and ``index``, and the ``pareto_k``
        and ``ess`` of all weights.

    Raises
    ------
    InvalidInputError
        If an argument is invalid, or, without replacement, n exceeds the number of positive
        weights.
    InvalidWeightError
        If a log weight is NaN or +inf, or all weights of a data point are 0.

    Warns
    -----
    HighParetoKWarning
        If the k-hat of the weights is above its limit: the draws are not those of the posterior.
    LowESSWarning
        If the effective sample size of the weights is below 100.
    ShortTailWarning
        If there are too few draws of q for a k-hat.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([1.0], [[1.0]], noise_cov=1.0)
    >>> posterior = fe.importance_resample(model, fe.StudentT(5.0, [0.4], scale=0.8), 1000, rng=0)
    >>> posterior.draws.shape, posterior.n_samples
    ((1000, 1), 20000)
    >>> bool(abs(posterior.draws.mean() - 0.5) < 0.1)
    True
    """
    count = as_count(n, "n")
    as_choice(method, "method", METHODS)
    again = as_flag(replace, "replace")
    if isinstance(model, ExactModel):
        raise InvalidInputError(
            f"model must be one with draws, got a {kind_of(model)}, which is summed exactly"
        )
    wanted = max(_PER_DRAW * count, _LEAST_DRAWS) if n_samples is None else n_samples
    options = (rng, first_index, precision, (), True, IID)
    several, strata, order = as_proposals(q), None, None
    if several is None:
        request = new_request(model, q, wanted, *options)
    else:
        strata = new_strata(model, several, wanted, *options)
        request, order = strata.pooled, strata.order
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    used = backend_named(backend, threads, as_count(device, "device", least=0), request)
    random = np.random.default_rng(pilot_key(request.key, _KEY))
    shape = (request.points, count)
    index, log_weights = np.empty(shape, np.int64), np.empty(shape)
    dim = request.q.dim
    draws, facts = np.empty((*shape, dim)), []
    for pool in weighted_slices(strata or request, used, threads, count * dim):
        lo = pool.parts[0].lo
        weights = pool.log_weights if order is None else pool.log_weights[:, order]
        # Of one data point after the other, so that slices change nothing.
        for i, row in enumerate(weights):
            _require_positive(row, lo + i, 1 if again else count)
            index[lo + i] = resample(row, count, method, again, random)
        rows = slice(lo, lo + pool.count)
        log_weights[rows] = np.take_along_axis(weights, index[rows], axis=1)
        places, first = index[rows] if order is None else order[index[rows]], 0
        for part in pool.parts:
            _take(part, places - first, draws[rows])
            first += part.n_samples
        facts.append(of_weights(pool))
    found = {
        name: np.concatenate([np.empty(0), *(fact[name] for fact in facts)])
        for name in ("weights_k", "weights_ess", "log_evidence")
    }
    high = high_k(found["weights_k"], request.n_samples)
    warn_about_posterior(
        "the posterior's draws", "the draws are not those of the posterior", request.n_samples,
        1, high, found["weights_k"], found["log_evidence"], found["weights_k"],
        found["weights_ess"],
    )  # fmt: skip
    batch = request.batch
    return PosteriorDraws(
        draws=draws.reshape(*batch, count, dim), log_weights=log_weights.reshape(*batch, count),
        index=index.reshape(*batch, count), pareto_k=found["weights_k"].reshape(batch),
        ess=found["weights_ess"].reshape(batch), n_samples=request.n_samples, replace=again,
        names=getattr(model, "names", None),
    )  # fmt: skip


def _require_positive(log_weights: Floats, point: int, least: int) -> None:
    positive = int(np.isfinite(log_weights).sum())
    if positive < least:
        raise InvalidWeightError(
            f"q must have at least {least} draws of positive weight a data point; data point "
            f"{point} has {positive} of {len(log_weights)}"
        )


def _take(part: WeightedDraws, index: Integers, out: Floats) -> None:
    """Set out[i, j] to draw index[i, j] of data point i, where that is among these draws.

    They are made again in pieces.
    """
    step = max(1, _NUMBERS // (part.count * out.shape[2]))
    for first in range(0, part.n_samples, step):
        stop = min(part.n_samples, first + step)
        point, place = np.nonzero((index >= first) & (index < stop))
        if len(point):
            z = part.redraw.at(first, stop)
            out[point, place] = z[index[point, place] - first, point]
