"""Rewrites the source of a user's function, and of the helpers it calls, for a device.

One draw a thread: branches stay. What a device does not have is replaced:

- Functions of numbers by those that a device has (see `user_functions`).
- A read or a write of an item is preceded by a check of its index.
- A vector by ``np.zeros`` and its like, whose size is known, is an array of the thread. A list of
  values is a tuple.
"""

from __future__ import annotations

import ast
import copy
import inspect
import operator
import types
from typing import Any

import numpy as np

from ..vectors.errors import NotCompiled
from ..vectors.purity import plain_function, serves_lanes
from ..vectors.rewriting import Rewrite, Rewriter
from ..vectors.syntax import assign, call, definition, load, located
from .device import cuda, device_function
from .user_functions import FORMS, SOURCES, dot, require

_MAKERS: dict[Any, float | None] = {
    np.empty: None, np.zeros: 0.0, np.ones: 1.0,
    np.empty_like: None, np.zeros_like: 0.0, np.ones_like: 1.0,
}  # fmt: skip
_SUMS: dict[Any, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
}  # fmt: skip
_OF_THE_THREAD = {"_device_cuda": cuda, "_device_float": np.float64}
_UNKNOWN_SIZE = (
    "it makes an array whose size is not a constant, where a device needs it; write a loop"
)
_OTHER_INDEX = "an index by None or ... has no form on a device"
_SUM_OF_GENERATOR = "sum(... for ...) makes a list, where a device has none; write a loop"


class DeviceRewriter(Rewriter):
    """Rewrites a function of a draw z of ``dim`` coordinates, and its helpers."""

    def __init__(self, dim: int) -> None:
        super().__init__(1, device_function)
        self.dim = dim
        self._forms: dict[Any, Any] = {}
        # The parameter that is z, in the function itself; none in a helper.
        self.draw: tuple[Any, str] | None = None

    def rewritten(self, function: types.FunctionType, depends: tuple[bool, ...]) -> Any:
        """See `Rewriter`."""
        if definition(function) is None:
            raise NotCompiled(function, "its source cannot be read, which a device needs")
        return super().rewritten(function, depends)

    def form(self, target: Any) -> Any:
        """What a device calls for a function; None if it is called as it is."""
        try:
            source = SOURCES.get(target)
        except TypeError:  # it has no hash
            return None
        if source is None:
            return FORMS.get(target)
        if target not in self._forms:
            self._forms[target] = device_function(source)
        return self._forms[target]


