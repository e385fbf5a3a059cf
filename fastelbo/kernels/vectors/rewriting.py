"""Rewrites the source of a user's function, and of the helpers it calls, for values in lanes.

- ``a * b + c`` is one fused operation, rounded once. It is chosen here, and not by the compiler
  from the instructions around it, so that no width, processor or version changes a bit.
- Branches on z become selects (see `selects`), unless there is one lane, where they stay.
- Vectors by ``np.zeros`` and its like hold values in lanes if such are written to them.
- Operations on integers that have no result in 64 bits stop the function (see `integers`), and so
  do names that have no value yet (see `assigned`).
- A helper is rewritten for the arguments that it gets: a plain Python function is a helper, too.

Line numbers, closures and globals stay those of the function. One without source is taken as it is.
"""

from __future__ import annotations

import ast
import copy
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from . import fused, integers, temporaries
from .assigned import ASSIGNED, Unassigned, assigned
from .choices import as_float, truth
from .dataflow import Dependence
from .errors import NotCompiled
from .purity import is_pure, plain_function, serves_lanes
from .randomness import draws_at
from .selects import SCOPE, Selects
from .syntax import call, definition, load, located, meaning, normalised, rebuilt
from .temporaries import empty, filled, packed

# Packages whose functions are no helpers of the user's.
_FOREIGN = {"numpy", "numba", "scipy", "math", "builtins", "operator", "llvmlite"}
_MAKERS: dict[Any, tuple[Any, float | None]] = {
    np.empty: (empty, None), np.zeros: (filled, 0.0), np.ones: (filled, 1.0),
    np.empty_like: (empty, None), np.zeros_like: (filled, 0.0), np.ones_like: (filled, 1.0),
}  # fmt: skip
# With the product on the left, and on the right.
_FUSED: dict[Any, tuple[Any, Any]] = {
    ast.Add: (fused.product_plus, fused.plus_product),
    ast.Sub: (fused.product_minus, fused.minus_product),
}
_FUSED_IN_PLACE = {ast.Add: fused.add_product, ast.Sub: fused.subtract_product}

# Their generators become lists.
_OF_ITEMS: tuple[Any, ...] = (sum, min, max)
# More arguments than a call has.
_MANY = 99

Compile = Callable[[types.FunctionType], Any]


class Rewriter:
    """Rewrites a function and its helpers, for a number of lanes; the helpers are compiled."""

    rewrite: type[Rewrite]  # of one function

    def __init__(self, width: int, compile_helper: Compile, partials: int = 0) -> None:
        self.width, self.partials, self._compile = width, partials, compile_helper
        self._done: dict[Any, Any] = {}

    @property
    def helpers(self) -> tuple[Any, ...]:
        """The helpers, compiled."""
        return tuple(self._done.values())

    def rewritten(self, function: types.FunctionType, depends: tuple[bool, ...]) -> Any:
        """The Python function, for arguments of which some depend on z."""
        line = draws_at(function)
        if line is not None:
            raise NotCompiled(function, "it draws random numbers; a log density has none", line)
        tree = definition(function)
        if tree is None:
            return function
        return self.rewrite(self, function, normalised(tree), depends).result()

    def helper(self, function: types.FunctionType, depends: tuple[bool, ...], line: int) -> Any:
        """A helper, compiled."""
        key = (function, depends)
        if key not in self._done:
            self._done[key] = None
            self._done[key] = self._compile(self.rewritten(function, depends))
        if self._done[key] is None:
            raise NotCompiled(function, "it calls itself; write a loop", line)
        return self._done[key]


