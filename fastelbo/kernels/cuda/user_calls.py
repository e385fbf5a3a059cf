"""A user's function of one draw as a part of CUDA kernels: one draw a thread.

A kernel is compiled for the function. The function is a part of a type, that of a `DeviceCall` in
the kernel's arguments, so kernels know of it without any code of their own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from ..draws.blocks import DeviceCall
from ..jit.compile import block
from ..vectors.binding import bound
from ..vectors.errors import NotCompiled, explained
from ..vectors.fingerprint import NoFingerprintError, fingerprint
from .device import SIMULATED, device_function, put_all
from .user_source import DeviceRewriter

_NUMBERS = (types.Float, types.Integer, types.Boolean)
# Types of calls. They live as long as the kernels that are compiled for them: as the process.
_kinds: dict[Hashable, Any] = {}


def device_call(function: Any, dim: int, data: Any, params: tuple[Any, ...]) -> DeviceCall:
    """``function(z, [data[i],] *params)`` of draws of ``dim`` coordinates, for kernels.

    Arrays go to the device. It raises `NotCompiled` if the function has no form there.
    """
    has_data = data is not None
    kind = _kind(function, dim, has_data, len(params))
    call: DeviceCall = put_all(kind(data if has_data else (), params))
    kind.require(call)
    return call


def argument_bytes(data: Any, params: Any) -> int:
    """Bytes that data and params take among the arguments of a kernel."""
    if isinstance(params, tuple):
        return sum(argument_bytes(None, each) for each in params) + (
            0 if data is None else argument_bytes(None, data)
        )
    return 8 * (5 + 2 * params.ndim) if isinstance(params, np.ndarray) else 8


def _kind(function: Any, dim: int, has_data: bool, n_params: int) -> Any:
    """The type of the calls of a function, the same for the same source and values."""
    try:
        own: Hashable = fingerprint(function)
    except (NoFingerprintError, RecursionError, ValueError):
        return _new_kind(function, dim, has_data, n_params)
    key = own, dim, has_data, n_params
    if key not in _kinds:
        _kinds[key] = _new_kind(function, dim, has_data, n_params)
    return _kinds[key]


def _new_kind(function: Any, dim: int, has_data: bool, n_params: int) -> Any:
    plain, before, after = bound(function, 1 + has_data + n_params)
    rewriter = DeviceRewriter(dim)
    if plain.__code__.co_argcount > len(before):
        rewriter.draw = plain, plain.__code__.co_varnames[len(before)]
    depends = (*(False for _ in before), True)
    density = device_function(rewriter.rewritten(plain, depends))
    whole = _with_constants(density, before, after, has_data)

    class Kind(DeviceCall):
        """Data and parameters of one function."""

        __slots__ = ()
        evaluate = staticmethod((_simulated if SIMULATED else _compiled)(whole, has_data))

        @staticmethod
        def require(call: DeviceCall) -> None:
            """Raise `NotCompiled` if the function has no form for the types of a call."""
            if SIMULATED:
                return
            row = _row_of(typeof(call.data)) if has_data else typeof(())
            try:
                _result(whole, (_DRAW, row, typeof(call.params)))
            except Exception as error:
                raise explained(error, plain, 1) from error
            _require_numbers_of_helpers(rewriter)

    return Kind


# z as a kernel has it: a column of a thread's array.
_DRAW = types.Array(types.float64, 1, "A")


def _row_of(kind: Any) -> Any:
    return kind.dtype if kind.ndim == 1 else kind.copy(ndim=kind.ndim - 1)


def _with_constants(density: Any, before: Any, after: Any, has_data: bool) -> Any:
    """``f(z, data point or (), params)`` with what a partial function and defaults add."""
    if has_data:
        return device_function(lambda z, x, params: density(*before, z, x, *params, *after))
    return device_function(lambda z, x, params: density(*before, z, *params, *after))


def _require_numbers_of_helpers(rewriter: DeviceRewriter) -> None:
    """An array that a helper returns may be one of the thread, and have two names."""
    for helper in rewriter.helpers if rewriter.makes_arrays else ():
        for compiled in helper.overloads.values():
            if _holds_array(compiled.signature.return_type):
                raise NotCompiled(
                    helper.py_func, "it returns an array to a function that makes one"
                )


def _holds_array(kind: Any) -> bool:
    if isinstance(kind, types.BaseTuple):
        return any(map(_holds_array, kind.types))
    return isinstance(kind, types.Array)


def _compiled(whole: Any, has_data: bool) -> Any:
    attempt = _attempter(whole)

    if has_data:

        @block
        def evaluate(z, call, row, out):
            out[0] = attempt(z[:, 0], call.data[row], call.params)
            return 0

    else:

        @block
        def evaluate(z, call, row, out):
            out[0] = attempt(z[:, 0], (), call.params)
            return 0

    return evaluate


def _result(whole: Any, kinds: Any) -> Any:
    """What the compiled function is, for types of arguments."""
    compiled = whole.compile_device(tuple(kinds))
    value = compiled.signature.return_type
    if not isinstance(value, _NUMBERS):
        raise TypingError(f"it returns {value}; expected a number")
    return compiled


def _attempter(whole: Any) -> Any:
    """The function, but NaN where it raises an error: a thread that stops would never be missed."""

    @intrinsic
    def attempt(typing_context, z, x, params):
        compiled = _result(whole, (z, x, params))
        own = compiled.signature

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            context.add_linking_libs([compiled.library])
            status, value = context.call_internal_no_propagate(builder, compiled.fndesc, own, args)
            value = context.cast(builder, value, own.return_type, types.float64)
            return builder.select(status.is_ok, value, ir.Constant(ir.DoubleType(), math.nan))

        return types.float64(z, x, params), generate

    return attempt


def _simulated(whole: Any, has_data: bool) -> Any:
    def evaluate(z: Any, call: Any, row: Any, out: Any) -> int:
        point = call.data[row] if has_data else ()
        try:
            with np.errstate(all="ignore"):
                out[0] = float(whole(z[:, 0], point, call.params))
        except Exception:
            out[0] = math.nan
        return 0

    return evaluate
