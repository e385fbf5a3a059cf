"""Check and time everything on a GPU, in one command: ``python -m benchmarks.gpu_report``.

It compares each workload's answer with that of the CPU. It then times fastelbo, PyTorch, CuPy and
JAX, and prints a table with ratios and with ceilings from the measured rates of the device. The
targets of fastelbo and the memory of estimates follow. The results are written to
``benchmarks/results/``.

``--small`` takes sizes for numba's simulator (``NUMBA_ENABLE_CUDASIM=1``) and writes nothing.
``--check-only`` neither times nor writes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastelbo.arrays.devices import require_device
from fastelbo.kernels.cuda import device

from .gpu_machine import Rates, best_time, measure, most_bytes
from .gpu_user_models import logistic
from .gpu_workloads import Workload, evidence, release, to_host, workloads
from .machine import versions

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "cupy", "jax")

# What fastelbo should reach at least: a share of the read bandwidth, units per second, and a ratio
# of PyTorch's time to its own.
TARGETS = {
    "summaries of rows, states": {"of read bandwidth": 0.85},
    "evidence, digits, float32": {"a second": 3e11, "torch / fastelbo": 5.0},
    "mixture log_prob": {"torch / fastelbo": 5.0},
}


def all_workloads(size: str, index: int) -> list[Workload]:
    """The workloads of a size, "full", "check" or "small"."""
    draws, rows = {"full": (4 * 10**6, 500), "check": (8269, 500), "small": (90, 20)}[size]
    return [*workloads(size, index), logistic(draws, rows, index)]


def check(workload: Workload) -> float:
    """The largest difference from the CPU's answer y, relative to 1 + |y|."""
    assert workload.on_cpu is not None
    got, expected = to_host(workload.implementations["fastelbo"]()()), workload.on_cpu()
    worst = 0.0
    for x, y in zip(got, expected, strict=True):
        worst = max(worst, float(np.max(np.abs(x - y) / (1.0 + np.abs(y)), initial=0.0)))
    return worst


def time_all(workload: Workload, repeats: int) -> dict[str, float | str]:
    """Seconds of each implementation, or the reason why there are none.

    The first run compiles, and is not timed.
    """
    times: dict[str, float | str] = {}
    for name, prepare in workload.implementations.items():
        try:
            run = prepare()
            run()
            times[name] = best_time(run, repeats)
        except ImportError as error:
            times[name] = f"not timed: {error}"
        except Exception as error:  # other libraries may raise anything
            if name == "fastelbo":
                raise
            times[name] = f"{type(error).__name__}: {error}"
            print(f"{workload.name}, {name}: {times[name]}", file=sys.stderr)
        run = None
        release()
    return times


def figures(
    workload: Workload, times: dict[str, float | str], rates: Rates
) -> dict[str, float | None]:
    """The values of a row of the table; None if not timed."""
    mine = times["fastelbo"]
    assert isinstance(mine, float)
    found: dict[str, float | None] = {
        "seconds": mine,
        "a second": workload.units / mine,
        "ceiling a second": workload.units
        / rates.floor(workload.operations, workload.size, workload.precision),
        "of read bandwidth": workload.size / mine / rates.read if workload.size else None,
    }
    for name in LIBRARIES:
        other = times.get(name)
        found[f"{name} / fastelbo"] = other / mine if isinstance(other, float) else None
    return found


def row(workload: Workload, found: dict[str, float | None]) -> str:
    """One line of the table."""
    seconds, rate, ceiling = (found[k] for k in ("seconds", "a second", "ceiling a second"))
    assert rate is not None
    assert ceiling is not None
    bandwidth = found["of read bandwidth"]
    others = [found[f"{name} / fastelbo"] for name in LIBRARIES]
    cells = [
        f"{seconds:.4g}",
        f"{rate:.3g} {workload.unit}s",
        f"{ceiling:.3g}",
        f"{rate / ceiling:.0%}",
        "-" if bandwidth is None else f"{bandwidth:.0%}",
        *("-" if other is None else f"{other:.1f}" for other in others),
    ]
    return " | ".join(["", workload.name, *cells, ""]).strip()


def judged(workload: Workload, found: dict[str, float | None]) -> list[str]:
    """A line for each target of the workload."""
    lines = []
    for name, target in TARGETS.get(workload.name, {}).items():
        value = found[name]
        reached = "not measured" if value is None else f"{value:.3g}, reached={value >= target}"
        lines.append(f"{workload.name}, {name}: at least {target:.3g}; {reached}")
    return lines


def report(*, small: bool, check_only: bool, index: int) -> dict[str, Any]:
    """Check, time, print and write; return the results."""
    with require_device(index).select(index):
        print(f"# {device.name()}, {datetime.date.today()}")
        result: dict[str, Any] = {
            "date": str(datetime.date.today()),
            "device": device.name(),
            "versions": versions(),
            "failures": [],
            "rates": {},
            "seconds": {},
            "figures": {},
            "bytes": {},
        }
        for workload in all_workloads("small" if small else "check", index):
            if workload.on_cpu is None:
                continue
            worst = check(workload)
            passed = worst <= workload.tolerance
            print(f"{workload.name}: differs from the CPU by {worst:.1e}, {passed=}")
            if not passed:
                result["failures"].append(workload.name)
        if not check_only:
            times_of_all(result, small, index)
    return result


def times_of_all(result: dict[str, Any], small: bool, index: int) -> None:
    """Time and print. The results are written after each workload."""
    rates = measure(small=small)
    result["rates"] = rates._asdict()
    operations = "; ".join(f"{v / 1e12:.2f} T/s of {k}" for k, v in rates.operations.items())
    print(
        f"\nread {rates.read / 1e9:.0f} GB/s, copied {rates.copied / 1e9:.0f} GB/s; "
        f"multiply-adds: {operations}\n"
    )
    head = ["workload", "seconds", "a second", "ceiling", "reached", "of read bandwidth"]
    print(" | ".join(["", *head, *(f"{name} / fastelbo" for name in LIBRARIES), ""]).strip())
    print("| --- " + "| ---: " * (len(head) - 1 + len(LIBRARIES)) + "|")
    lines = []
    for workload in all_workloads("small" if small else "full", index):
        times = time_all(workload, 1 if small else 5)
        found = figures(workload, times, rates)
        print(row(workload, found), flush=True)
        lines += judged(workload, found)
        result["seconds"][workload.name] = times
        result["figures"][workload.name] = found
        keep(result, small)
    points, draws = (2, (40, 80)) if small else (1797, (10**4, 10**5, 10**6))
    for count in draws:
        run = evidence(points, count, "float32", index).implementations["fastelbo"]()
        result["bytes"][f"evidence, digits, {count} draws"] = most_bytes(run)
    keep(result, small)
    print("", *lines, sep="\n")
    for name, size in result["bytes"].items():
        print(f"{name}: {size / 1e6:.0f} MB of the device")


def keep(result: dict[str, Any], small: bool) -> None:
    """Write the results so far, unless the sizes are small."""
    if small:
        return
    RESULTS.mkdir(exist_ok=True)
    label = "".join(c if c.isalnum() else "-" for c in result["device"].lower())
    path = RESULTS / f"{result['date']}-{label}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split(":")[0])
    parser.add_argument("--small", action="store_true", help="sizes for the simulator")
    parser.add_argument("--check-only", action="store_true", help="no timings")
    parser.add_argument("--device", type=int, default=0, help="index of the GPU")
    options = parser.parse_args(arguments)
    result = report(small=options.small, check_only=options.check_only, index=options.device)
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
