"""The names of the quantities that have a standard error, and which of them is corrected."""

from __future__ import annotations

from collections.abc import Sequence

from ..validation import as_choice
from ..weights.pareto import Counts

# In the order of the columns of a summary.
QUANTITIES = ("log_evidence", "elbo", "expected_log_likelihood", "kl", "jensen_gap")


def require_quantity(quantity: str, names: Sequence[str]) -> None:
    """Raise an error if ``quantity`` is not in ``names``."""
    as_choice(quantity, "quantity", names)


def is_corrected(n_samples: Counts, replicates: int) -> bool:
    """Whether the log evidence has SE^2 / 2 added, by which the log of a mean is too low.

    It has with replicates, and for a target error, which gives each data point a number of draws.
    """
    return replicates > 1 or not isinstance(n_samples, int)
