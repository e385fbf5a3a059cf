"""Estimates from draws of q: validate, hand to a backend, wrap what it returns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..errors import InvalidInputError
from ..models.categorical import Categorical
from ..models.distributions import Distribution
from ..models.divergences import kl_divergence
from ..models.protocol import ExactModel, Model, Proposal
from ..progress import progress_bar
from ..random import RandomState, philox_key
from ..results.estimate import Estimate, from_quantities
from ..validation import (
    DEFAULT_IW_SIZES,
    MAX_DRAWS,
    MAX_POINTS,
    Floats,
    as_count,
    broadcast_shape,
    group_sizes,
    require_memory,
)
from ..weights.diagnostics import refuse_bad_weights, warn_about_weights
from ..weights.pareto import kept_draws
from .cpu import CPUBackend
from .cuda import CUDABackend, worth_a_device
from .reference import NumPyBackend
from .states import Quantities, StateForm
from .task import Backend, EstimateRequest

DEFAULT_SAMPLES = 1000


def estimate(
    model: Model | ExactModel,
    q: Proposal | Categorical,
    n_samples: int | None = None,
    *,
    rng: RandomState = None,
    iw_sizes: Iterable[int] | None = None,
    backend: str = "auto",
    precision: str = "float64",
    device: int = 0,
    analytic_kl: bool = False,
    pareto_k: bool = True,
    first_index: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> Estimate:
    """Log evidence, ELBO and importance-weighted bounds, with standard errors.

    Draws ``z_k ~ q`` and weighs them by ``l_k = log p(x, z_k) - log q(z_k)``. The log evidence is
    ``logsumexp(l) - log K``, the ELBO ``mean(l)`` (Jordan et al., 1999); all quantities come from
    the same draws, and nothing of the size N x K is held.

    Parameters
    ----------
    model : LinearGaussian, MixtureModel, or a distribution
        A distribution is a model with likelihood 1 and itself as the prior: its log evidence is 0
        and its ELBO minus the divergence of q from it.
    q : Gaussian, StudentT or Mixture; Categorical for a MixtureModel
        Approximate posterior. Its batch broadcasts against the model's; without one it is the same
        distribution for every data point, with draws of its own for each.
    n_samples : int, optional
        K, draws for each data point, 1000 by default. Refused for a MixtureModel, which is summed
        exactly.
    rng : None, int, SeedSequence or Generator
        An int repeats the draws, a Generator advances (SPEC 7).
    iw_sizes : iterable of int, optional
        Group sizes k of the importance-weighted bounds; (10, 100) as far as K allows by default.
    backend : {"auto", "cpu", "cuda", "numpy"}
        "cpu" runs compiled kernels on all cores, "cuda" on an NVIDIA GPU; "numpy" is the plain
        reference, slow and holding N x K numbers. The draws are the same for all, and results come
        back as NumPy arrays. "auto" is "cuda" where a device is usable and there is work for ten
        seconds of a CPU, else "cpu"; a `MixtureModel`, which has no draws, is "cpu" then.
    precision : {"float64", "float32"}
        "float32" makes the same draws and their densities in single precision, which is faster. A
        log density (of q, prior or likelihood) that lies d nats below its peak and is r times
        narrower than q is then off by at most about ``2e-6 (10 + d + r sqrt(d))``.
        Sums over draws stay in float64; "cuda" adds up exponentials of single precision in them
        where ``iw_sizes`` is empty, which moves log evidence and its SE by less than 1e-6 of
        1 + their size, and loses the Jensen gap where log weights differ by less than 3e-4.
        backend="numpy" computes in float64 either way.
    device : int
        Which GPU "cuda" uses, where there are several.
    analytic_kl : bool
        Put the closed-form KL in the place of the sampled one in ``kl`` and ``elbo``. The error of
        the ELBO is then that of the log-likelihood term, often larger where q is near the
        posterior. ``jensen_gap`` and ``iw_elbo(1)`` keep the sampled ELBO.
    pareto_k : bool
        Whether to estimate the tail index of the weights. Without, ``pareto_k`` is NaN, no standard
        error is withheld, and the interval of the log evidence is normal.
    first_index : int
        Address of the first data point: a minibatch that begins at i draws what the whole would.
    n_threads : int, optional
        Threads to use; all by default. No result depends on it.
    progress : bool
        Show a bar, with tqdm where that is installed.

    Returns
    -------
    Estimate
        Arrays of shape ``broadcast(model.batch_shape, q.batch_shape)``.

    Raises
    ------
    InvalidInputError
        Arguments that make no sense, named in the message.
    InvalidWeightError
        A log weight that is NaN or +inf.
    DeviceUnavailableError, DeviceMemoryError
        With "cuda": no device that can be used, and what is missing; too little memory on it.
    OverflowError
        More than 2^40 draws or 2^32 data points.

    Warns
    -----
    HighParetoKWarning, LowESSWarning, ConstantWeightsWarning, AllWeightsZeroWarning,
    ShortTailWarning
        Once a call each, with the number of data points and the worst of them. A data point with
        too high a k-hat has no standard error of the log evidence and of the Jensen gap.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    >>> est = fe.estimate(model, fe.Gaussian([0.4], scale=0.7), n_samples=100_000, rng=0)
    >>> low, high = est.confidence_interval("log_evidence", 0.999)
    >>> bool(low[0] < model.exact_log_evidence()[0] < high[0])
    True
    """
    index = as_count(device, "device", least=0)
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    if isinstance(model, ExactModel):
        return _exact(model, q, n_samples, iw_sizes, _backend(backend, threads, index, None))
    draws = DEFAULT_SAMPLES if n_samples is None else n_samples
    request = _request(model, q, draws, rng, first_index, precision, iw_sizes, pareto_k)
    analytic = _analytic_kl(model, q) if analytic_kl else None
    with progress_bar(progress, request.points * request.n_samples) as tick:
        values = _backend(backend, threads, index, request).quantities(request, tick)
    refuse_bad_weights(values["n_bad"], values["first_bad"])
    warn_about_weights(request.n_samples, values, pareto_k)
    return _wrap(request, values, analytic)


class ElboTerms(NamedTuple):
    """Log densities of every draw, each of shape (*batch, K).

    Examples
    --------
    >>> import fastelbo as fe
    >>> p = fe.Gaussian([0.0], scale=1.0)
    >>> log_likelihood, log_prior, log_q = fe.elbo_terms(p, p, 3, rng=0)
    >>> log_likelihood
    array([0., 0., 0.])
    """

    log_likelihood: Floats
    log_prior: Floats
    log_q: Floats

    @property
    def log_weights(self) -> Floats:
        """``log_likelihood + log_prior - log_q``."""
        return self.log_likelihood + (self.log_prior - self.log_q)


def elbo_terms(
    model: Model | ExactModel,
    q: Proposal | Categorical,
    n_samples: int,
    rng: RandomState = None,
    *,
    backend: str = "auto",
    precision: str = "float64",
    device: int = 0,
    first_index: int = 0,
    n_threads: int | None = None,
) -> ElboTerms:
    """The three terms of the log weight for every draw.

    The draws are those that `estimate` makes for the same ``rng``, in a ``precision`` as there.

    Returns
    -------
    ElboTerms
        ``log_likelihood``, ``log_prior`` and ``log_q``, each of shape (*batch, K), and their
        ``log_weights``.

    Raises
    ------
    MemoryError
        Before anything is allocated, if the arrays would not fit into memory.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    >>> fe.elbo_terms(model, fe.Gaussian([0.4], scale=0.7), 5, rng=0).log_weights.shape
    (1, 5)
    """
    if isinstance(model, ExactModel):
        raise InvalidInputError("model is summed exactly: a MixtureModel has no draws")
    request = _request(model, q, n_samples, rng, first_index, precision, (), False)
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    require_memory("elbo_terms", 3 * 8 * request.points * request.n_samples)
    index = as_count(device, "device", least=0)
    terms = _backend(backend, threads, index, request).terms(request)
    shape = (*request.batch, request.n_samples)
    return ElboTerms(*(array.reshape(shape) for array in terms))


def log_weights(
    model: Model,
    q: Proposal,
    n_samples: int,
    rng: RandomState = None,
    *,
    backend: str = "auto",
    precision: str = "float64",
    device: int = 0,
    first_index: int = 0,
    n_threads: int | None = None,
) -> Floats:
    """log p(x, z_k) - log q(z_k), shape (*batch, K); options as for `elbo_terms`.

    Examples
    --------
    >>> import fastelbo as fe
    >>> p = fe.Gaussian([0.0], scale=1.0)
    >>> fe.log_weights(p, p, 2, rng=0)
    array([0., 0.])
    """
    terms = elbo_terms(
        model, q, n_samples, rng, backend=backend, precision=precision, device=device,
        first_index=first_index, n_threads=n_threads,
    )  # fmt: skip
    return terms.log_weights


# --- validating -----------------------------------------------------------------------------


def _request(
    model: object,
    q: object,
    n_samples: object,
    rng: RandomState,
    first_index: object,
    precision: str,
    iw_sizes: Iterable[int] | None,
    pareto_k: bool,
) -> EstimateRequest:
    if isinstance(model, type) or not isinstance(model, Model):
        raise InvalidInputError(
            "model must be a Gaussian, StudentT or Mixture, a LinearGaussian or a MixtureModel; "
            f"got {_kind(model)}"
        )
    if isinstance(q, type) or not isinstance(q, Proposal):
        raise InvalidInputError(f"q must be a Gaussian, StudentT or Mixture; got {_kind(q)}")
    if model.dim != q.dim:
        raise InvalidInputError(
            f"model and q must have one dimension, got {model.dim} and {q.dim}: {model!r}, {q!r}"
        )
    if precision not in ("float64", "float32"):
        raise InvalidInputError(f'precision must be "float64" or "float32", got {precision!r}')
    batch = broadcast_shape(model=model.batch_shape, q=q.batch_shape)
    first = as_count(first_index, "first_index", least=0)
    if first + math.prod(batch) > MAX_POINTS:
        raise OverflowError(
            f"first_index + data points must be at most {MAX_POINTS}, got {first} + "
            f"{math.prod(batch)}"
        )
    draws = as_count(n_samples, "n_samples", below=MAX_DRAWS)
    sizes = group_sizes(iw_sizes, draws, DEFAULT_IW_SIZES)
    form = StateForm(tuple(sizes), kept_draws(draws) if pareto_k else 0)
    return EstimateRequest(model, q, batch, draws, philox_key(rng), first, precision, form)


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _backend(
    name: str, n_threads: int | None, device: int, request: EstimateRequest | None
) -> Backend:
    """The backend of that name; "auto" chooses by the request, and the CPU where there is none."""
    wants_device = name == "auto" and request is not None and worth_a_device(request)
    if name == "cuda" or wants_device:
        return CUDABackend(device)
    if name in ("auto", "cpu"):
        return CPUBackend(n_threads)
    if name == "numpy":
        return NumPyBackend()
    raise InvalidInputError(f'backend must be "auto", "cpu", "cuda" or "numpy", got {name!r}')


def _analytic_kl(model: object, q: object) -> Floats:
    """The closed-form divergence of q from the prior, or an error that says there is none."""
    prior = getattr(model, "prior", None)
    if isinstance(q, Distribution) and isinstance(prior, Distribution):
        return kl_divergence(q, prior)
    raise InvalidInputError(
        f"analytic_kl must be False: no closed form for the KL divergence of {_kind(q)} from "
        f"{_kind(prior)}"
    )


# --- wrapping -------------------------------------------------------------------------------


def _wrap(request: EstimateRequest, values: Quantities, kl: Floats | None) -> Estimate:
    """The estimate, with the closed-form KL in its place where it was asked for."""
    independent = request.batch == request.model.batch_shape
    sampled = from_quantities(
        values, request.batch, request.n_samples, request.form.iw_sizes, independent=independent
    )
    if kl is None:
        return sampled
    divergence = np.array(np.broadcast_to(kl, request.batch))
    return replace(
        sampled,
        kl=divergence,
        kl_se=np.zeros(request.batch),
        elbo=np.asarray(sampled.expected_log_likelihood - divergence),
        elbo_se=sampled.expected_log_likelihood_se,
    )


def _exact(
    model: ExactModel, q: object, n_samples: object, iw_sizes: object, backend: Backend
) -> Estimate:
    """Sums over the components of a mixture, without draws."""
    for name, value in (("n_samples", n_samples), ("iw_sizes", iw_sizes)):
        if value is not None:
            raise InvalidInputError(
                f"{name} must not be given for a MixtureModel, which is summed exactly; got "
                f"{value!r}"
            )
    if not isinstance(q, Categorical):
        raise InvalidInputError(f"q must be a Categorical for a MixtureModel, got {_kind(q)}")
    if q.probs.shape[-1] != model.n_classes:
        raise InvalidInputError(
            f"q must have as many classes as the mixture has components, {model.n_classes}; got "
            f"{q.probs.shape[-1]}"
        )
    log_evidence, likelihood, kl = backend.expectations(model, q.probs)
    shape = log_evidence.shape
    zero, unknown = np.zeros(shape), np.full(shape, np.nan)
    elbo = likelihood - kl
    return Estimate(
        n_samples=0, log_evidence=log_evidence, log_evidence_se=zero, elbo=elbo, elbo_se=zero,
        expected_log_likelihood=likelihood, expected_log_likelihood_se=zero, kl=kl, kl_se=zero,
        jensen_gap=log_evidence - elbo, jensen_gap_se=zero, ess=unknown,
        relative_variance=unknown, pareto_k=unknown, pareto_k_elbo=unknown, n_zero=zero,
        independent=shape == model.batch_shape,
    )  # fmt: skip
