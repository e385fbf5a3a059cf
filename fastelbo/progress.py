"""A progress bar, where it is wanted and tqdm is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import FastElboWarning

# Is told of draws that are done since it was told last.
Tick = Callable[[int], None]


def no_tick(done: int) -> None:
    """Show nothing."""


@contextmanager
def progress_bar(wanted: bool, total: int | None) -> Iterator[Tick]:
    """A bar of ``total`` draws on the terminal; a warning to the caller's caller without tqdm."""
    if not wanted:
        yield no_tick
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        warnings.warn(
            "progress=True shows nothing, because tqdm is not installed",
            FastElboWarning,
            stacklevel=4,
        )
        yield no_tick
        return
    with tqdm(total=total, unit="draw", unit_scale=True) as bar:
        yield bar.update
