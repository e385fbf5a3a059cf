"""What CUDA kernels are compiled for: the sizes and kinds of a plan."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..draws.blocks import Plan, Term, padded

# Most bytes of parameters that one data point copies to shared memory, of 48 KB. The largest kernel
# takes 31 KB for itself.
_SHARED_BYTES = 17 * 1024


class AffineForms(NamedTuple):
    """Sizes of the parameters of a density, or of a sampler."""

    components: int
    rows: int
    radial: int
    has_df: bool
    has_shift: bool = False


class TermForm(NamedTuple):
    """The kind of a term, and the sizes of its density."""

    kind: int
    density: AffineForms


class NetForm(NamedTuple):
    """How draws are made of the points of a net."""

    inverse: bool
    full: bool  # the scale of the sampler
    rotated: bool


class Form(NamedTuple):
    """What a kernel is compiled for: precision, sizes and kinds of a plan."""

    precision: str
    dim: int
    sampler: AffineForms
    q: TermForm
    prior: TermForm
    likelihood: TermForm
    net: NetForm | None  # None for independent draws

    @property
    def rotated(self) -> bool:
        """Whether the sampler has a rotation of its own."""
        return self.net is not None and self.net.rotated

    @property
    def fits(self) -> bool:
        """Whether the affine forms of one data point fit into shared memory."""
        terms = (self.q, self.prior, self.likelihood)
        parts = (self.sampler, *(term.density for term in terms))
        numbers = sum(p.components * (p.rows + 1) * padded(self.dim) for p in parts)
        numbers += padded(self.dim) ** 2 if self.rotated else 0
        rows = sum(2 * max(1, p.components) for p in parts)
        return bool(numbers * np.dtype(self.precision).itemsize + 8 * rows <= _SHARED_BYTES)

    @property
    def real(self) -> Any:
        """The type of coordinates and parameters."""
        return np.dtype(self.precision).type

    @property
    def angle(self) -> Any:
        """The type of the bits of an angle."""
        return np.uint32 if self.real is np.float32 else np.uint64


def form_of_plan(plan: Plan) -> Form:
    """The form of a plan."""
    own, net = plan.sampler, None
    sampler = AffineForms(
        own.location.shape[1], own.scale.shape[2], own.radial, own.df.shape[1] > 0
    )
    if own.net is not None and own.net.columns.shape[0] > 0:
        net = NetForm(own.net.inverse, own.full, own.rotation.shape[1] > 0)
    q, prior, likelihood = map(_term_form, (plan.q, plan.prior, plan.likelihood))
    return Form(str(own.location.dtype), plan.dim, sampler, q, prior, likelihood, net)


def _term_form(term: Term) -> TermForm:
    density = term.density
    sizes = AffineForms(
        density.log_const.shape[1],
        density.factor.shape[2],
        density.radial,
        density.df.shape[1] > 0,
        density.shift.shape[1] > 0,
    )
    return TermForm(term.kind, sizes)
