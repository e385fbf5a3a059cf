"""The report on a GPU, made from given times, without a GPU."""

import contextlib
import math
import time

import pytest

from benchmarks import gpu_machine, gpu_report
from benchmarks.gpu_workloads import Workload
from fastelbo.kernels.cuda import device

RATES = gpu_machine.Rates(
    read=1e12, copied=0.9e12, operations={"float32": 2e13, "float64 of warps": 6e13}
)


def missing():
    raise ImportError("not installed")


def broken():
    raise RuntimeError("no compiler")


def workload(name="evidence, digits, float32", **peers):
    return Workload(
        name=name,
        unit="draw",
        units=6e11,
        operations=2e13,
        size=0.0,
        precision="float32",
        tolerance=1e-9,
        implementations={"fastelbo": lambda: lambda: (), **peers},
    )


def test_a_library_that_fails_leaves_the_others():
    times = gpu_report.time_all(workload(torch=missing, cupy=lambda: broken, jax=broken), 2)
    assert times["fastelbo"] >= 0.0
    assert times["torch"] == "not timed: not installed"
    assert times["cupy"] == times["jax"] == "RuntimeError: no compiler"


def test_a_failure_of_its_own_is_one_of_the_report():
    with pytest.raises(RuntimeError, match="no compiler"):
        gpu_report.time_all(workload(fastelbo=broken), 2)


def test_figures_and_targets():
    asked = workload()
    found = gpu_report.figures(asked, {"fastelbo": 1.5, "torch": 9.0, "cupy": "broken"}, RATES)
    assert found["a second"] == 4e11
    assert found["ceiling a second"] == 6e11
    assert found["of read bandwidth"] is None
    assert found["torch / fastelbo"] == 6.0
    assert found["cupy / fastelbo"] is None
    lines = gpu_report.judged(asked, found)
    assert len(lines) == 2
    assert all("reached=True" in line for line in lines)
    assert "67%" in gpu_report.row(asked, found)
    slow = gpu_report.figures(asked, {"fastelbo": 15.0}, RATES)
    assert ["reached=False" in line for line in gpu_report.judged(asked, slow)] == [True, False]
    assert "not measured" in gpu_report.judged(asked, slow)[1]
    assert gpu_report.judged(workload("another"), slow) == []


def test_the_floor_is_the_longer_of_work_and_reading():
    assert RATES.floor(2e13, 5e11, "float32") == 1.0
    assert RATES.floor(2e13, 5e12, "float32") == 5.0
    assert math.isclose(RATES.floor(6e13, 0.0, "float64 of warps"), 1.0)


def test_memory_at_most(monkeypatch):
    free = iter([100, *[40] * 3, *[70] * 10**6])
    monkeypatch.setattr(device, "free_bytes", lambda: next(free))
    monkeypatch.setattr(device, "current_index", lambda: 0)
    monkeypatch.setattr(device, "select", lambda index: contextlib.nullcontext())
    assert gpu_machine.most_bytes(lambda: time.sleep(0.05)) == 60
