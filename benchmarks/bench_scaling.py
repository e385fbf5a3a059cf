"""Time against the number of threads, and memory against the number of draws."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fastelbo.kernels.cpu.launch import available_threads

from .implementations import with_fastelbo
from .workloads import WORKLOADS

_FUSED = [workload.name for workload in WORKLOADS.values() if workload.family == "estimates"]
_THREADS = sorted({1, available_threads()})


@pytest.mark.parametrize("threads", _THREADS)
@pytest.mark.parametrize("workload", _FUSED)
def test_threads(benchmark, timed, small, workload, threads):
    problem = WORKLOADS[workload].problem(small)
    call = with_fastelbo.evidence(problem.inputs, n_threads=threads)
    problem.check(timed(call, f"threads: {workload}"), "float64")
    benchmark.extra_info |= {"workload": workload, "threads": threads}


# Runs in a new process, whose peak memory is then that of one estimate.
_PEAK = """
import json, re, resource, sys
from pathlib import Path
from benchmarks.implementations import with_fastelbo, with_numpy
from benchmarks.workloads import WORKLOADS

name, k = sys.argv[1], int(sys.argv[2])
inputs = WORKLOADS["evidence, one point, many draws"].problem(small=True).inputs
module = {"fastelbo": with_fastelbo, "numpy": with_numpy}[name]
prepare = module.IMPLEMENTATIONS[name]["evidence"]
prepare(inputs)()

def peak():
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux, getrusage includes the peak of the parent process.
        return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
prepare(inputs._replace(n_samples=k))()
print(json.dumps(peak() - before))
"""


@pytest.mark.parametrize("implementation", ["fastelbo", "numpy"])
@pytest.mark.parametrize("k", [10**5, 10**6, 10**7])
def test_memory(benchmark, timed, small, implementation, k):
    """Growth of peak memory from a small estimate to one of K draws."""
    draws = k // 1000 if small else k

    def call() -> int:
        command = [sys.executable, "-W", "ignore", "-c", _PEAK, implementation, str(draws)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    peak = timed(call, "memory", rounds=1)
    # For any K: blocks of draws, and memory that the allocator keeps.
    assert peak < 2**26 + (0 if implementation == "fastelbo" else 64 * draws)
    benchmark.extra_info |= {"implementation": implementation, "draws": draws, "peak_bytes": peak}
