"""Every array argument of every public function takes the same kinds of arrays."""

import array
import functools

import numpy as np
import pandas
import pytest
import xarray
from helpers import IGNORE_DIAGNOSTICS
from public_calls import CALLS, NOT_CALLED, content

import fastelbo as fe
from fastelbo import errors

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

ARGUMENTS = [
    (call, name)
    for call, (_, given) in CALLS.items()
    for name, value in given.items()
    if isinstance(value, np.ndarray)
]
each_argument = pytest.mark.parametrize(("call", "name"), ARGUMENTS)
# Log weights and draws may come from a file.
FILES = ("log_weights", "log_ratios", "log_likelihood", "a", "draws")


def called(call, **arguments):
    function, given = CALLS[call]
    return content(function(**(given | arguments)))


@functools.cache
def expected(call, name, dtype):
    return called(call, **{name: CALLS[call][1][name].astype(dtype)})


def test_every_public_name_is_called():
    assert set(fe.__all__) <= {call.split(" ")[0] for call in CALLS} | NOT_CALLED


class Tensor:
    """As a tensor of torch that requires gradients: an array only once it is detached."""

    def __init__(self, values, dtype="torch.float64", attached=True):
        self._values, self.dtype, self._attached = np.asarray(values), dtype, attached
        self.shape, self.ndim = values.shape, values.ndim

    def detach(self):
        return Tensor(self._values, self.dtype, attached=False)

    def cpu(self):
        return self

    def float(self):
        return Tensor(self._values.astype(np.float32), "torch.float32", self._attached)

    def _numpy(self):
        if self._attached:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._values

    def __array__(self, dtype=None, copy=None):
        return self._numpy()

    def __dlpack__(self, **options):
        return self._numpy().__dlpack__(**options)

    def __dlpack_device__(self):
        return self._values.__dlpack_device__()

    def __len__(self):
        return len(self._values)


class Wrapped:
    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return self._values


def torch_tensor(values):
    torch = pytest.importorskip("torch")
    return torch.tensor(values, requires_grad=values.dtype.kind == "f")


def torch_bfloat16(values):
    torch = pytest.importorskip("torch")
    return torch.tensor(values, dtype=torch.bfloat16, requires_grad=True)


def numpy_bfloat16(values):
    return values.astype(pytest.importorskip("ml_dtypes").bfloat16)


def jax_array(values):
    return pytest.importorskip("jax.numpy").asarray(values.astype(np.float32))


def jax_bfloat16(values):
    jnp = pytest.importorskip("jax.numpy")
    return jnp.asarray(values, dtype=jnp.bfloat16)


def strided(values):
    return np.repeat(values, 2, axis=-1)[..., ::2]


def frame(values):
    return pandas.DataFrame(values) if values.ndim == 2 else pandas.Series(values)


# How an array is made of float64, and the type of float that then holds its numbers.
KINDS = {
    "lists": (np.ndarray.tolist, float),
    "tuples": (lambda values: tuple(values.tolist()), float),
    "float32": (lambda values: values.astype(np.float32), np.float32),
    "float16": (lambda values: values.astype(np.float16), np.float16),
    "big-endian": (lambda values: values.astype(">f8"), float),
    "Fortran": (np.asfortranarray, float),
    "strided": (strided, float),
    "memory view": (lambda values: memoryview(values.copy()), float),
    "__array__": (Wrapped, float),
    "tensor": (Tensor, float),
    "tensor of bfloat16": (lambda values: Tensor(values, "torch.bfloat16"), np.float32),
    "pandas": (frame, float),
    "xarray": (xarray.DataArray, float),
    "torch": (torch_tensor, float),
    "torch bfloat16": (torch_bfloat16, np.float32),
    "NumPy bfloat16": (numpy_bfloat16, np.float32),
    "jax": (jax_array, np.float32),
    "jax bfloat16": (jax_bfloat16, np.float32),
}


@each_argument
@pytest.mark.parametrize("kind", KINDS)
def test_taken(call, name, kind):
    make, dtype = KINDS[kind]
    value = CALLS[call][1][name]
    if value.dtype.kind == "i":
        if "float" in kind or kind in ("big-endian", "jax"):
            pytest.skip("classes are integers")
        dtype = value.dtype
    np.testing.assert_equal(called(call, **{name: make(value)}), expected(call, name, dtype))


@each_argument
def test_lists_of_tensors(call, name):
    rows = [Tensor(row) for row in CALLS[call][1][name]]
    if name in FILES[:3]:
        with pytest.raises(errors.InvalidInputError, match=f"{name} must be one array, got a list"):
            called(call, **{name: rows})
    elif CALLS[call][1][name].dtype.kind == "f":
        np.testing.assert_equal(called(call, **{name: rows}), expected(call, name, float))


REFUSED = {
    "complex": lambda values: values * (1.0 + 0.0j),
    "text": lambda values: values.astype(str),
    "bytes": lambda values: values.astype(bytes),
    "objects": lambda values: values.astype(object),
    "dates": lambda values: values.astype("datetime64[s]"),
    "long double": lambda values: values.astype(np.longdouble),
    "records": lambda values: values.astype([("f", float)]),
    "masked": lambda values: np.ma.masked_array(values, values == values.flat[0]),
    "lists of masked": lambda values: [np.ma.masked_array(row, True) for row in values],
    "ragged": lambda values: [[0.0], [0.0, 1.0]],
    "set": lambda values: {0.0, 1.0},
    "dictionary": lambda values: {"a": 0.0},
    "object": lambda values: object(),
    "generator": lambda values: (row for row in [object()]),
    "function": lambda values: np.zeros,
    "a text": lambda values: "abc.txt" * 50,
    "complex tensor": lambda values: Tensor(values * (1.0 + 0.0j), "torch.complex128"),
}


@each_argument
@pytest.mark.parametrize("kind", REFUSED)
def test_refused(call, name, kind):
    if kind == "long double" and np.longdouble(0).itemsize == 8:
        pytest.skip("a long double is a double here")
    if kind == "a text" and name in FILES:
        return
    with pytest.raises((errors.InvalidInputError, errors.UnsupportedDTypeError)) as caught:
        called(call, **{name: REFUSED[kind](CALLS[call][1][name])})
    message = str(caught.value)
    assert name in message.replace("log_weights of shape", "")
    assert "must" in message or "expected" in message
    assert len(message) < 400


@pytest.mark.parametrize("kind", [str, lambda path: path])
@each_argument
def test_files(call, name, kind, tmp_path):
    path = tmp_path / "values.npy"
    np.save(path, CALLS[call][1][name])
    if name in FILES:
        np.testing.assert_equal(called(call, **{name: kind(path)}), expected(call, name, float))
    else:
        with pytest.raises(errors.FastElboError, match=rf"{name}[ ,].*(must|expected)"):
            called(call, **{name: kind(path)})


def test_scalars_of_any_library():
    for value in (
        0.5,
        np.float32(0.5),
        np.array(0.5),
        Tensor(np.array(0.5)),
        array.array("d", [0.5]),
    ):
        assert fe.Gaussian([1.0], scale=value).log_prob([[1.0]]) == pytest.approx(-0.2257913526)


def test_tensors_are_not_copied():
    values = np.zeros((3, 4))
    assert np.shares_memory(fe.arrays.inputs.as_array(Tensor(values), "a"), values)
