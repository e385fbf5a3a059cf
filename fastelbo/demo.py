"""The demonstration: fastelbo's estimates for real data whose evidence is known exactly."""

from __future__ import annotations

import math
import textwrap
import time
import warnings
from typing import Any, NamedTuple

import numpy as np

from .datasets import load_digits, load_galaxies
from .engine.estimation import estimate
from .errors import ConstantWeightsWarning, HighParetoKWarning, LowESSWarning, TotalBiasWarning
from .kernels.jit.threads import available_threads
from .models.categorical import Categorical
from .models.divergences import kl_divergence
from .models.linear_gaussian import LinearGaussian
from .models.location_scale import Gaussian
from .models.mixture import Mixture
from .models.mixture_model import MixtureModel
from .models.sampling import DEFAULT_REPLICATES
from .results.estimate import Estimate
from .results.total import Total
from .special import ndtri
from .tables import format_table
from .validation import Floats

N_SAMPLES = 5120
LATENT_DIM = 10
# The demonstration causes these warnings on purpose, and explains them below its tables.
EXPECTED_WARNINGS = (
    ConstantWeightsWarning,
    HighParetoKWarning,
    LowESSWarning,
    TotalBiasWarning,
)
# A smaller standard error is rounding error of constant weights.
_ROUNDING_SE = 1e-9


# --- digits: probabilistic PCA ------------------------------------------------------------------


def digits_model(rows: Any = slice(None)) -> LinearGaussian:
    """Probabilistic PCA of the digits, fitted to all of them by maximum likelihood.

    The loadings are rotated. This does not change the evidence. Unrotated loadings are orthogonal:
    the posterior factorises, and a diagonal q would be exact.

    Parameters
    ----------
    rows : slice or sequence of int
        Rows of the images that the model has as data; all 1797 by default.

    Returns
    -------
    LinearGaussian
        A model with 10 latent coordinates.

    Notes
    -----
    Column j of W is ``sqrt(a_j - s^2) u_j``, where a_j are the largest eigenvalues of the data's
    covariance and u_j their eigenvectors. The noise variance s^2 is the mean of the other
    eigenvalues (M. E. Tipping and C. M. Bishop, 1999, J. R. Statist. Soc. B 61, 611-622).
    """
    images = load_digits().images
    variances, directions = np.linalg.eigh(np.cov(images, rowvar=False, bias=True))
    noise_variance = variances[:-LATENT_DIM].mean()
    directions = directions[:, -LATENT_DIM:]
    # The sign of an eigenvector is arbitrary. Fix it, so that it does not depend on the LAPACK.
    largest = np.abs(directions).argmax(axis=0, keepdims=True)
    directions = directions * np.sign(np.take_along_axis(directions, largest, axis=0))
    loadings = directions * np.sqrt(variances[-LATENT_DIM:] - noise_variance)
    return LinearGaussian(
        images[rows], varimax(loadings), noise_cov=noise_variance, offset=images.mean(axis=0)
    )


def varimax(loadings: Floats, tolerance: float = 1e-9) -> Floats:
    """Rotate loadings (P, D) to maximise the variance of their squares (Kaiser, 1958)."""
    rotation = np.eye(loadings.shape[1])
    reached = 0.0
    while True:
        rotated = loadings @ rotation
        gradient = loadings.T @ (rotated**3 - rotated * (rotated**2).mean(axis=0))
        # The orthogonal matrix nearest to the gradient never lowers the criterion.
        left, singular_values, right = np.linalg.svd(gradient)
        rotation = left @ right
        if not singular_values.sum() > reached * (1.0 + tolerance):
            return np.asarray(loadings @ rotation)
        reached = singular_values.sum()


def digits_approximations(model: LinearGaussian) -> dict[str, Gaussian]:
    """Three q for each digit: a wide one, the best diagonal one (too narrow), the posterior."""
    posterior = model.exact_posterior()
    assert isinstance(posterior, Gaussian)
    marginal = np.diagonal(posterior.cov, axis1=-2, axis2=-1)
    precision = np.diagonal(np.linalg.inv(posterior.cov), axis1=-2, axis2=-1)
    return {
        "wide": Gaussian(posterior.mean, scale=1.25 * np.sqrt(marginal)),
        "mean field": Gaussian(posterior.mean, scale=1.0 / np.sqrt(precision)),
        "exact posterior": posterior,
    }


