"""From the quantities of draws to an `Estimate`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..models.protocol import LatentModel
from ..results.estimate import Estimate
from ..results.kept_state import KeptState
from ..results.quantities import from_quantities
from ..validation import Floats
from ..weights.diagnostics import high_k, refuse_bad_weights
from ..weights.function_diagnostics import warn_high_entries
from .means import TAIL_DRAWS
from .sampled import Sampled
from .states import Quantities

_TAILS_OF_TERMS = ("pareto_k_kl", "pareto_k_likelihood")
_TERMS = ("kl", "kl_se", "expected_log_likelihood", "expected_log_likelihood_se")
_NO_TERMS = (
    "expected_log_likelihood and kl are not known: the model is log p(x, z) as a whole; give "
    "log_likelihood= and prior= for them"
)


def checked(sampled: Sampled) -> Quantities:
    """The quantities that the model has, after a check of the weights."""
    values = sampled.values
    refuse_bad_weights(values["n_bad"], values["first_bad"], sampled.about)
    return _without_terms(values) if _is_joint(sampled.request.model) else values


def _is_joint(model: LatentModel) -> bool:
    """Whether the model's likelihood is log p(x, z), with the prior in it."""
    return bool(getattr(model, "is_joint", False))


def _without_terms(values: Quantities) -> Quantities:
    """The quantities but mean log-likelihood and KL, which log p(x, z) as a whole leaves open."""
    known = {name: each for name, each in values.items() if name not in _TAILS_OF_TERMS}
    unknown = np.full(values["log_evidence"].shape, np.nan)
    return known | dict.fromkeys(_TERMS, unknown)


def outcome(
    sampled: Sampled, values: Quantities, kl: Floats | None, state: KeptState | None = None
) -> Estimate:
    """The estimate, with the closed-form KL if one is given, and with the state that is kept."""
    request, counts = sampled.request, sampled.counts
    design = request.design
    points = range(request.first_index, request.first_index + request.points)
    found = from_quantities(
        values, request.batch, counts, request.form.iw_sizes,
        independent=request.batch == request.model.batch_shape,
        addresses=(request.key, points), replicates=request.cut.replicates,
        sampler="iid" if design is None else "sobol",
        rotation=None if design is None else design.rotation_kind,
        pilot_samples=sampled.piloted, corrected=isinstance(counts, np.ndarray),
        proposals=sampled.proposals,
    )  # fmt: skip
    if state is not None:
        found = replace(found, _state=state)
    if _is_joint(request.model):
        return replace(found, _note=_NO_TERMS)
    return found if kl is None else _with_kl(found, kl)


def _with_kl(estimate: Estimate, kl: Floats) -> Estimate:
    divergence = np.array(np.broadcast_to(kl, estimate.batch_shape))
    return replace(
        estimate,
        kl=divergence,
        kl_se=np.zeros(estimate.batch_shape),
        elbo=np.asarray(estimate.expected_log_likelihood - divergence),
        elbo_se=estimate.expected_log_likelihood_se,
    )


def with_moments(estimate: Estimate, sampled: Sampled) -> Estimate:
    """The estimate with the moments of the posterior, without the errors that k-hat refuses."""
    mean, se, k, cov = sampled.moments.of_batch(estimate.batch_shape, sampled.request.q.dim)
    seen = np.minimum(np.asarray(estimate.n_samples), TAIL_DRAWS)
    seen = seen[..., None] if seen.ndim else int(seen)
    own = high_k(k, seen, estimate.replicates)
    of_weights = high_k(estimate.pareto_k, estimate.n_samples, estimate.replicates)[..., None]
    warn_high_entries(
        "posterior_mean", "posterior_mean_se is NaN there", seen, estimate.replicates,
        own & ~of_weights, k, depth=1,
    )  # fmt: skip
    # Draws that are all the same tell no error.
    unknown = own | of_weights | (se == 0.0)
    return replace(estimate, _posterior=(mean, np.where(unknown, np.nan, se), cov))
