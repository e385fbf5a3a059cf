"""The command line: ``fastelbo demo``, ``fastelbo estimate`` and ``fastelbo info``."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import demo, plotting, summarize
from .arrays.choice import Choice
from .arrays.files import read_weights
from .errors import FastElboError, FastElboWarning, InvalidInputError
from .kernels.jit.announce import compilations
from .optional import optional
from .results import reports
from .version import __version__
from .versions import show_versions

_FILES = """\
WEIGHTS is told by its content, and may be compressed (gzip, bzip2, xz):
  .npy, .npz        an array, with the draws along its last axis or along --axis
  text              numbers between commas, semicolons, tabs or spaces, below names of the columns
                    or not; a column has the draws of a data point
  CmdStan's .csv    of variational, laplace or pathfinder: its log densities make log weights
  netCDF            a variable; ArviZ's dimensions chain, draw and sample are the draws
Pickles are never read. Do not change a .npy file while it is read: a file that is cut ends the
program.

examples:
  fastelbo estimate weights.npy --axis 0 --k 5,50
  fastelbo estimate draws.csv --column log_weight
  zcat weights.txt.gz | fastelbo estimate - --json
  fastelbo estimate posterior.nc --group log_likelihood --var y --shared
"""
# The library's messages name arguments of Python. Here are the words of the command line.
_WORDS = {
    r"(?<![\w-])(axis|name|column|group|var|replicates) must": r"--\1 must",
    r"\baxis=(-?\d+)": r"--axis \1",
    r"\brows=['\"]shared['\"]": "--shared",
    r"\biw_sizes\b": "--k",
    r"\bn_samples\b": "K",
    r"\blog_weights\b": "WEIGHTS",
    r"\btotal\(\)": "the total",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        Exit status: 0 on success. 2 after an error, which is printed as one line on stderr. 130
        after an interrupt.

    Examples
    --------
    >>> from fastelbo.cli import main
    >>> main(["info"])  # doctest: +ELLIPSIS
    fastelbo ...
    0
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        # Who read the output has seen enough, as head does. Nothing is left to flush at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (FastElboError, ImportError, OSError, MemoryError, OverflowError) as error:
        _complain(_described(error))
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastelbo",
        description="Log evidence, ELBOs and importance-weighted bounds, with error bars.",
        epilog="fastelbo COMMAND --help says more about a command.",
    )
    parser.add_argument("--version", action="version", version=f"fastelbo {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("demo", help="compare estimates with exact values, on real data")
    show.add_argument("--plot", type=Path, metavar="IMAGE", help="also draw the convergence")
    show.add_argument("--force", action="store_true", help="overwrite an existing IMAGE")
    show.add_argument(
        "--cluster", type=_workers, metavar="N",
        help="make the digits' draws on N worker processes of a Dask cluster on this machine",
    )  # fmt: skip
    show.set_defaults(run=_demo)

    files = commands.add_parser(
        "estimate", help="estimate from log weights in a file", epilog=_FILES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print log evidence, ELBO and bounds, with error bars, from log weights.",
    )  # fmt: skip
    files.add_argument(
        "weights", type=Path, metavar="WEIGHTS",
        help="a file of log weights log p(x, z) - log q(z), in nats; - reads standard input",
    )  # fmt: skip
    files.add_argument(
        "--axis", type=int, metavar="N",
        help="the axis of the draws, from 0 (default: the last); of a text file with several "
        "columns, 0 takes each column for a data point, 1 each row",
    )  # fmt: skip
    files.add_argument("--name", help="which array, if a .npz file has several")
    files.add_argument(
        "--column", metavar="NAME|N", help="which column, by name or number from 1, of a text file"
    )
    files.add_argument("--group", help="which group, if a netCDF file has several")
    files.add_argument("--var", metavar="NAME", help="which variable, if a group has several")
    files.add_argument(
        "--k", type=_sizes, metavar="1,10,...", help="sizes of the importance-weighted bounds"
    )
    files.add_argument(
        "--replicates", type=int, metavar="R",
        help="the last two axes are R replicates of quasi-random draws, as log_weights gives them",
    )  # fmt: skip
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
    return parser


def _complain(message: str) -> None:
    """Print one line, without the control characters that a damaged file may bring in."""
    line = " ".join(_in_flags(message).split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in line)
    print(f"fastelbo: {shown}", file=sys.stderr)


def _described(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _in_flags(message: str) -> str:
    """A message of the library in words of the command line."""
    for pattern, word in _WORDS.items():
        message = re.sub(pattern, word, message)
    return message


def _demo(arguments: argparse.Namespace) -> None:
    image: Path | None = arguments.plot
    if image is not None:
        # Check the image file before the work, not after it.
        figure = plotting.new_figure()
        _check_output(image, figure.canvas.get_supported_filetypes(), arguments.force)
    print(f"fastelbo {__version__}", flush=True)
    with compilations(_announce), _local_cluster(arguments.cluster) as on_cluster:
        print(f"\n{demo.digits_report(**on_cluster)}", flush=True)
    print(f"\n{demo.galaxies_report()}", flush=True)
    if image is not None:
        plotting.plot_convergence(*demo.convergence(), ax=figure.add_subplot())
        figure.savefig(image, dpi=150)
        print(f"\nWrote {image}.")


@contextmanager
def _local_cluster(workers: int | None) -> Iterator[dict[str, Any]]:
    """The option ``client`` of a cluster of so many processes, if any, with one thread each."""
    if workers is None:
        yield {}
        return
    distributed = optional("distributed", "--cluster", '"fastelbo[dask]"')
    with warnings.catch_warnings():
        # It takes another port for its dashboard, which is printed.
        warnings.filterwarnings("ignore", "Port .* is already in use")
        cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1"
        )
    with cluster, distributed.Client(cluster) as client:
        hint = "" if find_spec("bokeh") else ", which pip install bokeh fills"
        print(
            f"A cluster of {workers} workers, with a dashboard at {cluster.dashboard_link}{hint}."
        )
        yield {"client": client}


def _announce(kernel: str) -> None:
    print(f'Compiling "{kernel}", which takes seconds, and is kept on the disk ...', flush=True)


def _estimate(arguments: argparse.Namespace) -> None:
    image: Path | None = arguments.plot
    if image is not None:
        figure = plotting.new_figure()
        _check_output(image, figure.canvas.get_supported_filetypes(), arguments.force)
    source = sys.stdin.buffer if str(arguments.weights) == "-" else arguments.weights
    choice = Choice(
        arguments.name, arguments.column, arguments.group, arguments.var, arguments.axis
    )  # fmt: skip
    progress = sys.stderr.isatty() and find_spec("tqdm") is not None
    with _warnings_in_one_line():
        weights, draws_are_last = read_weights(source, choice)
        # Without an axis, the library warns of what looks like draws along another one.
        axis = -1 if draws_are_last else arguments.axis
        if draws_are_last and arguments.replicates is not None:
            axis = None  # draws are the last two axes
        known: dict[str, Any] = {} if axis is None else {"axis": axis}
        estimate = summarize(
            weights, iw_sizes=arguments.k, progress=progress,
            rows="shared" if arguments.shared else "independent",
            replicates=arguments.replicates, **known,
        )  # fmt: skip
        report = reports.as_json if arguments.json else reports.as_text
        print(report(estimate) if arguments.json else _in_flags(report(estimate)))
        if image is not None:
            plotting.plot_both(estimate, figure)
            figure.savefig(image, dpi=150)


def _workers(text: str) -> int:
    """A positive integer."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number of processes, got {text!r}")
    return int(text)


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
