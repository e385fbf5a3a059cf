"""Markdown tables from the JSON of pytest-benchmark.

    pytest --benchmark-only --benchmark-json=out.json
    python -m benchmarks.report out.json                      # print the tables
    python -m benchmarks.report out.json --write benchmarks/README.md    # replace its numbers
    python -m benchmarks.report out.json --short README.md --write benchmarks/README.md

A ratio is the median time of an implementation over that of fastelbo, in one run. A file has the
numbers of two kinds of machine, see `benchmarks.side_by_side`; ``--short`` brings a shorter table
up to date.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .side_by_side import beside, markdown, shortened

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
OURS = "fastelbo"
# Columns, from left to right. Implementations that are not listed follow.
PEERS = (
    "numpy", "scipy", "scikit-learn", "arviz", "numexpr", "jax", "jax float32", "jax in blocks",
    "jax reduced", "numpyro", "torch", "torch compiled", "c_plain", "c_blocked",
)  # fmt: skip

# Fields of `benchmarks.machine.Machine`, and what they count.
_RATES = {
    "multiply_adds": "multiply-adds of float64",
    "integer": "integer products and shifts",
    "instructions": "operations of all kinds",
    "divisions": "divisions",
    "roots": "roots",
}


class Timing(NamedTuple):
    """One implementation of one workload."""

    workload: str
    implementation: str
    unit: str
    ns_per_unit: float
    floor_ns_per_unit: float
    fraction_of_floor: float
    fraction_at_one_rate: float


class Run(NamedTuple):
    """The JSON of a run, by kind of benchmark."""

    timings: list[Timing]
    threads: dict[str, dict[int, float]]  # seconds by workload and number of threads
    startup: list[tuple[str, float]]
    memory: dict[str, dict[int, float]]  # bytes by implementation and number of draws
    fits: dict[str, float]  # seconds until a fit is at its target
    machine: dict[str, Any]


def read(path: Path) -> Run:
    """Read a run. The fields of ``extra_info`` tell the kind of a benchmark."""
    data = json.loads(path.read_text())
    run = Run([], {}, [], {}, {}, data["machine_info"])
    for benchmark in data["benchmarks"]:
        info, seconds = benchmark["extra_info"], benchmark["stats"]["median"]
        if "ns_per_unit" in info:
            run.timings.append(Timing(*(info[name] for name in Timing._fields)))
        elif "threads" in info:
            run.threads.setdefault(info["workload"], {})[info["threads"]] = seconds
        elif "peak_bytes" in info:
            run.memory.setdefault(info["implementation"], {})[info["draws"]] = info["peak_bytes"]
        elif "seconds_to_target" in info:
            run.fits[info["fit"]] = info["seconds_to_target"]
        elif "what" in info:
            run.startup.append((info["what"], info.get("seconds", seconds)))
    return run


def ratios(run: Run) -> dict[str, dict[str, float]]:
    """{workload: {implementation: its time over fastelbo's}}, where fastelbo was timed."""
    times: dict[str, dict[str, float]] = {}
    for timing in run.timings:
        times.setdefault(timing.workload, {})[timing.implementation] = timing.ns_per_unit
    return {
        workload: {name: ns / by_name[OURS] for name, ns in by_name.items()}
        for workload, by_name in times.items()
        if OURS in by_name
    }


def _number(value: float | None) -> str:
    """Two or three digits, or a dash if it was not timed."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def peers_table(run: Run) -> str:
    """Ratios, for workloads with other peers than NumPy."""
    table = {
        workload: by_name
        for workload, by_name in ratios(run).items()
        if set(by_name) - {OURS, "numpy"}
    }
    present = {name for row in table.values() for name in row} - {OURS}
    columns = [name for name in PEERS if name in present] + sorted(present - set(PEERS))
    rows = (
        [workload, *(_number(row.get(peer)) for peer in columns)] for workload, row in table.items()
    )
    return markdown(["time over fastelbo's", *columns], rows)


def kernels_table(run: Run) -> str:
    """Times of fastelbo, their floors, and the speed-up by threads."""
    against = ratios(run)
    rows = []
    for timing in run.timings:
        if timing.implementation == OURS:
            by_threads = run.threads.get(timing.workload, {})
            speedup = by_threads[1] / by_threads[max(by_threads)] if 1 in by_threads else None
            rows.append([
                timing.workload, timing.unit, _number(timing.ns_per_unit),
                _number(timing.floor_ns_per_unit), f"{timing.fraction_of_floor:.0%}",
                f"{timing.fraction_at_one_rate:.0%}",
                _number(against[timing.workload].get("numpy")),
                _number(speedup),
            ])  # fmt: skip
    header = ["workload", "unit", "ns a unit", "floor, ns", "floor / time", "at one rate"]
    return markdown([*header, "numpy / fastelbo", "1 thread / all"], rows)


def startup_table(run: Run) -> str:
    """Times of new processes."""
    return markdown(
        ["new process", "s"],
        ((what, f"{s:.2f}" if s >= 0.1 else f"{s:.3f}") for what, s in run.startup),
    )


def memory_table(run: Run) -> str:
    """Memory against the number of draws."""
    draws = sorted({k for by_draws in run.memory.values() for k in by_draws})
    rows = (
        [name, *(_number(by_draws[k] / 1e6) if k in by_draws else "-" for k in draws)]
        for name, by_draws in run.memory.items()
    )
    return markdown(["MB for K draws of one data point", *(f"K = {k:,}" for k in draws)], rows)


def fits_table(run: Run) -> str:
    """Times of fits until they are there, and over fastelbo's."""
    ours = run.fits.get(OURS)
    rows = [
        [
            name,
            f"{seconds:.3g}" if math.isfinite(seconds) else "never",
            _number(seconds / ours if ours and math.isfinite(seconds) else None),
        ]
        for name, seconds in run.fits.items()
    ]
    return markdown(
        ["mean-field fit of the digits to within 0.01 nats", "s", "over fastelbo's"], rows
    )


def machine_line(run: Run) -> str:
    """Processor, measured rates and versions."""
    machine = run.machine
    parts = [machine.get("cpu", {}).get("brand_raw", machine.get("machine", "unknown processor"))]
    measured = machine.get("measured")
    if measured:
        parts.append(
            f"{measured['target']}; {measured['threads']} threads; measured: "
            + ", ".join(f"{measured[rate] / 1e9:.3g} G {what}" for rate, what in _RATES.items())
            + f" and {measured['bytes_per_second'] / 1e9:.1f} GB read a second"
        )
    versions = machine.get("versions", {})
    parts.append(", ".join(f"{name} {version}" for name, version in versions.items()))
    return "; ".join(filter(None, parts)) + "."


def render(run: Run) -> str:
    """All tables, in Markdown."""
    parts = []
    if run.timings:
        parts += [peers_table(run), kernels_table(run)]
    if run.fits:
        parts.append(fits_table(run))
    if run.startup:
        parts.append(startup_table(run))
    if run.memory:
        parts.append(memory_table(run))
    return "\n\n".join([*parts, f"Medians of one run on {machine_line(run)}"])


def block_of(text: str) -> str:
    """What stands between the markers of the text."""
    return _parts(text)[1]


def replace_block(text: str, block: str) -> str:
    """Replace what stands between the markers of the text by the block."""
    before, _, after = _parts(text)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def _parts(text: str) -> tuple[str, str, str]:
    """What stands before the markers, between them and after them."""
    before, begin, rest = text.partition(BEGIN)
    block, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN} and {END}")
    return before, block, after


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, help="what --benchmark-json wrote")
    parser.add_argument("--write", type=Path, metavar="FILE", help="file with the two markers")
    parser.add_argument("--short", type=Path, metavar="FILE", help="file with a part of a table")
    arguments = parser.parse_args(argv)
    run = read(arguments.json)
    text = render(run)
    if arguments.write:
        page = arguments.write.read_text()
        text = beside(block_of(page), text, run.machine["measured"]["target"], PEERS)
        arguments.write.write_text(replace_block(page, text))
    if arguments.short:
        arguments.short.write_text(shortened(arguments.short.read_text(), text))
    if not arguments.write:
        print(text)


if __name__ == "__main__":
    main()
