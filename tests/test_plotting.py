"""Figures show the numbers that they are given."""

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS
from matplotlib import pyplot as plt

import fastelbo as fe

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

PLOTS = Path(__file__).parent.parent / "plots"
DRAWS = [64, 256, 1024]


@pytest.fixture(autouse=True)
def _without_a_display():
    plt.switch_backend("Agg")


@pytest.fixture
def model():
    return fe.LinearGaussian([[1.0], [-0.5]], [[1.0]], noise_cov=1.0)


@pytest.fixture
def estimates(model):
    q = fe.Gaussian(model.exact_posterior().mean, scale=0.8)
    return [fe.estimate(model, q, n_samples=n, rng=0) for n in DRAWS]


def curves(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_curves_are_the_means_over_data_points(model, estimates):
    exact = model.exact_log_evidence()
    ax = fe.plotting.plot_convergence(estimates[::-1], exact)
    lines = curves(ax)
    assert list(lines) == [
        "exact log evidence", "log evidence", "IW bound, k = 100", "IW bound, k = 10", "ELBO",
    ]  # fmt: skip
    assert lines["ELBO"].get_xdata().tolist() == DRAWS
    # 64 draws have no group of 100.
    assert lines["IW bound, k = 100"].get_xdata().tolist() == DRAWS[1:]
    for label, values in (
        ("log evidence", [est.log_evidence for est in estimates]),
        ("IW bound, k = 10", [est.iw_elbo(10).value for est in estimates]),
        ("ELBO", [est.elbo for est in estimates]),
    ):
        means = [(value - exact).mean() for value in values]
        assert lines[label].get_ydata() == pytest.approx(means, rel=1e-12)


def test_bands_are_1_96_standard_errors_of_the_mean(estimates):
    ax = fe.plotting.plot_convergence(estimates)
    band = ax.collections[0].get_paths()[0].vertices
    for est in estimates:
        edges = band[band[:, 0] == est.n_samples, 1]
        half = 1.96 * np.sqrt((est.log_evidence_se**2).sum()) / 2
        mean = est.log_evidence.mean()
        assert (edges.min(), edges.max()) == pytest.approx((mean - half, mean + half), rel=1e-12)


def test_axes_are_labelled_with_units(model, estimates):
    ax = fe.plotting.plot_convergence(estimates, model.exact_log_evidence())
    assert ax.get_ylabel() == "difference from exact log evidence (nats)"
    assert ax.get_xlabel() == "draws K"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "asinh")
    assert "mean of 2 data points" in ax.get_legend().get_title().get_text()


def test_without_exact_values_the_estimates_themselves_are_drawn(estimates):
    ax = fe.plotting.plot_convergence(estimates)
    assert (ax.get_ylabel(), ax.get_yscale()) == ("nats", "linear")
    lines = curves(ax)
    assert "exact log evidence" not in lines
    assert lines["ELBO"].get_ydata()[-1] == pytest.approx(estimates[-1].elbo.mean())


def test_axes_may_be_given(estimates):
    _, ax = plt.subplots()
    assert fe.plotting.plot_convergence(estimates, ax=ax) is ax


def test_what_cannot_be_drawn_is_refused(model, estimates):
    plot = fe.plotting.plot_convergence
    with pytest.raises(fe.errors.InvalidInputError, match=r"got batch shapes \[\]"):
        plot([])
    other = fe.estimate(fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=2.0), rng=0)
    with pytest.raises(fe.errors.InvalidInputError, match="same data points"):
        plot([*estimates, other])
    with pytest.raises(fe.errors.InvalidInputError, match=r"exact must have the shape .* \(2,\)"):
        plot(estimates, 0.0)
    mixture = fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0))
    summed = fe.estimate(fe.MixtureModel([[0.0]], mixture), fe.Categorical([1.0]))
    with pytest.raises(fe.errors.InvalidInputError, match="must have draws"):
        plot([summed])
    several_q = fe.estimate(
        fe.Gaussian([0.0], scale=1.0), fe.Gaussian([[0.0], [1.0]], scale=2.0), rng=0
    )
    with pytest.raises(fe.errors.InvalidInputError, match="data points"):
        plot([several_q])


