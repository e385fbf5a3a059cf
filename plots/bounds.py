"""Every bound on the log evidence of one data point, with the exact value.

z ~ N(0, 1), x | z ~ N(z, 1), x = 1, and q = N(0, 1). Left: bounds from k weights. The ELBO (k = 1)
and the importance-weighted bounds rise to the log evidence from below. With few weights the
jackknife is closer, but it is no bound. Right: the Renyi bounds of order alpha. They fall with
alpha: they equal the log evidence at alpha = 0 and the ELBO at alpha = 1. The CUBO of order n is
the Renyi bound of alpha = 1 - n. Takes about 20 seconds.

    python plots/bounds.py [--small] [--out PATH]
"""

import numpy as np
from figure_options import read_options
from matplotlib import pyplot as plt
from scipy.special import xlog1py

import fastelbo as fe

X = 1.0
LOG_EVIDENCE = -0.5 * np.log(4.0 * np.pi) - X**2 / 4.0
SIZES = np.array([1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000])
# The palette of Okabe and Ito, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
BAND_SES = 1.96


def exact_iw_elbo(sizes):
    """E log of the mean of k weights: the integral of (exp(-t) - phi(t / k)^k) dt / t over t > 0.

    phi is the Laplace transform of the distribution of a weight. Both integrals are sums at
    equidistant points.
    """
    z = np.linspace(-12.0, 12.0, 1001)
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi) * (z[1] - z[0])
    # Weights in units of the evidence, so that both terms fall where t is about 1.
    weights = np.exp(-0.5 * (X - z) ** 2) / np.sqrt(2.0 * np.pi) / np.exp(LOG_EVIDENCE)
    log_t, step = np.linspace(-30.0, 100.0, 5001, retstep=True)
    t = np.exp(log_t)
    found = []
    for k in sizes:
        # -expm1(-x) keeps the digits of 1 - phi where t is small.
        log_phi = np.log1p(np.expm1(-np.outer(t / k, weights)) @ density)
        found.append(LOG_EVIDENCE + step * (np.exp(-t) - np.exp(k * log_phi)).sum())
    return np.array(found)


def exact_renyi(alpha):
    """log(E w^s) / s with s = 1 - alpha; the ELBO if s is 0."""
    power = 1.0 - np.asarray(alpha)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_moment = np.where(power == 0.0, 1.0, xlog1py(1.0, power) / power)
    return -0.5 * np.log(2.0 * np.pi) - 0.5 * log_moment - 0.5 * X**2 / (1.0 + power)


def mean_jackknife(log_weights, size, order):
    """Mean and standard error of the jackknife of ``size`` weights, over disjoint groups."""
    groups = log_weights[: log_weights.size // size * size].reshape(-1, size)
    value = fe.jackknife(groups, order).value
    return value.mean(), value.std(ddof=1) / np.sqrt(value.size)


def draw_curve(ax, x, value, se, colour, marker, label):
    """Estimates with a band, as differences from the log evidence."""
    difference = np.asarray(value) - LOG_EVIDENCE
    half = BAND_SES * np.asarray(se)
    ax.fill_between(x, difference - half, difference + half, color=colour, alpha=0.25, linewidth=0)
    ax.plot(x, difference, marker, color=colour, markersize=5, label=label)


def draw_sizes(ax, log_weights):
    """Bounds against the number of weights in them."""
    ax.axhline(0.0, color="black", linestyle="--", linewidth=1, label="exact log evidence")
    # The scale is set before the curves, so that the margins fit it.
    ax.set_yscale("asinh", linear_width=1e-3)
    ax.plot(
        SIZES, exact_iw_elbo(SIZES) - LOG_EVIDENCE, color=BLUE, linewidth=1, label="exact bound"
    )
    value, se = fe.iw_elbo(log_weights, SIZES, method="partitions", rng=0)
    draw_curve(ax, SIZES[:1], value[:1], se[:1], PINK, "D", "ELBO (k = 1)")
    draw_curve(ax, SIZES[1:], value[1:], se[1:], BLUE, "o", "importance-weighted bound")
    for order, colour, marker in ((1, ORANGE, "^"), (2, GREEN, "v")):
        sizes = SIZES[(order < SIZES) & (SIZES <= 100)]
        found = np.array([mean_jackknife(log_weights, size, order) for size in sizes]).T
        draw_curve(ax, sizes, *found, colour, marker, f"jackknife, order {order} (no bound)")
    ax.set_xscale("log")
    ax.set_xlabel("weights k in the bound")
    ticks = np.array([-0.1, -0.01, -0.001, 0.0, 0.001, 0.01, 0.1])
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks([], minor=True)
    ax.set_ylabel("difference from exact log evidence (nats)")
    ax.legend(frameon=False, fontsize=8, loc="lower right")


def draw_orders(ax, log_weights):
    """Renyi bounds and CUBO against the order alpha."""
    fine = np.linspace(-3.0, 1.4, 200)
    ax.axhline(0.0, color="black", linestyle="--", linewidth=1, label="exact log evidence")
    ax.plot(fine, exact_renyi(fine) - LOG_EVIDENCE, color=RED, linewidth=1, label="exact bound")
    orders = np.array([0.25, 0.5, 0.75, 1.25])
    renyi = np.array([fe.renyi_bound(log_weights, alpha) for alpha in orders]).T
    draw_curve(ax, orders, *renyi, RED, "s", "Renyi bound")
    powers = np.array([4.0, 3.0, 2.0, 1.5])
    cubo = np.array([fe.cubo(log_weights, n) for n in powers]).T
    draw_curve(ax, 1.0 - powers, *cubo, ORANGE, "P", "CUBO, n = 1 - alpha")
    evidence, elbo = (fe.renyi_bound(log_weights, alpha) for alpha in (0.0, 1.0))
    draw_curve(ax, [0.0], [evidence.value], [evidence.se], BLUE, "o", "log evidence (alpha = 0)")
    draw_curve(ax, [1.0], [elbo.value], [elbo.se], PINK, "D", "ELBO (alpha = 1)")
    ax.set_xlabel("order alpha of the Renyi bound")
    ax.set_ylabel("difference from exact log evidence (nats)")
    ax.annotate("upper bounds", (-2.9, 0.02), fontsize=8, color="0.3")
    ax.annotate("lower bounds", (-2.9, -0.05), fontsize=8, color="0.3")
    ax.legend(frameon=False, fontsize=8, loc="lower left")


def main(argv=None) -> None:
    """Draw the figure and write it."""
    arguments = read_options(__file__, __doc__, "a hundredth of the draws", argv=argv)

    draws = 20_000 if arguments.small else 2_000_000
    model = fe.LinearGaussian([[X]], [[1.0]], noise_cov=1.0)
    log_weights = fe.log_weights(model, fe.Gaussian([0.0], scale=1.0), draws, rng=0)[0]

    figure, (left, right) = plt.subplots(1, 2, figsize=(11.0, 4.6), layout="constrained")
    draw_sizes(left, log_weights)
    draw_orders(right, log_weights)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Bounds from {draws:,} draws of q = N(0, 1), with bands of ±{BAND_SES} SE")
    figure.savefig(arguments.out, dpi=120)


if __name__ == "__main__":
    main()
