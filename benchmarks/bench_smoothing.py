"""Pareto smoothing of log weights, row by row."""

import pytest

from .implementations import every_pair


@pytest.mark.parametrize(("workload", "implementation"), every_pair("smoothing"))
def test_smoothing(measure, workload, implementation):
    measure(workload, implementation)
