"""A table of the bounds of an estimate, with a text that explains them."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..frozen import Frozen
from ..tables import format_cell, format_table
from ..validation import Floats
from ..weights.bounds import Bound
from ..weights.pareto import Counts, in_words

_SHOWN_POINTS = 5
_WIDTH = 100


@dataclass(frozen=True, repr=False, eq=False)
class BoundTable(Frozen):
    """Bounds on the log evidence in rising order, in nats. Printing also explains them.

    Attributes
    ----------
    names : tuple of str
        ``"elbo"``, ``"iw_elbo(k)"`` for each k above 1 in ``iw_sizes``, and ``"log_evidence"``.
    value, se : ndarray
        Estimates and standard errors. The first axis is the names, the others are the batch.
    bias : ndarray
        v / 2K for each data point: the expectation of ``log_evidence`` is below log p(x) by about
        this. NaN if it is not known, 0 for an exact sum without draws.
    n_samples : int or ndarray
        K, the number of draws for each data point; 0 for an exact sum.
    corrected : bool
        Whether ``log_evidence`` has SE^2 / 2 added for the bias of a log of a mean, wherever it has
        an SE; the bias is then 0.
    stratified : bool
        Whether the draws are of several q. The bias is then SE^2 / 2, with SE that of
        ``log_evidence``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=1.25)
    >>> bounds = fe.estimate(p, q, n_samples=10_000, rng=0).bounds()
    >>> bounds.names
    ('elbo', 'iw_elbo(10)', 'iw_elbo(100)', 'log_evidence')
    >>> bool((bounds.value[:-1] < bounds.value[1:]).all())
    True
    """

    names: tuple[str, ...]
    value: Floats
    se: Floats
    bias: Floats
    n_samples: Counts
    corrected: bool = False
    stratified: bool = False

    def __post_init__(self) -> None:
        self._set(**vars(self))

    @property
    def meaning(self) -> str:
        """A text that says which of the numbers bound the log evidence, and how."""
        if not np.any(self.n_samples):
            return _list(
                "Summed without draws: elbo is a lower bound on log p(x), and log_evidence is "
                "log p(x), both to rounding."
            )
        sampled = (
            "elbo and iw_elbo(k), the importance-weighted bounds of k draws, are lower bounds in "
            "expectation: their exact values are at most log p(x) and rise with k. Because of its "
            "sampling error, an estimate can be above log p(x)."
        )
        known = not np.isnan(self.bias).all()
        bias = f" (here up to {np.nanmax(self.bias):.2g} nats)" if known else ""
        evidence = (
            f"log_evidence estimates log p(x) itself, from all K = {in_words(self.n_samples)} draws"
        )
        if self.corrected:
            evidence += (
                ". It has SE^2/2 added, by which the log of a mean is too low, except where it has "
                "no standard error."
            )
        else:
            evidence += (
                f". Its expectation is the bound of K weights, too low by about v/2K{bias}, with v "
                "the relative variance of the weights."
                if not self.stratified
                else f". Its expectation is too low by about SE^2/2{bias}, with its error SE."
            )
        order = (
            "Rising rows are no test of q: if each k divides the next k and K, estimates from the "
            "same draws always rise, by algebra, even if q misses a mode."
        )
        above = (
            "None of these is an upper bound. The exact CUBO is one, a sampled CUBO is not: it is "
            "biased low. It is never below log_evidence of the same draws, again by algebra."
        )
        return _list(sampled, evidence, order, above)

    def __repr__(self) -> str:
        shape = self.value.shape[1:]
        shown = list(itertools.islice(np.ndindex(shape), _SHOWN_POINTS))
        headings = [f"point {','.join(map(str, index))}" if index else "nats" for index in shown]
        table = [["", *headings]]
        for name, value, se in zip(self.names, self.value, self.se, strict=True):
            table.append([name, *(format_cell(value[index], se, index) for index in shown)])
        left_out = int(np.prod(shape)) - len(shown)
        more = [f"... {left_out} more data points"] if left_out else []
        return "\n".join([format_table(table), *more, "", self.meaning])


def bound_table(
    bounds: Mapping[str, Bound],
    bias: Floats,
    n_samples: Counts,
    corrected: bool,
    stratified: bool = False,
) -> BoundTable:
    """The table of named bounds, which must be in rising order; see `Estimate.bounds`."""
    value, se = (np.stack(parts) for parts in zip(*bounds.values(), strict=True))
    return BoundTable(tuple(bounds), value, se, bias, n_samples, corrected, stratified)


def _list(*texts: str) -> str:
    return "\n".join(
        textwrap.fill(f"- {text}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        for text in texts
    )
