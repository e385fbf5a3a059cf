"""The command line: ``fastelbo demo``, ``fastelbo estimate`` and ``fastelbo info``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from . import demo, plotting, summarize
from .arrays.files import open_array
from .errors import FastElboError, FastElboWarning, InvalidInputError
from .results import reports
from .version import __version__
from .versions import show_versions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        Exit status: 0 on success. 2 after an error, which is printed as one line on stderr.

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

    show = commands.add_parser("demo", help="compare estimates with exact values, on real data")
    show.add_argument("--plot", type=Path, metavar="IMAGE", help="also draw the convergence")
    show.add_argument("--force", action="store_true", help="overwrite an existing IMAGE")
    show.set_defaults(run=_demo)

    files = commands.add_parser("estimate", help="estimate from log weights in a file")
    files.add_argument(
        "weights", type=Path, metavar="WEIGHTS",
        help="a .npy or .npz file of log weights log p(x, z) - log q(z)",
    )  # fmt: skip
    files.add_argument("--axis", type=int, default=-1, help="the axis of the draws (default: last)")
    files.add_argument("--name", help="name of the array, if a .npz file has several")
    files.add_argument(
        "--k", type=_sizes, metavar="1,10,...", help="sizes of the importance-weighted bounds"
    )
    files.add_argument(
        "--shared", action="store_true", help="the data points have the same draws: give no total"
    )
    files.add_argument(
        "--json", action="store_true", help="print one JSON object, with null for NaN and infinity"
    )
    files.add_argument("--plot", type=Path, metavar="IMAGE", help="also draw the bounds and k-hat")
    files.add_argument("--force", action="store_true", help="overwrite an existing IMAGE")
    files.set_defaults(run=_estimate)

    info = commands.add_parser("info", help="show versions, processor and threads")
    info.set_defaults(run=lambda _: show_versions())

    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except (FastElboError, ImportError, OSError, MemoryError) as error:
        _complain(str(error))
        return 2
    return 0


def _complain(message: str) -> None:
    print(f"fastelbo: {' '.join(message.split())}", file=sys.stderr)


def _demo(arguments: argparse.Namespace) -> None:
    image: Path | None = arguments.plot
    if image is not None:
        # Check the image file before the work, not after it.
        figure = plotting.new_figure()
        _check_output(image, figure.canvas.get_supported_filetypes(), arguments.force)
    print(f"fastelbo {__version__}. The first run compiles for up to a minute.", flush=True)
    for report in (demo.digits_report, demo.galaxies_report):
        print(f"\n{report()}", flush=True)
    if image is not None:
        plotting.plot_convergence(*demo.convergence(), ax=figure.add_subplot())
        figure.savefig(image, dpi=150)
        print(f"\nWrote {image}.")


def _estimate(arguments: argparse.Namespace) -> None:
    image: Path | None = arguments.plot
    if image is not None:
        figure = plotting.new_figure()
        _check_output(image, figure.canvas.get_supported_filetypes(), arguments.force)
    weights = open_array(arguments.weights, arguments.name)
    progress = sys.stderr.isatty() and find_spec("tqdm") is not None
    with _warnings_in_one_line():
        estimate = summarize(
            weights, arguments.axis, iw_sizes=arguments.k, progress=progress,
            rows="shared" if arguments.shared else "independent",
        )  # fmt: skip
        report = reports.as_json if arguments.json else reports.as_text
        print(report(estimate))
        if image is not None:
            plotting.plot_both(estimate, figure)
            figure.savefig(image, dpi=150)


def _sizes(text: str) -> list[int]:
    """Integers from a comma-separated text."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers separated by commas, as in 1,10,100, got {text!r}"
        ) from None


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Print fastelbo's warnings as errors are printed, without file and line number."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FastElboWarning)
        yield
    for warning in caught:
        _complain(f"{warning.category.__name__}: {warning.message}")


def _check_output(image: Path, endings: Iterable[str], force: bool) -> None:
    if image.suffix.lower().removeprefix(".") not in endings:
        known = ", ".join(f".{ending}" for ending in sorted(endings))
        raise InvalidInputError(f"--plot must end in one of {known}, got {image}")
    if not image.parent.is_dir():
        raise NotADirectoryError(f"--plot {image}: {image.parent} is not a folder")
    if image.is_dir():
        raise IsADirectoryError(f"--plot must be a file, but {image} is a folder")
    if image.exists() and not force:
        raise FileExistsError(f"--plot {image}: the file exists; use --force to overwrite it")
