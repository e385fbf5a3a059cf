"""The names of the quantities that have a standard error."""

from __future__ import annotations

from collections.abc import Sequence

from ..validation import as_choice

# In the order of the columns of a summary.
QUANTITIES = ("log_evidence", "elbo", "expected_log_likelihood", "kl", "jensen_gap")


def require_quantity(quantity: str, names: Sequence[str]) -> None:
    """Raise an error if ``quantity`` is not in ``names``."""
    as_choice(quantity, "quantity", names)
