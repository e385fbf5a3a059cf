"""The options that all scripts here share: how much to draw, and where to."""

import argparse
from pathlib import Path


def read_options(script, documentation, small, *, needs_json=False, argv=None):
    """Parse the command line of a script.

    The figure of the repository is overwritten only by a whole run: ``--small`` alone writes to the
    current folder, ``<script>-small.png``.

    Parameters
    ----------
    script : str
        The path of the script. Its figure is beside it.
    documentation : str
        The text of the script, whose first line becomes the help.
    small : str
        What ``--small`` leaves out.
    needs_json : bool
        Whether the script reads a file of benchmarks.
    argv : list of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    Namespace
        ``small``, ``out`` and, if it is needed, ``json``.
    """
    parser = argparse.ArgumentParser(description=documentation.splitlines()[0])
    figure = Path(script).with_suffix(".png")
    quick = Path(f"{figure.stem}-small.png")
    if needs_json:
        parser.add_argument("json", type=Path, help="file that --benchmark-json wrote")
    parser.add_argument("--small", action="store_true", help=f"quick and rough: {small}")
    parser.add_argument(
        "--out", type=Path, metavar="PATH",
        help=f"image to write (default: {figure.name} beside the script; {quick} in the current "
        "folder with --small)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.out is None:
        arguments.out = quick if arguments.small else figure
    return arguments