class _DeviceRewrite(Rewrite, ast.NodeTransformer):
    """One function."""

    owner: DeviceRewriter

    # --- expressions

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if isinstance(node.op, ast.MatMult):
            return self._called(dot, [self.visit(node.left), self.visit(node.right)], node)
        return self._as_is(node)

    def visit_List(self, node: ast.List) -> ast.AST:
        if isinstance(node.ctx, ast.Load) and node.elts:
            return located(ast.Tuple([self.visit(each) for each in node.elts], ast.Load()), node)
        return self._as_is(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        target = plain_function(self._meaning(node.func))
        form = self.owner.form(target)
        if form is not None and not node.keywords:
            return self._called(form, [self.visit(each) for each in node.args], node)
        if (target in _MAKERS or target is np.array) if callable(target) else False:
            raise NotCompiled(self.function, _UNKNOWN_SIZE, node.lineno)
        if target is sum and isinstance(node.args[0], (ast.GeneratorExp, ast.ListComp)):
            raise NotCompiled(self.function, _SUM_OF_GENERATOR, node.lineno)
        if isinstance(target, types.FunctionType) and serves_lanes(target):
            return self._helper_call(inspect.unwrap(target), node)
        return super().visit_Call(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node = self._as_is(node)
        if not isinstance(node.ctx, ast.Load) or not self._has_check(node):
            return node
        pair = ast.Tuple([self._check(node), node], ast.Load())
        return located(ast.Subscript(pair, ast.Constant(1), ast.Load()), node)

    @staticmethod
    def _has_check(node: ast.Subscript) -> bool:
        """Whether an item is read or written: not a slice, nor an item of a shape."""
        value = node.value
        is_shape = isinstance(value, ast.Attribute) and value.attr in ("shape", "strides")
        return not is_shape and not isinstance(node.slice, ast.Slice)

    def _check(self, node: ast.Subscript) -> ast.expr:
        """Calls of `require`, one an axis."""
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        checks: list[ast.expr] = []
        for axis, part in enumerate(parts):
            if isinstance(part, ast.Constant) and part.value in (None, Ellipsis):
                raise NotCompiled(self.function, _OTHER_INDEX, node.lineno)
            if not isinstance(part, ast.Slice):
                array, index = copy.deepcopy(node.value), copy.deepcopy(part)
                checks.append(call(self._named(require), array, ast.Constant(axis), index))
        return checks[0] if len(checks) == 1 else ast.Tuple(checks, ast.Load())

    # --- statements

    def visit_Assign(self, node: ast.Assign) -> Any:
        made = self._made(node)
        if made is not None:
            return made
        places = [each for target in node.targets for each in ast.walk(target)]
        rewritten = self._as_is(node)
        return [*self._checks(places, node), rewritten]

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        rewritten = self._as_is(node)
        return [*self._checks([node.target], node), rewritten]

    def _checks(self, places: list[Any], node: ast.stmt) -> list[ast.stmt]:
        """The checks of items that a statement writes to."""
        return [
            located(ast.Expr(self._check(each)), node)
            for each in places
            if isinstance(each, ast.Subscript)
            and isinstance(each.ctx, ast.Store)
            and self._has_check(each)
        ]

    def _made(self, node: ast.Assign) -> list[ast.stmt] | None:
        """``name = np.zeros(3)`` and its like as an array of the thread."""
        target, value = node.targets[0], node.value
        if len(node.targets) > 1 or not isinstance(target, ast.Name):
            return None
        if not isinstance(value, ast.Call) or len(value.args) != 1 or value.keywords:
            return None
        maker, (argument,) = self._meaning(value.func), value.args
        if not callable(maker):
            return None
        if maker is np.array and isinstance(argument, (ast.List, ast.Tuple)):
            items = [self.visit(each) for each in argument.elts]
            places = [
                ast.Subscript(load(target.id), ast.Constant(k), ast.Store())
                for k in range(len(items))
            ]
            writes = [ast.Assign([place], item) for place, item in zip(places, items, strict=True)]
            return [self._array(target.id, len(items), node), *(located(e, node) for e in writes)]
        if maker not in _MAKERS:
            return None
        size = self.owner.dim if self._is_draw(argument) else self._size(argument)
        if size is None:
            return None
        made, number = [self._array(target.id, size, node)], _MAKERS[maker]
        if number is not None:
            everything = ast.Subscript(load(target.id), ast.Slice(), ast.Store())
            made.append(located(ast.Assign([everything], ast.Constant(number)), node))
        return made

    def _array(self, name: str, size: int, node: ast.stmt) -> ast.stmt:
        self.extra.update(_OF_THE_THREAD)
        local = ast.Attribute(load("_device_cuda"), "local", ast.Load())
        maker = ast.Attribute(local, "array", ast.Load())
        arguments: list[ast.expr] = [ast.Constant(size), load("_device_float")]
        made: ast.stmt = assign(name, ast.Call(maker, arguments, []), node)
        return made

    def _size(self, node: ast.AST) -> int | None:
        """The constant that a size stands for; None if it is none."""
        if isinstance(node, ast.Call) and self._meaning(node.func) is len:
            return self.owner.dim if self._is_draw(node.args[0]) else None
        if isinstance(node, ast.Attribute) and node.attr == "size" and self._is_draw(node.value):
            return self.owner.dim
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
            of_draw = node.value.attr == "shape" and self._is_draw(node.value.value)
            return self.owner.dim if of_draw else None
        if isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
            left, right = self._size(node.left), self._size(node.right)
            known = left is not None and right is not None
            return _SUMS[type(node.op)](left, right) if known else None
        value = node.value if isinstance(node, ast.Constant) else self._meaning(node)
        return value if type(value) is int and value > 0 else None

    def _is_draw(self, node: ast.AST) -> bool:
        """Whether a name is z, as the function got it."""
        if self.owner.draw is None or not isinstance(node, ast.Name):
            return False
        function, name = self.owner.draw
        writes = (
            isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, ast.Store)
            for each in ast.walk(self.tree)
        )
        return self.function is function and node.id == name and not any(writes)

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for node in body:
            found = self.visit(node)
            result.extend(found if isinstance(found, list) else [found])
        return result


DeviceRewriter.rewrite = _DeviceRewrite