def tail_index(q: Gaussian, posterior: Gaussian) -> Floats:
    """Exact tail index of the weights of two Gaussians with the same mean; 0 for no Pareto tail.

    The index is 1 minus the least eigenvalue of the posterior's precision in units of q's
    precision. The weights have a variance if it is below 1/2.
    """
    whitened = np.linalg.solve(np.linalg.cholesky(posterior.cov), np.linalg.cholesky(q.cov))
    least = np.linalg.norm(whitened, ord=-2, axis=(-2, -1)) ** 2
    return np.asarray(np.maximum(0.0, 1.0 - least))


class Run(NamedTuple):
    """One timed call of `estimate` with one q."""

    q: Any
    estimate: Estimate
    total: Total
    seconds: float
    warnings: list[str]


def timed_estimate(model: Any, q: Any, **options: Any) -> Run:
    """Estimate and total. Expected warnings are collected, not shown."""
    with warnings.catch_warnings(record=True) as caught:
        for kind in EXPECTED_WARNINGS:
            warnings.simplefilter("always", kind)
        start = time.perf_counter()
        result = estimate(model, q, **options)
        seconds = time.perf_counter() - start
        total = result.total()
    expected = []
    for warning in caught:
        if issubclass(warning.category, EXPECTED_WARNINGS):
            expected.append(f"{warning.category.__name__}: {warning.message}")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return Run(q, result, total, seconds, expected)


def digits_runs(
    model: LinearGaussian, n_samples: int = N_SAMPLES, rng: int = 0, client: Any = None
) -> dict[str, Run]:
    """One call of `estimate` for each q of the digits."""
    return {
        name: timed_estimate(model, q, n_samples=n_samples, rng=rng, client=client)
        for name, q in digits_approximations(model).items()
    }


def digits_report(n_samples: int = N_SAMPLES, rng: int = 0, client: Any = None) -> str:
    """Tables that compare the three q of the digits with the exact values.

    With a ``client``, the workers of a Dask cluster make the draws. The values are the same.
    """
    model = digits_model()
    first = timed_estimate(model, model.exact_posterior(), n_samples=100, rng=rng, client=client)
    runs = digits_runs(model, n_samples, rng, client)
    where = f"{available_threads()} threads"
    if client is not None:
        where = f"{sum(client.nthreads().values())} threads of {len(client.nthreads())} workers"
    notes = [f"{name}: {message}." for name, run in runs.items() for message in run.warnings]
    return "\n\n".join([
        _wrap(
            f"Digits. Probabilistic PCA of {len(model.x)} images of {model.x.shape[-1]} pixels "
            f"with {model.dim} latent coordinates, K = {n_samples} draws for each image. The table "
            "shows sums over the digits, in nats. The log "
            "evidence is corrected for its bias by sum v/2K. z = (estimate - exact) / SE:"
        ),
        sums_table(model, runs),
        _wrap(
            "Averages over the single digits. Tail index (exact): mean. k-hat (its estimate) and "
            "ESS: medians. ELBO, IW 10 (the importance-weighted bound of 10 weights) and evidence: "
            "mean difference from the exact evidence, in nats. The last three columns are shares "
            "of digits. Ordered: ELBO < IW 10 < exact evidence. In 95 %: the exact evidence is in "
            "the 95 % interval, which includes the uncertainty of the tail. By SE: it is within "
            "1.96 sqrt(v / K) of the estimate, which does not include this uncertainty:"
        ),
        points_table(model, runs),
        _wrap(
            "The mean-field q is too narrow. If the tail index exceeds 1/2, the weights have no "
            "variance: for most digits the estimated evidence is too low and sqrt(v / K) is too "
            "small, although the median ESS looks good. k-hat detects this: above 0.7 (for many "
            "draws) there is no standard error, and the interval shows how far the evidence is "
            "known: from below only, if the weights may have no mean. Trust the evidence of the "
            "wide q rather than that of the mean-field q, although the ELBO of the wide q is lower."
        ),
        _wrap(
            f"Time of one call, on {where}, without compiling. The first "
            f"call, with 100 draws, compiled the kernels and took {first.seconds:.1f} s (less if "
            "an earlier run left them on the disk):"
        ),
        times_table(runs),
        _wrap(quasi_random_note(model, runs["wide"], rng)),
        "Warnings:\n" + "\n".join(_wrap(note, "  ") for note in notes),
    ])  # fmt: skip


