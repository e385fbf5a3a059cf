"""Random words and the normals made from them, on a device and on the CPU."""

import numpy as np

from fastelbo.kernels.cuda.device import (
    BLOCK_THREADS,
    cuda,
    device_kernel,
    fetch,
    launch,
    room,
)
from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math.scalar import NORMAL, normal_pair, random_words

BLOCKS = 16


@device_kernel
def _fill_device(key, index, words, normals):
    k = cuda.blockIdx.x * BLOCK_THREADS + cuda.threadIdx.x
    w0, w1, w2, w3 = random_words(key, index, np.uint64(k), np.uint64(0), NORMAL, np.uint64(0))
    words[k, 0], words[k, 1], words[k, 2], words[k, 3] = w0, w1, w2, w3
    normals[k, 0], normals[k, 1] = normal_pair(w0, w1, w2, w3)


@kernel
def _fill(key, index, words, normals):
    for k in range(words.shape[0]):
        w0, w1, w2, w3 = random_words(key, index, np.uint64(k), np.uint64(0), NORMAL, np.uint64(0))
        words[k, 0], words[k, 1], words[k, 2], words[k, 3] = w0, w1, w2, w3
        normals[k, 0], normals[k, 1] = normal_pair(w0, w1, w2, w3)


def words_and_normals():
    """Words (n, 4) and normals (n, 2), first of the device, then of the CPU."""
    n = BLOCKS * BLOCK_THREADS
    key, index = np.uint64(0x0123456789ABCDEF), np.uint64(7)
    there = room((n, 4), np.uint64), room((n, 2))
    launch(_fill_device, BLOCKS, key, index, *there)
    here = np.empty((n, 4), np.uint64), np.empty((n, 2))
    _fill(key, index, *here)
    return [fetch(array) for array in there], here
