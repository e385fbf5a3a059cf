"""How draws are made, as the arguments of public functions say: independent or quasi-random."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ..errors import InvalidInputError
from ..validation import (
    DEFAULT_IW_SIZES,
    MAX_DRAWS,
    as_choice,
    as_count,
    as_flag,
    group_sizes,
    shown,
)

DEFAULT_SAMPLES = 1000
DEFAULT_SOBOL_SAMPLES = 4096
DEFAULT_REPLICATES = 16
DEFAULT_TRANSFORM = "box_muller"
_MOST_REPLICATES = 2**16
_MOST_PER_REPLICATE = 2**32


class Sampling(NamedTuple):
    """A sampler and its options; ``replicates`` is 1 for independent draws."""

    replicates: int
    transform: str
    rotate: bool

    @property
    def replicated(self) -> bool:
        """Whether draws are quasi-random."""
        return self.replicates > 1

    def draws(self, n_samples: Any, name: str = "n_samples") -> int:
        """The number of draws; an error if replicates of it are no powers of two."""
        if not self.replicated:
            chosen = DEFAULT_SAMPLES if n_samples is None else n_samples
            return as_count(chosen, name, below=MAX_DRAWS)
        if n_samples is None:
            return self.replicates * _power_at_most(DEFAULT_SOBOL_SAMPLES // self.replicates)
        draws = as_count(n_samples, name, below=MAX_DRAWS)
        per_replicate, rest = divmod(draws, self.replicates)
        low = _power_at_most(per_replicate)
        if rest or per_replicate != low:
            nearest = self.replicates * low
            choices = f"nearest are {nearest} and {2 * nearest}"
            choices = choices if draws > nearest else f"least is {nearest}"
            raise InvalidInputError(
                f"{name} must be {self.replicates} replicates times a power of two for "
                f'sampler="sobol", got {draws}; the {choices}'
            )
        if per_replicate > _MOST_PER_REPLICATE:
            raise OverflowError(f"{name} must be at most {self.replicates} x 2^32, got {draws}")
        return draws

    def most_draws(self, limit: int) -> int:
        """The most draws that are allowed and not above a limit; at least one a replicate."""
        if not self.replicated:
            return limit
        return self.replicates * _power_at_most(limit // self.replicates)

    def iw_sizes(
        self, given: Iterable[int] | None, draws: int, name: str = "n_samples"
    ) -> list[int]:
        """The group sizes of bounds; groups of quasi-random draws are across replicates.

        An error calls the number of draws ``name``.
        """
        if not self.replicated:
            return group_sizes(given, draws, DEFAULT_IW_SIZES, name)
        possible = tuple(k for k in DEFAULT_IW_SIZES if k <= self.replicates)
        sizes = group_sizes(given, draws, possible)
        too_large = [k for k in sizes if k > self.replicates]
        if too_large:
            raise InvalidInputError(
                f"iw_sizes must be at most {self.replicates}, the number of replicates, for "
                f'sampler="sobol", got {shown(too_large[0])}: a group has one draw of each of k '
                "replicates"
            )
        return sizes


IID = Sampling(1, DEFAULT_TRANSFORM, False)


def as_sampling(sampler: Any, replicates: Any, transform: Any, rotate: Any) -> Sampling:
    """The sampling that these arguments of a public function ask for."""
    as_choice(sampler, "sampler", ("iid", "sobol"))
    as_choice(transform, "transform", (DEFAULT_TRANSFORM, "inverse"))
    count, turn = as_count(replicates, "replicates", least=2), as_flag(rotate, "rotate")
    if count > _MOST_REPLICATES:
        raise InvalidInputError(f"replicates must be at most {_MOST_REPLICATES}, got {count}")
    if sampler == "sobol":
        return Sampling(count, transform, turn)
    for name, value, default in (
        ("replicates", count, DEFAULT_REPLICATES), ("transform", transform, DEFAULT_TRANSFORM),
    ):  # fmt: skip
        if value != default:
            raise InvalidInputError(
                f'{name} must be left out for sampler="iid", got {shown(value)}; '
                'sampler="sobol" has it'
            )
    return IID


def _power_at_most(number: int) -> int:
    """The largest power of two that is at most ``number``, and at least 1."""
    return int(1 << (max(number, 1).bit_length() - 1))
