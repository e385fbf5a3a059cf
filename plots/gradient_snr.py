"""Signal-to-noise ratio of the gradient of a bound of k weights, against k, for each estimator.

The total gradient by q's mean has a ratio that falls as k^(-1/2) (Rainforth et al., 2018), the
doubly reparameterised one a ratio that rises as k^(1/2) (Tucker et al., 2019). Dashed lines are
fits over k = 10 to 320. Takes about half a minute.

    python plots/gradient_snr.py [--small] [--out PATH]
"""

import numpy as np
from figure_options import read_options
from matplotlib import pyplot as plt

import fastelbo as fe

SIZES = (1, 2, 5, 10, 20, 40, 80, 160, 320)
FITTED = (10, 320)
# The palette of Okabe and Ito.
COLOURS = {"total": "#D55E00", "stl": "#E69F00", "dreg": "#0072B2", "rws": "#009E73"}
LABELS = {
    "total": "total", "stl": "STL (biased for k > 1)", "dreg": "DReG",
    "rws": "RWS (another objective)",
}  # fmt: skip

# x = 1 of x | z ~ N(z, 1), z ~ N(0, 1); q misses the posterior N(1/2, 1/2).
MODEL = fe.LinearGaussian([1.0], [[1.0]], noise_cov=1.0)
Q = fe.Gaussian([0.2], scale=0.9)


def signal_to_noise(groups, sizes=SIZES):
    """{estimator: ratio for each k} of the gradient by q's mean.

    The total gradient has the expectation of DReG, which knows it far better: its ratio is the mean
    of the one over the standard deviation of the other.
    """
    ratios = {name: [] for name in COLOURS}
    for k in sizes:
        mean, deviation = {}, {}
        for name in COLOURS:
            found = fe.elbo_gradient(
                MODEL, Q, groups * k, k=k, estimator=name, wrt="q", rng=0
            ).mean  # fmt: skip
            mean[name] = abs(found.value[0])
            deviation[name] = found.se[0] * np.sqrt(groups)
        mean["total"] = mean["dreg"] if k > 1 else mean["stl"]
        for name, row in ratios.items():
            # RWS has no gradient at k = 1.
            row.append(mean[name] / deviation[name] if deviation[name] > 0.0 else np.nan)
    return {name: np.array(row) for name, row in ratios.items()}


def slope(ratios, sizes=SIZES):
    """The exponent of k, and the factor, of the fit over `FITTED`."""
    sizes = np.array(sizes)
    within = (sizes >= FITTED[0]) & (sizes <= FITTED[1])
    return np.polyfit(np.log(sizes[within]), np.log(ratios[within]), 1)


def main(argv=None) -> None:
    """Draw the figure and write it."""
    arguments = read_options(__file__, __doc__, "2000 groups of draws", argv=argv)

    ratios = signal_to_noise(2000 if arguments.small else 60_000)
    figure, ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
    for name, row in ratios.items():
        power, base = slope(row)
        ax.loglog(
            SIZES, row, "o-", color=COLOURS[name], markersize=4,
            label=f"{LABELS[name]}: slope {power:+.2f}",
        )  # fmt: skip
        ax.loglog(FITTED, np.exp(base) * np.array(FITTED) ** power, "k--", linewidth=0.8)
    ax.set_xlabel("k, weights of the bound")
    ax.set_ylabel("signal-to-noise ratio of d bound / d mean")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    figure.savefig(arguments.out, dpi=120)


if __name__ == "__main__":
    main()
