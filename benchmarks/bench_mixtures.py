"""Densities of Gaussian mixtures, and sums over their components."""

import pytest

from .implementations import every_pair


@pytest.mark.parametrize(("workload", "implementation"), every_pair("mixtures"))
def test_mixtures(measure, workload, implementation):
    measure(workload, implementation)
