"""All there is to measure on a GPU, in one command: ``python -m benchmarks.gpu_report``.

Checks that every workload gives the CPU's answer on the device, times fastelbo, PyTorch, CuPy and
JAX there, and prints one table with the floor that the device's own measured rates allow. The
figures are kept in ``benchmarks/results/``. ``--small`` takes sizes for numba's simulator
(``NUMBA_ENABLE_CUDASIM=1``) and keeps nothing; ``--check-only`` times nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastelbo.devices import require_device
from fastelbo.kernels import device

from .gpu_machine import Rates, best_time, measure
from .gpu_workloads import Workload, available, to_host, workloads
from .machine import versions

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "cupy", "jax")


def check(workload: Workload) -> float:
    """The largest difference from the CPU's answer, relative to 1 + its size."""
    got, expected = to_host(available(workload)["fastelbo"]()), workload.on_cpu()
    worst = 0.0
    for x, y in zip(got, expected, strict=True):
        worst = max(worst, float(np.max(np.abs(x - y) / (1.0 + np.abs(y)), initial=0.0)))
    return worst


def time_all(workload: Workload, repeats: int) -> dict[str, float]:
    """Seconds of each implementation; the first run, which compiles, is not counted."""
    times = {}
    for name, run in available(workload).items():
        run()
        times[name] = best_time(run, repeats)
    return times


def row(workload: Workload, times: dict[str, float], rates: Rates) -> str:
    """One line of the table."""
    mine = times["fastelbo"]
    floor = rates.floor(workload.operations, workload.size, workload.precision)
    others = [f"{times[name] / mine:.1f}" if name in times else "-" for name in LIBRARIES]
    bandwidth = f"{workload.size / mine / rates.read:.0%}" if workload.size else "-"
    figures = [
        f"{mine:.4g}",
        f"{workload.units / mine:.3g} {workload.unit}s",
        f"{floor / mine:.0%}",
    ]
    return " | ".join(["", workload.name, *figures, bandwidth, *others, ""]).strip()


def report(*, small: bool, check_only: bool, index: int) -> dict[str, Any]:
    """Check, time, print; returns what is kept."""
    failures = []
    with require_device(index).select(index):
        todo = workloads(small=small)
        print(f"# {device.name()}, {datetime.date.today()}")
        for workload in workloads(small=True):
            worst = check(workload)
            passed = worst <= workload.tolerance
            print(f"{workload.name}: differs from the CPU by {worst:.1e}, {passed=}")
            if not passed:
                failures.append(workload.name)
        result = {
            "date": str(datetime.date.today()),
            "device": device.name(),
            "versions": versions(),
            "failures": failures,
        }
        if check_only:
            return result
        rates = measure(small=small)
        print(
            f"\nread {rates.read / 1e9:.0f} GB/s, copied {rates.copied / 1e9:.0f} GB/s; "
            f"multiply-adds: {rates.float32 / 1e12:.2f} T/s of float32, "
            f"{rates.float64 / 1e12:.2f} T/s of float64\n"
        )
        head = ["workload", "seconds", "a second", "floor / time", "of read bandwidth"]
        print(" | ".join(["", *head, *(f"{name} / fastelbo" for name in LIBRARIES), ""]).strip())
        print("| --- " + "| ---: " * (len(head) - 1 + len(LIBRARIES)) + "|")
        result["rates"], result["seconds"] = rates._asdict(), {}
        for workload in todo:
            times = time_all(workload, 1 if small else 5)
            print(row(workload, times, rates), flush=True)
            result["seconds"][workload.name] = times
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split(":")[0])
    parser.add_argument("--small", action="store_true", help="sizes for the simulator")
    parser.add_argument("--check-only", action="store_true", help="no timings")
    parser.add_argument("--device", type=int, default=0, help="index of the GPU")
    options = parser.parse_args(arguments)
    result = report(small=options.small, check_only=options.check_only, index=options.device)
    if not options.small:
        RESULTS.mkdir(exist_ok=True)
        label = "".join(c if c.isalnum() else "-" for c in result["device"].lower())
        path = RESULTS / f"{result['date']}-{label}.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(f"\nkept in {path}")
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
