"""How often a 95 % interval of the log evidence covers the true value, against the tail index.

The delta interval, log mean -+ 1.96 sqrt(v / K), knows only the drawn part of the weights' tail.
From tail index k = 1/2 on, the weights have no variance. As k nears 1/2, the delta interval misses
the truth more and more often, and k-hat flags only a part of the estimates. The tail interval keeps
its level. Takes about a minute.

    python plots/coverage.py [--small] [--out PATH]
"""

import warnings

import numpy as np
from figure_options import read_options
from heavy_tails import COLOURS, FAMILIES, blocks
from matplotlib import pyplot as plt

import fastelbo as fe
from fastelbo.weights.pareto import k_threshold, tail_length
from fastelbo.weights.tail_intervals import tail_interval

N_SAMPLES = 10_000
LEVEL = 0.95
# Half-width of a normal interval of this level, in standard errors.
HALF_WIDTH = 1.959963984540054
TRUE_K = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TAIL = int(tail_length(N_SAMPLES)) + 1


def shares(draw, k, repeats):
    """Shares of repeats: delta interval covers, tail interval covers, k-hat above the limit."""
    found = []
    for rows in blocks(draw, k, N_SAMPLES, repeats, seed=2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fe.errors.FastElboWarning)
            estimate = fe.summarize(rows, iw_sizes=())
            flagged = fe.pareto_k(rows) > k_threshold(N_SAMPLES)
        value, v = estimate.log_evidence, estimate.relative_variance
        tail = np.partition(rows, -TAIL, axis=1)[:, -TAIL:]
        low, high = tail_interval(N_SAMPLES, value, v, tail, LEVEL)
        # The exact log evidence is 0.
        delta = np.abs(value) <= HALF_WIDTH * np.sqrt(v / N_SAMPLES)
        found.append([delta, (low <= 0.0) & (high >= 0.0), flagged])
    return np.concatenate(found, axis=1).mean(axis=1)


def draw_shares(axes, repeats):
    """Coverage above, flagged estimates below."""
    coverage, flagged = axes
    coverage.axhline(LEVEL, color="black", linestyle="--", linewidth=1)
    for name, draw in FAMILIES.items():
        found = [shares(draw, k, repeats) for k in TRUE_K]
        for k, row in zip(TRUE_K, found, strict=True):
            print(f"{name}, k = {k}: delta, tail, flagged", *(f"{share:.3f}" for share in row))
        delta, tail, high_k = np.array(found).T
        colour = COLOURS[name]
        coverage.plot(
            TRUE_K, tail, "o-", color=colour, markersize=5, label=f"tail interval, {name}"
        )
        coverage.plot(
            TRUE_K, delta, "s:", color=colour, markersize=5, markerfacecolor="white",
            label=f"delta interval, {name}",
        )  # fmt: skip
        flagged.plot(TRUE_K, high_k, "o-", color=colour, markersize=4, label=name)
    error = np.sqrt(LEVEL * (1.0 - LEVEL) / repeats)
    coverage.axhspan(LEVEL - 2.0 * error, LEVEL + 2.0 * error, color="0.9", zorder=0)


def main(argv=None) -> None:
    """Draw the figure and write it."""
    arguments = read_options(__file__, __doc__, "20 repeats", argv=argv)

    repeats = 20 if arguments.small else 2000
    figure, axes = plt.subplots(
        2, 1, figsize=(8.0, 6.0), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    draw_shares(axes, repeats)
    coverage, flagged = axes
    coverage.set_ylabel("share of intervals that hold the truth")
    coverage.set_title(
        f"Nominal 95 % intervals of the log evidence from {N_SAMPLES:,} draws, {repeats} repeats;\n"
        "grey: what chance allows around 95 % (2 SE)",
        fontsize=10,
    )
    coverage.legend(frameon=False, fontsize=8, loc="lower left")
    flagged.set_ylabel("k-hat above\nthe limit")
    flagged.set_xlabel("true tail index k of the weights")
    coverage.annotate(
        "from here on the weights\nhave no variance", (0.494, 0.6),
        fontsize=8, color="0.4", ha="right",
    )  # fmt: skip
    for ax in axes:
        ax.axvline(0.5, color="0.8", linewidth=1, zorder=0)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(arguments.out, dpi=120)


if __name__ == "__main__":
    main()
