"""Row, column and whole-array reductions of log weights."""

import pytest

from .implementations import every_pair


@pytest.mark.parametrize(("workload", "implementation"), every_pair("reductions"))
def test_reductions(measure, workload, implementation):
    measure(workload, implementation)
