"""Pareto k-hat against the true tail index k of the weights, with its spread.

If the weights are exactly Pareto, k-hat is on the diagonal. If q is too narrow, the Pareto tail of
the weights is far out, and the draws reach less of it. Then k-hat is too low for a heavy tail, and
rises with the number of draws. With few draws, the prior of the fit pulls k-hat towards 1/2. Takes
about 25 seconds.

    python plots/pareto_k.py [--small] [--out PATH]
"""

import warnings

import numpy as np
from figure_options import read_options
from heavy_tails import COLOURS, FAMILIES, blocks
from matplotlib import pyplot as plt

import fastelbo as fe
from fastelbo.weights.pareto import k_threshold

TRUE_K = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
DRAWS = (1000, 10_000, 100_000)
SPREAD = (5.0, 50.0, 95.0)


def percentiles(draw, k, n_samples, repeats):
    """Percentiles of k-hat over repeats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fe.errors.HighParetoKWarning)
        found = [fe.pareto_k(rows) for rows in blocks(draw, k, n_samples, repeats, seed=1)]
    return np.percentile(np.concatenate(found), SPREAD)


def draw_panel(ax, n_samples, repeats):
    """Both families for one number of draws."""
    limit = k_threshold(n_samples)
    ax.plot([0.0, 1.0], [0.0, 1.0], color="0.6", linewidth=1, label="k-hat = k")
    ax.axhline(limit, color="black", linestyle="--", linewidth=1, label="limit of what is trusted")
    for name, draw in FAMILIES.items():
        low, middle, high = np.array([percentiles(draw, k, n_samples, repeats) for k in TRUE_K]).T
        ax.fill_between(TRUE_K, low, high, color=COLOURS[name], alpha=0.2, linewidth=0)
        ax.plot(TRUE_K, middle, "o-", color=COLOURS[name], markersize=4, label=name)
    ax.set_title(f"K = {n_samples:,} draws, limit {limit:.2f}", fontsize=10)
    ax.set_xlabel("true k")
    ax.spines[["top", "right"]].set_visible(False)


def main(argv=None) -> None:
    """Draw the figure and write it."""
    arguments = read_options(__file__, __doc__, "20 repeats, and fewer draws", argv=argv)

    repeats, draws = (20, DRAWS[:2]) if arguments.small else (300, DRAWS)
    size = (3.6 * len(draws) + 1.6, 4.2)
    figure, axes = plt.subplots(1, len(draws), figsize=size, sharey=True, layout="constrained")
    for ax, n_samples in zip(axes, draws, strict=True):
        draw_panel(ax, n_samples, repeats)
    axes[0].set_ylabel("Pareto k-hat")
    axes[0].legend(
        frameon=False, fontsize=8, loc="upper left",
        title=f"median and 5 to 95 %\nof {repeats} repeats", title_fontsize=8, alignment="left",
    )  # fmt: skip
    axes[0].set_ylim(-0.2, 1.35)
    figure.savefig(arguments.out, dpi=120)


if __name__ == "__main__":
    main()
