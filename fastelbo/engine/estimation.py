"""Estimates from draws of q: validate the arguments, call a backend, wrap its result."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from ..errors import InvalidInputError, InvalidWeightError
from ..models.categorical import Categorical
from ..models.distributions import Distribution
from ..models.divergences import kl_divergence
from ..models.protocol import ExactModel, LatentModel, Proposal
from ..progress import progress_bar
from ..random import RandomState, philox_key
from ..results.estimate import Estimate
from ..results.quantities import from_quantities
from ..validation import (
    DEFAULT_IW_SIZES,
    MAX_DRAWS,
    MAX_POINTS,
    Floats,
    Integers,
    as_choice,
    as_count,
    as_flag,
    broadcast_shape,
    group_sizes,
    require_memory,
    shown,
)
from ..weights.diagnostics import refuse_bad_weights, warn_about_weights
from ..weights.pareto import kept_draws
from .bad_draws import about_draw
from .cpu import CPUBackend
from .cuda import CUDABackend, if_compiled, worth_a_device
from .reference import NumPyBackend
from .states import Quantities, StateForm
from .targets import as_target, grouped_quantities, mean_request, pilot_of, sizes_for
from .task import Backend, EstimateRequest

DEFAULT_SAMPLES = 1000


def estimate(
    model: LatentModel | ExactModel,
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
    target_se: float | None = None,
    target_total_se: float | None = None,
    max_samples: int | None = None,
) -> Estimate:
    """Log evidence, ELBO and importance-weighted bounds, with standard errors.

    Draws ``z_k ~ q`` with the log weights ``l_k = log p(x, z_k) - log q(z_k)``. The log evidence is
    ``logsumexp(l) - log K``, the ELBO is ``mean(l)`` (Jordan et al., 1999). All quantities use the
    same draws. No array of size N x K is stored.

    Parameters
    ----------
    model : Model, LinearGaussian, MixtureModel, or a distribution
        A `Model` is a function of your own. A distribution p is a model with prior p and
        likelihood 1: its log evidence is 0, and its ELBO is -KL(q || p).
    q : Gaussian, StudentT or Mixture; Categorical for a MixtureModel
        Approximate posterior. Its batch broadcasts against the model's batch. A q without a batch
        is the same distribution for every data point; each data point has its own draws.
    n_samples : int, optional
        K, the number of draws for each data point; 1000 by default. Not allowed for a MixtureModel,
        which is summed exactly, nor with a target standard error, which sets K.
    rng : None, int, SeedSequence or Generator
        Seed of the draws. An int or a SeedSequence gives the same draws in every call, a Generator
        advances, and None gives new draws.
    iw_sizes : iterable of int, optional
        Group sizes k of the importance-weighted bounds, at most K. By default 10 and 100, if they
        are at most K.
    backend : {"auto", "cpu", "cuda", "numpy"}
        "cpu" runs compiled kernels on all cores, "cuda" runs them on an NVIDIA GPU. "numpy" is the
        plain reference: it is slow and stores N x K numbers. All backends use the same draws and
        return NumPy arrays. "auto" is "cuda" if the machine has a GPU that fastelbo can use and the
        work would take the CPU about ten seconds or more, else "cpu". For a `MixtureModel`, which
        has no draws, "auto" is "cpu". "cuda" compiles the function of a `Model` for the GPU.
    precision : {"float64", "float32"}
        "float32" computes the same draws and their densities in single precision, which is faster.
        Take a log density (of q, prior or likelihood) that is d nats below its peak and r times
        narrower than q: its error is at most about ``2e-6 (10 + d + r sqrt(d))``. Sums over draws
        stay in float64. If ``iw_sizes`` is empty, "cuda" sums exponentials of single precision.
        This changes log evidence and its SE by less than 1e-6 (1 + their size), and the Jensen gap
        is lost if log weights differ by less than 3e-4. backend="numpy" always computes in float64.
    device : int
        Index of the GPU for "cuda".
    analytic_kl : bool
        Use the closed-form KL instead of the sampled one in ``kl`` and ``elbo``. The standard error
        of the ELBO is then that of the log-likelihood term, which is often larger if q is near the
        posterior. ``jensen_gap`` and ``iw_elbo(1)`` keep the sampled ELBO.
    pareto_k : bool
        Whether to estimate the tail index of the weights. If False, ``pareto_k`` is NaN, k-hat sets
        no standard error to NaN, and the interval of the log evidence is normal.
    first_index : int
        Address of the first data point. A minibatch that starts at data point i of a data set has
        the same draws as the full data set if ``first_index=i``.
    n_threads : int, optional
        Number of threads; all by default. No result depends on it.
    progress : bool
        Show a progress bar, if tqdm is installed.
    target_se : float, optional
        The standard error that the log evidence of each data point shall have, in nats, in place of
        ``n_samples``. A pilot of 1024 draws of each data point tells how many draws it needs, with
        a margin of a fifth. The pilot's draws are thrown away (``pilot_samples`` counts them), so
        that the estimate has no bias from them. ``n_samples`` of the result is then an array, and
        ``log_evidence`` has ``v/2K``, the bias of a log of a mean, added. A target above 0.1 is
        beyond what a standard error of a logarithm can tell.
    target_total_se : float, optional
        The same for the sum of the log evidences of all data points, by the fewest draws: K of a
        data point is proportional to the square root of its v.
    max_samples : int, optional
        The most draws of a data point for a target; 2^20 = 1048576 by default.

    Returns
    -------
    Estimate
        Arrays of shape ``broadcast(model.batch_shape, q.batch_shape)``.

    Raises
    ------
    InvalidInputError
        If an argument is invalid; the message names it.
    InvalidWeightError
        If a log weight is NaN or +inf.
    DeviceUnavailableError, DeviceMemoryError
        With "cuda": if no device is usable (the message says what is missing), or if the device
        does not have enough memory.
    OverflowError
        For more than 2^40 draws or 2^32 data points.

    Warns
    -----
    HighParetoKWarning, LowESSWarning, ConstantWeightsWarning, AllWeightsZeroWarning,
    ShortTailWarning
        Each at most once per call, with the number of data points and the worst ones. If the k-hat
        of a data point is too high, its log evidence and its Jensen gap have no standard error.
    TargetErrorWarning
        If a target needs more than ``max_samples`` draws; it names the standard error that is
        expected. Also if the pilot cannot promise the target, because its k-hat exceeds 1/2. This
        is no verdict: of log-normal weights with v = 3.4, 15 % of all pilots are above 1/2.
    NoDeviceFormWarning
        With "auto", if the function of a `Model` cannot be compiled for the GPU; it names the line.

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
    analytic_kl, pareto_k = as_flag(analytic_kl, "analytic_kl"), as_flag(pareto_k, "pareto_k")
    progress = as_flag(progress, "progress")
    target = as_target(target_se, target_total_se, n_samples, max_samples)
    if isinstance(model, ExactModel):
        if target is not None:
            raise InvalidInputError(
                f"{target.name} must not be given for a MixtureModel, which is summed exactly; got "
                f"{target.se:g}"
            )
        return _exact(model, q, n_samples, iw_sizes, _backend(backend, threads, index, None))
    draws = DEFAULT_SAMPLES if n_samples is None else n_samples
    if target is not None:
        draws = target.max_samples
    request = _request(model, q, draws, rng, first_index, precision, iw_sizes, pareto_k)
    analytic = _analytic_kl(model, q) if analytic_kl else None
    sizes, alike = None, request
    if target is not None:
        pilot = pilot_of(request, target)
        used = _backend(backend, threads, index, pilot)
        sizes = sizes_for(target, pilot, request.form.iw_sizes, used)
        alike = mean_request(request, sizes)
    used = _backend(backend, threads, index, alike)
    with progress_bar(progress, alike.points * alike.n_samples) as tick:
        if sizes is None:
            values = used.quantities(request, tick)
        else:
            values = grouped_quantities(request, sizes, used, tick)
    refuse_bad_weights(values["n_bad"], values["first_bad"], partial(about_draw, request))
    if _is_joint(model):
        values = _without_terms(values)
    warn_about_weights(request.n_samples if sizes is None else sizes, values, pareto_k)
    return _wrap(request, values, analytic, sizes)


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
        """``log_likelihood + log_prior - log_q``; NaN where two of them are infinite."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return self.log_likelihood + (self.log_prior - self.log_q)


def elbo_terms(
    model: LatentModel | ExactModel,
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

    The draws are those of `estimate` with the same ``rng``.

    Parameters
    ----------
    model : Model, LinearGaussian, or a distribution
        A distribution p is a model with prior p and likelihood 1. A MixtureModel has no draws. For
        a `Model` of ``log_joint``, ``log_likelihood`` is log p(x, z), and ``log_prior`` 0.
    q : Gaussian, StudentT or Mixture
        Approximate posterior. Its batch broadcasts against the model's batch.
    n_samples : int
        K, the number of draws for each data point.
    rng : None, int, SeedSequence or Generator
        Seed of the draws. An int or a SeedSequence gives the same draws in every call, a Generator
        advances, and None gives new draws.
    backend : {"auto", "cpu", "cuda", "numpy"}
        What computes the terms: compiled kernels on the CPU ("cpu") or on an NVIDIA GPU ("cuda"),
        or the plain reference ("numpy"). "auto" is "cuda" if the machine has a GPU that fastelbo
        can use and the work would take the CPU about ten seconds or more, else "cpu".
    precision : {"float64", "float32"}
        "float32" computes draws and densities in single precision, with the errors that `estimate`
        states. The arrays are float64 in both cases.
    device : int
        Index of the GPU for "cuda".
    first_index : int
        Address of the first data point, for a minibatch of a data set.
    n_threads : int, optional
        Number of threads; all by default. No result depends on it.

    Returns
    -------
    ElboTerms
        ``log_likelihood``, ``log_prior`` and ``log_q``, each of shape (*batch, K), and their
        ``log_weights``.

    Raises
    ------
    InvalidWeightError
        If a log density is NaN.
    InvalidInputError
        If an argument is invalid; the message names it.
    MemoryError
        If the arrays would not fit into memory. It is raised before anything is allocated.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    >>> fe.elbo_terms(model, fe.Gaussian([0.4], scale=0.7), 5, rng=0).log_weights.shape
    (1, 5)
    """
    if isinstance(model, ExactModel):
        raise InvalidInputError(
            f"model must be one with draws, got a {_kind(model)}, which is summed exactly"
        )
    request = _request(model, q, n_samples, rng, first_index, precision, (), False)
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    require_memory("elbo_terms", 3 * 8 * request.points * request.n_samples)
    index = as_count(device, "device", least=0)
    terms = _backend(backend, threads, index, request).terms(request)
    _refuse_nan(terms, request)
    shape = (*request.batch, request.n_samples)
    return ElboTerms(*(array.reshape(shape) for array in terms))


