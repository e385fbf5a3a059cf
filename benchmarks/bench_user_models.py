"""A user's log density at given draws, on one thread: fastelbo and what else a user can do.

The libraries' threads are not fastelbo's: run it on one processor (``taskset -c 0``).
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from fastelbo.kernels.draws.blocks import LANES
from fastelbo.kernels.jit.internals import UNCOUNTED
from fastelbo.kernels.vectors.arguments import Arguments
from fastelbo.kernels.vectors.block import call_block, compile_block
from fastelbo.kernels.vectors.calls import call_gradient_block
from fastelbo.kernels.vectors.gradient_block import compile_duals, compile_given, width_of

from .user_models import BATCHES, BLOCKS, GRADIENTS, MODELS, schools_both

# Draws, and draws in one call of the array libraries: the best of 1024 to 65536.
_DRAWS, _BATCH = 2**15, 4096


def _blocks(name: str, n: int) -> Any:
    """The draws as blocks (n / LANES, D, LANES) from a line of the cache on, as in kernels."""
    z = MODELS[name].draws(n)
    z = z.reshape(-1, LANES, z.shape[1]).swapaxes(1, 2)
    room = np.empty(z.size + 8)
    first = -(room.ctypes.data // 8) % 8
    blocks = room[first : first + z.size].reshape(z.shape)
    blocks[:] = z
    return blocks


def _fastelbo(name: str, n: int) -> Callable[[], Any]:
    model = MODELS[name]
    arguments = Arguments(None, model.params)
    block = compile_block(model.function, arguments.kind, False, stride=LANES)

    @numba.njit(**UNCOUNTED)  # as the library's kernels are
    def run(address, words, z, out):
        for b in range(z.shape[0]):
            call_block(address, words, z[b], 0, LANES, out[b])
        return out

    z = _blocks(name, n)
    out = np.empty((z.shape[0], LANES))

    def call() -> Any:  # holds the block and the arguments
        return run(block.address, arguments.address, z, out)

    call.kept = block, arguments  # type: ignore[attr-defined]
    return call


def _hand(name: str, n: int) -> Callable[[], Any]:
    options = {"error_model": "numpy", "fastmath": {"contract"}, **UNCOUNTED}
    block = numba.njit(**options)(BLOCKS[name])

    @numba.njit(**options)
    def run(z, out, scratch, params):
        for b in range(z.shape[0]):
            block(z[b], out[b], scratch, *params)
        return out

    z = _blocks(name, n)
    out, scratch = np.empty((z.shape[0], LANES)), np.empty(LANES)
    return lambda: run(z, out, scratch, MODELS[name].params)


def _bare(name: str, n: int) -> Callable[[], Any]:
    function = numba.njit(MODELS[name].function)

    @numba.njit
    def run(z, out, params):
        for k in range(z.shape[0]):
            out[k] = function(z[k], *params)
        return out

    z, out = MODELS[name].draws(n), np.empty(n)
    return lambda: run(z, out, MODELS[name].params)


def _numpy(name: str, n: int) -> Callable[[], Any]:
    parts = np.split(MODELS[name].draws(n), max(1, n // _BATCH))
    return lambda: np.concatenate([BATCHES[name](np, z, *MODELS[name].params) for z in parts])


def _jax(name: str, n: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    params = tuple(map(jnp.asarray, MODELS[name].params))
    parts = [jnp.asarray(z) for z in np.split(MODELS[name].draws(n), max(1, n // _BATCH))]
    one = jax.jit(
        jax.vmap(lambda z, *params: BATCHES[name](jnp, z, *params), (0, *[None] * len(params)))
    )
    return lambda: np.concatenate([np.asarray(one(z, *params)) for z in parts])


def _torch(name: str, n: int) -> Callable[[], Any]:
    import torch

    params = tuple(map(torch.as_tensor, MODELS[name].params))
    parts = torch.as_tensor(MODELS[name].draws(n)).split(_BATCH)

    def call() -> Any:
        with torch.no_grad():
            return torch.cat([BATCHES[name](torch, z, *params) for z in parts]).numpy()

    return call


PEERS = {
    "fastelbo": _fastelbo, "block by hand": _hand, "numba loop": _bare, "numpy": _numpy,
    "jax": _jax, "torch": _torch,
}  # fmt: skip
_INSTALLED = [
    each for each in PEERS if each not in ("jax", "torch") or importlib.util.find_spec(each)
]


@functools.cache
def _expected(name: str, n: int) -> Any:
    return _numpy(name, n)()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("peer", _INSTALLED)
def test_density(timed, benchmark, small, name, peer):
    n = _DRAWS // 16 if small else _DRAWS
    answer = timed(PEERS[peer](name, n), f"user models: {name}")
    np.testing.assert_allclose(np.ravel(answer), _expected(name, n), rtol=1e-9, atol=1e-9)
    if not benchmark.disabled:
        benchmark.extra_info["ns a draw"] = 1e9 * benchmark.stats.stats.median / n


# --- value and gradient --------------------------------------------------------------------------


def _slopes(name: str, n: int, form: str) -> Callable[[], Any]:
    model = MODELS[name]
    params: Any = model.params
    if form == "duals":
        arguments = Arguments(None, params)
        block = compile_duals(
            model.function, arguments.kind, False, dim=model.dim, width=width_of(model.dim),
            stride=LANES,
        )  # fmt: skip
    else:
        given: Any = (model.function, GRADIENTS[name])
        if form == "both":
            given, params = (schools_both,), (params[0], 1.0 / params[1])
        arguments = Arguments(None, (params,) * len(given))
        block = compile_given(given, arguments.kind, False, stride=LANES)

    @numba.njit(**UNCOUNTED)
    def run(address, words, z, out, slopes):
        for b in range(z.shape[0]):
            call_gradient_block(address, words, z[b], 0, LANES, out[b], slopes[b])
        return out, slopes

    z = _blocks(name, n)
    out, slopes = np.empty((z.shape[0], LANES)), np.empty(z.shape)

    def call() -> Any:  # holds the block and the arguments
        return run(block.address, arguments.address, z, out, slopes)

    call.kept = block, arguments  # type: ignore[attr-defined]
    return call


def _jax_slopes(name: str, n: int) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    params = tuple(map(jnp.asarray, MODELS[name].params))
    parts = [jnp.asarray(z) for z in np.split(MODELS[name].draws(n), max(1, n // _BATCH))]
    one = jax.jit(
        jax.vmap(
            jax.value_and_grad(lambda z, *params: BATCHES[name](jnp, z, *params)),
            (0, *[None] * len(params)),
        )
    )

    def call() -> Any:
        values, slopes = zip(*(one(z, *params) for z in parts), strict=True)
        slopes = np.concatenate([np.asarray(each) for each in slopes])
        blocks = slopes.reshape(-1, LANES, slopes.shape[1]).swapaxes(1, 2)
        return np.concatenate([np.asarray(each) for each in values]), blocks

    return call


GRADIENT_PEERS = {
    "fastelbo by duals": functools.partial(_slopes, form="duals"),
    "fastelbo by grad=": functools.partial(_slopes, form="grad"),
    "fastelbo by grad= with the value": functools.partial(_slopes, form="both"),
    "jax": _jax_slopes,
}


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize(
    "peer", [each for each in GRADIENT_PEERS if each != "jax" or importlib.util.find_spec(each)]
)
def test_gradient(timed, benchmark, small, name, peer):
    n = _DRAWS // 16 if small else _DRAWS
    values, slopes = timed(GRADIENT_PEERS[peer](name, n), f"gradients of user models: {name}")
    np.testing.assert_allclose(np.ravel(values), _expected(name, n), rtol=1e-9, atol=1e-9)
    model = MODELS[name]
    for b in range(len(slopes)):
        z = model.draws(n)[b * LANES + 7]
        by_hand = GRADIENTS[name](z, *model.params)
        np.testing.assert_allclose(slopes[b][:, 7], by_hand, rtol=1e-9, atol=1e-9)
    if not benchmark.disabled:
        benchmark.extra_info["ns a draw"] = 1e9 * benchmark.stats.stats.median / n
