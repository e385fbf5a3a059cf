"""The gradient of a bound: arguments, choice of the estimator, result."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ...errors import AllWeightsZeroWarning, HighParetoKWarning, InvalidInputError
from ...kernels.state import estimators
from ...models.categorical import Categorical
from ...models.gradient_plan import Asked
from ...models.linear_gaussian import LinearGaussian
from ...models.location_scale import LocationScale
from ...models.mixture import Mixture
from ...models.protocol import ExactModel, LatentModel, Proposal
from ...progress import progress_bar
from ...random import RandomState
from ...results.gradient import ElboGradient
from ...validation import as_choice, as_count, as_flag, as_number, as_sequence, shown
from ...weights.diagnostics import warn
from ..requests import kind_of, new_request
from .component_parts import MixtureTask
from .exact import exact_gradient
from .mixtures import mixture_gradient
from .notes import note_of
from .states import sampled_gradient
from .tails import heavy_points

_KINDS = {
    "total": estimators.TOTAL,
    "stl": estimators.STL,
    "dreg": estimators.DREG,
    "renyi": estimators.RENYI,
    "rws": estimators.RWS,
    "vimco": estimators.VIMCO,
    "score": estimators.SCORE,
}
ESTIMATORS = ("auto", *_KINDS, "siwae", "exact")
_WRT = ("q", "model", "log_scale")


def elbo_gradient(
    model: LatentModel | ExactModel,
    q: Proposal | Categorical,
    n_samples: int | None = None,
    *,
    k: int = 1,
    estimator: str = "auto",
    wrt: str | Iterable[str] | None = None,
    per_point: bool = False,
    alpha: float | None = None,
    rng: RandomState = None,
    backend: str = "auto",
    first_index: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> ElboGradient:
    """Gradient of the ELBO, or of a bound of k weights, by the parameters of q and of the model.

    The draws are those of `estimate` with the same ``rng``. Each group of k consecutive draws has a
    bound ``L = log mean exp(l_j)``, l_j the log weights, and a gradient; the result is their mean,
    with the standard error ``sd / sqrt(groups)``. With ``wbar = softmax(l)``, h the gradient of
    log p - log q in z, J the derivative of a draw by q's parameters phi, and s that of log q by phi
    at a fixed draw, the gradient of a group is

    - ``sum_j wbar_j (h_j J_j - s_j)`` for "total" (Kingma and Welling, 2014; Burda et al., 2016),
    - ``sum_j wbar_j h_j J_j`` for "stl", sticking the landing (Roeder et al., 2017),
    - ``sum_j wbar_j^2 h_j J_j`` for "dreg", doubly reparameterised (Tucker et al., 2019),
    - ``sum_j (alpha wbar_j + (1 - alpha) wbar_j^2) h_j J_j`` for "renyi", with wbar of
      ``(1 - alpha) l`` and Renyi's bound in the place of L (Li and Turner, 2016),
    - ``sum_j (wbar_j - wbar_j^2) h_j J_j`` for "rws", the wake update
      (Bornschein and Bengio, 2015),
    - ``sum_j (L - L_-j - wbar_j) s_j`` for "vimco", L_-j with the geometric mean of the other
      weights in the place of w_j (Mnih and Rezende, 2016),
    - ``sum_j (L - wbar_j) s_j`` for "score" (Ranganath et al., 2014).

    By a parameter of the model it is ``sum_j wbar_j`` times the gradient of log p(x, z_j).

    Estimators with h need a log p(x, z) that is continuous in z: they do not see what a jump, such
    as that to -inf at the bound of a support, adds to the gradient. "vimco" and "score" do. If a
    draw has weight 0, ``note`` says so.

    Parameters
    ----------
    model : LinearGaussian, Model, MixtureModel, or a distribution
        The gradient of log p(x, z) in z must be known: that of a `Model` is its ``grad``, or
        follows from its function. "vimco" and "score" need none.
    q : Gaussian, StudentT or Mixture; Categorical for a MixtureModel
        Approximate posterior. Its batch broadcasts against the model's. The df of a Student-t is
        held fixed. Of a Mixture, each component makes ``n_samples`` draws.
    n_samples : int, optional
        Draws for each data point, 1000 by default. They make ``n_samples // k`` groups; the rest
        is not drawn.
    k : int
        Draws of a group: 1 for the ELBO.
    estimator : {"auto", "total", "stl", "dreg", "renyi", "rws", "vimco", "score", "siwae", "exact"}
        By default "stl" for k = 1 and "dreg" for k > 1; for a Mixture and k > 1 "siwae"
        (Morningstar et al., 2021), whose groups have k draws of each component; for a Categorical
        "exact". "exact" is also the closed form of a `LinearGaussian` with a Gaussian or Student-t
        q.
    wrt : str or sequence of str, optional
        Among "q", "model" and "log_scale", which is "q" with the gradient by the logarithm of a
        diagonal scale in the place of that by the scale. By default "q", and for a LinearGaussian
        "model" too.
    per_point : bool
        Whether each data point has gradients of its own. By default, a parameter that data points
        share has the gradient of the sum of their bounds, and the bound is that sum.
    alpha : float, optional
        Order of Renyi's bound, for "renyi". 0 is "dreg", 1 the ELBO.
    rng : None, int, SeedSequence or Generator
        Seed of the draws, as for `estimate`.
    backend : {"auto", "cpu", "numpy"}
        "auto" is "cpu", the compiled kernels, on every machine. "numpy" is the plain reference,
        which stores all draws.
    first_index : int
        Address of the first data point, for a minibatch of a data set.
    n_threads : int, optional
        Number of threads; all by default. No result depends on it.
    progress : bool
        Show a progress bar, if tqdm is installed.

    Returns
    -------
    ElboGradient
        The bound, and the gradients under the names of the parameters, each with its standard
        error, in nats. ``biased`` says whether the gradient is that of another objective: of "rws",
        and of "stl" for k > 1.

    Raises
    ------
    InvalidInputError
        If arguments are invalid, or do not fit together; the message names them.
    InvalidWeightError
        If a log weight is NaN or +inf, or the gradient at a draw of positive weight is not finite;
        for "vimco" also if all other weights of its group are 0. If all weights of a group are 0
        and q is a Mixture.

    Warns
    -----
    HighParetoKWarning
        If k = 1, q has Student-t tails, and k-hat says that the terms of the ELBO have too heavy a
        tail for a standard error (`Estimate.pareto_k_elbo`, from as many other draws). The standard
        errors of these data points are NaN.
    AllWeightsZeroWarning
        If all weights of a group are 0, or one of them and ``alpha >= 1``: the bound is -inf, and
        has no gradient.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    >>> q = fe.Gaussian([0.2], scale=0.9)
    >>> g = fe.elbo_gradient(model, q, n_samples=100_000, rng=0)
    >>> bool(abs(g.mean.value[0] - 0.6) < 4.5 * g.mean.se[0])
    True
    >>> fe.elbo_gradient(model, q, n_samples=1000, k=10, rng=0).estimator
    'dreg'
    """
    if not isinstance(model, (LatentModel, ExactModel)) or isinstance(model, type):
        raise InvalidInputError(f"model must be a model or a distribution; got {kind_of(model)}")
    as_choice(backend, "backend", ("auto", "cpu", "cuda", "numpy"))
    if backend == "cuda":
        raise InvalidInputError(
            'backend must be "auto", "cpu" or "numpy": gradients are computed on the CPU; got '
            '"cuda"'
        )
    threads = None if n_threads is None else as_count(n_threads, "n_threads")
    per_point, progress = as_flag(per_point, "per_point"), as_flag(progress, "progress")
    k = as_count(k, "k")
    name = _estimator(as_choice(estimator, "estimator", ESTIMATORS), q, k)
    order = _alpha(name, alpha)
    wanted = _wrt(wrt, model)
    if name == "exact":
        if k != 1:
            raise InvalidInputError(f'k must be 1 for estimator="exact", got {k}')
        return exact_gradient(model, q, wanted, per_point)  # type: ignore[arg-type]
    if isinstance(model, ExactModel):
        raise InvalidInputError(
            f'estimator must be "exact" for a {kind_of(model)}, which has no draws; got {name!r}'
        )
    request = new_request(model, q, n_samples, rng, first_index, "float64", (), False)
    n_groups = request.n_samples // k
    if n_groups == 0:
        raise InvalidInputError(f"k must be at most n_samples = {request.n_samples}, got {k}")
    heavy = np.zeros(request.points, np.bool_) if k > 1 else heavy_points(request, threads)
    if heavy.any():
        warn(
            HighParetoKWarning,
            f"the terms of the ELBO have too heavy a tail, for {heavy.sum()} of {len(heavy)} data "
            f"points (the first: {int(heavy.argmax())}): the bound and its gradients have no "
            "standard error there, and may not exist; a StudentT of larger df, or a Gaussian, has "
            "lighter tails",
            depth=-1,
        )
    if isinstance(q, Mixture):
        if backend == "numpy":
            raise InvalidInputError('backend must be "auto" or "cpu" for a Mixture q; got "numpy"')
        task = MixtureTask(
            model, q, n_groups, k, name, wanted, request.key, heavy, request.first_index, threads
        )
        count = q.weights.shape[-1]
        with progress_bar(progress, request.points * n_groups * k * count) as tick:
            return mixture_gradient(task, per_point, tick)
    if not isinstance(q, LocationScale):
        raise InvalidInputError(
            f"q must be a Gaussian, StudentT, Mixture or Categorical, got {kind_of(q)}"
        )
    if "log_scale" in wanted and q.scale is None:
        raise InvalidInputError(
            'wrt must not have "log_scale" for a q with scale_tril or cov: it is for a diagonal '
            f"scale; got {q!r}"
        )
    asked = Asked(model, q, wanted, _KINDS[name], 0.0 if order is None else order, k)
    with progress_bar(progress, request.points * n_groups * k) as tick:
        if backend == "numpy":
            from .plain import plain_gradient

            found = plain_gradient(asked, name, request, n_groups, per_point, heavy)
            tick(request.points * n_groups * k)
        else:
            found = sampled_gradient(asked, request, n_groups, per_point, heavy, threads, tick)
    if found.empty:
        what = "all weights of a group are 0"
        if order is not None and order >= 1.0:
            what = f"a weight is 0, and alpha = {order:g} is not below 1"
        warn(
            AllWeightsZeroWarning,
            f"{what}, for {found.empty} of {math.prod(request.batch)} data points: their bound is "
            "-inf, and has no gradient",
            depth=-1,
        )
    biased = name == "rws" or (name == "stl" and k > 1)
    return ElboGradient(
        found.value, **found.gradients, estimator=name, k=k, alpha=order, n_samples=n_groups * k,
        n_groups=n_groups, biased=biased, note=note_of(name, biased, found.zeros),
    )  # fmt: skip


def _estimator(name: str, q: object, k: int) -> str:
    """The estimator that is meant, if q and k allow it."""
    if isinstance(q, Categorical):
        if name not in ("auto", "exact"):
            raise InvalidInputError(
                f'estimator must be "exact" for a Categorical q, which is summed; got {name!r}'
            )
        return "exact"
    if isinstance(q, Mixture):
        allowed = ("stl", "total", "siwae") if k == 1 else ("siwae",)
        if name == "auto":
            return allowed[0]
        if name not in allowed:
            raise InvalidInputError(
                f"estimator must be {' or '.join(map(repr, allowed))} for a Mixture q and k = {k}: "
                "a draw of a mixture has no derivative in its weights, and the others take no "
                f"account of that; got {name!r}"
            )
        return name
    if name == "siwae":
        raise InvalidInputError('estimator="siwae" needs a Mixture q, of several components')
    if name == "auto":
        return "stl" if k == 1 else "dreg"
    if name == "vimco" and k < 2:
        raise InvalidInputError(f'k must be at least 2 for estimator="vimco", got {k}')
    return name


def _alpha(name: str, alpha: object) -> float | None:
    if name != "renyi":
        if alpha is not None:
            raise InvalidInputError(f'alpha needs estimator="renyi", got alpha={shown(alpha)}')
        return None
    if alpha is None:
        raise InvalidInputError('estimator="renyi" needs alpha, the order of the bound')
    order = as_number(alpha, "alpha")
    if not np.isfinite(order):
        raise InvalidInputError(f"alpha must be finite, got {order}")
    return order


def _wrt(wrt: object, model: object) -> tuple[str, ...]:
    """What gradients are asked for."""
    if wrt is None:
        return ("q", "model") if isinstance(model, LinearGaussian) else ("q",)
    given = [wrt] if isinstance(wrt, str) else as_sequence(wrt, "wrt", "names")
    names = tuple(dict.fromkeys(as_choice(each, "wrt", _WRT) for each in given))
    if not names:
        raise InvalidInputError(f"wrt must name at least one of {', '.join(_WRT)}")
    if "model" in names and not isinstance(model, LinearGaussian):
        raise InvalidInputError(
            f'wrt must be "q" or "log_scale" for a model without gradients of its own, as only a '
            f'LinearGaussian has; got "model" for {kind_of(model)}'
        )
    return names
