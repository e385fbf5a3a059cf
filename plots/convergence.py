"""How estimates converge: evidence and bounds of ten digits against the number of draws.

The ELBO and the importance-weighted bounds settle below the evidence, each at its own distance. The
estimate of the evidence converges to it. Its error falls like 1 / sqrt(K).

    python plots/convergence.py [OUTPUT]
"""

import argparse
from pathlib import Path

import fastelbo as fe
from fastelbo.demo import convergence


def main() -> None:
    """Draw the figure and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).with_suffix(".png")
    parser.add_argument("output", type=Path, nargs="?", default=default, help="image to write")
    output = parser.parse_args().output

    estimates, exact = convergence()
    ax = fe.plotting.plot_convergence(estimates, exact)
    ax.set_title("Probabilistic PCA of ten digits, q a little too wide")
    ax.figure.savefig(output, dpi=150)


if __name__ == "__main__":
    main()
