"""The scalars of ``kernels.math`` as LLVM functions on vectors, from their one source.

The Python source of a scalar is run on objects that emit an instruction when they are operated
upon. Before, its ternaries, the only branches it has, are rewritten as selects.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types as python_types
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from ..math import elementary, gamma, scalar
from . import processor
from .types import BIT, DOUBLE, INDEX

# A scalar never adds two inexact products, so that contraction has one meaning: see `math.scalar`.
_FLAGS = ("contract",)


class Traced:
    """A vector of floats, 64-bit words or bits: operators emit instructions."""

    __array_ufunc__ = None  # operators of NumPy's numbers leave the operation to this class

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def _is_float(self) -> bool:
        return isinstance(self.value.type.element, ir.DoubleType)

    def like(self, other: Any) -> Any:
        """LLVM's value of another operand: a constant in every lane if it is a number."""
        if isinstance(other, Traced):
            return other.value
        number = float(other) if self._is_float else int(other)
        return ir.Constant(self.value.type, [number] * self.value.type.count)

    def _emit(self, name: str, *values: Any) -> Traced:
        flags = {"flags": _FLAGS} if name in ("fadd", "fsub", "fmul", "fdiv") else {}
        return Traced(self.builder, getattr(self.builder, name)(*values, **flags))

    def _compare(self, symbol: str, other: Any) -> Traced:
        if not self._is_float:
            return self._emit("icmp_unsigned", symbol, self.value, self.like(other))
        how = "fcmp_unordered" if symbol == "!=" else "fcmp_ordered"
        return self._emit(how, symbol, self.value, self.like(other))

    def __neg__(self) -> Traced:
        return self._emit("fneg", self.value)

    def __abs__(self) -> Traced:
        return Traced(self.builder, intrinsic(self.builder, "fabs", self.value))

    def __eq__(self, other: object) -> Any:
        return self._compare("==", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("!=", other)

    def __lt__(self, other: Any) -> Traced:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Traced:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Traced:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Traced:
        return self._compare(">=", other)

    def view(self, kind: Any) -> Traced:
        """The same bits as floats or as words."""
        element = DOUBLE if kind is _Numpy.float64 else INDEX
        vector = ir.VectorType(element, self.value.type.count)
        return self._emit("bitcast", self.value, vector)


def _operator(on_floats: str | None, on_words: str | None, reflected: bool) -> Any:
    def method(self: Traced, other: Any) -> Traced:
        name = on_floats if self._is_float else on_words
        if name is None:
            raise TypeError("a scalar operates on bits as words and on numbers as floats")
        pair = (self.like(other), self.value) if reflected else (self.value, self.like(other))
        return self._emit(name, *pair)

    return method


for _name, _on_floats, _on_words in (
    ("add", "fadd", "add"),
    ("sub", "fsub", "sub"),
    ("mul", "fmul", "mul"),
    ("truediv", "fdiv", None),
    ("and", None, "and_"),
    ("or", None, "or_"),
    ("xor", None, "xor"),
    ("lshift", None, "shl"),
    ("rshift", None, "lshr"),
):
    setattr(Traced, f"__{_name}__", _operator(_on_floats, _on_words, reflected=False))
    setattr(Traced, f"__r{_name}__", _operator(_on_floats, _on_words, reflected=True))


def intrinsic(builder: Any, name: str, *values: Any) -> Any:
    """Call LLVM's intrinsic function of vectors of floats."""
    kind = values[0].type
    signature = ir.FunctionType(kind, [kind] * len(values))
    full = f"llvm.{name}.v{kind.count}f64"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, full), values)


class _Library:
    """A call of the C library, made only for the lanes that a select takes from it."""

    def __init__(self, symbol: str, x: Traced) -> None:
        self.symbol, self.x = symbol, x

    def where(self, mask: Traced, other: Traced) -> Traced:
        """The library's value in the lanes of the mask, the other in the rest."""
        builder, x, y = mask.builder, self.x.value, other.value
        width = x.type.count
        before = builder.block
        some = builder.icmp_unsigned(
            "!=", builder.bitcast(mask.value, ir.IntType(width)), ir.Constant(ir.IntType(width), 0)
        )
        with builder.if_then(some, likely=False):
            byte = ir.IntType(8)
            rooms = [x, y, builder.zext(mask.value, ir.VectorType(byte, width))]
            places = []
            for value in rooms:
                place = cgutils.alloca_once(builder, value.type)
                builder.store(value, place)
                places.append(builder.bitcast(place, value.type.element.as_pointer()))
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(DOUBLE, [DOUBLE]), self.symbol
            )
            with cgutils.for_range(builder, ir.Constant(INDEX, width)) as loop:
                x_place, y_place, chosen = (builder.gep(place, [loop.index]) for place in places)
                with builder.if_then(builder.trunc(builder.load(chosen), BIT)):
                    builder.store(builder.call(function, [builder.load(x_place)]), y_place)
            mended = builder.load(builder.bitcast(places[1], y.type.as_pointer()))
            inside = builder.block
        result = builder.phi(y.type)
        result.add_incoming(y, before)
        result.add_incoming(mended, inside)
        return Traced(builder, result)


