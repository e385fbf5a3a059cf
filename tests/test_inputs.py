"""Inputs of `summarize`: files, other libraries' arrays, pieces, data larger than the memory."""

import mmap
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, bits

import fastelbo as fe
from fastelbo.engine import rows as engine_rows

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
WEIGHTS = np.random.default_rng(0).normal(size=(37, 9001))
EXPECTED = bits(fe.summarize(WEIGHTS))


@pytest.fixture(params=[2**22, 2**15], ids=["large slices", "small slices"])
def slices(request, monkeypatch):
    monkeypatch.setattr(engine_rows, "_COPIED_ELEMENTS", request.param)


def saved(path, array):
    np.save(path, array)
    return path


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, ">f8", np.float32, np.float16, np.int16])
@pytest.mark.usefixtures("slices")
def test_files_of_any_layout_and_type(tmp_path, axis, order, dtype):
    array = np.asarray(3.0 * (WEIGHTS if axis else WEIGHTS.T), dtype=dtype, order=order)
    path = saved(tmp_path / "a.npy", array)
    expected = bits(fe.summarize(array.astype(np.float64), axis=axis))
    assert bits(fe.summarize(path, axis=axis)) == expected
    assert bits(fe.summarize(str(path), axis=axis)) == expected
    assert bits(fe.summarize(np.load(path, mmap_mode="r"), axis=axis)) == expected


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.usefixtures("slices")
def test_files_of_three_axes(tmp_path, axis):
    array = np.random.default_rng(1).normal(size=(30, 40, 50))
    path = saved(tmp_path / "a.npy", array)
    assert bits(fe.summarize(path, axis=axis)) == bits(fe.summarize(array, axis=axis))


def test_a_private_copy_of_a_file_keeps_what_was_written(tmp_path):
    path = saved(tmp_path / "a.npy", WEIGHTS - 5.0)
    copy = np.load(path, mmap_mode="c")
    copy += 5.0
    expected = bits(fe.summarize(np.array(copy)))
    assert bits(fe.summarize(copy)) == expected
    assert bits(fe.summarize(copy)) == expected


def test_memory_that_is_no_file_keeps_its_content():
    memory = mmap.mmap(-1, WEIGHTS.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(memory).reshape(WEIGHTS.shape)
    np.copyto(np.ndarray(WEIGHTS.shape, buffer=memory), WEIGHTS)
    assert bits(fe.summarize(array)) == EXPECTED
    assert bits(fe.summarize(array)) == EXPECTED


def test_nothing_is_unpickled_and_other_files_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([object()]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("1 2 x")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "two.npz", a=[1.0], b=[2.0])
    for name in ("objects.npy", "text.npy", "empty.npy", "two.npz"):
        with pytest.raises(fe.errors.InvalidInputError, match=rf"log_weights.*{name}"):
            fe.summarize(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        fe.summarize(tmp_path / "missing.npy")
    with pytest.raises(fe.errors.UnsupportedDTypeError, match="complex"):
        fe.summarize(saved(tmp_path / "complex.npy", np.zeros(5, complex)))


def test_bad_weights_in_a_file_have_a_place(tmp_path):
    array = WEIGHTS.copy()
    array[30, 8999] = np.nan
    with pytest.raises(fe.errors.InvalidWeightError, match="data point 30, draw 8999"):
        fe.summarize(saved(tmp_path / "a.npy", array))


# --- other libraries ----------------------------------------------------------------------------


class Wrapped:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_whatever_gives_an_array():
    assert bits(fe.summarize(Wrapped(WEIGHTS))) == EXPECTED


def test_torch():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(WEIGHTS, requires_grad=True)
    assert bits(fe.summarize(tensor)) == EXPECTED
    assert bits(fe.summarize(tensor.detach().T, axis=0)) == EXPECTED
    assert np.shares_memory(fe.arrays.inputs.as_array(tensor, "a"), tensor.detach().numpy())
    half = tensor.detach().bfloat16()
    assert bits(fe.summarize(half)) == bits(fe.summarize(half.float().numpy()))


def test_jax():
    jnp = pytest.importorskip("jax.numpy")
    array = jnp.asarray(WEIGHTS, dtype=jnp.float32)
    assert bits(fe.summarize(array)) == bits(fe.summarize(np.asarray(array)))
    half = array.astype(jnp.bfloat16)
    assert bits(fe.summarize(half)) == bits(fe.summarize(np.asarray(half.astype(jnp.float32))))


# --- pieces -------------------------------------------------------------------------------------


def test_pieces():
    assert bits(fe.summarize(iter(np.array_split(WEIGHTS, 7, axis=1)))) == EXPECTED
    columns = (piece for piece in np.array_split(WEIGHTS.T, 5))
    assert bits(fe.summarize(columns, axis=0)) == EXPECTED
    few = fe.summarize(iter([WEIGHTS[:, :50]]), pareto_k=False)
    assert bits(few) == bits(fe.summarize(WEIGHTS[:, :50], pareto_k=False))


def test_pieces_that_are_refused():
    with pytest.raises(fe.errors.InvalidInputError, match="number of draws"):
        fe.summarize(iter([]))
    with pytest.raises(fe.errors.InvalidInputError, match="n_samples = 50, got 60"):
        fe.summarize(iter([WEIGHTS[:, :50]]), iw_sizes=[60])


# --- memory -------------------------------------------------------------------------------------

PEAK = """
import sys, warnings
import numpy as np
import fastelbo as fe

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

warnings.simplefilter("ignore")
path, shape, axis = sys.argv[1], tuple(map(int, sys.argv[2].split(","))), int(sys.argv[3])
small = np.lib.format.open_memmap(path, "w+", sys.argv[4], (64, 64))
fe.summarize(path, axis=axis)
before = peak()
del small
np.lib.format.open_memmap(path, "w+", sys.argv[4], shape)
est = fe.summarize(path, axis=axis)
assert (est.log_evidence == 0.0).all()
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("shape", "axis", "dtype"),
    [
        ("200,640000", 1, "<f8"),
        ("640000,200", 0, "<f8"),
        pytest.param("20000,6400", 1, ">f8", marks=pytest.mark.slow),
        pytest.param("6400,40000", 0, "<f4", marks=pytest.mark.slow),
        pytest.param("2000,1250000", 1, "<f8", marks=pytest.mark.slow),
        pytest.param("1250000,2000", 0, "<f8", marks=pytest.mark.slow),
    ],
)
def test_files_larger_than_the_memory_stay_out_of_it(tmp_path, shape, axis, dtype):
    # Sparse files of 1 GB (20 GB: slow), which take no room on the disk.
    path = str(tmp_path / "a.npy")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path, shape, str(axis), dtype],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 300.0, f"{done.stdout} MB"
