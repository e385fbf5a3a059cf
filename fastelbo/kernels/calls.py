"""Functions that stay calls on a GPU, where everything else is inlined.

What a kernel does now and then then takes no registers from what it does all the time.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from .device import SIMULATED


def stay_a_call() -> None:
    """Keep the function that calls it from being inlined on a device."""


if not SIMULATED:

    @intrinsic
    def stay_a_call(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.function.attributes.add("noinline")
            return context.get_dummy_value()

        return types.none(), generate