def sums_table(model: LinearGaussian, runs: dict[str, Run]) -> str:
    """Totals over the digits, beside the exact answers."""
    exact, posterior = model.exact_log_evidence(), model.exact_posterior()
    table = [["q", "sum over digits", "exact", "estimate", "SE", "z", "95 % interval"]]
    for name, run in runs.items():
        elbo = exact - kl_divergence(run.q, posterior)
        for quantity, label, truth in (
            ("log_evidence", "log evidence", exact.sum()),
            ("elbo", "ELBO", elbo.sum()),
        ):
            value, se = (getattr(run.total, f"{quantity}{part}") for part in ("", "_se"))
            low, high = run.total.confidence_interval(quantity)
            interval = f"{low:.2f} to {high:.2f}" if np.isfinite(high) else f"> {low:.2f}"
            z = f"{(value - truth) / se:+.2f}" if se > _ROUNDING_SE else "-"
            error = "-" if np.isnan(se) else f"{se:.2f}"
            table.append([name, label, f"{truth:.2f}", f"{value:.2f}", error, z, interval])
    return format_table(table)


def points_table(model: LinearGaussian, runs: dict[str, Run]) -> str:
    """Averages over the single digits, and shares of them."""
    exact, posterior = model.exact_log_evidence(), runs["exact posterior"].q
    table = [["q", "tail index", "k-hat", "ESS", "ELBO", "IW 10", "evidence", "ordered",
              "in 95 %", "by SE"]]  # fmt: skip
    for name, (q, est, *_) in runs.items():
        bound = est.iw_elbo(10).value
        differences = [(value - exact).mean() for value in (est.elbo, bound, est.log_evidence)]
        # Equal weights have no k-hat, and their interval has no width.
        k, shares = "-", ["all equal", "-", "-"]
        if not np.isnan(est.pareto_k).all():
            k = f"{np.median(est.pareto_k):.2f}"
            low, high = est.confidence_interval("log_evidence")
            half = ndtri(0.975) * np.sqrt(est.relative_variance / est.n_samples)
            shares = [
                f"{100.0 * flags.mean():.1f} %"
                for flags in (
                    (est.elbo < bound) & (bound < exact),
                    (low < exact) & (exact < high),
                    np.abs(est.log_evidence - exact) < half,
                )
            ]
        table.append([
            name, f"{tail_index(q, posterior).mean():.2f}", k, f"{np.median(est.ess):.0f}",
            *(f"{d:.4f}" if abs(d) > _ROUNDING_SE else "0" for d in differences), *shares,
        ])  # fmt: skip
    return format_table(table)


def quasi_random_note(model: LinearGaussian, independent: Run, rng: int = 0) -> str:
    """What as many quasi-random draws give, in at least 16 replicates."""
    exact, n_samples = model.exact_log_evidence(), independent.estimate.n_samples
    assert isinstance(n_samples, int)
    per_replicate = math.gcd(n_samples, 2 ** int(math.log2(n_samples / DEFAULT_REPLICATES)))
    run = timed_estimate(
        model, independent.q, n_samples=n_samples, rng=rng, sampler="sobol",
        replicates=n_samples // per_replicate,
    )  # fmt: skip
    before, after = (
        np.sqrt(np.square(each.estimate.log_evidence - exact).mean()) for each in (independent, run)
    )
    low, high = run.estimate.confidence_interval("log_evidence")
    covered = 100.0 * ((low < exact) & (exact < high)).mean()
    return (
        f'Quasi-random draws (sampler="sobol"), {n_samples} for each image of the wide q too: the '
        f"root-mean-square error of a log evidence is {after:.4f} nats in place of {before:.4f}. "
        f"Independent draws would have to be {(before / after) ** 2:.0f} times as many for that. "
        f"The 95 % intervals contain the exact log evidence for {covered:.1f} % of the digits. "
        "Such draws do not help the mean-field q: a few large weights make up its error."
    )


