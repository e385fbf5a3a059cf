"""Every workload, with each implementation of its task.

``-k`` selects by family (``-k reductions``), by workload and by implementation.
"""

import pytest

from .implementations import implementations
from .workloads import WORKLOADS

PAIRS = [
    pytest.param(workload.name, each.name, id=f"{workload.family}-{workload.name}-{each.name}")
    for workload in WORKLOADS.values()
    for each in implementations(workload.task)
]


@pytest.mark.parametrize(("workload", "implementation"), PAIRS)
def test_workload(measure, workload, implementation):
    measure(workload, implementation)
