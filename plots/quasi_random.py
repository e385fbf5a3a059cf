"""Error of the log evidence against draws and seconds, for independent and quasi-random draws.

Independent draws err like 1 / sqrt(K), whatever the target. Scrambled Sobol points with rotated
normals err less, and less and less, where weights are smooth and few directions matter: digits with
a wide q, a skewed target of ten coordinates. They do not help much in the right half: weights
without a variance (mean-field q, tail index 0.6) have errors that a few draws make up, and 50
skewed coordinates have no few that matter. Errors are root mean squares over data points, against
exact values. Seconds are those of whole calls on all cores, with the pilots of rotations. Takes
about two minutes.

    python plots/quasi_random.py [--small] [--out PATH]
"""

import math
import time
import warnings

import numpy as np
from figure_options import read_options
from matplotlib import pyplot as plt
from scipy.special import digamma, polygamma

import fastelbo as fe
from fastelbo.demo import digits_approximations, digits_model

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
COLOURS = {"iid": "#D55E00", "sobol": "#0072B2"}
MARKERS = {"iid": "s", "sobol": "o"}
REPLICATES = 16
# Shape of the log-gamma coordinates, and how much wider than them q is.
SHAPE, WIDER = 6.0, 1.2


def skewed_density(z, turn, centre):
    """Independent log-gamma coordinates, turned about their mean."""
    total = 0.0
    for d in range(len(z)):
        y = centre
        for e in range(len(z)):
            y += (z[e] - centre) * turn[e, d]
        total += SHAPE * y - math.exp(y) - math.lgamma(SHAPE)
    return total


def digits(name, small):
    """Digits, a q of theirs, and exact log evidences."""
    model = digits_model(slice(0, 60) if small else slice(None))
    return model, digits_approximations(model)[name], model.exact_log_evidence()


def skewed(dim, small):
    """The same skewed target many times, and a Gaussian q; the evidence is 1."""
    turn, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(dim, dim)))
    centre = float(digamma(SHAPE))
    model = fe.Model(log_joint=skewed_density, dim=dim, params=(turn, centre))
    mean = np.full((20 if small else 200, dim), centre)
    return model, fe.Gaussian(mean, scale=math.sqrt(WIDER * polygamma(1, SHAPE))), 0.0


def targets(small):
    """Every target by its title."""
    return {
        "digits, wide q\n(D = 10, tail index 0.13)": digits("wide", small),
        "skewed, a user's function\n(D = 10)": skewed(10, small),
        "digits, mean-field q\n(D = 10, tail index 0.6)": digits("mean field", small),
        "skewed, a user's function\n(D = 50)": skewed(50, small),
    }


def measure(model, q, exact, sampler, sizes):
    """Root-mean-square errors and seconds for numbers of draws."""
    options = {"replicates": REPLICATES} if sampler == "sobol" else {}
    errors, seconds = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fe.errors.FastElboWarning)
        # The first call may compile.
        fe.estimate(model, q, sizes[0], rng=0, sampler=sampler, iw_sizes=(), **options)
        for size in sizes:
            start = time.perf_counter()
            est = fe.estimate(model, q, size, rng=size, sampler=sampler, iw_sizes=(), **options)
            seconds.append(time.perf_counter() - start)
            errors.append(np.sqrt(np.square(est.log_evidence - exact).mean()))
    return np.array(errors), np.array(seconds) / est.log_evidence.size


def slope(x, y):
    """The exponent of y as a power of x."""
    return np.polyfit(np.log(x), np.log(y), 1)[0]


def draw_target(upper, lower, title, target, sizes):
    """Errors of one target against draws, above, and against seconds, below."""
    for sampler, colour in COLOURS.items():
        errors, seconds = measure(*target, sampler, sizes)
        rate = slope(sizes, errors)
        print(title.replace("\n", " "), sampler, f"slope {rate:.2f}")
        for size, error, duration in zip(sizes, errors, seconds, strict=True):
            print(f"  K = {size}: error {error:.3g}, {1e3 * duration:.3g} ms a data point")
        line = {"color": colour, "marker": MARKERS[sampler], "markersize": 4}
        upper.loglog(sizes, errors, label=f"{sampler}: $K^{{{rate:.2f}}}$", **line)
        lower.loglog(1e3 * seconds, errors, label=sampler, **line)
    upper.set_title(title, fontsize=10)
    upper.set_xlabel("draws K of a data point")
    lower.set_xlabel("milliseconds a data point")
    for ax in (upper, lower):
        ax.legend(frameon=False, fontsize=8, loc="lower left")
        ax.grid(color="0.92", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)


def main(argv=None) -> None:
    """Draw the figure and write it."""
    arguments = read_options(__file__, __doc__, "fewer draws and data points", argv=argv)

    sizes = 2 ** np.arange(10, 13 if arguments.small else 18)
    figure, axes = plt.subplots(2, 4, figsize=(13.0, 6.4), sharey="col", layout="constrained")
    for (upper, lower), (title, target) in zip(
        axes.T, targets(arguments.small).items(), strict=True
    ):
        draw_target(upper, lower, title, target, sizes.tolist())
    for ax in axes[:, 0]:
        ax.set_ylabel("rms error of log evidence (nats)")
    figure.savefig(arguments.out, dpi=120)


if __name__ == "__main__":
    main()
