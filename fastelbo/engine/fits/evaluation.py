"""What a fit reached: ELBO and log evidence, exact or by fresh draws."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...models.linear_gaussian import LinearGaussian
from ...models.mixture_model import MixtureModel
from ...results.estimate import Estimate
from ...validation import Floats
from ...weights.bounds import Bound
from ...weights.scaled import total
from ..estimation import estimate
from ..gradients.exact import exact_elbo, has_exact_gradient

_FRESH_DRAWS = 1000


class Reached(NamedTuple):
    """ELBO and log evidence of a fit, summed and of each data point; see `fastelbo.Fit`."""

    elbo: Bound
    log_evidence: Bound
    elbo_per_point: Bound
    log_evidence_per_point: Bound
    pareto_k: Floats
    estimate: Estimate | None


def evaluate(
    model: Any, q: Any, is_posterior: bool, n_eval: int | None, key: int, n_threads: int | None
) -> Reached:
    """ELBO and log evidence of q, which is the exact posterior or not; k-hat by fresh draws.

    Without ``n_eval``, draws are made of a q that is not the exact posterior, of which all would
    have the same weight.
    """
    evidence, elbo = _exact(model, q, is_posterior)
    if n_eval is None:
        n_eval = 0 if is_posterior else _FRESH_DRAWS
    found = None
    if n_eval and not isinstance(model, MixtureModel):
        found = estimate(model, q, n_eval, rng=key, backend="cpu", n_threads=n_threads)
    unknown = np.full(model.batch_shape, np.nan)
    sums, parts = {}, {}
    for name, exact in (("elbo", elbo), ("log_evidence", evidence)):
        if exact is not None:
            parts[name] = Bound(exact, np.zeros(exact.shape))
            sums[name] = Bound(np.asarray(total(exact.reshape(-1))), np.zeros(()))
        elif found is None:
            parts[name] = Bound(unknown, unknown)
            sums[name] = Bound(np.asarray(np.nan), np.asarray(np.nan))
        else:
            together = found.total()
            parts[name] = Bound(getattr(found, name), getattr(found, f"{name}_se"))
            sums[name] = Bound(
                np.asarray(getattr(together, name)), np.asarray(getattr(together, f"{name}_se"))
            )
    return Reached(
        sums["elbo"], sums["log_evidence"], parts["elbo"], parts["log_evidence"],
        unknown if found is None else found.pareto_k, found,
    )  # fmt: skip


def _exact(model: Any, q: Any, is_posterior: bool) -> tuple[Floats | None, Floats | None]:
    """Log evidence and ELBO of each data point where they have a closed form, else None."""
    if not isinstance(model, (LinearGaussian, MixtureModel)):
        return None, None
    evidence = model.exact_log_evidence()
    if is_posterior:
        return evidence, evidence
    return evidence, exact_elbo(model, q) if has_exact_gradient(model, q) else None
