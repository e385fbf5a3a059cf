"""A progress bar, if it is requested and tqdm is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import FastElboWarning
from .inner_warnings import warn
from .validation import as_flag

# Takes the number of draws that finished since the last call.
Tick = Callable[[int], None]


def no_tick(done: int) -> None:
    """Show nothing."""


@contextmanager
def progress_bar(wanted: bool, total: int | None) -> Iterator[Tick]:
    """A progress bar of ``total`` draws. Without tqdm, warn at the line that called fastelbo."""
    if not as_flag(wanted, "progress"):
        yield no_tick
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        warn(
            "progress=True shows no bar, because tqdm is not installed",
            FastElboWarning,
            stacklevel=4,
        )
        yield no_tick
        return
    with tqdm(total=total, unit="draw", unit_scale=True) as bar:
        yield bar.update