# --- one estimate ---------------------------------------------------------------------------------


def errorbars(ax):
    """Label, places, values and half-widths of each set of error bars."""
    found = {}
    for bars in ax.containers:
        x, y = bars.lines[0].get_data()
        ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
        found[bars.get_label()] = x.tolist(), y, (ends[:, 1] - ends[:, 0]) / 2
    return found


def test_bounds_are_drawn_against_their_size(model, estimates):
    est = estimates[-1]
    ax = est.plot(exact=model.exact_log_evidence())
    bars = errorbars(ax)
    assert list(bars) == ["log evidence, k = K", "IW bound", "ELBO, k = 1"]
    for label, sizes, bounds in (
        ("log evidence, k = K", [1024], [fe.Bound(est.log_evidence, est.log_evidence_se)]),
        ("IW bound", [10, 100], [est.iw_elbo(10), est.iw_elbo(100)]),
        ("ELBO, k = 1", [1], [est.iw_elbo(1)]),
    ):
        places, values, halves = bars[label]
        assert places == sizes
        assert values == pytest.approx([bound.value.mean() for bound in bounds], rel=1e-12)
        want = [1.96 * np.sqrt((bound.se**2).sum()) / 2 for bound in bounds]
        assert halves == pytest.approx(want, rel=1e-9)
    exact = curves(ax)["exact log evidence"].get_ydata()
    assert exact[0] == pytest.approx(model.exact_log_evidence().mean())
    assert (ax.get_xscale(), ax.get_ylabel()) == ("log", "nats")
    assert "mean of 2 data points" in ax.get_legend().get_title().get_text()


@pytest.mark.parametrize("point", [1, -1, (1,)])
def test_bounds_of_one_data_point(estimates, point):
    ax = estimates[-1].plot(point=point)
    assert errorbars(ax)["ELBO, k = 1"][1] == [estimates[-1].elbo[1]]
    assert "mean" not in ax.get_legend().get_title().get_text()


def test_bounds_without_group_sizes(model):
    est = fe.estimate(model, fe.Gaussian([0.0], scale=1.0), n_samples=100, rng=0, iw_sizes=())
    assert list(errorbars(est.plot())) == ["log evidence, k = K", "ELBO, k = 1"]


def test_bounds_of_several_q_are_drawn_one_at_a_time():
    q = fe.Gaussian([[0.0], [1.0]], scale=2.0)
    est = fe.estimate(fe.Gaussian([0.0], scale=1.0), q, rng=0)
    assert est.plot(point=1).get_xlabel() == "weights k in the bound"
    with pytest.raises(fe.errors.InvalidInputError, match="data points"):
        est.plot()


def test_bounds_that_cannot_be_drawn_are_refused(model, estimates):
    for point in (2, -3, (0, 0)):
        with pytest.raises(fe.errors.InvalidInputError, match=r"point must .* batch \(2,\)"):
            estimates[0].plot(point=point)
    with pytest.raises(fe.errors.InvalidInputError, match="exact must have the shape"):
        estimates[0].plot(exact=0.0)
    mixture = fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0))
    summed = fe.estimate(fe.MixtureModel([[0.0]], mixture), fe.Categorical([1.0]))
    for est, point in ((summed, None), (summed, 0), (fe.summarize(np.zeros((0, 9))), None)):
        with pytest.raises(fe.errors.InvalidInputError, match="draws"):
            est.plot(point=point)


def test_k_hat_is_drawn_by_class():
    k = [[0.1, 0.65, 0.9], [1.2, np.nan, np.inf]]
    ax = fe.plotting.plot_pareto_k(k, threshold=0.6)
    lines = curves(ax)
    assert list(lines) == [
        "limit of good, 0.60", "limit of bad, 1", "1 good", "2 bad", "2 very bad",
        "2 NaN or infinite",
    ]  # fmt: skip
    drawn = {name: lines[name].get_data() for name in ("1 good", "2 bad", "2 very bad")}
    assert {name: (x.tolist(), y.tolist()) for name, (x, y) in drawn.items()} == {
        "1 good": ([0], [0.1]), "2 bad": ([1, 2], [0.65, 0.9]), "2 very bad": ([3], [1.2]),
    }  # fmt: skip
    assert lines["limit of good, 0.60"].get_ydata()[0] == 0.6
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("data point", "Pareto k-hat")
    assert "6 data points" in ax.get_legend().get_title().get_text()


