"""The mixture of a MixtureModel by maximum likelihood, as a fit of a model."""

from __future__ import annotations

import numpy as np

from ...errors import FitNotConvergedWarning, InvalidInputError
from ...inner_warnings import collected, warn
from ...models.mixture_model import MixtureModel
from ...results.fit import FitHistory
from .fitted import FitOptions, Fitted
from .mixture_fit import fit_mixture_model


def fit_classes(model: MixtureModel, method: str, options: FitOptions) -> tuple[str, Fitted]:
    """Weights and components, by EM from those of the model; the method."""
    if method not in ("auto", "em"):
        raise InvalidInputError(
            f'method must be "auto" or "em" for a MixtureModel and wrt="model", got {method!r}'
        )
    given = {"max_iter": options.max_iter, "tol": options.tol, "n_threads": options.n_threads}
    with collected() as caught:
        found = fit_mixture_model(
            model, rng=options.key, **{name: v for name, v in given.items() if v is not None}
        )
    for each in caught:
        # `fit` has this warning of all methods.
        if not isinstance(each, FitNotConvergedWarning):
            warn(each, stacklevel=2)
    rows = len(found.history.seconds)
    points = model.x.size // model.x.shape[-1]
    history = FitHistory(
        np.arange(rows), found.history.seconds, points * found.history.log_likelihood,
        np.zeros(rows), points * np.arange(1, rows + 1),
    )  # fmt: skip
    message = f"EM of {found.n_iter} passes over the data"
    fitted = MixtureModel(model.x, found.mixture)
    return "em", Fitted(None, fitted, history, found.converged, message)