def times_table(runs: dict[str, Run]) -> str:
    """Seconds of one call, and draws per second."""
    table = [["q", "seconds", "million draws a second"]]
    for name, run in runs.items():
        draws = run.estimate.log_evidence.size * run.estimate.n_samples
        table.append([name, f"{run.seconds:.2f}", f"{draws / run.seconds / 1e6:.1f}"])
    return format_table(table)


# --- galaxies: a Gaussian mixture ---------------------------------------------------------------


def galaxies_model(n_components: int = 3) -> MixtureModel:
    """A Gaussian mixture fitted to the galaxies' velocities by expectation-maximisation.

    At the start, the widest gaps between the velocities separate the components.
    """
    velocity = load_galaxies()
    borders = np.sort(np.argsort(np.diff(velocity))[1 - n_components :])
    start = np.searchsorted(borders, np.arange(velocity.size))
    responsibilities = np.eye(n_components)[start]
    x = velocity[:, None]
    log_evidence = -np.inf
    while True:
        counts = responsibilities.sum(axis=0)
        mean = (responsibilities * x).sum(axis=0) / counts
        variance = (responsibilities * (x - mean) ** 2).sum(axis=0) / counts
        components = Gaussian(mean[:, None], scale=np.sqrt(variance)[:, None])
        model = MixtureModel(x, Mixture(counts / counts.sum(), components))
        previous, log_evidence = log_evidence, model.exact_log_evidence().sum()
        if not log_evidence - previous > 1e-9:
            return model
        responsibilities = model.exact_posterior().probs


def galaxies_approximations(model: MixtureModel) -> dict[str, Categorical]:
    """Three q of the component: the responsibilities, softened ones, the most likely one alone."""
    posterior = model.exact_posterior()
    softened = np.sqrt(posterior.probs)
    hard = np.eye(softened.shape[-1])[softened.argmax(axis=-1)]
    return {
        "responsibilities": posterior,
        "softened": Categorical(softened / softened.sum(axis=-1, keepdims=True)),
        "hard": Categorical(hard),
    }


def galaxies_report() -> str:
    """Table of the evidence and ELBOs of the galaxies, summed without draws."""
    model = galaxies_model()
    posterior = model.exact_posterior()
    exact = model.exact_log_evidence().sum()
    table = [["q", "log evidence", "ELBO", "gap", "KL(q || posterior)", "time"]]
    for name, q in galaxies_approximations(model).items():
        run = timed_estimate(model, q)
        gap = run.estimate.jensen_gap.sum()
        table.append([
            name, f"{run.total.log_evidence:.4f}", f"{run.total.elbo:.4f}", f"{abs(gap):.4f}",
            f"{kl_divergence(q, posterior).sum():.4f}", f"{1e3 * run.seconds:.1f} ms",
        ])  # fmt: skip
    return "\n\n".join([
        _wrap(
            f"Galaxies. Mixture of {posterior.probs.shape[-1]} Gaussians fitted to {model.x.size} "
            f"velocities by EM. The values are sums over the components: they have no draws and no "
            f"sampling error. Exact log evidence: {exact:.4f} nats."
        ),
        format_table(table),
    ])  # fmt: skip


# --- convergence --------------------------------------------------------------------------------


def convergence(rng: int = 0, most: int = 17) -> tuple[list[Estimate], Floats]:
    """Estimates for the first ten digits with more and more draws, and the exact evidence.

    The q is the wide one. Each set of draws is a part of the next set.

    Returns
    -------
    estimates : list of Estimate
        With 2^7, 2^8, ..., 2^most draws.
    exact : ndarray, shape (10,)
        Exact log evidences in nats.
    """
    model = digits_model(range(10))
    q = digits_approximations(model)["wide"]
    with warnings.catch_warnings():
        # The first numbers of draws are too small on purpose.
        warnings.simplefilter("ignore", LowESSWarning)
        estimates = [
            estimate(model, q, n_samples=2**power, rng=rng) for power in range(7, most + 1)
        ]
    return estimates, model.exact_log_evidence()


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, width=100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
