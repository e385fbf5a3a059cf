"""The machine replaces `fastelbo.kernels.cuda.device`; the backend takes it for a GPU."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from numba import typeof

from benchmarks.registers import Launch, compile_ptx, pretended
from fastelbo.kernels.cuda import device

from .machine import Machine
from .memory import Memory
from .program import Program, parse

TARGET = (9, 0)


def missing() -> str | None:
    """What is missing to compile PTX; None if nothing is."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install .[ptx]"
    from cuda import pathfinder

    try:
        pathfinder.load_nvidia_dynamic_lib("nvvm")
    except Exception as error:
        return f"libNVVM is not installed, pip install .[ptx]: {error}"
    return None


class DeviceArray(np.ndarray[Any, Any]):
    """An array in the machine's memory, with the attributes of numba's that the backend uses."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """As in a device array."""
        return dict(self.__array_interface__)

    def is_c_contiguous(self) -> bool:
        """Whether the array is C-contiguous."""
        return bool(self.flags.c_contiguous)


@functools.cache
def _compiled(kernel: Any, types: tuple[Any, ...]) -> Program:
    return parse(compile_ptx(Launch(kernel, types), TARGET))


def _plain(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return argument.view(np.ndarray)
    if isinstance(argument, tuple):
        items = map(_plain, argument)
        return type(argument)(*items) if hasattr(argument, "_fields") else tuple(items)
    return argument


def _flat(argument: Any) -> list[int]:
    """The bits of an argument as numba passes them to a kernel."""
    if isinstance(argument, np.ndarray):
        nobody, place = [0, 0], argument.ctypes.data
        sizes = [argument.size, argument.itemsize]
        return [*nobody, *sizes, place, *argument.shape, *argument.strides]
    if isinstance(argument, tuple):
        return [bits for part in argument for bits in _flat(part)]
    if isinstance(argument, float | np.floating):
        return [int.from_bytes(np.float64(argument).tobytes(), "little")]
    return [int(argument) % 2**64]


@contextlib.contextmanager
def installed() -> Iterator[Memory]:
    """Install the machine, with its own memory, as the device."""
    memory = Memory()

    def launch(kernel: Any, blocks: int, *args: Any, threads: int = device.BLOCK_THREADS) -> None:
        arguments = tuple(map(_plain, args))
        program = _compiled(kernel, tuple(map(typeof, arguments)))
        with memory.borrowed():
            Machine(program, threads, memory).launch(blocks, _flat(arguments))

    def put(array: Any) -> Any:
        return memory.put(np.ascontiguousarray(array)).view(DeviceArray)

    def room(shape: Any, dtype: Any = np.float64) -> Any:
        return memory.room(shape, dtype).view(DeviceArray)

    with (
        pretended(TARGET),
        mock.patch.multiple(
            device,
            missing=lambda: None,
            count=lambda: 1,
            select=lambda index: contextlib.nullcontext(),
            name=lambda: "PTX machine",
            free_bytes=lambda: 2**20,
            put=put,
            room=room,
            fetch=lambda array: np.array(array),
            launch=launch,
            blocks_at_once=lambda: 4,
            multiplies=lambda: TARGET >= (8, 0),
            synchronize=lambda: None,
            adopt=lambda array: array,
        ),
    ):
        yield memory
