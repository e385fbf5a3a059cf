"""Rewrites the source of a user's function, and of the helpers it calls, for a device.

One draw a thread: branches stay. What a device does not have is replaced:

- Functions of numbers by those that a device has (see `user_functions`).
- A read or a write of an item is preceded by a check of its index.
- A vector by ``np.zeros`` and its like, whose size is known, is an array of the thread (see
  `user_arrays`). A list of values is a tuple.
- ``sum(... for ...)`` is a loop before its statement.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import inspect
import types
from typing import Any

from ..vectors.errors import NotCompiled
from ..vectors.purity import plain_function, serves_lanes
from ..vectors.rewriting import Rewrite, Rewriter
from ..vectors.syntax import assign, call, definition, load, located
from . import user_arrays
from .device import device_function
from .user_functions import FORMS, SOURCES, dot, python_max, python_min, require

_OPTIONAL = (
    ast.IfExp, ast.BoolOp, ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp,
)  # fmt: skip
_EXTREMES = {builtins.max: python_max, builtins.min: python_min}
_UNKNOWN_SIZE = "it makes an array whose size is not a constant, or that gets no name"
_OTHER_INDEX = "an index by None or ... has no form on a device"
_OTHER_SUM = "sum(... for ...) stands where it may be left out; write a loop"


class DeviceRewriter(Rewriter):
    """Rewrites a function of a draw z of ``dim`` coordinates, and its helpers."""

    def __init__(self, dim: int) -> None:
        super().__init__(1, device_function)
        self.dim = dim
        # Whether a function has arrays of the thread.
        self.makes_arrays = False
        # The parameter that is z, in the function itself; none in a helper.
        self.draw: tuple[Any, str] | None = None
        self._forms: dict[Any, Any] = {}

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
        return FORMS.get(target) if source is None else self.compiled(source)

    def compiled(self, source: Any) -> Any:
        """A function of `user_functions`, for a device."""
        if source not in self._forms:
            self._forms[source] = device_function(source)
        return self._forms[source]


class _DeviceRewrite(Rewrite, ast.NodeTransformer):
    """One function."""

    owner: DeviceRewriter

    def __init__(self, owner: Any, function: Any, tree: Any, depends: Any) -> None:
        super().__init__(owner, function, tree, depends)
        draw = owner.draw[1] if owner.draw is not None and owner.draw[0] is function else None
        self.arrays = user_arrays.ThreadArrays(function, tree, self._meaning, draw, owner.dim)
        self.extra.update(user_arrays.SCOPE)
        # Statements that come before the one that is rewritten; how deep it stands in expressions
        # that may be left out.
        self._before: list[ast.stmt] = []
        self._optional = 0
        self._sums = 0

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
        if target in (max, min) and len(node.args) > 1 and not node.keywords:
            two = self.owner.compiled(_EXTREMES[target])
            args = [self.visit(each) for each in node.args]
            return functools.reduce(lambda x, y: self._called(two, [x, y], node), args)
        if target is sum and node.args and isinstance(node.args[0], ast.GeneratorExp):
            return self._sum(node, node.args[0])
        if (target in user_arrays.MAKERS) if callable(target) else False:
            raise NotCompiled(self.function, _UNKNOWN_SIZE, node.lineno)
        if isinstance(target, types.FunctionType) and serves_lanes(target):
            return self._helper_call(inspect.unwrap(target), node)
        return super().visit_Call(node)

    def _sum(self, node: ast.Call, generator: ast.GeneratorExp) -> ast.AST:
        """``sum(... for ...)`` as a loop before the statement."""
        if self._optional:
            raise NotCompiled(self.function, _OTHER_SUM, node.lineno)
        self._sums += 1
        total = f"_device_sum_{self._sums}"
        inner = _Renamed(generator, f"_device_{self._sums}_").visit(copy.deepcopy(generator))
        added = ast.BinOp(load(total), ast.Add(), inner.elt)
        body: Any = ast.Assign([ast.Name(total, ast.Store())], added)
        for each in reversed(inner.generators):
            for test in reversed(each.ifs):
                body = ast.If(test, [body], [])
            body = ast.For(each.target, each.iter, [body], [])
        start = node.args[1] if len(node.args) > 1 else ast.Constant(0)
        loop = [assign(total, start, node), located(body, node)]
        self._before.extend(self._block(loop))
        return located(load(total), node)

    def visit(self, node: Any) -> Any:
        """See `ast.NodeTransformer`; it counts expressions that may be left out or come again."""
        optional = isinstance(node, _OPTIONAL) or len(getattr(node, "comparators", ())) > 1
        self._optional += optional
        found = super().visit(node)
        self._optional -= optional
        return found

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._as_is(node)

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
        made = self.arrays.made(node, self.visit)
        if made is not None:
            self.owner.makes_arrays = True
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

    def visit_While(self, node: ast.While) -> Any:
        self._optional += 1
        node.test = self.visit(node.test)
        self._optional -= 1
        node.body, node.orelse = self._block(node.body), self._block(node.orelse)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return self._as_is(node)

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        outer = self._before, self._optional
        for node in body:
            self._before, self._optional = [], 0
            found = self.visit(node)
            result.extend(self._before)
            result.extend(found if isinstance(found, list) else [found])
        self._before, self._optional = outer
        return result


class _Renamed(ast.NodeTransformer):
    """Gives the variables of a generator names that nothing else has."""

    def __init__(self, generator: ast.GeneratorExp, prefix: str) -> None:
        targets = (name for each in generator.generators for name in ast.walk(each.target))
        self.names = {each.id for each in targets if isinstance(each, ast.Name)}
        self.prefix = prefix

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        # The first iterable stands outside.
        first = node.generators[0].iter
        self.generic_visit(node)
        node.generators[0].iter = first
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        renamed = self.prefix + node.id if node.id in self.names else node.id
        return ast.copy_location(ast.Name(renamed, node.ctx), node)


DeviceRewriter.rewrite = _DeviceRewrite
