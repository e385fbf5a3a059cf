"""Throughput of each workload by implementation, and the least time that the machine allows.

pytest --benchmark-only --benchmark-json=out.json
python plots/throughput.py out.json [--small] [--out PATH]
"""

import json

import matplotlib
from figure_options import read_options

matplotlib.use("Agg")
from matplotlib import pyplot as plt

OURS = "fastelbo"
# The palette of Okabe and Ito, which colour-blind readers can tell apart; a shape for each peer.
STYLES = {
    OURS: ("#0072B2", "D"),
    "numpy": ("#E69F00", "o"),
    "scipy": ("#56B4E9", "v"),
    "scikit-learn": ("#56B4E9", "s"),
    "numexpr": ("#E69F00", "^"),
    "jax": ("#009E73", "o"),
    "jax float32": ("#009E73", "s"),
    "numpyro": ("#009E73", "^"),
    "torch": ("#D55E00", "o"),
    "torch compiled": ("#D55E00", "s"),
    "c_plain": ("#000000", "o"),
    "c_blocked": ("#000000", "s"),
}


def read(path):
    """{workload: (unit, {implementation: ns per unit}, floor in ns)} of workloads with peers."""
    workloads = {}
    for benchmark in json.loads(path.read_text())["benchmarks"]:
        info = benchmark["extra_info"]
        if "ns_per_unit" in info:
            row = workloads.setdefault(
                info["workload"], (info["unit"], {}, info["floor_ns_per_unit"])
            )
            row[1][info["implementation"]] = info["ns_per_unit"]
    return {name: row for name, row in workloads.items() if set(row[1]) - {OURS, "numpy"}}


def draw(workloads):
    """One row per workload, one mark per implementation, on a logarithmic axis."""
    figure, ax = plt.subplots(figsize=(9.0, 0.42 * len(workloads) + 1.6), layout="constrained")
    names = list(workloads)
    for y, (_, by_name, floor) in enumerate(workloads.values()):
        ax.axhline(y, color="0.9", zorder=0)
        ax.plot(1e9 / floor, y, "|", color="0.5", markersize=16, label="floor" if y == 0 else None)
        for name, (colour, marker) in STYLES.items():
            if name in by_name:
                size, order = (8, 3) if name == OURS else (6, 2)
                ax.plot(
                    1e9 / by_name[name], y, marker, color=colour, markersize=size, zorder=order,
                    markerfacecolor=colour if name == OURS else "white", markeredgewidth=1.5,
                )  # fmt: skip
    for name, (colour, marker) in STYLES.items():
        if any(name in by_name for _, by_name, _ in workloads.values()):
            ax.plot(
                [], [], marker, color=colour, label=name, markeredgewidth=1.5,
                markerfacecolor=colour if name == OURS else "white",
            )  # fmt: skip
    ax.set_yticks(range(len(names)), [f"{n} ({workloads[n][0]}s)" for n in names], fontsize=8)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set_xlabel("a second")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def main(argv=None) -> None:
    """Draw the figure and write it."""
    arguments = read_options(
        __file__, __doc__, "the first three workloads", needs_json=True, argv=argv
    )
    workloads = read(arguments.json)
    figure = draw(dict(list(workloads.items())[:3]) if arguments.small else workloads)
    figure.suptitle("Throughput by implementation; further right is faster", fontsize=10)
    figure.savefig(arguments.out, dpi=150)


if __name__ == "__main__":
    main()