def _select(condition: Any, one: Any, other: Any) -> Any:
    if isinstance(one, _Library):
        return one.where(condition, other)
    either = one if isinstance(one, Traced) else other
    if not isinstance(either, Traced):
        constant = ir.Constant(ir.VectorType(DOUBLE, condition.value.type.count), None)
        either = Traced(condition.builder, constant)
    return condition._emit("select", condition.value, either.like(one), either.like(other))


class _Numpy:
    """What scalars use of NumPy."""

    inf, nan = np.inf, np.nan

    @staticmethod
    def float64(x: Any) -> Any:
        return x if isinstance(x, Traced) else np.float64(x)

    @staticmethod
    def uint64(x: Any) -> Any:
        return x if isinstance(x, Traced) else np.uint64(x)

    @staticmethod
    def floor(x: Traced) -> Traced:
        return Traced(x.builder, intrinsic(x.builder, "floor", x.value))


# The C library's names of the scalars that stand for its functions.
_SYMBOLS = {
    elementary.libm_sin: "llvm.sin.f64",
    elementary.libm_cos: "llvm.cos.f64",
    elementary.libm_tan: "tan",
    gamma.libm_lgamma: "lgamma",
}


class _Ternaries(ast.NodeTransformer):
    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        name = ast.Name("_select", ast.Load())
        return ast.copy_location(ast.Call(name, [node.test, node.body, node.orelse], []), node)


def _times_power(y: Any, n: Traced) -> Traced:
    """`scalar.times_power`, in one instruction if there is one."""
    if processor.scales(n.value.type.count):
        return Traced(n.builder, processor.scaled(n.builder, n.like(y), n.value))
    return _rewritten(scalar.times_power)(y, n)


@functools.cache
def _on_vectors(function: Any) -> Callable[..., Any]:
    """The scalar, rewritten to run on `Traced` values."""
    if function in _SYMBOLS:
        return functools.partial(_Library, _SYMBOLS[function])
    if function is scalar.times_power:
        return _times_power
    return _rewritten(function)


@functools.cache
def _rewritten(function: Any) -> Callable[..., Any]:
    plain = inspect.unwrap(function)
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list, definition.returns = [], None
    for argument in definition.args.args:
        argument.annotation = None
    ast.fix_missing_locations(_Ternaries().visit(tree))
    scope: dict[str, Any] = {"_select": _select}
    for name in plain.__code__.co_names:
        value = plain.__globals__.get(name)
        if value is np:
            scope[name] = _Numpy
        elif isinstance(value, python_types.FunctionType):
            scope[name] = _on_vectors(value)
        elif value is not None:
            scope[name] = value
    exec(compile(tree, inspect.getsourcefile(plain) or "<scalar>", "exec"), scope)
    return scope[definition.name]


def vector_function(scalar: Any, join: bool = False) -> Callable[..., Any]:
    """``emit(builder, *vectors)``: a call of the scalar on vectors, defined once a module."""

    def emit(builder: Any, *values: Any) -> Any:
        kind = values[0].type
        name = f"fastelbo.{scalar.__name__}.{kind.count}"
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(
                builder.module, ir.FunctionType(kind, [kind] * len(values)), name
            )
            function.linkage = "linkonce_odr"
            if join:
                function.attributes.add("alwaysinline")
            inside = ir.IRBuilder(function.append_basic_block("entry"))
            result = _on_vectors(scalar)(*(Traced(inside, each) for each in function.args))
            inside.ret(result.value)
        return builder.call(function, values)

    return emit


def square_root(builder: Any, x: Any) -> Any:
    """The square root, correctly rounded."""
    return intrinsic(builder, "sqrt", x)


def constant(like: Any, number: float | int) -> Any:
    """A number in each lane of a vector like another."""
    return ir.Constant(like.type, [number] * like.type.count)
