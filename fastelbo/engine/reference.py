"""The NumPy backend: the plain reference."""

from __future__ import annotations

import numpy as np

from .. import reference
from ..progress import Tick
from ..validation import Floats, require_memory
from .task import EstimateRequest, Quantities


class NumPyBackend:
    """The plain reference: slow, independent, and holding the terms of every draw in memory.

    In float64 whatever the precision, which is the least that is asked for.
    """

    def quantities(
        self, request: EstimateRequest, iw_sizes: list[int], capacity: int, tick: Tick
    ) -> Quantities:
        terms = self.terms(request)
        with np.errstate(invalid="ignore"):
            bad = ~(terms[0] + (terms[1] - terms[2]) < np.inf)
            values = reference.summaries(*terms, iw_sizes)
        tick(request.points * request.n_samples)
        values["n_bad"] = bad.sum(axis=-1)
        values["first_bad"] = bad.argmax(axis=-1)
        bounds = np.array([values["iw"][k] for k in iw_sizes])
        bounds = bounds.reshape(len(iw_sizes), 2, request.points)
        values["iw_value"], values["iw_se"] = bounds[:, 0].T, bounds[:, 1].T
        log_weights = terms[0] + (terms[1] - terms[2])
        ascending = np.sort(log_weights, axis=-1)[:, request.n_samples - capacity :]
        values["tail"] = ascending[:, ::-1]
        values["pareto_k"] = reference.pareto_k(values["tail"])
        return values

    def terms(self, request: EstimateRequest) -> tuple[Floats, Floats, Floats]:
        require_memory('the terms of backend="numpy"', 3 * 8 * request.points * request.n_samples)
        return reference.elbo_terms(
            request.model, request.q, request.n_samples, request.key, request.first_index
        )
