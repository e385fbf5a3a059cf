"""The estimate of an exact model: sums over mixture components, without draws."""

from __future__ import annotations

import numpy as np

from ..errors import InvalidInputError
from ..models.categorical import Categorical
from ..models.protocol import ExactModel
from ..results.estimate import Estimate
from ..validation import shown
from .requests import kind_of
from .task import Backend


def exact_estimate(
    model: ExactModel, q: object, backend: Backend, responsibilities: bool, **not_allowed: object
) -> Estimate:
    """The estimate of q; an error for options of draws that are neither None nor False."""
    for name, value in not_allowed.items():
        if value is not None and value is not False:
            raise InvalidInputError(
                f"{name} must not be given for a MixtureModel, which is summed exactly; got "
                f"{shown(value)}"
            )
    if not isinstance(q, Categorical):
        raise InvalidInputError(f"q must be a Categorical for a MixtureModel, got {kind_of(q)}")
    require_classes(model, q)
    sums = backend.expectations(model, q.probs, responsibilities)
    log_evidence, likelihood, kl, gap, shares = sums
    shape = log_evidence.shape
    zero, unknown = np.zeros(shape), np.full(shape, np.nan)
    # The terms may be so large that an ulp of them is more than the gap.
    elbo = log_evidence - gap
    return Estimate(
        n_samples=0, log_evidence=log_evidence, log_evidence_se=zero, elbo=elbo, elbo_se=zero,
        expected_log_likelihood=likelihood, expected_log_likelihood_se=zero, kl=kl, kl_se=zero,
        jensen_gap=gap, jensen_gap_se=zero, ess=unknown,
        relative_variance=unknown, pareto_k=unknown, pareto_k_elbo=unknown, n_zero=zero,
        independent=shape == model.batch_shape, _responsibilities=shares,
    )  # fmt: skip


def require_classes(model: ExactModel, q: Categorical) -> None:
    """Raise an error unless q is over the components of the mixture."""
    if q.probs.shape[-1] != model.n_classes:
        raise InvalidInputError(
            "q must have as many classes as the mixture has components, "
            f"{model.n_classes}; got {q.probs.shape[-1]}"
        )
