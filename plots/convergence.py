"""How estimates converge: evidence and bounds of ten digits against the number of draws.

The ELBO and the importance-weighted bounds settle below the evidence, each at its own distance. The
estimate of the evidence converges to it. Its error falls like 1 / sqrt(K).

    python plots/convergence.py [--small] [--out PATH]
"""

from figure_options import read_options

import fastelbo as fe
from fastelbo.demo import convergence


def main(argv=None) -> None:
    """Draw the figure and write it."""
    arguments = read_options(__file__, __doc__, "at most 2^10 draws", argv=argv)

    estimates, exact = convergence(most=10 if arguments.small else 17)
    ax = fe.plotting.plot_convergence(estimates, exact)
    ax.set_title("Probabilistic PCA of ten digits, q a little too wide")
    ax.figure.savefig(arguments.out, dpi=150)


if __name__ == "__main__":
    main()