class Rewrite(ast.NodeTransformer):
    """One function, for one pattern of arguments that depend on z."""

    def __init__(
        self, owner: Rewriter, function: Any, tree: ast.FunctionDef, depends: tuple[bool, ...]
    ) -> None:
        self.owner, self.function, self.tree = owner, function, tree
        arguments = tree.args
        names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
        dependent = {name for name, each in zip(names, depends, strict=False) if each}
        if arguments.vararg and any(depends[len(names) :]):
            dependent.add(arguments.vararg.arg)
        self.depends = Dependence(tree, dependent)
        self.selects = Selects(tree, self.depends, self._is_pure, self.visit)
        self.unassigned = Unassigned(tree)
        self.extra: dict[str, Any] = {**SCOPE, ASSIGNED: assigned}

    def result(self) -> Any:
        if self._is_recursive():
            raise NotCompiled(self.function, "it calls itself; write a loop")
        for each in ast.walk(self.tree):
            if isinstance(each, ast.NamedExpr):
                reason = ":= has no compiled form; give the name its value in a line of its own"
                raise NotCompiled(self.function, reason, each.lineno)
        first = self.tree.body[0]
        body = self._block(self.tree.body)
        self._require_values()
        self.tree.body = self.unassigned.start(first) + self.selects.finished(body)
        return rebuilt(self.function, self.tree, self.extra)

    def _require_values(self) -> None:
        """Raise an error if a name has a value in some lanes only."""
        for read in self.unassigned.reads:
            if read.id in self.selects.merged:
                reason = f"{read.id} has no value for some z; give it one before the branch"
                raise NotCompiled(self.function, reason, read.lineno, one_lane=True)

    def _is_recursive(self) -> bool:
        calls = (each.func for each in ast.walk(self.tree) if isinstance(each, ast.Call))
        return any(plain_function(self._meaning(each)) is self.function for each in calls)

    def _meaning(self, node: ast.AST) -> Any:
        return meaning(self.function, node)

    def _is_pure(self, node: ast.AST | None) -> bool:
        return is_pure(self.function, node, (self.function,))

    def _called(self, target: Any, args: list[Any], node: ast.AST) -> Any:
        return located(call(self._named(target), *args), node)

    def _named(self, value: Any) -> str:
        """A global name of a value."""
        name = next((key for key, each in self.extra.items() if each is value), None)
        name = name or f"_lanes_{getattr(value, '__name__', 'value')}_{len(self.extra)}"
        name = name if name.isidentifier() else f"_lanes_{len(self.extra)}"
        self.extra[name] = value
        return name

    # --- expressions

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self.selects.ternary(node) if self._is_select(node, node.test) else self._as_is(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        return self.selects.boolean(node) if self._is_select(node, node) else self._as_is(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        chained = len(node.ops) > 1 and self._is_select(node, node)
        return self.selects.chain(node) if chained else self._as_is(node)

    def _is_select(self, node: ast.AST, test: ast.AST) -> bool:
        return self.owner.width > 1 and self.depends.of(test) and self._is_pure(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        if self.depends.of(node):
            raise NotCompiled(self.function, "a text of z has no compiled form", node.lineno)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name that may have no value; it raises, as in Python."""
        return self.unassigned.checked(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if not isinstance(node.op, ast.Not) or not self.depends.of(node):
            return self._as_is(node)
        if self._is_select(node, node):
            return located(self.selects.condition(node), node)
        return located(self.selects.negation(self.visit(node.operand)), node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        of_integers = integers.operation_of(node, self.depends.of(node.left))
        if of_integers is not None:
            return self._called(of_integers, [self.visit(node.left), self.visit(node.right)], node)
        on_left, on_right = _FUSED.get(type(node.op), (None, None))
        left, right = node.left, node.right
        if on_right and self._is_product(right):
            return self._called(on_right, [self.visit(left), *self._factors(right)], node)
        if on_left and self._is_product(left):
            return self._called(on_left, [*self._factors(left), self.visit(right)], node)
        return self._as_is(node)

    def _is_product(self, node: ast.AST) -> bool:
        return (
            isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and self.depends.of(node)
        )

    def _factors(self, node: Any) -> list[Any]:
        return [self.visit(node.left), self.visit(node.right)]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        target = plain_function(self._meaning(node.func))
        copy_of = temporaries.copy_of(node, target, self.depends.of)
        if copy_of is not None:
            maker, source = copy_of
            return self._called(maker, [self.visit(source)], node)
        depends = self.depends.of(node)
        if target is float and len(node.args) == 1 and (self.owner.width == 1 or not depends):
            return self._called(as_float, [self.visit(node.args[0])], node)
        if target is bool and len(node.args) == 1 and depends:
            return self._called(truth, [self.visit(node.args[0])], node)
        if target is divmod and len(node.args) == 2:
            args = [self.visit(each) for each in node.args]
            return self._called(integers.quotient_and_remainder, args, node)
        if target in _OF_ITEMS and node.args and isinstance(node.args[0], ast.GeneratorExp):
            each = node.args[0]
            node.args[0] = ast.copy_location(ast.ListComp(each.elt, each.generators), each)
        if target is print and any(map(self.depends.of, node.args)):
            raise NotCompiled(self.function, "z cannot be printed", node.lineno)
        if target is np.array and len(node.args) == 1 and not node.keywords:
            (items,) = node.args
            if isinstance(items, (ast.List, ast.Tuple)) and self.depends.of(items):
                items = ast.Tuple([self.visit(each) for each in items.elts], ast.Load())
                return self._called(packed, [*self._form(), items], node)
        if not isinstance(target, types.FunctionType) or target.__module__ is None:
            return self._as_is(node)
        if target.__module__.partition(".")[0] in _FOREIGN or serves_lanes(target):
            return self._as_is(node)
        return self._helper_call(target, node)

    def _helper_call(self, target: types.FunctionType, node: ast.Call) -> ast.AST:
        if any(isinstance(each, ast.Starred) for each in node.args):
            if node.keywords:
                return self._as_is(node)
            args = node.args
            depends: tuple[bool, ...] = (any(map(self.depends.of, args)),) * _MANY
        else:
            args = self._bound(target, node)
            depends = tuple(map(self.depends.of, args))
        compiled = self.owner.helper(target, depends, node.lineno)
        return self._called(compiled, [self.visit(each) for each in args], node)

    def _bound(self, target: types.FunctionType, node: ast.Call) -> list[Any]:
        """The arguments of a call in the order of the parameters; default values get names."""
        keywords = {each.arg: each.value for each in node.keywords if each.arg is not None}
        try:
            if len(keywords) != len(node.keywords):
                raise TypeError("** has no compiled form")
            signature = inspect.signature(target, follow_wrapped=False)
            bound = signature.bind(*node.args, **keywords)
        except TypeError as error:
            reason = f"a call of {target.__name__} does not fit: {error}"
            raise NotCompiled(self.function, reason, node.lineno) from None
        bound.apply_defaults()
        values = [*bound.args, *bound.kwargs.values()]
        return [
            each if isinstance(each, ast.AST) else located(load(self._named(each)), node)
            for each in values
        ]

    def _form(self) -> list[ast.expr]:
        """The form of new vectors, as literals."""
        return [ast.Constant(self.owner.width), ast.Constant(self.owner.partials)]

    # --- statements

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Temporaries that hold what depends on z."""
        target, value = node.targets[0], node.value
        if (
            isinstance(target, ast.Name)
            and target.id in self.depends.names
            and isinstance(value, ast.Call)
            and len(value.args) == 1
            and not value.keywords
        ):
            function = self._meaning(value.func)
            if function in _MAKERS if callable(function) else False:
                maker, number = _MAKERS[function]
                args: list[Any] = [*self._form(), self.visit(value.args[0])]
                args += [] if number is None else [ast.Constant(number)]
                node.value = self._called(maker, args, value)
                return node
        return self._as_is(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """``s += a * b``, fused; a vector changes in place."""
        target = _FUSED_IN_PLACE.get(type(node.op))
        place = node.target
        if target is None or not self._is_product(node.value) or isinstance(place, ast.Attribute):
            return self._as_is(node)
        if isinstance(place, ast.Subscript) and not self._is_pure(place):
            return self._as_is(node)
        read = copy.deepcopy(place)
        read.ctx = ast.Load()
        value = self._called(target, [self.visit(read), *self._factors(node.value)], node)
        return located(ast.Assign([place], value), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node  # a function inside: taken as it is

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def _as_is(self, node: Any) -> Any:
        """The node, with what is inside rewritten."""
        for name, value in ast.iter_fields(node):
            if name in ("body", "orelse", "finalbody") and isinstance(value, list):
                setattr(node, name, self._block(value))
            elif isinstance(value, list):
                setattr(node, name, [self.visit(e) if isinstance(e, ast.AST) else e for e in value])
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
        return node

    generic_visit = _as_is

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for node in body:
            masked = None
            if isinstance(node, ast.If) and self.owner.width > 1 and self.depends.of(node.test):
                masked = self.selects.branch(node)
            result.extend(self._assigning(node) if masked is None else masked)
        return result

    def _assigning(self, node: ast.stmt) -> list[ast.stmt]:
        """A statement, with what keeps whether names have values."""
        before, inside, after = self.unassigned.around(node)
        done = self.visit(node)
        if inside:
            done.body = inside + done.body
        return [*before, done, *after]


Rewriter.rewrite = Rewrite
