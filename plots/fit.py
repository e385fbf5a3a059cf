"""Distance to the optimum of mean-field fits of the digits, against time.

pytest --benchmark-only -k mean_field --benchmark-json=out.json
python plots/fit.py out.json [--small] [--out PATH]
"""

import json

import matplotlib
from figure_options import read_options

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# The palette of Okabe and Ito; a colour for each library.
COLOURS = {"fastelbo": "#0072B2", "numpyro": "#009E73", "torch": "#D55E00"}
LINES = ("-", "--", ":", "-.")
TARGET = 0.01


def read(path):
    """{fit: [(seconds, gap)]}"""
    found = (each["extra_info"] for each in json.loads(path.read_text())["benchmarks"])
    return {info["fit"]: info["trace"] for info in found if "trace" in info}


def draw(traces):
    """One line a fit, on logarithmic axes."""
    figure, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    seen = {}
    for name, trace in traces.items():
        library = name.split(",")[0]
        style = LINES[seen.setdefault(library, 0) % len(LINES)]
        seen[library] += 1
        seconds, gaps = zip(*((s, max(gap, 1e-10)) for s, gap in trace if s > 0.0), strict=True)
        ax.loglog(seconds, gaps, style, color=COLOURS[library], label=name)
    ax.axhline(TARGET, color="0.6", linewidth=1)
    ax.set_xlabel("seconds, without compilation")
    ax.set_ylabel("optimum less ELBO, nats a data point")
    ax.set_title("Mean-field fits of 1797 digits, D = 10", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return figure


def main(argv=None) -> None:
    """Draw the figure and write it."""
    arguments = read_options(__file__, __doc__, "the first two fits", needs_json=True, argv=argv)
    traces = read(arguments.json)
    figure = draw(dict(list(traces.items())[:2]) if arguments.small else traces)
    figure.savefig(arguments.out, dpi=150)


if __name__ == "__main__":
    main()
