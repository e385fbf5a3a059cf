"""The report about versions and machine."""

import platform
import tomllib
from pathlib import Path

import numba
import numpy as np
import pytest

import fastelbo as fe
from fastelbo.kernels.jit import targets
from fastelbo.versions import versions


def test_versions_name_everything_a_report_needs():
    facts = versions()
    assert facts["fastelbo"] == fe.__version__
    assert facts["Python"] == platform.python_version()
    assert facts["NumPy"] == np.__version__
    assert facts["numba"] == numba.__version__
    assert {"SciPy", "llvmlite", "CPU", "threads", "threading layer", "platform"} <= set(facts)
    assert all(facts.values())
    assert int(facts["threads"]) >= 1
    target = targets.target()
    assert facts["compiled for"] == target.name
    assert facts["vector registers"] == f"{target.vector_bits} bits"
    assert facts["kernel compiler"] == "fast path"
    assert Path(facts["kernel cache"]).name.startswith(("fastelbo-", "none"))


def test_show_versions_prints_a_line_for_each(capsys):
    fe.show_versions()
    printed = capsys.readouterr().out
    assert [line.split("  ")[0] for line in printed.splitlines()] == list(versions())


@pytest.mark.parametrize(
    ("machine", "features", "name", "bits"),
    [
        ("x86_64", "+sse2,+avx,+avx2,+fma,+avx512f", "AVX-512", 512),
        ("AMD64", "+sse2,+avx,+avx2,+fma,-avx512f", "AVX2 + FMA", 256),
        ("x86_64", "+sse2,+avx,+avx2,-fma,-avx512f", "AVX", 256),
        ("x86_64", "+sse2,+avx,-avx2,-avx512f", "AVX", 256),
        ("x86_64", "+sse2,-avx,-avx2,-avx512f", "SSE", 128),
        ("x86_64", "", "SSE", 128),
        ("arm64", "+neon", "NEON", 128),
        ("riscv64", "", "unknown", 128),
    ],
)
def test_the_target_follows_the_features(machine, features, name, bits, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    assert targets.target() == (name, bits)


def test_the_ci_runs_the_lowest_versions_allowed():
    root = Path(__file__).parent.parent
    script = root / ".ci" / "run"
    if not script.exists():
        pytest.skip("not a checkout")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for dependency in project["dependencies"]:
        assert f'"{dependency.replace(">=", "==")}.0"' in script.read_text()
