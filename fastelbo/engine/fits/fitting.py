"""Fits of q or of a model: which method takes which fit, and what it reached."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import (
    ConstantWeightsWarning,
    FastElboError,
    FitNotConvergedWarning,
    InvalidInputError,
)
from ...inner_warnings import collected, warn
from ...models.categorical import Categorical
from ...models.linear_gaussian import LinearGaussian
from ...models.location_scale import Gaussian
from ...models.mixture_model import MixtureModel
from ...models.protocol import ExactModel, LatentModel, Proposal
from ...random import RandomState, philox_key, pilot_key
from ...results.fit import Fit
from ...validation import as_choice, as_flag, shown
from ..requests import kind_of
from .adam import adam
from .closed import closed_q
from .common_draws import common_draws
from .evaluation import evaluate
from .factor_analysis import fit_linear_gaussian
from .fitted import FitOptions, Fitted, Recorder
from .mixture_model import fit_classes
from .requests import (
    count_or_none,
    positive_or_none,
    refuse_of_adam,
    require_model,
    require_q0,
)
from .variational_newton import newton

_METHODS = ("auto", "closed", "em", "newton", "lbfgs", "adam")
_NOISES = ("isotropic", "diagonal")
# Which of the keys that are made from the one of the call is that of fresh draws. Methods take
# others below it.
_FRESH = 2**30


def fit(
    model: LatentModel | ExactModel,
    q0: Proposal | Categorical | None = None,
    *,
    wrt: str = "q",
    method: str = "auto",
    n_samples: int | None = None,
    max_iter: int | None = None,
    tol: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    noise: str | None = None,
    rng: RandomState = None,
    n_eval: int | None = None,
    n_threads: int | None = None,
    progress: bool = False,
) -> Fit:
    """Fit an approximate posterior to a model, or a model to its data.

    Parameters
    ----------
    model : LinearGaussian, MixtureModel, Model, or a distribution
        As for `estimate`.
    q0 : Gaussian, StudentT or Mixture; Categorical for a MixtureModel, optional
        Where the fit starts, and the family of q: a q0 with ``scale`` stays diagonal. A q0 with the
        batch of the model gives each data point its own q; one without a batch is one q for all
        data points, that maximises the sum of their ELBOs. By default, q is the exact posterior
        where that is known, else a Gaussian with a full covariance for each data point, that
        starts at N(0, 1).
    wrt : {"q", "model"}
        What is fitted: q, or the model's parameters by maximum likelihood.
    method : {"auto", "closed", "em", "newton", "lbfgs", "adam"}
        How; see the notes. "auto" is a closed form where there is one, else, whatever the kind of
        the model, "newton" for a Gaussian of each data point, and "lbfgs" for any other q.
    n_samples : int, optional
        Draws of a data point a step. By default 4 D, at least 32, for "newton" and "lbfgs", eight
        times as many of each component of a mixture, and 4 for "adam". A closed form and "em" take
        none.
    max_iter : int, optional
        Most iterations.
    tol : float, optional
        When the method stops, in nats a data point: by what it gained in its last iterations, by
        what it still misses ("em"), or by the gradient of the log variances (factor analysis).
    batch_size, learning_rate : int and float, optional
        Data points of a step, and first rate, of "adam" alone.
    noise : {"isotropic", "diagonal"}, optional
        The form of the fitted ``noise_cov`` of a LinearGaussian; by default that in which it was
        given: one variance, or one for each feature.
    rng : None, int, SeedSequence or Generator
        Seed of all draws. An int gives the same result in every call.
    n_eval : int, optional
        Fresh draws of each data point, which the fit has not seen, for k-hat, and for ELBO and log
        evidence where they have no closed form; 0 for none. By default 1000, and none where q is
        the exact posterior, of which all draws would have the same weight.
    n_threads : int, optional
        Number of threads; all by default.
    progress : bool
        Show a progress bar of the steps of "adam", if tqdm is installed. Other methods have none.

    Returns
    -------
    Fit
        ``q``, ``model``, ``elbo``, ``log_evidence``, ``pareto_k``, ``history`` and more.

    Raises
    ------
    InvalidInputError
        If an argument is invalid, or the method has no such fit; the message says why.

    Warns
    -----
    FitNotConvergedWarning
        If the method stopped at ``max_iter``.
    VarianceFloorWarning
        If a fitted variance is at its floor; it names the features.
    HighParetoKWarning, LowESSWarning, ShortTailWarning, TotalBiasWarning
        About the fresh draws, as of `estimate`.

    Notes
    -----
    **Closed forms** of q. Of a LinearGaussian with a Gaussian prior N(m0, S0), the best full
    Gaussian is the posterior. With ``A = W' Psi^-1 W``, the best diagonal one has the posterior's
    mean and the variances ``1 / (S0^-1 + A)_dd`` (Bishop, 2006, section 10.1.2). One q for all data
    points has the mean of their precisions. Of a MixtureModel, q is the exact posterior.

    **Draws.** "newton" takes natural gradients of each data point's Gaussian, "lbfgs" fits any
    other q. Both keep one set of draws, whose second moments are exact, so that they find the best
    q of a quadratic log density to rounding. On these draws the ELBO has no noise, so that they
    stop where it gains no more than ``tol`` nats a data point, 1e-8 by default: far below its
    standard error. A step of "newton" has a rate of 1, which halves where the ELBO would fall.
    "adam" draws anew at each step: "auto" takes it for a ``batch_size`` or ``learning_rate``. It
    stops where the ELBO, on common draws apart from those of its steps, twice gained less than the
    standard error of the gain, or than ``tol``, 1e-6 by default.

    **Models.** ``wrt="model"`` fits loadings, offset and noise of a LinearGaussian with a Gaussian
    prior by maximum likelihood, with all leading axes of x as data points:

    - isotropic noise: probabilistic PCA, closed by the eigenvectors of the covariance of x, divided
      by N (Tipping and Bishop, 1999);
    - diagonal noise: factor analysis, by "lbfgs" on the log variances, with the loadings of each
      set of variances by eigenvectors (Joreskog, 1967), or by "em" (Rubin and Thayer, 1982), which
      starts at the model's own loadings, may need thousands of steps, and may end at a lower
      maximum. Both need the sample covariance alone, and start at the model's own noise variances;
      "lbfgs" at Joreskog's, if some of these are not between the floor and those of the features.

    Of a MixtureModel it fits the mixture, by "em" from where it is, as `fit_mixture`, which also
    has several starts and other options.

    The number of loadings is that of the model. A noise matrix is refused: it could be the whole
    covariance, without any loadings. Loadings are known up to a rotation. Columns are orthogonal in
    the metric of the noise, by falling eigenvalue, and the largest entry of each is positive. Noise
    variances have a floor, 1e-6 of the variance of their feature, or of the mean variance where
    that is 0. The prior stays as it is: of a prior N(m0, L0 L0'), the loadings of a standard normal
    prior are multiplied by L0^-1, and the offset is the mean of x minus W m0. q is the exact
    posterior of the fitted model.

    The fitted parameters evaluate other data; see the examples.

    References
    ----------
    Tipping and Bishop (1999), Probabilistic principal component analysis, JRSS B 61. Joreskog
    (1967), Some contributions to maximum likelihood factor analysis, Psychometrika 32. Rubin and
    Thayer (1982), EM algorithms for ML factor analysis, Psychometrika 47.

    Examples
    --------
    >>> import numpy as np
    >>> import fastelbo as fe
    >>> x = np.random.default_rng(0).normal(size=(100, 3)) + [0.0, 1.0, 2.0]
    >>> loadings = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
    >>> model = fe.LinearGaussian(x[:80], loadings, noise_cov=1.0)
    >>> mean_field = fe.fit(model, fe.Gaussian(np.zeros((80, 2)), scale=1.0))
    >>> mean_field.method, bool(mean_field.elbo.value < mean_field.log_evidence.value)
    ('closed', True)

    Probabilistic PCA, and the log evidence of data that it was not fitted to:

    >>> pca = fe.fit(model, wrt="model")
    >>> held_out = fe.LinearGaussian(
    ...     x[80:], pca.model.loadings, noise_cov=pca.model.noise_cov, offset=pca.model.offset
    ... )
    >>> held_out.exact_log_evidence().shape
    (20,)
    """
    # Methods, and the fresh draws, warn at the line that called this function.
    with np.errstate(all="ignore"), collected() as caught:
        options = FitOptions(
            wrt=as_choice(wrt, "wrt", ("q", "model")),
            n_samples=count_or_none(n_samples, "n_samples"),
            max_iter=count_or_none(max_iter, "max_iter"),
            tol=positive_or_none(tol, "tol"),
            batch_size=count_or_none(batch_size, "batch_size"),
            learning_rate=positive_or_none(learning_rate, "learning_rate"),
            key=philox_key(rng),
            n_threads=count_or_none(n_threads, "n_threads"),
            progress=as_flag(progress, "progress"),
        )
        fresh = count_or_none(n_eval, "n_eval", least=0)
        how = as_choice(method, "method", _METHODS)
        try:
            used, fitted = _method(model, q0, how, noise, options)
        except np.linalg.LinAlgError as error:
            if isinstance(error, FastElboError):
                raise
            raise InvalidInputError(
                "model and q0 must differ less in size: on the way to the fit, a matrix of them "
                f"cannot be inverted ({error})"
            ) from None
        found = _result(used, fitted, fresh, options)
    for each in caught:
        # A q that is exact has equal weights.
        if not isinstance(each, ConstantWeightsWarning):
            warn(each, stacklevel=2)
    return found


def _result(method: str, fitted: Fitted, n_eval: int | None, options: FitOptions) -> Fit:
    """What was fitted, with what it reached."""
    recorder, is_posterior = Recorder(), fitted.q is None
    q = fitted.model.exact_posterior() if is_posterior else fitted.q
    fresh = pilot_key(options.key, _FRESH)
    reached = evaluate(fitted.model, q, is_posterior, n_eval, fresh, options.n_threads)
    history = fitted.history
    if history is None:
        # A closed form, whose time is that of the exact posterior.
        recorder.add(0, float(reached.elbo.value), float(reached.elbo.se), 0)
        history = recorder.history
    if not fitted.converged:
        warn(
            f"the fit did not converge: {fitted.message}; a larger max_iter or tol may help",
            FitNotConvergedWarning,
            stacklevel=2,
        )
    return Fit(
        q=q, model=fitted.model, **reached._asdict(), method=method,
        n_iter=int(history.iteration[-1]) if len(history) else 0, converged=fitted.converged,
        message=fitted.message, history=history,
    )  # fmt: skip


# --- which method --------------------------------------------------------------------------------


def _method(
    model: Any, q0: Any, method: str, noise: Any, options: FitOptions
) -> tuple[str, Fitted]:
    """The method that was used, and what it found."""
    require_model(model)
    require_q0(model, q0)
    of_model = options.wrt == "model"
    if noise is not None:
        as_choice(noise, "noise", _NOISES)
        if not of_model or not isinstance(model, LinearGaussian):
            raise InvalidInputError(
                'noise must be left out unless wrt="model" and the model is a LinearGaussian, got '
                f"{noise!r}"
            )
    if of_model:
        return _of_model(model, q0, method, noise, options)
    return _of_q(model, q0, method, options)


def _of_q(model: Any, q0: Any, method: str, options: FitOptions) -> tuple[str, Fitted]:
    if method == "auto" and (options.batch_size or options.learning_rate):
        method = "adam"
    closed = closed_q(model, q0) if method in ("auto", "closed") else None
    if closed is not None:
        refuse_of_adam("a closed form", options)
        return "closed", Fitted(closed.q, model, None, True, "closed form")
    if method == "closed":
        raise InvalidInputError(
            f'method must not be "closed": the best q has no closed form for {model!r} and q0 = '
            f"{q0!r}"
        )
    if isinstance(model, ExactModel):
        raise InvalidInputError(
            f'method must be "auto" or "closed" for a MixtureModel, got {method!r} for a q0 of '
            f"batch_shape {getattr(q0, 'batch_shape', None)}"
        )
    if method == "em":
        raise InvalidInputError('method must not be "em" for wrt="q": EM fits a model')
    start = _default_q(model) if q0 is None else q0
    own = start.batch_shape == model.batch_shape
    if method == "auto":
        method = "newton" if own and isinstance(start, Gaussian) else "lbfgs"
    if method == "newton" and not (own and isinstance(start, Gaussian)):
        raise InvalidInputError(
            'q0 must be a Gaussian with the batch of the model for method="newton", '
            f'{model.batch_shape}; got {start!r}. method="lbfgs" takes others'
        )
    return method, _stochastic(method, model, start, options)


def _of_model(
    model: Any, q0: Any, method: str, noise: Any, options: FitOptions
) -> tuple[str, Fitted]:
    if q0 is not None:
        raise InvalidInputError(
            f'q0 must be left out for wrt="model", whose q is the exact posterior; got {shown(q0)}'
        )
    if isinstance(model, MixtureModel):
        refuse_of_adam("maximum likelihood", options)
        return fit_classes(model, method, options)
    if not isinstance(model, LinearGaussian):
        raise InvalidInputError(
            'wrt must be "q" unless the model is a LinearGaussian or a MixtureModel: a '
            f"{kind_of(model)} has no parameters to fit"
        )
    form = model.likelihood.noise_form if noise is None else noise
    if form == "full":
        raise InvalidInputError(
            'noise must be "isotropic" or "diagonal" for a model with a noise matrix and '
            'wrt="model": a fitted matrix would be the whole covariance of x, without loadings'
        )
    refuse_of_adam("maximum likelihood", options)
    return fit_linear_gaussian(model, method, form == "isotropic", options)


def _stochastic(method: str, model: Any, q0: Any, options: FitOptions) -> Fitted:
    """The fit by draws."""
    if method != "adam":
        refuse_of_adam(f'"{method}"', options)
    if 0 in model.batch_shape:
        return Fitted(q0, model, None, True, "there are no data points")
    fitted = {"newton": newton, "lbfgs": common_draws, "adam": adam}[method]
    return fitted(model, q0, options)


def _default_q(model: Any) -> Gaussian:
    """N(0, 1) for each data point, with a full covariance."""
    shape = (*model.batch_shape, model.dim)
    eye = np.eye(model.dim)
    return Gaussian(np.zeros(shape), scale_tril=np.broadcast_to(eye, (*shape, model.dim)))
