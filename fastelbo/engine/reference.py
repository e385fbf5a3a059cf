"""The NumPy backend: the plain reference, without compiled code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import reference
from ..models.protocol import ExactModel, Expectations
from ..progress import Tick
from ..validation import Floats, require_memory
from .lower_tails import LARGEST_SHARE
from .states import Quantities
from .task import EstimateRequest

# As the kernels, which raise no flags: the caller refuses what is NaN.
_unflagged = np.errstate(all="ignore")


class NumPyBackend:
    """Calls the plain NumPy reference: slow, and independent of the kernels.

    It stores the terms of every draw. It always computes in float64, also for
    ``precision="float32"``.
    """

    @_unflagged
    def quantities(self, request: EstimateRequest, tick: Tick) -> Quantities:
        """See `task.Backend`."""
        values = self.stored(self.terms(request), request, np.arange(request.points))
        tick(request.points * request.n_samples)
        return values

    @_unflagged
    def stored(
        self,
        terms: tuple[Floats, Floats, Floats],
        request: EstimateRequest,
        points: NDArray[np.int64],
    ) -> Quantities:
        """See `task.Backend`."""
        iw_sizes, capacity = request.form.iw_sizes, request.form.capacity
        log_weights = terms[0] + (terms[1] - terms[2])
        bad = ~(log_weights < np.inf)
        design = request.design
        indices = (request.first_index + np.asarray(request.places(points))).tolist()
        values = reference.summaries(*terms, iw_sizes, design, request.key, indices)
        values["n_bad"] = bad.sum(axis=-1)
        values["first_bad"] = bad.argmax(axis=-1)
        bounds = np.array([values["iw"][k] for k in iw_sizes])
        bounds = bounds.reshape(len(iw_sizes), 2, len(points))
        values["iw_value"], values["iw_se"] = bounds[:, 0].T, bounds[:, 1].T
        if design is not None:
            sets = [values["replicate_iw"][k] for k in iw_sizes]
            shape = (len(iw_sizes), len(points), design.replicates)
            values["replicate_iw"] = np.array(sets).reshape(shape).swapaxes(0, 1)
        # The caller raises an error for bad weights. Keep them out of the fit until then.
        log_weights[bad] = -np.inf
        ascending = np.sort(log_weights, axis=-1)[:, request.n_samples - capacity :]
        values["tail"] = ascending[:, ::-1]
        values["pareto_k"] = reference.pareto_k(values["tail"])
        values["largest_share"] = reference.largest_share(log_weights)
        suspect = values["largest_share"] > LARGEST_SHARE
        names = ("pareto_k_elbo", "pareto_k_kl", "pareto_k_likelihood")
        for name, terms_of_mean in zip(
            names, (-log_weights, terms[2] - terms[1], -terms[0]), strict=True
        ):
            ascending = np.sort(terms_of_mean, axis=-1)[:, request.n_samples - capacity :]
            values[name] = np.where(suspect, reference.plain_pareto_k(ascending[:, ::-1]), np.nan)
        return {name: each for name, each in values.items() if isinstance(each, np.ndarray)}

    @_unflagged
    def terms(
        self, request: EstimateRequest, points: NDArray[np.int64] | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """See `task.Backend`."""
        request = request if points is None else request.at(points)
        require_memory('the terms of backend="numpy"', 3 * 8 * request.points * request.n_samples)
        return reference.elbo_terms(
            request.model,
            request.q,
            request.n_samples,
            request.key,
            request.first_index,
            request.design,
            request.rows,
        )

    @_unflagged
    def expectations(
        self, model: ExactModel, probs: Floats, responsibilities: bool
    ) -> Expectations:
        """See `task.Backend`."""
        values = reference.exact_mixture(model, probs)
        shares = None
        if responsibilities:
            own = reference.responsibilities(model)
            shares = np.array(np.broadcast_to(own, (*values["elbo"].shape, own.shape[-1])))
        return Expectations(
            values["log_evidence"], values["expected_log_likelihood"], values["kl"],
            values["jensen_gap"], shares,
        )  # fmt: skip
