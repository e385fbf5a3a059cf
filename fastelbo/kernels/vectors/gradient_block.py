"""A user's log density and its gradient as machine code for a block of draws.

The gradient is that of dual numbers, from the source of the density, or what a function of the user
says. The values are those of `block`, bit by bit.
"""

from __future__ import annotations

from typing import Any

from ..jit.compile import native
from . import derivatives, processor
from .agreement import require_agreement
from .arguments import unpacker
from .binding import bound
from .block import GRADIENT_SIGNATURE, WIDTH, BlockFunction, views
from .errors import NotCompiled, explained
from .gradient_views import as_items, dual_views, writer
from .rewriting import Rewriter
from .types import Form

assert derivatives  # registers the rules of dual numbers

# Most partials at once: code grows with their number. More coordinates take several passes.
MOST_PARTIALS = 16


def partials_of(dim: int) -> int:
    """Partials of a dual number, for the fewest passes over D coordinates."""
    passes = -(-dim // MOST_PARTIALS)
    return -(-dim // passes)


def width_of(dim: int) -> int:
    """Lanes of dual numbers, each in several registers. No bit of a result depends on it."""
    return processor.lanes_beside(partials_of(dim))


def compile_duals(
    function: Any, kind: Any, has_data: bool, *, dim: int, stride: int, width: int
) -> BlockFunction:
    """Compile ``function(z, [data point,] *params)`` and its gradient by dual numbers.

    The machine code is for `call_gradient_block`, and as `compile_block` says. Slope d of lane k is
    at ``slopes[d * stride + k]``.
    """
    form = Form(width, partials_of(dim))
    plain, before, after = bound(function, 1 + has_data + len(kind.types[1]))
    rewriter = Rewriter(form.width, native, form.partials)

    def make() -> Any:
        density = native(rewriter.rewritten(plain, (*(False for _ in before), True)))
        entry = _by_duals(density, before, after, kind, has_data, stride, form)
        return native(entry, GRADIENT_SIGNATURE), density

    return _compiled(make, plain, rewriter)


def compile_given(
    function: Any, gradient: Any, kind: Any, has_data: bool, *, stride: int,
    width: int = WIDTH,
) -> BlockFunction:  # fmt: skip
    """The same, with a function that returns the gradient.

    ``kind`` is that of a tuple of the params of both functions.
    """
    rewriter = Rewriter(width, native)
    pair = [
        bound(each, 1 + has_data + len(own))
        for each, own in zip((function, gradient), kind.types[1].types, strict=True)
    ]

    def make() -> Any:
        codes = [
            native(rewriter.rewritten(plain, (*(False for _ in before), True)))
            for plain, before, _ in pair
        ]
        entry = _by_function(codes, pair, kind, has_data, stride, width)
        return native(entry, GRADIENT_SIGNATURE), *codes

    return _compiled(make, pair[1].function, rewriter)


def _compiled(make: Any, plain: Any, rewriter: Rewriter) -> BlockFunction:
    try:
        dispatcher, *codes = make()
        (compiled,) = dispatcher.overloads.values()
    except NotCompiled:
        raise
    except Exception as error:
        raise explained(error, plain, rewriter.width) from error
    require_agreement(plain, (*codes, *rewriter.helpers))
    name = compiled.fndesc.llvm_func_name
    return BlockFunction(compiled.library.get_pointer_to_function(name), dispatcher)


# --- dual numbers -------------------------------------------------------------------------------


def _by_duals(
    density: Any, before: Any, after: Any, kind: Any, has_data: bool, stride: int, form: Form
) -> Any:
    """The loop over passes and lanes. z is a vector of dual numbers, whose values are replaced."""
    room, begin, fill, put = dual_views(form, stride)
    unpack = unpacker(kind)
    width, partials = form

    if has_data:

        def entry(arguments, z, dim, i, n, out, slopes):
            data, params = unpack(arguments)
            duals = room(dim)
            for first in range(0, dim, partials):
                begin(duals, first)
                for k in range(0, n, width):
                    fill(duals, z, k)
                    value = density(*before, duals, data[i], *params, *after)
                    put(out, slopes, dim, first, k, value)
            return 0

    else:

        def entry(arguments, z, dim, i, n, out, slopes):
            _, params = unpack(arguments)
            duals = room(dim)
            for first in range(0, dim, partials):
                begin(duals, first)
                for k in range(0, n, width):
                    fill(duals, z, k)
                    value = density(*before, duals, *params, *after)
                    put(out, slopes, dim, first, k, value)
            return 0

    return entry


def _by_function(
    codes: list[Any], pair: list[Any], kind: Any, has_data: bool, stride: int, width: int
) -> Any:
    column, put = views(width, stride)
    put_all = writer(width, stride)
    unpack = unpacker(kind)
    density, gradient = codes
    (_, before, after), (_, before_g, after_g) = pair

    if has_data:

        def entry(arguments, z, dim, i, n, out, slopes):
            data, (params, params_g) = unpack(arguments)
            for k in range(0, n, width):
                value = density(*before, column(z, dim, k), data[i], *params, *after)
                items = gradient(*before_g, column(z, dim, k), data[i], *params_g, *after_g)
                put(out, k, value)
                put_all(slopes, dim, k, as_items(width, items))
            return 0

    else:

        def entry(arguments, z, dim, i, n, out, slopes):
            _, (params, params_g) = unpack(arguments)
            for k in range(0, n, width):
                value = density(*before, column(z, dim, k), *params, *after)
                items = gradient(*before_g, column(z, dim, k), *params_g, *after_g)
                put(out, k, value)
                put_all(slopes, dim, k, as_items(width, items))
            return 0

    return entry