def test_k_hat_of_an_estimate_has_the_limit_of_its_draws(estimates):
    est = dataclasses.replace(estimates[0], pareto_k=np.array([0.1, 0.2]))
    ax = est.plot("pareto_k")
    assert curves(ax)["2 good"].get_ydata().tolist() == [0.1, 0.2]
    # 1 - 1 / log10 64.
    assert "limit of good, 0.45" in curves(ax)


def test_figures_of_an_estimate_take_axes_and_known_kinds(estimates):
    for kind in ("bounds", "pareto_k"):
        _, ax = plt.subplots()
        assert estimates[0].plot(kind, ax=ax) is ax
    with pytest.raises(fe.errors.InvalidInputError, match="kind must be"):
        estimates[0].plot("khat")


def test_both_figures_of_a_report(estimates):
    figure = fe.plotting.new_figure()
    k = np.array([0.1, 0.8])
    fe.plotting.plot_both(dataclasses.replace(estimates[0], pareto_k=k), figure)
    assert [ax.get_ylabel() for ax in figure.axes] == ["nats", "Pareto k-hat"]
    figure = fe.plotting.new_figure()
    fe.plotting.plot_both(dataclasses.replace(estimates[0], pareto_k=k * np.nan), figure)
    assert [ax.get_ylabel() for ax in figure.axes] == ["nats"]


def test_what_is_not_finite_leaves_a_figure_empty_but_drawn(tmp_path):
    zero = fe.summarize(np.full((2, 100), -np.inf))
    for kind in ("bounds", "pareto_k"):
        image = tmp_path / f"{kind}.png"
        zero.plot(kind).figure.savefig(image)
        assert image.read_bytes().startswith(b"\x89PNG")


# --- scripts --------------------------------------------------------------------------------------


def test_matplotlib_is_imported_only_to_draw():
    program = "import sys, fastelbo.plotting, fastelbo.cli; print('matplotlib' in sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.fixture
def script(monkeypatch):
    """Run a script by its name, as from its own folder."""
    monkeypatch.syspath_prepend(str(PLOTS))

    def run(name, *arguments, run_name="__main__"):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        return runpy.run_path(str(PLOTS / name), run_name=run_name)

    return run


@pytest.mark.parametrize(
    "name", ["convergence.py", "bounds.py", "pareto_k.py", "coverage.py"]
)  # fmt: skip
def test_script_writes_its_figure(name, script, tmp_path):
    image = tmp_path / "figure.png"
    script(name, "--small", "--out", str(image))
    assert image.read_bytes()[:4] == b"\x89PNG"
    # The figure in the repository exists and is small.
    shown = PLOTS / name.replace(".py", ".png")
    assert shown.read_bytes()[:4] == b"\x89PNG"
    assert shown.stat().st_size < 150_000


def test_exact_bounds_of_the_figure(script):
    names = script("bounds.py", run_name="not main")
    sizes = np.array([1, 2, 5, 10, 50, 100, 1000])
    assert names["exact_iw_elbo"](sizes) == pytest.approx(
        [-1.91893853, -1.65347379, -1.55741058, -1.53494159, -1.51919852, -1.51734391, -1.51569429],
        abs=1e-8,
    )
    # Order 1/2, the ELBO, the log evidence, CUBO_2.
    assert names["exact_renyi"]([0.5, 1.0, 0.0, -1.0]) == pytest.approx(
        [-1.65773697, -1.91893853, -1.51551212, -1.36025827], abs=1e-8
    )


@pytest.mark.parametrize("name", ["exactly Pareto", "Gaussians of two widths"])
def test_weights_of_the_figures_have_the_evidence_they_say(name, script):
    draw = script("heavy_tails.py")["FAMILIES"][name]
    weights = np.exp(draw(np.random.default_rng(0), 10**6, 0.25))
    assert abs(weights.mean() - 1.0) < 4.0 * weights.std() / 1000.0
    assert fe.pareto_k(np.log(weights)) == pytest.approx(0.25, abs=0.1)
