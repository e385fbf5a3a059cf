"""The report about versions and machine."""

import platform
import tomllib
from pathlib import Path

import numba
import numpy as np
import pytest

import fastelbo as fe
from fastelbo.kernels import info
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
    assert facts["vector registers"] in {"128 bits", "256 bits", "512 bits"}
    assert facts["kernel compiler"] == "fast path"
    assert Path(facts["kernel cache"]).name.startswith(("fastelbo-", "none"))


def test_show_versions_prints_a_line_for_each(capsys):
    fe.show_versions()
    printed = capsys.readouterr().out
    assert [line.split("  ")[0] for line in printed.splitlines()] == list(versions())


@pytest.mark.parametrize(
    ("features", "bits"),
    [
        ("+sse2,+avx,+avx2,+avx512f", 512),
        ("+sse2,+avx,+avx2,-avx512f", 256),
        ("+sse2,+avx,-avx2,-avx512f", 256),
        ("+sse2,-avx,-avx2,-avx512f", 128),
        ("+neon", 128),
        ("", 128),
    ],
)
def test_vector_bits_follow_the_features(features, bits, monkeypatch):
    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    assert info.vector_bits() == bits


def test_the_ci_runs_the_lowest_versions_allowed():
    root = Path(__file__).parent.parent
    script = root / ".ci" / "run"
    if not script.exists():
        pytest.skip("not a checkout")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for dependency in project["dependencies"]:
        assert f'"{dependency.replace(">=", "==")}.0"' in script.read_text()
