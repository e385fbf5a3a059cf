"""The command line: ``fastelbo demo`` and ``fastelbo info``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import __version__, demo, plotting
from .errors import FastElboError, InvalidInputError
from .versions import show_versions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0, or 2 after an error that has been told in one line on stderr.

    Examples
    --------
    >>> from fastelbo.cli import main
    >>> main(["info"])  # doctest: +ELLIPSIS
    fastelbo ...
    0
    """
    parser = argparse.ArgumentParser(
        prog="fastelbo",
        description="Log evidence, ELBOs and importance-weighted bounds, with error bars.",
    )
    parser.add_argument("--version", action="version", version=f"fastelbo {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("demo", help="estimate what is known exactly, on real data")
    show.add_argument("--plot", type=Path, metavar="IMAGE", help="also draw the convergence")
    show.add_argument("--force", action="store_true", help="overwrite an existing IMAGE")
    show.set_defaults(run=_demo)

    info = commands.add_parser("info", help="show versions, processor and threads")
    info.set_defaults(run=lambda _: show_versions())

    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except (FastElboError, ImportError, OSError) as error:
        print(f"fastelbo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _demo(arguments: argparse.Namespace) -> None:
    image: Path | None = arguments.plot
    if image is not None:
        # Whatever forbids the image is told before the work, not after.
        figure = plotting.new_figure()
        _check_output(image, figure.canvas.get_supported_filetypes(), arguments.force)
    print(f"fastelbo {__version__}. A first run compiles for up to a minute.", flush=True)
    for report in (demo.digits_report, demo.galaxies_report):
        print(f"\n{report()}", flush=True)
    if image is not None:
        plotting.plot_convergence(*demo.convergence(), ax=figure.add_subplot())
        figure.savefig(image, dpi=150)
        print(f"\nWrote {image}.")


def _check_output(image: Path, endings: Iterable[str], force: bool) -> None:
    if image.suffix.lower().removeprefix(".") not in endings:
        known = ", ".join(f".{ending}" for ending in sorted(endings))
        raise InvalidInputError(f"--plot {image} must end in one of {known}")
    if not image.parent.is_dir():
        raise NotADirectoryError(f"--plot {image}: {image.parent} is not a folder")
    if image.is_dir():
        raise IsADirectoryError(f"--plot {image} is a folder")
    if image.exists() and not force:
        raise FileExistsError(f"--plot {image} exists; --force overwrites it")
