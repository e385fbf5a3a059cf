"""The log densities of every draw, and its log weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidInputError, InvalidWeightError
from ..models.categorical import Categorical
from ..models.proposals import Proposals, as_proposals
from ..models.protocol import ExactModel, LatentModel, Proposal
from ..models.sampling import DEFAULT_REPLICATES, DEFAULT_TRANSFORM, Sampling, as_sampling
from ..random import RandomState
from ..validation import Floats, as_count, as_flag, require_memory, shown
from ..weights.diagnostics import refuse_bad_weights
from .bad_draws import about_draw
from .requests import Chooser, chooser, kind_of, new_request
from .rotation import with_rotation
from .stratified import new_strata, terms_of_all


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


class ReplicatedTerms(ElboTerms):
    """`ElboTerms` of quasi-random draws, each of shape (*batch, replicates, draws of a replicate).

    Draws of one replicate depend on each other. `summarize` knows that, and takes errors from the
    replicates.
    """

    @property
    def replicates(self) -> int:
        """The number of replicates."""
        return int(self.log_q.shape[-2])


def elbo_terms(
    model: LatentModel | ExactModel,
    q: Proposal | Categorical | Proposals | Sequence[Proposal],
    n_samples: int | Sequence[int] | None = None,
    rng: RandomState = None,
    *,
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
) -> ElboTerms:
    """The three terms of the log weight for every draw.

    The draws are those of `estimate` with the same ``rng``.

    Parameters
    ----------
    model : Model, LinearGaussian, or a distribution
        A distribution p is a model with prior p and likelihood 1. A MixtureModel has no draws. For
        a `Model` of ``log_joint``, ``log_likelihood`` is log p(x, z), and ``log_prior`` 0.
    q : Gaussian, StudentT or Mixture
        Approximate posterior. Its batch broadcasts against the model's batch. Of several, in a
        sequence or `Proposals`, ``log_q`` is the log density of their mixture, and their draws come
        in the random order in which `estimate` takes them. An array does not show that the draws
        are stratified, so that `summarize` gives larger errors than `estimate`.
    n_samples : int, optional
        K, the number of draws for each data point, by default as for `estimate`; for several q,
        also a sequence of the number for each.
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
    sampler, replicates, transform, rotate
        Independent or quasi-random draws, as for `estimate`. For "sobol", K is ``replicates`` times
        a power of two.
    client, allow_mixed
        A client of a Dask cluster, and which workers it may have, as for `estimate`. The terms are
        then Dask arrays, of which nothing is computed yet, and which need not fit into memory:
        ``summarize(terms.log_weights)`` has the workers make and summarise them. q is one
        distribution.

    Returns
    -------
    ElboTerms
        ``log_likelihood``, ``log_prior`` and ``log_q``, each of shape (*batch, K), and their
        ``log_weights``. With ``sampler="sobol"`` the shape is (*batch, replicates, n), with
        n = K / replicates.

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
    sampling = as_sampling(sampler, replicates, transform, rotate)
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    where = chooser(
        backend, threads, as_count(device, "device", least=0), client,
        as_flag(allow_mixed, "allow_mixed"),
    )  # fmt: skip
    options = (rng, first_index, precision, sampling, where)
    if client is None:
        return _terms(model, q, n_samples, *options)[0]
    return _lazy_terms(model, q, n_samples, *options, exact=not allow_mixed)


# Texts on draw k of data point i; see `bad_draws.about_draw`.
_About = Callable[[int, int], str]


