"""A proposal that is fitted to a model in rounds, and the estimate by fresh draws of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...errors import AdaptationWarning, InvalidInputError, LabelSwitchingWarning
from ...inner_warnings import warn
from ...models.counted import CountedJoint, single_model
from ...models.exchangeable import missed_symmetry
from ...models.laplace import as_starts, covariance, find_modes
from ...models.location_scale import Gaussian, StudentT
from ...models.mixture import Mixture
from ...models.protocol import LatentModel
from ...models.student_fit import StudentFit
from ...models.symmetries import as_symmetries, require_invariant
from ...random import RandomState, philox_key
from ...results.adaptation import Adaptation
from ...validation import as_count, as_number, shown
from .fit import AdaptiveFit, Options
from .fresh_run import MOST_RUNS, FreshRun

# Of the covariance at the mode, as that of `laplace`.
_INFLATE = 1.2
# Draws of the posterior that show whether q has the symmetries of the model.
_SHOWN = 200
# Points at which symmetries are checked.
_CHECKED = 3


def adapt(
    model: LatentModel,
    q0: Gaussian | StudentT | Mixture | None = None,
    *,
    target_se: float = 0.01,
    rng: RandomState = None,
    start: ArrayLike | None = None,
    n_components: int = 3,
    df: float = 5.0,
    round_size: int = 1000,
    defensive: float = 0.2,
    symmetries: ArrayLike | None = None,
    max_evaluations: int = 250_000,
    max_rounds: int = 40,
    n_threads: int | None = None,
) -> Adaptation:
    """Fit a proposal to a model, and estimate the log evidence with fresh draws of it.

    It begins with a Student-t at a mode (see `laplace`), or with ``q0``. Each round draws from the
    proposal, weights all draws so far by the mixture of all proposals so far (Cornuet et al.,
    2012), and fits a mixture of Student-t to them by expectation-maximisation. While few draws have
    most of the weight, it is fitted to a power beta < 1 of the weights. A component is added at a
    draw where q is too small, and kept if it pays. A wide component remains in every proposal, so
    that weights are bounded where others are too narrow.

    Draws to which a proposal was fitted give a log evidence that is too low, and too small an
    error. So the numbers of the estimate are those of fresh draws alone, as many as ``target_se``
    needs. Where their weights have a heavy tail, they are used to fit q once more, and others take
    their place.

    Parameters
    ----------
    model : Model, or another model without a batch of data points
        Log p(x, z) should be smooth, and z without constraints.
    q0 : Gaussian, StudentT or Mixture, optional
        The first proposal, in the place of a search for a mode.
    target_se : float
        The standard error of the log evidence that is wanted, in nats.
    rng : None, int, SeedSequence or Generator
        Seed of all draws. An int gives the same result in every call.
    start : array_like, shape (D,) or (S, D), optional
        Where searches for modes start, as for `laplace`.
    n_components : int
        Most components, without the wide one.
    df : float
        Degrees of freedom of all components, above 2 and finite.
    round_size : int
        Draws of a round.
    defensive : float
        Share of the wide part: a component with 4 times the covariance of draws where p/q is large,
        and the first proposal.
    symmetries : array_like, optional
        Maps that leave log p(x, z) as it is, such as permutations of labels: of coordinates, shape
        (G, D), or matrices of determinant 1 or -1, shape (G, D, D). q is then the average over the
        images of its components under all their products: modes that differ by a label need no
        more values of log p(x, z).
    max_evaluations : int
        Most values of log p(x, z), but for those of the search for a mode.
    max_rounds : int
        Most rounds.
    n_threads : int, optional
        Number of threads; all by default. No result depends on it.

    Returns
    -------
    Adaptation
        ``q``, ``estimate``, ``history``, ``evaluations``; ``flagged`` and ``problems`` say if and
        why the estimate may be wrong.

    Raises
    ------
    InvalidInputError
        If an argument is invalid, the model has a batch, or symmetries change log p(x, z).
    InvalidWeightError
        If log p(x, z) is NaN or +inf at a draw.
    ModeError
        If the search for a mode fails; give ``q0`` or another start.

    Warns
    -----
    AdaptationWarning
        If the estimate is flagged: the rounds did not settle, k-hat of the fresh draws is too high
        (their standard error is then NaN), the target is missed, or the fresh draws disagree with
        those of the rounds.
    LabelSwitchingWarning
        If log p(x, z) is found to be the same with two labels swapped, or with other signs, and q
        is nearly 0 there. The search knows layouts of labels behind each other alone; see
        `fastelbo.models.exchangeable`.

    Notes
    -----
    No check sees a mode that no draw came near. Several starts, or a wide ``q0``, find more. Forty
    draws of the first round are 3 to 100 times as far out as others, to find a wide part of the
    posterior around a narrow one. An unflagged error may be too small where tails are heavy
    along single coordinates: of products of five Student-t of df = 2, 4 answers of 9 were 3 to 4.5
    errors too low; and where a mode with some hundredths of the evidence was missed.

    References
    ----------
    Cornuet, Marin, Mira and Robert (2012), Adaptive multiple importance sampling, Scandinavian
    Journal of Statistics 39. Cappe, Douc, Guillin, Marin and Robert (2008), Adaptive importance
    sampling in general mixture classes, Statistics and Computing 18.

    Examples
    --------
    >>> import fastelbo as fe
    >>> def log_joint(z: list[float]) -> float:
    ...     return -0.5 * (z[0] ** 2 + (z[1] - 0.5 * z[0] ** 2) ** 2)
    >>> found = fe.adapt(fe.Model(log_joint=log_joint, dim=2), rng=0)
    >>> round(float(found.estimate.log_evidence), 1), found.flagged
    (1.8, False)
    """
    joint = CountedJoint(single_model(model))
    options = Options(
        target_se=_positive(target_se, "target_se"),
        df=_freedom(df),
        n_components=as_count(n_components, "n_components"),
        round_size=as_count(round_size, "round_size", least=10 * model.dim),
        defensive=_share(defensive),
        max_evaluations=as_count(max_evaluations, "max_evaluations", least=10 * model.dim),
        max_rounds=as_count(max_rounds, "max_rounds"),
        n_threads=None if n_threads is None else as_count(n_threads, "n_threads"),
    )
    maps = as_symmetries(symmetries, model.dim, options.n_components)
    if options.max_evaluations < 3 * options.round_size:
        raise InvalidInputError(
            f"max_evaluations must be at least three rounds, 3 x round_size = "
            f"{3 * options.round_size}, got {options.max_evaluations}"
        )
    if q0 is not None and start is not None:
        raise InvalidInputError("start must be left out with q0, which takes the place of a mode")
    key = philox_key(rng)
    first = _of_modes(joint, start, options.df) if q0 is None else _of_proposal(q0, model, options)
    # Steps that differ by coordinate: a diagonal would be the same after a swap.
    steps = np.arange(_CHECKED)[:, None] * (0.3 + 0.4 * np.linspace(0.0, 1.0, model.dim))
    points = first.means[0] + steps * np.diagonal(first.trils[0])
    if len(maps) > 1:
        require_invariant(joint, maps, points)
    fit = AdaptiveFit(joint, first, maps, options, key)
    run = _settled(fit, FreshRun(joint, options, key))
    problems = fit.problems + run.problems(fit)
    missed = missed_symmetry(joint, fit.q, fit.posterior_draws(_SHOWN))
    if missed is not None:
        problems += (_LABELS.format(missed),)
    found = Adaptation(fit.q, run.estimate, tuple(fit.history), joint.evaluations, problems)
    if problems:
        kind = AdaptationWarning if missed is None else LabelSwitchingWarning
        warn(f"the estimate is flagged: {'; '.join(problems)}", kind, stacklevel=2)
    return found


_LABELS = (
    "log p(x, z) stays the same after {}, where q is nearly 0: modes that differ by labels or "
    "signs may be missing (label switching), and with them most of the evidence; symmetries= puts "
    "them into q"
)


def _settled(fit: AdaptiveFit, run: FreshRun) -> FreshRun:
    """Rounds until q settles, and a fresh run; if its tail is heavy, both again."""
    for number in range(MOST_RUNS):
        fit.settle()
        run.start(fit, number)
        if number == MOST_RUNS - 1 or not run.is_worth_another(fit):
            break
        fit.learn(run.z, run.log_joint)
    return run


# --- the first proposal --------------------------------------------------------------------------


def _of_modes(joint: CountedJoint, start: Any, df: float) -> StudentFit:
    modes = find_modes(joint, as_starts(start, joint.model), 1, 0)
    scales = _INFLATE * (df - 2.0) / df * np.array([covariance(mode) for mode in modes])
    heights = np.array([mode.log_evidence for mode in modes])
    weights = np.maximum(np.exp(heights - heights.max()), 0.01)
    locations = np.array([mode.location for mode in modes])
    return StudentFit(weights / weights.sum(), locations, np.asarray(np.linalg.cholesky(scales)))


def _of_proposal(q0: Any, model: LatentModel, options: Options) -> StudentFit:
    if isinstance(q0, type) or not isinstance(q0, (Gaussian, StudentT, Mixture)):
        raise InvalidInputError(f"q0 must be a Gaussian, StudentT or Mixture, got {shown(q0)}")
    if q0.batch_shape or q0.dim != model.dim:
        raise InvalidInputError(
            f"q0 must have no batch, and the dim of the model, {model.dim}; got batch_shape "
            f"{q0.batch_shape} and dim {q0.dim}"
        )
    parts = q0.components if isinstance(q0, Mixture) else q0
    weights = q0.weights if isinstance(q0, Mixture) else np.ones(1)
    freedom = options.df
    means = np.broadcast_to(parts.mean, (len(weights), q0.dim))
    scales = np.broadcast_to(parts._scale_matrix, (len(weights), q0.dim, q0.dim))
    if isinstance(parts, Gaussian):
        scales = scales * (freedom - 2.0) / freedom
    kept = weights > 0.0
    return StudentFit(weights[kept], means[kept], np.asarray(np.linalg.cholesky(scales[kept])))


# --- arguments -----------------------------------------------------------------------------------


def _positive(value: object, name: str) -> float:
    number = as_number(value, name)
    if not 0.0 < number < math.inf:
        raise InvalidInputError(f"{name} must be positive and finite, got {number}")
    return number


def _freedom(value: object) -> float:
    number = as_number(value, "df")
    if not 2.0 < number < math.inf:
        raise InvalidInputError(f"df must be above 2 and finite, got {number}")
    return number


def _share(value: object) -> float:
    number = as_number(value, "defensive")
    if not 0.0 < number < 1.0:
        raise InvalidInputError(f"defensive must be above 0 and below 1, got {number}")
    return number
