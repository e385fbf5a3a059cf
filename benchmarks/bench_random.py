"""Standard normals, and draws of a Gaussian."""

import pytest

from .implementations import every_pair


@pytest.mark.parametrize(("workload", "implementation"), every_pair("random"))
def test_random(measure, workload, implementation):
    measure(workload, implementation)
