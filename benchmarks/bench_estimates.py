"""Log evidence, ELBO and variance of the weights, draws and reduction fused."""

import pytest

from .implementations import every_pair


@pytest.mark.parametrize(("workload", "implementation"), every_pair("estimates"))
def test_estimates(measure, workload, implementation):
    measure(workload, implementation)