def _refuse_nan(terms: tuple[Floats, Floats, Floats], request: EstimateRequest) -> None:
    for name, array in zip(ElboTerms._fields, terms, strict=True):
        # A sum is NaN if a term is, and needs no array of its own.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = np.isnan(array.sum())
        if suspicious and np.isnan(array).any():
            point, draw = np.argwhere(np.isnan(array))[0]
            raise InvalidWeightError(
                f"{int(np.isnan(array).sum())} numbers of {name} are NaN, the first at data point "
                f"{point}, draw {draw}: scales and distances of model and q differ so much that "
                "their products and ratios are beyond the largest float, or a function returned "
                f"NaN. {about_draw(request, int(point), int(draw))}"
            )


def log_weights(
    model: LatentModel,
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
    """Log weights ``log p(x, z_k) - log q(z_k)`` of the draws of `estimate`.

    Parameters
    ----------
    model, q, n_samples, rng
        Model, approximate posterior, number of draws and seed, as for `elbo_terms`.
    backend, precision, device, first_index, n_threads
        Where and how they are computed, as for `elbo_terms`: ``backend="auto"`` is "cuda" for long
        work on a machine with a GPU that fastelbo can use, else "cpu".

    Returns
    -------
    ndarray, shape (*batch, K)
        In nats.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf.
    InvalidInputError, MemoryError
        As for `elbo_terms`.

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
    weights = terms.log_weights
    if not weights.max(initial=-np.inf) < np.inf:
        bad = ~(weights < np.inf).reshape(-1, n_samples)
        refuse_bad_weights(bad.sum(axis=1), bad.argmax(axis=1))
    return weights


# --- validation -----------------------------------------------------------------------------


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
    if isinstance(model, type) or not isinstance(model, LatentModel):
        raise InvalidInputError(
            "model must be a Model, a distribution over vectors, a LinearGaussian or a "
            "MixtureModel; "
            f"got {_kind(model)}{_use_of(model)}"
        )
    if isinstance(q, type) or not isinstance(q, Proposal):
        raise InvalidInputError(f"q must be a distribution over vectors; got {_kind(q)}")
    if model.dim != q.dim:
        raise InvalidInputError(
            "model and q must have the same dimension, got "
            f"{model.dim} and {q.dim}: {model!r}, {q!r}"
        )
    as_choice(precision, "precision", ("float64", "float32"))
    if precision == "float32" and not _all_parts(model, "in_single_precision"):
        raise InvalidInputError(
            f'precision must be "float64" for {model!r}, whose function takes float64 alone; got '
            '"float32"'
        )
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


def _use_of(model: object) -> str:
    """How to use what is no model, if it is a log density or has one."""
    if isinstance(model, type):
        return ""
    has_method = callable(getattr(model, "log_prob", None))
    if not (has_method or callable(model)):
        return ""
    name = "model.log_prob" if has_method else getattr(model, "__name__", "f")
    name = name if name.replace(".", "").isidentifier() else "f"
    return (
        f". If {name}(z) is log p(x, z) of one draw z of shape (D,), a model is "
        f"fastelbo.Model(log_joint={name}, dim=D); if it takes many draws (n, D), "
        f"fastelbo.Model(log_joint={name}, dim=D, vectorized=True)"
    )


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _backend(
    name: str, n_threads: int | None, device: int, request: EstimateRequest | None
) -> Backend:
    """The backend with this name. "auto" depends on the request; without one it is the CPU."""
    as_choice(name, "backend", ("auto", "cpu", "cuda", "numpy"))
    on_device = request is None or _all_parts(request.model, "on_device")
    if name == "cuda" and not on_device:
        assert request is not None
        raise InvalidInputError(
            f'backend must be "cpu", "numpy" or "auto" for {request.model!r}, whose machine code '
            'is for the CPU alone; got "cuda"'
        )
    found = None
    if name == "cuda":
        found = CUDABackend(device)
    elif name == "auto" and request is not None and on_device and worth_a_device(request):
        found = if_compiled(request, device)
    if found is not None:
        return found
    return NumPyBackend() if name == "numpy" else CPUBackend(n_threads)


def _all_parts(model: LatentModel, name: str) -> bool:
    """Whether prior and likelihood both allow something: most densities name no limits."""
    return all(getattr(part, name, True) for part in (model.prior, model.likelihood))


def _analytic_kl(model: object, q: object) -> Floats:
    """The closed-form KL divergence of q from the prior; an error if it has no closed form."""
    prior = getattr(model, "prior", None)
    if isinstance(q, Distribution) and isinstance(prior, Distribution):
        return kl_divergence(q, prior)
    raise InvalidInputError(
        f"analytic_kl must be False: there is no closed form for the KL divergence of {_kind(q)} "
        f"from {_kind(prior)}"
    )


# --- results --------------------------------------------------------------------------------


def _is_joint(model: LatentModel) -> bool:
    """Whether the model's likelihood is log p(x, z), with the prior in it."""
    return bool(getattr(model, "is_joint", False))


def _without_terms(values: Quantities) -> Quantities:
    """The quantities but mean log-likelihood and KL, which log p(x, z) as a whole leaves open."""
    known = {name: each for name, each in values.items() if name not in _TAILS_OF_TERMS}
    unknown = np.full(values["log_evidence"].shape, np.nan)
    return known | dict.fromkeys(_TERMS, unknown)


_TAILS_OF_TERMS = ("pareto_k_kl", "pareto_k_likelihood")
_TERMS = ("kl", "kl_se", "expected_log_likelihood", "expected_log_likelihood_se")
_NO_TERMS = (
    "expected_log_likelihood and kl are not known: the model is log p(x, z) as a whole; give "
    "log_likelihood= and prior= for them"
)


def _wrap(
    request: EstimateRequest, values: Quantities, kl: Floats | None, sizes: Integers | None
) -> Estimate:
    """The estimate, with the closed-form KL if one is given."""
    independent = request.batch == request.model.batch_shape
    points = range(request.first_index, request.first_index + request.points)
    sampled = from_quantities(
        values, request.batch, request.n_samples, request.form.iw_sizes,
        independent=independent, addresses=(request.key, points),
    )  # fmt: skip
    if _is_joint(request.model):
        return replace(sampled, _note=_NO_TERMS)
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
    """The estimate of an exact model: sums over mixture components, without draws."""
    for name, value in (("n_samples", n_samples), ("iw_sizes", iw_sizes)):
        if value is not None:
            raise InvalidInputError(
                f"{name} must not be given for a MixtureModel, which is summed exactly; got "
                f"{shown(value)}"
            )
    if not isinstance(q, Categorical):
        raise InvalidInputError(f"q must be a Categorical for a MixtureModel, got {_kind(q)}")
    if q.probs.shape[-1] != model.n_classes:
        raise InvalidInputError(
            "q must have as many classes as the mixture has components, "
            f"{model.n_classes}; got {q.probs.shape[-1]}"
        )
    log_evidence, likelihood, kl, gap = backend.expectations(model, q.probs)
    shape = log_evidence.shape
    zero, unknown = np.zeros(shape), np.full(shape, np.nan)
    # The terms may be so large that an ulp of them is more than the gap.
    elbo = log_evidence - gap
    return Estimate(
        n_samples=0, log_evidence=log_evidence, log_evidence_se=zero, elbo=elbo, elbo_se=zero,
        expected_log_likelihood=likelihood, expected_log_likelihood_se=zero, kl=kl, kl_se=zero,
        jensen_gap=gap, jensen_gap_se=zero, ess=unknown,
        relative_variance=unknown, pareto_k=unknown, pareto_k_elbo=unknown, n_zero=zero,
        independent=shape == model.batch_shape,
    )  # fmt: skip
