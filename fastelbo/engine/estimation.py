"""Estimates from draws of q: validate the arguments, draw and weigh, wrap the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

from ..errors import InvalidInputError
from ..models.categorical import Categorical
from ..models.distributions import Distribution
from ..models.divergences import kl_divergence
from ..models.proposals import Proposals, as_proposals
from ..models.protocol import ExactModel, LatentModel, Proposal
from ..models.sampling import DEFAULT_REPLICATES, DEFAULT_TRANSFORM, as_sampling
from ..random import RandomState
from ..results.estimate import Estimate
from ..validation import Floats, as_count, as_flag
from ..weights.diagnostics import warn_about_weights
from .exact import exact_estimate
from .outcome import checked, outcome, with_moments
from .requests import chooser, kind_of, new_request
from .resume import DEFAULT_EVERY, Resume
from .sampled import Following, of_one_q, of_several_q
from .stratified import new_strata
from .targets import Target, as_target


def estimate(
    model: LatentModel | ExactModel,
    q: Proposal | Categorical | Proposals | Sequence[Proposal],
    n_samples: int | Sequence[int] | None = None,
    *,
    rng: RandomState = None,
    iw_sizes: Iterable[int] | None = None,
    backend: str = "auto",
    precision: str = "float64",
    device: int = 0,
    analytic_kl: bool = False,
    pareto_k: bool = True,
    moments: bool = False,
    responsibilities: bool = False,
    first_index: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
    target_se: float | None = None,
    target_total_se: float | None = None,
    max_samples: int | None = None,
    sampler: str = "iid",
    replicates: int = DEFAULT_REPLICATES,
    transform: str = DEFAULT_TRANSFORM,
    rotate: bool = True,
    client: Any = None,
    allow_mixed: bool = False,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: float = DEFAULT_EVERY,
    keep_state: bool = False,
    previous: Estimate | None = None,
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
        is the same distribution for every data point; each data point has its own draws. Of a
        sequence of several, or `Proposals`, all draws are weighed by their mixture; see the notes.
    n_samples : int, optional
        K, the number of draws for each data point. By default it is 1000, for "sobol" 4096. Not
        allowed for a MixtureModel, which is summed exactly, nor with a target standard error, which
        sets K. For several q, a sequence has the number for each, at least 2. One number is split
        among them, equally or by the shares of `Proposals`.
    rng : None, int, SeedSequence or Generator
        Seed of the draws. An int or a SeedSequence gives the same draws in every call, a Generator
        advances, and None gives new draws.
    iw_sizes : iterable of int, optional
        Group sizes k of the importance-weighted bounds, at most K, and for "sobol" at most
        ``replicates``. By default they are 10 and 100, where they are allowed.
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
        stay in float64. If ``iw_sizes`` is empty or draws are quasi-random, "cuda" sums
        exponentials of single precision. This changes log evidence and its SE by less than 1e-6
        (1 + their size), and the Jensen gap is lost if log weights differ by less than 3e-4.
        backend="numpy" always computes in float64.
    device : int
        Index of the GPU for "cuda".
    analytic_kl : bool
        Use the closed-form KL instead of the sampled one in ``kl`` and ``elbo``. The standard error
        of the ELBO is then that of the log-likelihood term, which is often larger if q is near the
        posterior. ``jensen_gap`` and ``iw_elbo(1)`` keep the sampled ELBO.
    pareto_k : bool
        Whether to estimate the tail index of the weights. If False, ``pareto_k`` is NaN, k-hat sets
        no standard error to NaN, and the interval of the log evidence is normal.
    moments : bool
        Whether to compute ``posterior_mean``, ``posterior_mean_se`` and ``posterior_cov`` of the
        estimate, too, from the same draws. On the CPU the log densities of all draws are stored for
        them, 24 bytes for each draw of a slice of data points. Other backends evaluate the model a
        second time. The draws are made again on the CPU. Everything else is as without moments.
    responsibilities : bool
        For a `MixtureModel`: whether to keep p(c | x) in ``responsibilities`` of the estimate, from
        the same pass over the data points. scikit-learn calls them ``predict_proba``.
    first_index : int
        Address of the first data point. A minibatch that starts at data point i of a data set has
        the same draws as the full data set if ``first_index=i``.
    n_threads : int, optional
        Number of threads; all by default. No result depends on it.
    progress : bool
        Show a progress bar, if tqdm is installed.
    target_se : float, optional
        The standard error of the log evidence of each data point, in nats, that K is to give. It
        takes the place of ``n_samples``. A pilot of 1024 draws of each data point estimates v, the
        relative variance of its weights. K is then ``1.2 v / target_se^2``, rounded up by a block
        of 512 draws or 9 %. The pilot's draws would bias the estimate, so they are thrown away;
        ``pilot_samples`` counts them. ``n_samples`` of the result is an array, and ``log_evidence``
        has SE^2/2 added, by which the log of a mean is too low. Root-mean-square errors are 0.8 to
        1.2 targets for v up to 20. K is right for small errors: choose at most 0.1. With "sobol"
        the pilot has 64 points of each replicate. Its number of draws is K0, its standard error
        SE0, and K is the least that fits with ``1.5 SE0^2 K0 / K <= target_se^2``. Errors fall
        faster than that: most are far below a small target.
    target_total_se : float, optional
        The same for the sum of the log evidences of all data points, by the fewest draws: K of a
        data point is proportional to the square root of its v (Neyman, 1934).
    max_samples : int, optional
        The most draws of a data point for a target; 2^20 = 1048576 by default. A data point whose
        weights are all 0 in the pilot takes as many.
    sampler : {"iid", "sobol"}
        "iid" makes independent draws. "sobol" makes quasi-random ones: ``replicates`` randomly
        scrambled Sobol sequences (Owen, 1997), each of ``n_samples / replicates`` draws, which must
        be a power of two. Draws of one sequence fill space evenly. Means over them have much
        smaller errors where the weights are smooth, have a variance, and differ in few directions;
        `Estimate.variance_ratio` says how much smaller. The sequences are independent, so the
        errors come from them: standard deviation over ``sqrt(replicates)``, and Student's t with
        ``replicates - 1`` degrees of freedom. `Estimate.confidence_interval` says what its
        intervals cover.
    replicates : int
        R, the number of sequences for "sobol", at least 2. Fewer make each of them longer, and
        the error less well known.
    transform : {"box_muller", "inverse"}
        How "sobol" makes normals of uniforms: by pairs (Box and Muller, 1958), which is faster, and
        better if q is centred at the posterior, or by the inverse of the distribution function,
        which may be better if it is not. In the demo's model, with a q for which k = 0.32, 95 %
        intervals of "box_muller" cover 93 to 95 %.
    rotate : bool
        Whether "sobol" rotates the normals, so that model and q differ most in the first
        coordinates, which are the most even. The law of the draws stays the same. The rotation is
        exact for a `LinearGaussian` with a Gaussian prior. Elsewhere it is from a pilot of
        ``n_samples / 10`` draws, at least 20 D and at most 2000, which ``pilot_samples`` counts.
        There is none for D = 1, and no pilot for D > 100. ``rotation`` of the result says which
        was used.
    client : distributed.Client, optional
        A client of a Dask cluster, whose workers make the draws, one thread a task. The result has
        the bits of one process, whatever their number, and whichever of them die. The functions of
        a `Model` are sent to them. What needs the terms of all draws at once, ``moments`` and
        several q, gets them from the workers: 24 bytes a draw come here. ``backend`` must be "auto"
        or "cpu", and ``n_threads`` be left out.
    allow_mixed : bool
        Whether workers may have another instruction set, numba or llvmlite than this process, whose
        last bits may differ. Python and fastelbo must be the same.
    checkpoint : str or Path, optional
        A file that keeps what is done of the run. If it exists, the run goes on from there, and
        ends with the bits of a run that nothing has stopped. See the notes.
    checkpoint_every : float
        Seconds between two writes of the checkpoint. It is written between launches of about a
        quarter of a second, at the end, and when an error or Ctrl-C ends the run. Where a write
        takes more than a tenth of a second, it is as seldom as 200 times that.
    keep_state : bool
        Whether to keep the states of all data points in ``state`` of the estimate, for
        ``previous``. `Estimate.state` says how much memory they take.
    previous : Estimate, optional
        An estimate of fewer draws with ``keep_state=True``, of the same model, q and options. The
        run goes on from its state, and gives the bits of a run of all ``n_samples`` draws. By
        default, ``rng`` is then that of ``previous``. See the notes.

    Returns
    -------
    Estimate
        Arrays of shape ``broadcast(model.batch_shape, q.batch_shape)``.

    Raises
    ------
    InvalidInputError
        If an argument is invalid; the message names it.
    ClusterError
        If workers of the ``client`` would not give the same bits, are lost for good, or die of a
        task, whose data points and draws it names.
    InvalidWeightError
        If a log weight is NaN or +inf.
    DeviceUnavailableError, DeviceMemoryError
        With "cuda": if no device is usable (the message says what is missing), or if the device
        does not have enough memory.
    OverflowError
        For more than 2^40 draws or 2^32 data points.
    CheckpointError
        If the checkpoint cannot be written at the start, if both generations are damaged, or if
        another run uses it.
    CheckpointMismatchError
        If the checkpoint is of another run; it names what differs.

    Warns
    -----
    HighParetoKWarning, LowESSWarning, ConstantWeightsWarning, AllWeightsZeroWarning,
    ShortTailWarning
        Each at most once per call, with the number of data points and the worst ones. If the k-hat
        of a data point is too high, its log evidence and its Jensen gap have no standard error. For
        the worst data point, the message says where the largest weights lie, and what to try. For
        that, a tenth of its draws, at least 100 and at most 2000, are weighed again.
    TargetErrorWarning
        If a target needs more than ``max_samples`` draws; it names the standard error that is
        expected. Also if the pilot cannot promise the target, because its k-hat exceeds 1/2. This
        is no verdict: of log-normal weights with v = 3.4, 15 % of all pilots are above 1/2.
    CheckpointWarning
        If a checkpoint cannot be written, once a run, which goes on; if the file is damaged, and
        the one before it is used; if it was made on another machine, where the last bits differ.
    NoDeviceFormWarning
        With "auto", if the function of a `Model` cannot be compiled for the GPU; it names the line.

    Notes
    -----
    Of n_j draws of each of several q_j, n in all, the weights are ``p / q_a`` with
    ``q_a = sum_j (n_j / n) q_j``: the balance heuristic (Veach and Guibas, 1995). ELBO and KL are
    those of q_a. Standard errors are stratified, from the variances within each q_j
    (`fastelbo.weights.strata`). ``relative_variance``, ``ess`` and ``pareto_k`` are those of all
    draws together. Importance-weighted bounds take the draws in a random order. For a k, they are
    lower bounds that are slightly above the bound of q_a, as the n_j are no chance, and their
    errors are slightly too large. All terms of a data point are stored, 48 bytes a draw.
    ``sampler="sobol"``, targets and ``analytic_kl`` are refused.

    A checkpoint keeps the run's key, so that with ``rng=None`` a run that was killed goes on with
    its own draws. An int must be the same again; a `Generator` must be in the state in which it
    was, as it advances. The run is known by hashes of the arrays and functions of model and q, and
    by the options; a function of many draws that reads objects of other libraries is known by its
    values at three draws. The file is replaced in one step, and the one before it stays beside it
    as ``<checkpoint>.previous``; a file that is damaged is told by its checksum. It holds the
    results of the data points that are done, with tails of at most 256 MB, and the states of a
    slice of others, at most 32 MB. It has the states of all data points if these take at most
    32 MB, or with ``keep_state=True``. A run that has ended leaves its results: the same call gives
    them again, and one of more draws goes on as from ``previous``. On Linux and macOS, a second run
    on the same file is an error.

    More draws make the last, incomplete chunk of 8192 draws again. They make all draws again where
    those would not be of the same bits: if k-hat needs more of the largest log weights than were
    kept (``keep_state=True`` keeps as many as 16 times the draws need, a checkpoint as many as its
    own, and 1.8 million draws have all that are ever needed), or if a function of many draws would
    be called with batches of another size. Checkpoints and states are for draws of one q on the
    CPU, and "auto" is then "cpu". A target, ``moments=True`` and several q are refused, and
    ``sampler="sobol"`` has checkpoints of the same number of draws alone.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    >>> est = fe.estimate(model, fe.Gaussian([0.4], scale=0.7), n_samples=100_000, rng=0)
    >>> low, high = est.confidence_interval("log_evidence", 0.999)
    >>> bool(low[0] < model.exact_log_evidence()[0] < high[0])
    True

    As many draws as a standard error needs:

    >>> est = fe.estimate(model, fe.Gaussian([0.2], scale=0.9), target_se=0.01, rng=0)
    >>> print(est.n_samples, est.log_evidence_se.round(2))
    [2048] [0.01]

    Quasi-random draws, with a smaller error than as many independent ones:

    >>> est = fe.estimate(model, fe.Gaussian([0.4], scale=0.9), sampler="sobol", rng=0)
    >>> est.n_samples, est.replicates, float(est.variance_ratio[0]) > 10.0
    (4096, 16, True)

    More draws, from where an estimate ended:

    >>> q = fe.Gaussian([0.4], scale=0.7)
    >>> est = fe.estimate(model, q, n_samples=100_000, keep_state=True, rng=0)
    >>> more = fe.estimate(model, q, n_samples=150_000, previous=est)
    >>> bool(more.log_evidence == fe.estimate(model, q, n_samples=150_000, rng=0).log_evidence)
    True

    Two q, neither of which is near the posterior alone:

    >>> two = [fe.Gaussian([-1.0], scale=0.5), fe.Gaussian([1.0], scale=0.5)]
    >>> est = fe.estimate(model, two, n_samples=[30_000, 70_000], rng=0)
    >>> low, high = est.confidence_interval("log_evidence", 0.999)
    >>> bool(low[0] < model.exact_log_evidence()[0] < high[0])
    True
    """
    index = as_count(device, "device", least=0)
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    analytic_kl, pareto_k = as_flag(analytic_kl, "analytic_kl"), as_flag(pareto_k, "pareto_k")
    progress, moments = as_flag(progress, "progress"), as_flag(moments, "moments")
    responsibilities = as_flag(responsibilities, "responsibilities")
    target = as_target(target_se, target_total_se, n_samples, max_samples)
    sampling = as_sampling(sampler, replicates, transform, rotate)
    resume = Resume(checkpoint, checkpoint_every, previous, keep_state)
    name = "cpu" if resume.asked and backend == "auto" else backend
    backend_for = chooser(name, threads, index, client, as_flag(allow_mixed, "allow_mixed"))
    if isinstance(model, ExactModel):
        resume.refuse("for a MixtureModel, which has no draws")
        given = {} if target is None else {target.name: target.se}
        return exact_estimate(
            model, q, backend_for(None), responsibilities, **given, n_samples=n_samples,
            iw_sizes=iw_sizes, sampler=sampler if sampling.replicated else None, moments=moments,
            client=client,
        )  # fmt: skip
    if responsibilities:
        raise InvalidInputError(
            "responsibilities must be False but for a MixtureModel, whose components have them; "
            f"got {kind_of(model)}"
        )
    options = first_index, precision
    analytic, several, follow = None, as_proposals(q), Following(moments, pareto_k)
    _refuse_to_resume(resume, target, moments, several is not None)
    if several is not None:
        _refuse_of_several(target, analytic_kl)
        strata = new_strata(model, several, n_samples, rng, *options, iw_sizes, pareto_k, sampling)
        sampled = of_several_q(strata, backend_for(strata.pooled), follow, progress)
    else:
        draws: object = n_samples
        if target is not None:
            draws = most = sampling.most_draws(target.max_samples)
            iw_sizes = sampling.iw_sizes(iw_sizes, most, "max_samples")
        with resume:
            seed = resume.seed(rng)
            request = new_request(model, q, draws, seed, *options, iw_sizes, pareto_k, sampling)
            analytic = _analytic_kl(model, q) if analytic_kl else None
            sampled = of_one_q(
                request, target, sampling.rotate, backend_for, follow, progress, resume
            )
    values = checked(sampled)
    # Warnings name the line that called this function, so they come from here.
    warn_about_weights(
        sampled.counts, values, pareto_k, sampled.request.cut.replicates, sampled.advice
    )
    if several is not None:
        strata.warn_of_few()
    result = outcome(sampled, values, analytic, resume.state)
    return with_moments(result, sampled) if moments else result


def _refuse_to_resume(resume: Resume, target: Target | None, moments: bool, several: bool) -> None:
    """Errors for what has no states that a run goes on from."""
    if target is not None:
        resume.refuse(f"with {target.name}, which sets the number of draws")
    if moments:
        resume.refuse("with moments=True")
    if several:
        resume.refuse("for several q")


def _refuse_of_several(target: Target | None, analytic_kl: bool) -> None:
    """Errors for what several q cannot have."""
    if target is not None:
        raise InvalidInputError(
            f"{target.name} must not be given for several q, got {target.se:g}; give n_samples"
        )
    if analytic_kl:
        raise InvalidInputError(
            "analytic_kl must be False for several q: the KL divergence of their mixture has no "
            "closed form"
        )


def _analytic_kl(model: object, q: object) -> Floats:
    """The closed-form KL divergence of q from the prior; an error if it has no closed form."""
    prior = getattr(model, "prior", None)
    if isinstance(q, Distribution) and isinstance(prior, Distribution):
        return kl_divergence(q, prior)
    raise InvalidInputError(
        f"analytic_kl must be False: there is no closed form for the KL divergence of {kind_of(q)} "
        f"from {kind_of(prior)}"
    )
