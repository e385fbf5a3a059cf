"""Posterior expectations from weighted draws of q: of functions, moments and quantiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_floats
from ..errors import InvalidInputError
from ..models.distributions import Distribution
from ..models.integrand import as_integrand
from ..models.proposals import Proposals, as_proposals
from ..models.protocol import ExactModel, LatentModel, Proposal
from ..models.sampling import DEFAULT_REPLICATES, DEFAULT_TRANSFORM, as_sampling
from ..random import RandomState
from ..results.expectation import Expectation
from ..validation import Floats, as_count, as_flag, as_sequence, shown
from ..weights.diagnostics import high_k
from ..weights.function_diagnostics import warn_about_posterior
from .expected import Wanted, event_of, nothing, numbers_of_point, work_for
from .moments import weighted_slices
from .quantiles import kept_for_quantiles
from .requests import chooser, kind_of, new_request
from .rotation import with_rotation
from .states import Quantities
from .stratified import new_strata
from .task import EstimateRequest

NAMED = ("mean", "cov", "quantiles")


def expectation(
    f: str | Callable[..., Any] | Sequence[Callable[..., Any]],
    model: LatentModel,
    q: Proposal | Proposals | Sequence[Proposal],
    n_samples: int | Sequence[int] | None = None,
    *,
    rng: RandomState = None,
    params: tuple[Any, ...] = (),
    vectorized: bool = False,
    probs: ArrayLike = (0.05, 0.25, 0.5, 0.75, 0.95),
    backend: str = "auto",
    precision: str = "float64",
    device: int = 0,
    first_index: int = 0,
    n_threads: int | None = None,
    sampler: str = "iid",
    replicates: int = DEFAULT_REPLICATES,
    transform: str = DEFAULT_TRANSFORM,
    rotate: bool = True,
    client: Any = None,
    allow_mixed: bool = False,
) -> Expectation:
    """Posterior expectations E[f(z) | x], with standard errors.

    The draws and weights are those of `estimate` with the same ``rng``. The estimate is
    self-normalised, ``sum f(z_k) w_k / sum w_k``, so that p(x, z) need not be normalised. Its
    standard error is ``sqrt(sum w^2 (f - value)^2) / sum w``, by the delta method (Owen, Monte
    Carlo theory, methods and examples, chapter 9). The log weights are stored: 8 bytes for each
    draw of each data point.

    Parameters
    ----------
    f : str, callable or sequence of callables
        "mean": the posterior mean, an event of shape (D,). "cov": the posterior covariance, (D, D),
        with the errors of its influence function ``(z_i - mu_i) (z_j - mu_j) - S_ij``. "quantiles":
        those of each coordinate, (Q, D), with the errors of Woodruff (1952), from at most 2^20
        draws (``note`` says so). A function of one draw z (D,), ``f(z, *params)``, is compiled like
        that of a `Model`; it returns a number, a truth, or a tuple or vector of P numbers, each of
        which is compiled apart. A sequence of such functions returns one number each.
    model : Model, LinearGaussian, or a distribution
        As for `estimate`. A MixtureModel has no draws.
    q : Gaussian, StudentT or Mixture
        Approximate posterior. Its batch broadcasts against the model's batch. Of several, in a
        sequence or `Proposals`, all draws are weighed by their mixture, and errors are stratified,
        as for `estimate`.
    n_samples : int, optional
        K, the number of draws for each data point, by default as for `estimate`; for several q,
        also a sequence of the number for each.
    rng : None, int, SeedSequence or Generator
        Seed of the draws, as for `estimate`.
    params : tuple
        Numbers, arrays of numbers, and tuples of them, which functions get after z.
    vectorized : bool
        f takes many draws (n, D), and returns (n,) or (n, P). It runs as it is, on the host.
    probs : array_like, shape (Q,)
        Probabilities of "quantiles", between 0 and 1.
    backend, precision, device, first_index, n_threads
        Where and how the log weights are computed, as for `elbo_terms`: ``backend="auto"`` is
        "cuda" for long work on a machine with a GPU that fastelbo can use, else "cpu". For f, the
        draws are made again on the CPU.
    sampler, replicates, transform, rotate
        Independent or quasi-random draws, as for `estimate`. Errors of quasi-random draws come from
        the scatter of ``sum w (f - value)`` over the replicates, with Student's t.
    client, allow_mixed
        A client of a Dask cluster, whose workers compute the log densities, and which workers it
        may have, as for `estimate`. 24 bytes a draw come here, where f is computed.

    Returns
    -------
    Expectation
        ``value``, ``se`` and diagnostics, each of shape (*batch, *event).

    Raises
    ------
    InvalidInputError
        If an argument is invalid, or f is not finite at a draw of positive weight; the message
        names it.
    InvalidWeightError
        If a log weight is NaN or +inf.
    MemoryError
        If the log weights would not fit into memory.

    Warns
    -----
    HighParetoKWarning
        If the k-hat of the weights, or that of ``|f - value| w``, is above its limit: the value
        then has no standard error.
    LowESSWarning
        If the effective sample size of the weights of independent draws is below 100.
    AllWeightsZeroWarning, ShortTailWarning
        As for `estimate`.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([1.0], [[1.0]], noise_cov=1.0)
    >>> q = fe.StudentT(5.0, [0.4], scale=0.8)
    >>> mean = fe.expectation("mean", model, q, 100_000, rng=0)
    >>> print(mean.value.round(1), bool(mean.se[0] < 0.01))
    [0.5] True

    A probability, and a function of many draws:

    >>> def positive(z: list[float]) -> bool:
    ...     return z[0] > 0.0
    >>> round(float(fe.expectation(positive, model, q, 100_000, rng=0).value), 2)
    0.76
    >>> import numpy as np
    >>> from numpy.typing import NDArray
    >>> def squares(z: NDArray[np.float64]) -> NDArray[np.float64]:  # of shape (n, D)
    ...     return z * z
    >>> second = fe.expectation(squares, model, q, 100_000, rng=0, vectorized=True)
    >>> bool(abs(second.value[0] - 0.75) < 5.0 * second.se[0] < 0.05)
    True
    """
    flag = as_flag(vectorized, "vectorized")
    if isinstance(model, ExactModel):
        raise InvalidInputError(
            f"model must be one with draws, got a {kind_of(model)}, which is summed exactly"
        )
    sampling = as_sampling(sampler, replicates, transform, rotate)
    options = (rng, first_index, precision, (), True, sampling)
    several, strata = as_proposals(q), None
    if several is None:
        request = new_request(model, q, n_samples, *options)
    else:
        strata = new_strata(model, several, n_samples, *options)
        request = strata.pooled
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    levels = _as_probs(probs)
    wanted = _wanted(f, request.q.dim, params, flag)
    index, mixed = as_count(device, "device", least=0), as_flag(allow_mixed, "allow_mixed")
    used = chooser(backend, threads, index, client, mixed)(request)
    if sampling.rotate and strata is None:
        request, _ = with_rotation(request, used)
    work = work_for(wanted, levels)
    numbers = numbers_of_point(wanted, request.q.dim, request.n_samples)
    slices = weighted_slices(strata or request, used, threads, numbers)
    parts = [work(pool) for pool in slices]
    if not parts:
        parts = [nothing(wanted, request.q.dim, levels)]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return _wrap(request, wanted, levels, values)


def _as_probs(probs: ArrayLike) -> Floats:
    levels = as_floats(probs, "probs")
    if levels.ndim != 1 or not levels.size or not ((levels > 0.0) & (levels < 1.0)).all():
        raise InvalidInputError(
            f"probs must be a vector of numbers between 0 and 1, got {shown(probs)}"
        )
    return levels


def _wanted(f: Any, dim: int, params: Any, vectorized: bool) -> Wanted:
    """One of the names, or the values of functions."""
    if not isinstance(f, str):
        return as_integrand(f, dim, params, vectorized)
    if f not in NAMED:
        raise InvalidInputError(
            f'f must be "mean", "cov", "quantiles" or a function of one draw, got {shown(f)}'
        )
    some = bool(as_sequence(params, "params", "numbers and arrays"))
    for name, given in (("params", some), ("vectorized", vectorized)):
        if given:
            raise InvalidInputError(f"{name} is for functions, and must be left out for {f!r}")
    return f


# --- the result -----------------------------------------------------------------------------


def _wrap(
    request: EstimateRequest, wanted: Wanted, levels: Floats, values: Quantities
) -> Expectation:
    event = event_of(wanted, request.q.dim, levels)
    shape, count = (*request.batch, *event), request.cut.replicates
    named = isinstance(wanted, str)
    label = f"the {_WORDS[wanted]}" if isinstance(wanted, str) else wanted.label

    def shaped(name: str) -> Floats:
        return values[name].reshape(shape)

    own = values["weights_k"].reshape((*request.batch, *(1 for _ in event)))
    k, centred = shaped("k"), shaped("k_centred")
    draws = request.n_samples
    high = high_k(centred, draws, count) | high_k(own, draws, count)
    # Of values that are all the same, draws do not tell whether others are rare.
    same = shaped("se") == 0.0
    warn_about_posterior(
        label, "their standard errors are NaN", draws, count, high, np.fmax(centred, own),
        values["log_evidence"], values["weights_k"], values["weights_ess"], depth=1, same=same,
    )  # fmt: skip
    plain = plain_se = None
    if isinstance(request.model, Distribution) and (not named or wanted == "mean"):
        plain = shaped("plain")
        plain_se = np.where(high_k(k, draws, count), np.nan, shaped("plain_se"))
    note = ""
    if wanted == "quantiles":
        kept = kept_for_quantiles(draws, request.q.dim, count)
        note = "" if kept == draws else f"quantiles are from the first {kept} of {draws} draws"
    return Expectation(
        value=shaped("value"), se=np.where(high | same, np.nan, shaped("se")), pareto_k=k,
        pareto_k_centred=centred, pareto_k_weights=values["weights_k"].reshape(request.batch),
        ess=shaped("ess"), unnormalised=plain, unnormalised_se=plain_se, n_samples=draws,
        sampler="iid" if request.design is None else "sobol", replicates=count, label=label,
        probs=levels if wanted == "quantiles" else None, note=note,
    )  # fmt: skip


_WORDS = {"mean": "mean", "cov": "covariance", "quantiles": "quantiles"}
