"""The benchmarks: C does the same work, answers are right, the report shows what was measured."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS
from numpy.testing import assert_allclose
from scipy.special import ndtr

import fastelbo as fe
from benchmarks import conftest, report, side_by_side
from benchmarks.implementations import find, implementations, with_c
from benchmarks.machine import Machine, Work
from benchmarks.workloads import EXP, LOG, PAIR, WORKLOADS
from fastelbo.random import philox_key

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
needs_cc = pytest.mark.skipif(shutil.which(with_c.COMPILER) is None, reason="no C compiler")


# --- C --------------------------------------------------------------------------------------


def _compiled(name):
    try:
        with_c.library(name)
    except with_c.CompilerError as error:
        pytest.skip(str(error))
    return name


@pytest.fixture(params=["plain", "blocked"])
def kernels(request):
    return _compiled(request.param)


@pytest.fixture
def blocked():
    return _compiled("blocked")


def _answers(workload, kernels):
    problem = WORKLOADS[workload].problem(small=True)
    pair = (find(WORKLOADS[workload].task, name) for name in (f"c_{kernels}", "fastelbo"))
    return [each.prepare(problem.inputs)() for each in pair]


@needs_cc
@pytest.mark.parametrize(
    "workload",
    [
        "logsumexp of rows",
        "summary of rows",
        "mixture log prob, full",
        "mixture log prob, diagonal",
    ],
)
def test_c_agrees_where_nothing_is_drawn(workload, kernels):
    got, expected = _answers(workload, kernels)
    assert_allclose(np.array(got), np.array(expected), rtol=1e-12, atol=1e-12)


@needs_cc
@pytest.mark.parametrize(
    "workload",
    ["evidence, digits", "evidence, two mixtures", "evidence, many points, few draws"],
)
def test_c_in_blocks_does_all_that_fastelbo_does_on_the_same_draws(workload, blocked):
    inputs = WORKLOADS[workload].problem(small=True).inputs
    got = dict(zip(with_c.FIELDS, with_c.moments(blocked, inputs, philox_key(0))().T, strict=True))
    est = fe.estimate(inputs.model, inputs.q, inputs.n_samples, rng=0, iw_sizes=(), pareto_k=False)
    for name in ("log_evidence", "elbo", "relative_variance", "kl", "expected_log_likelihood"):
        assert_allclose(got[name], np.ravel(getattr(est, name)), rtol=1e-9, atol=1e-9, err_msg=name)
    for name in ("elbo", "kl", "expected_log_likelihood"):
        se = np.sqrt(got[f"{name}_variance"] / inputs.n_samples)
        assert_allclose(se, np.ravel(getattr(est, f"{name}_se")), rtol=1e-9, err_msg=name)
    variance = got["relative_variance"] + got["elbo_variance"] - 2.0 * got["co_moment"]
    gap_se = np.sqrt(variance / inputs.n_samples)
    assert_allclose(gap_se, np.ravel(est.jensen_gap_se), rtol=1e-7)


@needs_cc
def test_subnormal_numbers_outlive_the_c_libraries(blocked):
    assert np.float64(5e-324) / 1.0 > 0.0
    assert np.nextafter(0.0, 1.0) * np.array([1.0]) > 0.0


@needs_cc
def test_c_in_blocks_draws_the_same_normals(blocked):
    draws, dim = 1024, 6
    out = np.empty((dim, draws))
    with_c.call(blocked, "standard_normals", draws, dim, philox_key(3), out)()
    assert_allclose(out.T, fe.Gaussian(np.zeros(dim), scale=1.0).sample(draws, rng=3), rtol=1e-14)


# --- workloads ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_answers(name):
    """Only the libraries that start quickly; the benchmarks check all answers, in CI too."""
    workload = WORKLOADS[name]
    problem = workload.problem(small=True)
    for implementation in implementations(workload.task):
        if implementation.name in ("fastelbo", "numpy", "scipy", "c_plain", "c_blocked"):
            answer = implementation.prepare(problem.inputs)()
            problem.check(answer, implementation.precision)


def test_normals_of_sobol_points_are_right_where_they_are_timed():
    workload = WORKLOADS["Sobol normals"]
    problem = workload.problem(small=True)
    compared = {each.name: each.prepare for each in implementations(workload.task)}
    assert compared.keys() == {"fastelbo", "scipy"}
    for prepare in compared.values():
        answer = prepare(problem.inputs)()
        assert answer.shape == problem.inputs
        problem.check(answer, "float64")
        # A coordinate of a replicate has one point in each of n equal parts.
        places = np.sort(np.floor(problem.inputs.n * ndtr(answer[3, :, 2])))
        assert places.tolist() == list(range(problem.inputs.n))


@pytest.mark.parametrize("name", ["logsumexp of rows", "evidence, digits", "standard normals"])
def test_a_wrong_answer_is_seen(name):
    workload = WORKLOADS[name]
    problem = workload.problem(small=True)
    answer = find(workload.task, "numpy").prepare(problem.inputs)()
    wrong = [part + 0.5 for part in answer] if isinstance(answer, tuple) else answer + 0.5
    with pytest.raises(AssertionError):
        problem.check(wrong, "float64")


MACHINE = Machine(
    threads=2, target="AVX2 + FMA", multiply_adds=4e9, integer=2e9, instructions=8e9,
    divisions=5e8, roots=4e8, bytes_per_second=1e10, per_xor=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("work", "size", "seconds"),
    [
        (Work(multiply_adds=8), 8.0, 2e-9),
        (Work(multiply_adds=4, integer=6), 8.0, 3e-9),
        (Work(multiply_adds=4, others=4, xors=12), 8.0, 4e-9),
        (Work(multiply_adds=4, divisions=1, roots=1), 8.0, 4.5e-9),
        (Work(multiply_adds=4), 50.0, 5e-9),
    ],
)
def test_the_floor_is_the_longest_of_the_times_of_the_ports(work, size, seconds):
    assert MACHINE.floor(work, size) == pytest.approx(seconds)


def test_the_floor_at_one_rate_counts_every_operation_as_a_multiply_add():
    work = 2 * Work(multiply_adds=4, xors=12) + Work(integer=1, roots=1, operations=8)
    assert work == Work(multiply_adds=8, integer=1, xors=24, roots=1, operations=40)
    assert MACHINE.floor_at_one_rate(work, 8.0) == 1e-8
    assert MACHINE.floor_at_one_rate(work, 200.0) == 2e-8


def test_work_of_the_polynomials():
    """Operations of a logarithm, an exponential and a pair of normals, as in their source."""
    assert (EXP.multiply_adds, EXP.operations) == (15, 26)
    assert (LOG.divisions, LOG.operations) == (1, 23)
    # Of Philox: twenty products, as many shifts and exclusive ors.
    assert (PAIR.xors, PAIR.divisions, PAIR.roots, PAIR.operations) == (20, 1, 1, 119)
    rows = WORKLOADS["logsumexp of rows"].problem(small=True)
    assert (rows.work.operations, rows.bytes) == (29, 8)


# --- the suite ------------------------------------------------------------------------------


def _pytest(*args):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args]
    # Benchmarks are refused to the workers of pytest-xdist, and this run is none.
    alone = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    return subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)


def test_the_suite_is_left_alone_unless_asked_for():
    done = _pytest("benchmarks", "--collect-only")
    assert "benchmarks: left out" in done.stdout
    assert "no tests" in done.stdout


def test_a_target_is_set_before_numba_reads_the_environment(monkeypatch):
    config = SimpleNamespace(getoption=lambda name, default: "avx2")
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(pytest.UsageError, match="too late"):
        conftest.pytest_configure(config)
    assert os.environ == {}
    monkeypatch.delitem(sys.modules, "numba")
    conftest.pytest_configure(config)
    assert os.environ["NUMBA_CPU_NAME"] == os.environ["C_TARGET"] == "znver3"


@pytest.mark.skipif(importlib.util.find_spec("pytest_benchmark") is None, reason="needs it")
def test_the_suite_writes_what_the_report_reads(tmp_path):
    path = tmp_path / "out.json"
    chosen = (
        "bench_workloads.py::test_workload[reductions-logsumexp of rows-numpy]",
        "bench_workloads.py::test_workload[reductions-logsumexp of rows-fastelbo]",
        "bench_scaling.py::test_threads[evidence, digits-1]",
        "bench_scaling.py::test_memory[100000-fastelbo]",
        "bench_startup.py::test_import[numba]",
    )
    nodes = (f"benchmarks/{node}" for node in chosen)
    done = _pytest(*nodes, "--benchmark-only", "--small", f"--benchmark-json={path}")
    assert done.returncode == 0, done.stdout
    run = report.read(path)
    assert {timing.implementation for timing in run.timings} == {"fastelbo", "numpy"}
    assert run.threads["evidence, digits"].keys() == {1}
    assert run.memory["fastelbo"].keys() == {100}
    assert [what for what, _ in run.startup] == ["import numba"]
    measured = run.machine["measured"]
    assert all(0.0 < measured[name] < np.inf for name in (*report._RATES, "bytes_per_second"))
    # Each kind takes ports of all.
    assert measured["instructions"] > 0.9 * measured["multiply_adds"]
    assert all(0.0 < each.fraction_of_floor < 1.0 for each in run.timings)


# --- the report -----------------------------------------------------------------------------


def _timing(workload, implementation, ns, fraction=0.5):
    info = {
        "workload": workload, "implementation": implementation, "unit": "draw", "units": 100,
        "ns_per_unit": ns, "gigabytes_per_second": 1.0, "floor_ns_per_unit": ns * fraction,
        "fraction_of_floor": fraction, "fraction_at_one_rate": 1.5 * fraction,
    }  # fmt: skip
    return {"extra_info": info, "stats": {"median": 1e-7 * ns}}


@pytest.fixture
def run(tmp_path):
    info = [
        _timing("rows", "c_plain", 5.0),
        _timing("rows", "numpy", 8.0),
        _timing("rows", "fastelbo", 2.0, 0.8),
        _timing("alone", "fastelbo", 3.0, 0.25),
        _timing("alone", "numpy", 600.0),
        _timing("not ours", "numpy", 1.0),
        {"extra_info": {"workload": "alone", "threads": 1}, "stats": {"median": 1.9}},
        {"extra_info": {"workload": "alone", "threads": 2}, "stats": {"median": 1.0}},
        {"extra_info": {"what": "import fastelbo"}, "stats": {"median": 0.51}},
        {
            "extra_info": {"implementation": "fastelbo", "draws": 1000, "peak_bytes": 2.5e6},
            "stats": {"median": 1.0},
        },
        {"extra_info": {}, "stats": {"median": 1.0}},
    ]
    measured = MACHINE._asdict()
    machine = {
        "cpu": {"brand_raw": "A processor"}, "measured": measured, "versions": {"numpy": "2.0"},
    }  # fmt: skip
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"benchmarks": info, "machine_info": machine}))
    return path


def test_report_tables(run):
    read = report.read(run)
    assert report.ratios(read) == {
        "rows": {"c_plain": 2.5, "numpy": 4.0, "fastelbo": 1.0},
        "alone": {"numpy": 200.0, "fastelbo": 1.0},
    }
    assert report.peers_table(read).splitlines() == [
        "| time over fastelbo's | numpy | c_plain |",
        "| --- | ---: | ---: |",
        "| rows | 4.0 | 2.5 |",
    ]
    assert report.kernels_table(read).splitlines()[2:] == [
        "| rows | draw | 2.0 | 1.6 | 80% | 120% | 4.0 | - |",
        "| alone | draw | 3.0 | 0.75 | 25% | 38% | 200 | 1.9 |",
    ]
    text = report.render(read)
    assert "| import fastelbo | 0.51 |" in text
    assert "| fastelbo | 2.5 |" in text
    assert "A processor; AVX2 + FMA; 2 threads; measured: 4 G multiply-adds of float64" in text
    assert "0.4 G roots and 10.0 GB read a second" in text
    assert "numpy 2.0" in text


def test_report_of_a_run_without_measurements(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"benchmarks": [], "machine_info": {"machine": "x86_64"}}))
    assert "x86_64" in report.render(report.read(path))


def test_report_replaces_its_block(run, tmp_path, capsys):
    readme = tmp_path / "README.md"
    short = tmp_path / "SHORT.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    short.write_text(
        "| a \\| b |\n| --- |\n| c \\| d |\n\n"
        "| time over fastelbo's | c_plain |\n| --- | ---: |\n| rows | 7 |\n| b | 1 |\n"
    )
    for _ in range(2):
        report.main([str(run), "--short", str(short), "--write", str(readme)])
        text = readme.read_text()
        assert text.startswith(f"before\n{report.BEGIN}\n\n| time over")
        assert text.endswith(f"\n\n{report.END}\nafter\n")
        assert "old" not in text
        assert short.read_text().splitlines()[6:] == ["| rows | - / 2.5 |", "| b | 1 |"]
    report.main([str(run)])
    assert capsys.readouterr().out.startswith("| time over")
    with pytest.raises(ValueError, match="expected the lines"):
        report.replace_block("nothing", "block")


OLD = """
| workload | unit | ns a unit | numpy |
| --- | ---: | ---: | ---: |
| rows | draw | 2.0 / 3.0 | 4.0 |
| gone | draw | - / 9.0 | - |
| theirs | draw | 7.0 | - |

- AVX-512: medians of one run on A.
- AVX2: medians of one run on B.
"""
NEW = """
| workload | unit | ns a unit | jax |
| --- | ---: | ---: | ---: |
| rows | draw | 2.5 | 6.0 |
| more | term | 1.5 | - |

Medians of one run on C."""


def test_a_run_on_one_kind_of_machine_keeps_the_numbers_of_the_other():
    assert (
        side_by_side.beside(OLD, NEW, "AVX2 + FMA", ("jax", "numpy"))
        == """\
| workload | jax | numpy | unit | ns a unit |
| --- | ---: | ---: | ---: | ---: |
| rows | - / 6.0 | 4.0 / - | draw | 2.0 / 2.5 |
| more | - | - | term | - / 1.5 |
| theirs | - | - | draw | 7.0 / - |

- AVX-512: medians of one run on A.
- AVX2: medians of one run on C."""
    )


def test_plot(run, tmp_path):
    pytest.importorskip("matplotlib")
    image = tmp_path / "throughput.png"
    command = [sys.executable, str(ROOT / "plots" / "throughput.py"), str(run), "--out", str(image)]
    subprocess.run(command, check=True)
    assert image.stat().st_size > 10_000
