"""NumPy, torch and JAX, in which a user's function computes: arrays go there and come back.

Draws go there without a copy where the library and the device allow it, as a private array that the
function may keep or write to. Data are copied once, and a function that writes to them is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError
from ..optional import optional
from ..validation import as_choice, shown
from .inputs import as_array

NAMESPACES = ("numpy", "torch", "jax")
Array = np.ndarray[Any, Any]
Rows = NDArray[np.int64]


class Namespace(Protocol):
    """A library that a function computes in."""

    # Whether a function is compiled anew for each shape of its arguments.
    compiles_shapes: bool

    def keep(self, data: Any, name: str) -> Any:
        """A private copy of data."""
        ...

    def rows(self, data: Any, rows: Rows) -> Any:
        """Some rows of data that `keep` gave."""
        ...

    def call(self, function: Callable[..., Any], z: Array, others: tuple[Any, ...]) -> Any:
        """``function(z, *others)``, as an array or what `as_array` reads as one; or two of them."""
        ...

    def differentiated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function for `call`: what ``function`` returns, and the gradient of its sum in z."""
        ...


def namespace(name: Any, device: Any) -> Namespace:
    """The namespace with this name, on a device."""
    as_choice(name, "array_namespace", NAMESPACES)
    if name == "torch":
        return Torch(device)
    if name == "jax":
        return Jax(device)
    if device is not None:
        raise InvalidInputError(
            f'device must be None for array_namespace="numpy", got {shown(device)}'
        )
    return NumPy()


def _contiguous(rows: Rows) -> slice | Rows:
    """The rows as a slice, if they are one."""
    first, count = int(rows[0]), len(rows)
    whole = int(rows[-1]) == first + count - 1 and bool((np.diff(rows) == 1).all())
    return slice(first, first + count) if whole else rows


class NumPy:
    """Arrays of NumPy. Data are read-only."""

    compiles_shapes = False

    def keep(self, data: Any, name: str) -> Any:
        kept = np.array(as_array(data, name))
        kept.setflags(write=False)
        return kept

    def rows(self, data: Any, rows: Rows) -> Any:
        part = data[_contiguous(rows)]
        part.setflags(write=False)
        return part

    def call(self, function: Callable[..., Any], z: Array, others: tuple[Any, ...]) -> Any:
        return function(z, *others)

    def differentiated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        raise InvalidInputError(
            "a function of NumPy's arrays has no gradient of its own: give it as grad=, a function "
            "of the same arguments that returns an array of the shape of z, or take "
            'array_namespace="torch" or "jax"'
        )


class Torch:
    """Tensors of torch. A function runs without gradients, unless those in z are asked for."""

    compiles_shapes = False

    def __init__(self, device: Any) -> None:
        torch = optional("torch", 'array_namespace="torch"', "torch")
        try:
            self._device = torch.device("cpu" if device is None else device)
        except Exception as error:
            raise InvalidInputError(
                f"device must be one of torch, got {shown(device)}: {error}"
            ) from error

    def keep(self, data: Any, name: str) -> Any:
        torch = optional("torch", 'array_namespace="torch"', "torch")
        if isinstance(data, torch.Tensor):
            return data.detach().clone().to(self._device)
        return torch.from_numpy(np.array(as_array(data, name))).to(self._device)

    def rows(self, data: Any, rows: Rows) -> Any:
        return data[_contiguous(rows)]

    def call(self, function: Callable[..., Any], z: Array, others: tuple[Any, ...]) -> Any:
        torch = optional("torch", 'array_namespace="torch"', "torch")
        versions = [_version(other) for other in others]
        with torch.no_grad():
            result = function(torch.from_numpy(z).to(self._device), *others)
        if versions != [_version(other) for other in others]:
            raise InvalidInputError("the function wrote to its data, which later calls read again")
        if isinstance(result, tuple):
            return tuple(_on_cpu(torch, each) for each in result)
        return _on_cpu(torch, result)

    def differentiated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        torch = optional("torch", 'array_namespace="torch"', "torch")

        def both(z: Any, *others: Any) -> Any:
            z.requires_grad_(True)
            with torch.enable_grad():
                # A function may write to what it gets, but not to a leaf of the graph.
                values = function(z.clone(), *others)
                if not getattr(values, "requires_grad", False):
                    raise InvalidInputError(
                        "the function has no gradient in z: its values do not follow from z by "
                        "operations of torch; give the gradient as grad="
                    )
                (slopes,) = torch.autograd.grad(values.sum(), z)
            return values, slopes

        return both


def _on_cpu(torch: Any, result: Any) -> Any:
    return result.detach().cpu() if isinstance(result, torch.Tensor) else result


def _version(value: Any) -> Any:
    """How often a tensor was written to in place."""
    return getattr(value, "_version", None)


class Jax:
    """Arrays of JAX, which no function can write to."""

    # A new shape takes a compiler longer than a whole batch takes.
    compiles_shapes = True

    def __init__(self, device: Any) -> None:
        jax = optional("jax", 'array_namespace="jax"', "jax")
        if isinstance(device, str):
            platform, _, index = device.partition(":")
            try:
                device = jax.devices(platform)[int(index or 0)]
            except (RuntimeError, IndexError, ValueError) as error:
                raise InvalidInputError(
                    f"device must be one of JAX, got {shown(device)}: {error}"
                ) from error
        elif device is not None and not isinstance(device, jax.Device):
            raise InvalidInputError(f"device must be one of JAX or its name, got {shown(device)}")
        self._device = device

    def keep(self, data: Any, name: str) -> Any:
        jax = optional("jax", 'array_namespace="jax"', "jax")
        kept = np.array(as_array(data, name))
        _require_x64(jax, kept, name)
        return jax.device_put(kept, self._device)

    def rows(self, data: Any, rows: Rows) -> Any:
        jax = optional("jax", 'array_namespace="jax"', "jax")
        return jax.numpy.take(data, rows, axis=0)

    def call(self, function: Callable[..., Any], z: Array, others: tuple[Any, ...]) -> Any:
        jax = optional("jax", 'array_namespace="jax"', "jax")
        _require_x64(jax, z, "z")
        # The draws are private: JAX may use their memory.
        result = function(jax.device_put(z, self._device, may_alias=True), *others)
        if isinstance(result, tuple):
            return tuple(map(np.asarray, result))
        return np.asarray(result) if isinstance(result, jax.Array) else result

    def differentiated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        jax = optional("jax", 'array_namespace="jax"', "jax")

        def summed(z: Any, *others: Any) -> Any:
            values = function(z, *others)
            return values.sum(), values

        both = jax.jit(jax.value_and_grad(summed, has_aux=True))

        def swapped(z: Any, *others: Any) -> Any:
            (_, values), slopes = both(z, *others)
            return values, slopes

        return swapped


def _require_x64(jax: Any, array: Array, name: str) -> None:
    if array.dtype.itemsize == 8 and not jax.config.jax_enable_x64:
        raise InvalidInputError(
            f"{name} is {array.dtype}, which JAX would round to 32 bits: call "
            'jax.config.update("jax_enable_x64", True) before the first JAX array is made, or '
            'estimate with precision="float32" and data of 32 bits'
        )
