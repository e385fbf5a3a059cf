"""DLPack capsules, translated to the CUDA array interface.

NumPy's own capsules have the same structure as those of a device.
"""

import gc
import weakref

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.arrays.dlpack import DLPackArray, device_index


class Elsewhere:
    """An array that says it is on a CUDA device, by DLPack alone."""

    def __init__(self, array, kind=2, index=3):
        self.array, self.device, self.streams = array, (kind, index), []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, stream=None):
        self.streams.append(stream)
        return self.array.__dlpack__()


BASE = np.arange(60.0).reshape(3, 4, 5)
ARRAYS = {
    "contiguous": BASE,
    "strides": BASE[::2, 1:, ::-1],
    "offset": BASE[1:],
    "float32": BASE.astype(np.float32),
    "int64": BASE.astype(np.int64),
    "uint8": BASE.astype(np.uint8),
    "complex": BASE.astype(complex),
    "bool": BASE > 7,
    "scalar": np.array(2.5),
    "empty": np.empty((0, 3)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_interface(name):
    array = ARRAYS[name]
    there = Elsewhere(array)
    told = DLPackArray(there, "x").__cuda_array_interface__
    expected = array.__array_interface__
    assert told["shape"] == array.shape
    assert np.dtype(told["typestr"]) == array.dtype
    assert told["strides"] in (array.strides, None if array.flags.c_contiguous else array.strides)
    if array.size:
        assert told["data"] == (expected["data"][0], False)
    # The owner's work ends before later work on the default stream begins.
    assert there.streams == [told["stream"]] == [1]


def test_the_memory_stays():
    array = BASE.copy()
    there, kept = DLPackArray(Elsewhere(array), "x"), weakref.ref(array)
    del array
    gc.collect()
    assert kept() is not None
    del there
    gc.collect()
    assert kept() is None


def test_types_that_numpy_does_not_have():
    class Half(Elsewhere):
        def __dlpack__(self, stream=None):
            torch = pytest.importorskip("torch")
            return torch.zeros(3, dtype=torch.bfloat16).__dlpack__()

    with pytest.raises(fe.errors.UnsupportedDTypeError, match="x has DLPack's type 4 of 16 bits"):
        DLPackArray(Half(None), "x")


def test_device_index():
    assert device_index(Elsewhere(BASE)) == 3
    assert device_index(Elsewhere(BASE, kind=13)) == 3
    assert device_index(Elsewhere(BASE, kind=1)) is None
    assert device_index(BASE) is None
    assert device_index([1.0]) is None
    torch = pytest.importorskip("torch")
    assert device_index(torch.zeros(3, requires_grad=True)) is None
    assert device_index(torch.zeros(3, device="meta")) is None
