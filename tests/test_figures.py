"""The scripts in plots/: one set of options, and no rough figure in place of a tracked one."""

import importlib
import json
import sys
from pathlib import Path

import pytest

PLOTS = Path(__file__).parents[1] / "plots"
SCRIPTS = sorted(
    path.stem for path in PLOTS.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")
)
PNG = b"\x89PNG"

pytestmark = pytest.mark.skipif(not PLOTS.is_dir(), reason="not a checkout")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    """Scripts are run in a folder of their own; none may write beside itself."""
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(PLOTS))
    before = {path: path.stat().st_mtime_ns for path in PLOTS.glob("*.png")}
    yield
    assert {path: path.stat().st_mtime_ns for path in PLOTS.glob("*.png")} == before


def script(name):
    sys.modules.pop(name, None)
    return importlib.import_module(name)


@pytest.fixture
def benchmarks(tmp_path):
    """The file that throughput.py and fit.py read."""
    path = tmp_path / "out.json"
    rows = [
        {"extra_info": {"workload": f"work {i}", "implementation": peer, "unit": "draw",
                        "ns_per_unit": 2.0, "floor_ns_per_unit": 1.0}}
        for i in range(5) for peer in ("fastelbo", "scipy")
    ]  # fmt: skip
    rows += [
        {"extra_info": {"fit": fit, "trace": [[0.0, 9.0], [0.1, 0.5], [0.2, 0.0]],
                        "seconds_to_target": 0.2}}
        for fit in ("fastelbo", "fastelbo, L-BFGS", "numpyro, 600 steps at 0.1")
    ]  # fmt: skip
    path.write_text(json.dumps({"benchmarks": rows}))
    return path


def needed(name, benchmarks):
    return [str(benchmarks)] if name in ("throughput", "fit") else []


def test_every_script_has_a_figure():
    assert set(SCRIPTS) == {path.stem for path in PLOTS.glob("*.png")}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    ("given", "out"),
    [
        ([], "{plots}/{name}.png"),
        (["--small"], "{name}-small.png"),
        (["--out", "a.png"], "a.png"),
        (["--small", "--out", "a.png"], "a.png"),
    ],
)
def test_options_of_every_script(name, given, out, benchmarks, monkeypatch):
    module, read = script(name), []

    class Stop(Exception):  # noqa: N818
        """Raised instead of the work."""

    def options(*arguments, **keywords):
        read.append(importlib.import_module("figure_options").read_options(*arguments, **keywords))
        raise Stop

    monkeypatch.setattr(module, "read_options", options)
    with pytest.raises(Stop):
        module.main([*needed(name, benchmarks), *given])
    assert read[0].small == ("--small" in given)
    assert read[0].out == Path(out.format(plots=PLOTS, name=name))


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_of_every_script(name, capsys):
    with pytest.raises(SystemExit) as stop:
        script(name).main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "--small" in shown
    assert "--out PATH" in shown
    assert f"{name}-small.png" in "".join(shown.split())


@pytest.mark.parametrize("name", ["convergence", "throughput", "fit"])
def test_a_small_figure_is_written_to_the_current_folder(name, benchmarks, tmp_path):
    module = script(name)
    module.main([*needed(name, benchmarks), "--small"])
    assert (tmp_path / f"{name}-small.png").read_bytes()[:4] == PNG
    module.main([*needed(name, benchmarks), "--small", "--out", "there.png"])
    assert (tmp_path / "there.png").read_bytes()[:4] == PNG


@pytest.mark.statistical
def test_slopes_of_signal_to_noise_ratios():
    """-1/2 for the total gradient (Rainforth et al., 2018), +1/2 for DReG (Tucker et al., 2019)."""
    module = script("gradient_snr")
    sizes = [k for k in module.SIZES if k >= 10]
    ratios = module.signal_to_noise(60_000, sizes)
    for name, power in (("total", -0.5), ("dreg", 0.5)):
        assert abs(module.slope(ratios[name], sizes)[0] - power) < 0.05
