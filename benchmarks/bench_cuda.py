"""Workloads on a GPU; see `benchmarks.gpu_report` for the table, the floors and the checks."""

import pytest

from fastelbo.kernels import device

from .gpu_workloads import available, workloads

pytestmark = pytest.mark.skipif(device.missing() is not None, reason=f"GPU: {device.missing()}")


@pytest.fixture(scope="module", params=range(4))
def workload(request):
    return workloads(small=False)[request.param]


@pytest.mark.parametrize("implementation", ["fastelbo", "torch", "cupy", "jax"])
def test_cuda(benchmark, workload, implementation):
    found = available(workload)
    if implementation not in found:
        pytest.skip(f"{implementation} is not installed, or sees no GPU")
    benchmark.pedantic(found[implementation], rounds=5, warmup_rounds=1)
