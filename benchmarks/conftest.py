"""Options and fixtures of the benchmarks.

- ``pytest --benchmark-only`` times everything at full size. ``--benchmark-json=out.json`` writes
  the file that `benchmarks.report` reads.
- ``pytest benchmarks --benchmark-disable`` runs each benchmark once, at a small size.
- ``--small`` times the small sizes.
- ``--target avx2`` compiles for that instruction set on a processor that has a wider one, also the
  C, JAX and PyTorch; NumPy has machine code for both, and keeps to its own.

Without one of these options no benchmark is collected, because the imports alone take seconds.

A ratio compares times of one run. The implementations of a workload run directly one after another.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

# Rounds of a call: as many as fit into `_SECONDS`, within limits. The warm-up takes as long. As in
# the rounds, the last answer is held during the next call, because memory of a virtual machine is
# slow until it has been used a few times. A call longer than `_LONG` varies little: it is warmed up
# by one call and timed by one.
_SECONDS = 1.5
_FEWEST, _MOST = 3, 25
_LONG = 2.0

_MACHINE = pytest.StashKey[Any]()

# What to set in the environment for an instruction set.
_TARGETS = {
    "avx2": {
        "NUMBA_CPU_NAME": "znver3",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma",
        "C_TARGET": "znver3",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    },
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--small", action="store_true", help="time the benchmarks at small sizes")
    parser.addoption("--target", choices=_TARGETS, help="time them compiled for this target")


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment, of this process and of those that it starts."""
    target = config.getoption("target", default=None)
    if target is not None:
        if "numba" in sys.modules:
            raise pytest.UsageError("--target comes too late: numba has been imported")
        os.environ |= _TARGETS[target]


def _wanted(config: pytest.Config) -> bool:
    return any(
        config.getoption(name, default=False)
        for name in ("benchmark_only", "benchmark_disable", "benchmark_enable", "small")
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect benchmarks only if an option asks for them."""
    if collection_path.name.startswith("bench_") and not _wanted(config):
        return True
    return None


def pytest_report_header(config: pytest.Config) -> str | None:
    if _wanted(config):
        return None
    return "benchmarks: left out; --benchmark-only times them, --benchmark-disable runs each once"


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Add measured rates and versions to the JSON."""
    from .machine import versions

    machine_info["versions"] = versions()
    if _MACHINE in config.stash:
        machine_info["measured"] = config.stash[_MACHINE]._asdict()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Ignore warnings: only times and answers are of interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def small(request: pytest.FixtureRequest) -> bool:
    """Whether to use the small sizes."""
    config = request.config
    return bool(config.getoption("small") or config.getoption("benchmark_disable"))


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Any:
    """The measured rates, from which floors are computed."""
    from .machine import measure

    request.config.stash[_MACHINE] = measured = measure()
    return measured


@dataclass(frozen=True)
class Info:
    """What the JSON holds beside the times of a workload, for the report."""

    workload: str
    implementation: str
    unit: str
    units: int
    ns_per_unit: float
    gigabytes_per_second: float
    floor_ns_per_unit: float
    fraction_of_floor: float
    fraction_at_one_rate: float


Timed = Callable[..., Any]


def _warm_up(call: Callable[[], Any]) -> float:
    """Call until the warm-up time has passed; return the seconds of the last call."""
    answer: Any = None
    begin = time.perf_counter()
    for count in range(1, _MOST + 1):
        start = time.perf_counter()
        answer = call()  # noqa: F841
        now = time.perf_counter()
        if now - begin > (_LONG if count < _FEWEST else _SECONDS):
            break
    return now - start


@pytest.fixture
def timed(benchmark: Any) -> Timed:
    """``timed(call, group)`` warms up a call, times some rounds and returns the last answer."""

    def run(call: Callable[[], Any], group: str, rounds: int | None = None) -> Any:
        benchmark.group = group
        if benchmark.disabled:
            return benchmark.pedantic(call)
        if rounds is None:
            elapsed = _warm_up(call)
            fewest = _FEWEST if elapsed < _LONG else 1
            rounds = min(_MOST, max(fewest, int(_SECONDS / elapsed)))
        return benchmark.pedantic(call, rounds=rounds)

    return run


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: Any, timed: Timed, small: bool) -> Any:
    """``measure(workload, implementation)`` times one, checks its answer and stores its rates."""
    from .implementations import find
    from .workloads import WORKLOADS

    def run(workload: str, implementation: str) -> None:
        asked = WORKLOADS[workload]
        problem = asked.problem(small)
        found = find(asked.task, implementation)
        answer = timed(found.prepare(problem.inputs), workload)
        problem.check(answer, found.precision)
        if benchmark.disabled:
            return
        ns = 1e9 * benchmark.stats.stats.median / problem.units
        machine = request.getfixturevalue("machine")
        work, size = problem.work, problem.bytes
        floor = 1e9 * machine.floor(work, size)
        at_one_rate = 1e9 * machine.floor_at_one_rate(work, size)
        benchmark.extra_info |= asdict(Info(
            workload, implementation, asked.unit, problem.units, ns, size / ns, floor, floor / ns,
            at_one_rate / ns,
        ))  # fmt: skip

    return run
