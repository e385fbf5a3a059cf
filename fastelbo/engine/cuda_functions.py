"""Users' functions of a model on a CUDA device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arrays.devices import room_for
from ..errors import InvalidInputError
from ..kernels.draws.blocks import Plan
from ..kernels.vectors.errors import NotCompiled
from ..models.compiled import CompiledDensity, place_of
from .task import EstimateRequest

if TYPE_CHECKING:
    from ..kernels.draws.blocks import DeviceCall

# Bytes of the arguments of a kernel that data and params may take, beside those of a plan.
_MOST_BYTES = 1600


def device_calls(request: EstimateRequest) -> dict[str, DeviceCall]:
    """The functions of the model's prior and likelihood, and what they read, on the device."""
    parts = {"prior": request.model.prior, "likelihood": request.model.likelihood}
    return {
        name: _device_call(part)
        for name, part in parts.items()
        if isinstance(part, CompiledDensity)
    }


def with_device_calls(plan: Plan, calls: dict[str, DeviceCall]) -> Plan:
    """The plan with functions of the device in the place of those of the CPU."""
    return plan._replace(
        **{name: getattr(plan, name)._replace(call=call) for name, call in calls.items()}
    )


def _device_call(density: CompiledDensity) -> DeviceCall:
    from ..kernels.cuda.user_calls import argument_bytes, device_call

    function = density.function
    size = argument_bytes(function.data, function.values)
    if size > _MOST_BYTES:
        raise InvalidInputError(
            f"{function.label} cannot run on a CUDA device: the arguments of a kernel have room "
            f"for {_MOST_BYTES} bytes of params, 56 a vector, and these take {size}; put "
            'several arrays into one, or use backend="cpu"'
        )
    numbers = [function.data, *function.values]
    held = sum(each.nbytes for each in numbers if isinstance(each, np.ndarray))
    try:
        with room_for(held, f"data and params of {function.label}"):
            return device_call(function.code, density.dim, function.data, function.values)
    except NotCompiled as error:
        raise InvalidInputError(
            f"{function.label} cannot be compiled for a CUDA device: {error.reason}, at "
            f'{place_of(error, function)}; backend="cpu" computes it'
        ) from error
