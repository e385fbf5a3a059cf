"""Workloads on a GPU; see `benchmarks.gpu_report` for the table, the ceilings and the checks."""

import pytest

from fastelbo.kernels.cuda import device

from .gpu_workloads import release, workloads

pytestmark = pytest.mark.skipif(device.missing() is not None, reason=f"GPU: {device.missing()}")

NAMES = [workload.name for workload in workloads("small")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("implementation", ["fastelbo", "torch", "cupy", "jax"])
def test_cuda(benchmark, small, name, implementation):
    found = {workload.name: workload for workload in workloads("small" if small else "full")}
    prepare = found[name].implementations.get(implementation)
    if prepare is None:
        pytest.skip(f"{implementation} has nothing like it")
    try:
        run = prepare()
    except ImportError as error:
        pytest.skip(str(error))
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    release()