def _terms(
    model: object,
    q: object,
    n_samples: object,
    rng: RandomState,
    first_index: object,
    precision: str,
    sampling: Sampling,
    where: Chooser,
) -> tuple[ElboTerms, _About]:
    """The terms of every draw, and texts on the draws."""
    _refuse_exact(model)
    options = (rng, first_index, precision, (), False, sampling)
    several, strata = as_proposals(q), None
    if several is None:
        request = new_request(model, q, n_samples, *options)
    else:
        strata = new_strata(model, several, n_samples, *options)
        request = strata.pooled
    require_memory("elbo_terms", 3 * 8 * request.points * request.n_samples)
    used = where(request)
    if strata is not None:
        terms, about = terms_of_all(strata, used), strata.about
    else:
        if sampling.rotate:
            request, _ = with_rotation(request, used)
        terms, about = used.terms(request), partial(about_draw, request)
    if request.design is None:
        own: tuple[int, ...] = (request.n_samples,)
    else:
        own = (request.design.replicates, request.design.per_replicate)
    made = ElboTerms if request.design is None else ReplicatedTerms
    _refuse_nan(terms, about)
    return made(*(each.reshape(*request.batch, *own) for each in terms)), about


def _lazy_terms(
    model: object,
    q: object,
    n_samples: object,
    rng: RandomState,
    first_index: object,
    precision: str,
    sampling: Sampling,
    where: Chooser,
    exact: bool,
) -> ElboTerms:
    """The terms of every draw as Dask arrays."""
    from .cluster.terms import dask_terms

    _refuse_exact(model)
    if as_proposals(q) is not None:
        raise InvalidInputError(
            "q must be one distribution with client=, as the draws of several are shuffled; got "
            f"{shown(q)}"
        )
    options = (rng, first_index, precision, (), False, sampling)
    request = new_request(model, q, n_samples, *options)
    if sampling.rotate:
        request, _ = with_rotation(request, where(request))
    made = ElboTerms if request.design is None else ReplicatedTerms
    return made(*dask_terms(request, exact))


def _refuse_exact(model: object) -> None:
    if isinstance(model, ExactModel):
        raise InvalidInputError(
            f"model must be one with draws, got a {kind_of(model)}, which is summed exactly"
        )


def _refuse_nan(terms: tuple[Floats, Floats, Floats], about: _About) -> None:
    """An error for terms (points, draws) that are NaN."""
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
                f"NaN. {about(int(point), int(draw))}"
            )


def log_weights(
    model: LatentModel,
    q: Proposal | Proposals | Sequence[Proposal],
    n_samples: int | Sequence[int] | None = None,
    rng: RandomState = None,
    *,
    backend: str = "auto",
    precision: str = "float64",
    device: int = 0,
    first_index: int = 0,
    n_threads: int | None = None,
    sampler: str = "iid",
    replicates: int = DEFAULT_REPLICATES,
    transform: str = DEFAULT_TRANSFORM,
    rotate: bool = True,
) -> Floats:
    """Log weights ``log p(x, z_k) - log q(z_k)`` of the draws of `estimate`.

    Parameters
    ----------
    model, q, n_samples, rng
        Model, approximate posterior, number of draws and seed, as for `elbo_terms`.
    backend, precision, device, first_index, n_threads
        Where and how they are computed, as for `elbo_terms`: ``backend="auto"`` is "cuda" for long
        work on a machine with a GPU that fastelbo can use, else "cpu".
    sampler, replicates, transform, rotate
        Independent or quasi-random draws, as for `elbo_terms`. `summarize` needs ``replicates`` too
        for log weights of quasi-random draws: an array does not show how its draws were made.

    Returns
    -------
    ndarray, shape (*batch, K), or (*batch, replicates, K / replicates) for "sobol"
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
    >>> even = fe.log_weights(p, fe.Gaussian([0.0], scale=1.5), 4096, rng=0, sampler="sobol")
    >>> even.shape, fe.summarize(even, replicates=16).replicates
    ((16, 256), 16)
    """
    sampling = as_sampling(sampler, replicates, transform, rotate)
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    where = chooser(backend, threads, as_count(device, "device", least=0), None, False)
    terms, about = _terms(model, q, n_samples, rng, first_index, precision, sampling, where)
    weights = terms.log_weights
    if not weights.max(initial=-np.inf) < np.inf:
        own = 2 if sampling.replicated else 1
        bad = ~(weights < np.inf).reshape(-1, math.prod(weights.shape[-own:]))
        refuse_bad_weights(bad.sum(axis=1), bad.argmax(axis=1), about)
    return weights
