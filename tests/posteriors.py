"""Posteriors whose log evidence is known, as users write them: compiled functions of one draw.

`Target.model` is made, and compiled, when it is first asked for.
"""

import itertools
import math
from functools import cached_property

import numpy as np

import fastelbo as fe

_LOG_2PI = math.log(2.0 * math.pi)


class Target:
    """A model, its log evidence, the error of that, and the symmetries of the model."""

    def __init__(self, function, dim, params, log_evidence, error=0.0, symmetries=None):
        self.function, self.dim, self.params = function, dim, params
        self.log_evidence, self.error, self.symmetries = log_evidence, error, symmetries

    @cached_property
    def model(self):
        return fe.Model(log_joint=self.function, dim=self.dim, params=self.params)


# --- eight schools ------------------------------------------------------------------------------

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(z, y, sigma):
    """mu ~ N(0, 5), tau ~ half-Cauchy(5), y_j ~ N(mu + tau eta_j, sigma_j); z = mu, log tau, eta.

    Data: Rubin (1981). The log evidence is by quadrature.
    """
    mu, tau = z[0], math.exp(z[1])
    total = fe.math.normal_log_prob(mu, 0.0, 5.0) + z[1]
    total += math.log(2.0 / (5.0 * math.pi)) - math.log1p((tau / 5.0) ** 2)
    for j in range(8):
        total += fe.math.normal_log_prob(z[2 + j], 0.0, 1.0)
        total += fe.math.normal_log_prob(y[j], mu + tau * z[2 + j], sigma[j])
    return total


EIGHT_SCHOOLS = Target(eight_schools, 10, (EFFECTS, ERRORS), -31.3113473523)


# --- galaxies -----------------------------------------------------------------------------------


def galaxies(z, velocity):
    """Three Gaussians: z = two logits against the last weight, means, log variances.

    Weights ~ Dirichlet(1, 1, 1), means ~ N(20, 10), variances ~ inverse Gamma(3, 20).
    """
    log_total = np.logaddexp(np.logaddexp(z[0], z[1]), 0.0)
    # The density of Dirichlet(1, 1, 1) is 2, and the Jacobian of logits the product of weights.
    total = math.log(2.0) + z[0] + z[1] - 3.0 * log_total
    for c in range(3):
        total += fe.math.normal_log_prob(z[2 + c], 20.0, 10.0)
        total += fe.math.inverse_gamma_log_prob(math.exp(z[5 + c]), 3.0, 20.0) + z[5 + c]
    s0, s1, s2 = math.exp(0.5 * z[5]), math.exp(0.5 * z[6]), math.exp(0.5 * z[7])
    for x in velocity:
        first = z[0] + fe.math.normal_log_prob(x, z[2], s0)
        second = z[1] + fe.math.normal_log_prob(x, z[3], s1)
        third = fe.math.normal_log_prob(x, z[4], s2)
        total += np.logaddexp(np.logaddexp(first, second), third) - log_total
    return total


def relabelled(order):
    """The matrix that permutes the labels of `galaxies`: logits stay against the last weight."""
    logits = np.eye(3)[list(order)] - np.eye(3)[order[2]]
    matrix = np.zeros((8, 8))
    matrix[:2, :2] = logits[:2, :2]
    for first in (2, 5):
        matrix[first : first + 3, first : first + 3] = np.eye(3)[list(order)]
    return matrix


GALAXIES = Target(
    galaxies, 8, (fe.datasets.load_galaxies(),), -226.789, 0.002,
    np.array([relabelled(order) for order in itertools.permutations(range(3))]),
)  # fmt: skip


# --- densities of log evidence 0 ----------------------------------------------------------------


def banana(z, bend):
    """z_1 ~ N(0, 10), z_2 ~ N(b (z_1^2 - 100), 1), others N(0, 1) (Haario et al., 1999)."""
    total = fe.math.normal_log_prob(z[0], 0.0, 10.0)
    total += fe.math.normal_log_prob(z[1], bend * (z[0] ** 2 - 100.0), 1.0)
    for j in range(2, len(z)):
        total += fe.math.normal_log_prob(z[j], 0.0, 1.0)
    return total


def funnel(z, spread):
    """z_1 ~ N(0, spread), others N(0, exp(z_1 / 2)) (Neal, 2003)."""
    total = fe.math.normal_log_prob(z[0], 0.0, spread)
    for j in range(1, len(z)):
        total += fe.math.normal_log_prob(z[j], 0.0, math.exp(0.5 * z[0]))
    return total


BANANA = Target(banana, 2, (0.03,), 0.0)
BANANA_10 = Target(banana, 10, (0.03,), 0.0)
FUNNEL_10 = Target(funnel, 10, (3.0,), 0.0)
