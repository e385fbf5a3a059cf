"""Which of several arrays in a file is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ..errors import InvalidInputError

_MOST_LISTED = 10


class ChoiceError(InvalidInputError):
    """A file has several arrays and none was chosen, or not the one that was."""


@dataclass(frozen=True)
class Choice:
    """Which of the arrays in a file is meant. Each name is for one kind of file.

    Attributes
    ----------
    name : str, optional
        An array of a ``.npz`` file.
    column : str, optional
        A column of a text file: its name or its number, from 1.
    group, var : str, optional
        A group and a variable of a netCDF file.
    axis : int, optional
        The axis of the draws, if it is known. Then a text file may have several columns.
    """

    name: str | None = None
    column: str | None = None
    group: str | None = None
    var: str | None = None
    axis: int | None = None

    def require(self, kind: str, path: str, *allowed: str) -> None:
        """Raise an error if something was chosen that this kind of file does not have."""
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and each.name not in (*allowed, "axis"):
                raise ChoiceError(
                    f"{each.name} must not be given for {kind}, got {value!r} for {path}"
                )


def choose(names: Sequence[str], name: str | None, argument: str, kind: str, path: str) -> str:
    """The name that was chosen, or the only one there is."""
    if name is None and len(names) == 1:
        return names[0]
    if name is None or name not in names:
        raise ChoiceError(
            f"{argument} must be one of the {kind} in {path} ({listed(names)}), got {name!r}"
        )
    return name


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:_MOST_LISTED]) or "none"
    more = len(names) - _MOST_LISTED
    return shown if more <= 0 else f"{shown}, ... {more} more"
