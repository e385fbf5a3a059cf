"""How the suite runs.

``pytest --benchmark-only`` from the project's root times everything at full size; add
``--benchmark-json=out.json`` for `benchmarks.report`. ``pytest benchmarks --benchmark-disable``
runs each benchmark once at a small size, and ``--small`` times those. Without any of these options
the suite is left alone, for its imports alone take seconds.

Ratios are between times of one run: implementations of one workload follow one another.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

# Rounds of a call: as many as fit into this time, within limits. As many others warm it up, each
# while the answer of the last is held, as in the rounds: a virtual machine's memory is slow until
# it was used some times. Calls of seconds, whose times scatter little, are made once for each.
_SECONDS = 1.5
_FEWEST, _MOST = 3, 25
_LONG = 2.0

_MACHINE = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--small", action="store_true", help="time the benchmarks at small sizes")


def _wanted(config: pytest.Config) -> bool:
    return any(
        config.getoption(name, default=False)
        for name in ("benchmark_only", "benchmark_disable", "benchmark_enable", "small")
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the suite to the runs that ask for it."""
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
    """Keep what was measured and the versions with the times."""
    from .machine import versions

    machine_info["versions"] = versions()
    if _MACHINE in config.stash:
        machine_info["measured"] = config.stash[_MACHINE]._asdict()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Warnings of peers are their own, and those of fastelbo are about estimates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def small(request: pytest.FixtureRequest) -> bool:
    """Whether to work at small sizes."""
    config = request.config
    return bool(config.getoption("small") or config.getoption("benchmark_disable"))


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Any:
    """The rates in which floors are stated."""
    from .machine import measure

    request.config.stash[_MACHINE] = measured = measure()
    return measured


@dataclass(frozen=True)
class Info:
    """What is kept beside the times of a workload; the report reads it."""

    workload: str
    implementation: str
    unit: str
    units: int
    ns_per_unit: float
    gigabytes_per_second: float
    floor_ns_per_unit: float
    fraction_of_floor: float


Timed = Callable[..., Any]


def _warm_up(call: Callable[[], Any]) -> float:
    """Call it until it has had its time; the seconds of the last call."""
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
    """``timed(call, group)``: warmed up, timed a few times; the answer of the last call."""

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
    """``measure(workload, implementation)``: set up, time, check the answer, keep the rates."""
    from .implementations import find
    from .workloads import WORKLOADS

    def run(workload: str, implementation: str) -> None:
        asked = WORKLOADS[workload]
        problem = asked.problem(small)
        performer = find(asked.task, implementation)
        answer = timed(performer.prepare(problem.inputs), workload)
        problem.check(answer, performer.precision)
        if benchmark.disabled:
            return
        ns = 1e9 * benchmark.stats.stats.median / problem.units
        machine = request.getfixturevalue("machine")
        floor = 1e9 * machine.floor(problem.operations, problem.bytes)
        benchmark.extra_info |= asdict(Info(
            workload, implementation, asked.unit, problem.units, ns, problem.bytes / ns, floor,
            floor / ns,
        ))  # fmt: skip

    return run
