import subprocess
import sys
import warnings

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.arrays import devices
from fastelbo.engine import cuda as engine_cuda
from fastelbo.kernels.cuda import device


@pytest.fixture
def no_device(monkeypatch):
    monkeypatch.setattr(device, "missing", lambda: "no driver")


@pytest.mark.usefixtures("no_device")
def test_no_device():
    p = fe.Gaussian([0.0], scale=1.0)
    calls = [
        lambda: fe.estimate(p, p, 10, backend="cuda"),
        lambda: fe.elbo_terms(p, p, 10, backend="cuda"),
        lambda: fe.estimate(
            fe.MixtureModel([[0.0]], fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0))),
            fe.Categorical([1.0]),
            backend="cuda",
        ),
    ]
    for call in calls:
        with pytest.raises(fe.errors.DeviceUnavailableError, match=r"cuda13.*no driver") as caught:
            call()
        assert isinstance(caught.value, RuntimeError)


@pytest.mark.usefixtures("no_device")
def test_auto_falls_back_on_the_cpu(monkeypatch):
    monkeypatch.setattr(engine_cuda, "_WORTH_A_DEVICE", 0)
    p = fe.Gaussian([0.0], scale=1.0)
    np.testing.assert_array_equal(
        fe.elbo_terms(p, p, 10, rng=0).log_q, fe.elbo_terms(p, p, 10, rng=0, backend="cpu").log_q
    )


@pytest.mark.parametrize("worth", [0, 10**9])
def test_auto_takes_a_device_for_much_work(monkeypatch, worth):
    monkeypatch.setattr(engine_cuda, "_WORTH_A_DEVICE", worth)
    monkeypatch.setattr(device, "missing", lambda: None)
    monkeypatch.setattr(device, "count", lambda: 0)
    p = fe.Gaussian([0.0], scale=1.0)
    if worth:
        assert fe.elbo_terms(p, p, 10).log_q.shape == (10,)
    else:
        # The error that no device exists shows that a device was chosen.
        with pytest.raises(fe.errors.InvalidInputError, match="device must be below 0"):
            fe.elbo_terms(p, p, 10)


def test_little_work_is_launched_without_advice():
    """`Kernel` warns as numba does on a device, about grids of few blocks."""
    started = []

    class Kernel:
        def __getitem__(self, configuration):
            warnings.warn("Grid size 2 will likely result in GPU under-utilization", stacklevel=2)
            return lambda *args: started.append((configuration, args))

    device.launch(Kernel(), 2, "argument", threads=32)
    device.launch(Kernel(), 0)
    assert started == [((2, 32), ("argument",))]


def test_unknown_backend():
    p = fe.Gaussian([0.0], scale=1.0)
    with pytest.raises(fe.errors.InvalidInputError, match=r'"cuda" or "numpy", got \'gpu\''):
        fe.estimate(p, p, 10, backend="gpu")
    with pytest.raises(fe.errors.InvalidInputError, match="device must be"):
        fe.estimate(p, p, 10, device=-1)


def test_arrays_of_this_machine_are_not_on_a_device():
    assert not devices.on_device(np.zeros(3))
    assert not devices.on_device([0.0])


def test_small_work_does_not_import_numba_cuda():
    code = (
        "import sys, fastelbo as fe; p = fe.Gaussian([0.0], scale=1.0); "
        "fe.estimate(p, p, 10, pareto_k=False); fe.summarize([[0.0, 0.0, 1.0]], pareto_k=False); "
        "sys.exit('numba.cuda' in sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_what_numba_cuda_misses_in_newer_numpy_is_there():
    code = (
        "import fastelbo, numpy as np; vars(np).pop('row_stack', None); "
        "import fastelbo.kernels.cuda.device; assert np.row_stack([[1], [2]]).shape == (2, 1)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_numba_may_come_without_numba_cuda():
    code = (
        "import sys; sys.modules['numba.cuda'] = None; "
        "from fastelbo.kernels.cuda import device; sys.exit(device.missing())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "numba.cuda" in done.stderr
    assert "Traceback" not in done.stderr
