"""Rewrites a user's function: branches on z become selects, of which both sides are computed.

What becomes a select: ``a if c else b``; an ``if`` whose sides only assign names; a guard, an
``if`` that returns, with what follows it as the other side. ``and``, ``or`` and chained comparisons
of masks become operations on masks. Other control flow stays, and the compiler rejects it if it
depends on z. Temporaries by ``np.zeros`` and its like hold values in lanes if such are written to
them. A helper that the function calls is rewritten in the same way, for the arguments it gets.

Line numbers, closures and globals stay those of the function. A lambda, and a function without
source, is taken as it is.
"""

from __future__ import annotations

import ast
import builtins
import copy
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from .choices import choose
from .dataflow import Dependence
from .syntax import Rename, definition, located, rebuilt
from .temporaries import empty, filled, packed

_CHOOSE, _DONE, _RESULT = "_lanes_choose", "_lanes_done", "_lanes_result"
# Packages whose functions are no helpers of the user's.
_FOREIGN = {"numpy", "numba", "scipy", "math", "builtins", "operator", "llvmlite"}
_MAKERS: dict[Any, tuple[Any, float | None]] = {
    np.empty: (empty, None), np.zeros: (filled, 0.0), np.ones: (filled, 1.0),
    np.empty_like: (empty, None), np.zeros_like: (filled, 0.0), np.ones_like: (filled, 1.0),
}  # fmt: skip

Compile = Callable[[types.FunctionType], Any]


def plain_function(function: Any) -> Any:
    """The Python function of a compiled one."""
    return getattr(function, "py_func", function)


class Rewriter:
    """Rewrites a function and its helpers, for a number of lanes; the helpers are compiled."""

    def __init__(self, width: int, compile_helper: Compile) -> None:
        self.width, self._compile = width, compile_helper
        self._done: dict[Any, Any] = {}

    def rewritten(self, function: Any, depends: tuple[bool, ...]) -> Any:
        """The Python function, for arguments of which some depend on z."""
        plain = plain_function(function)
        if not isinstance(plain, types.FunctionType):
            return plain
        tree = definition(plain)
        return plain if tree is None else _Rewrite(self, plain, tree, depends).result()

    def helper(self, function: Any, depends: tuple[bool, ...]) -> Any:
        """A helper, compiled; itself if it is being rewritten, as in a recursion."""
        key = (plain_function(function), depends)
        if key not in self._done:
            self._done[key] = function
            self._done[key] = self._compile(self.rewritten(function, depends))
        return self._done[key]


class _Rewrite(ast.NodeTransformer):
    """One function, for one pattern of arguments that depend on z."""

    def __init__(
        self, owner: Rewriter, function: Any, definition: Any, depends: tuple[bool, ...]
    ) -> None:
        self.owner, self.function, self.definition = owner, function, definition
        arguments = definition.args
        names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
        dependent = {name for name, each in zip(names, depends, strict=False) if each}
        if arguments.vararg and any(depends[len(names) :]):
            dependent.add(arguments.vararg.arg)
        self.dependence = Dependence(definition, dependent)
        self.extra: dict[str, Any] = {_CHOOSE: choose}
        self.has_guards = False
        self.fresh = 0

    def result(self) -> Any:
        definition = self.definition
        definition.body = self._block(definition.body)
        if self.has_guards:
            start = ast.parse(f"{_DONE} = False\n{_RESULT} = 0.0").body
            definition.body = [
                ast.copy_location(each, definition.body[0]) for each in start
            ] + definition.body
            _Returns().visit(definition)
        return rebuilt(self.function, definition, self.extra)

    # --- expressions

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        depends = self.dependence.of(node.test)
        self.generic_visit(node)
        return _select(node.test, node.body, node.orelse) if depends else node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        depends = self.dependence.of(node)
        self.generic_visit(node)
        if not depends:
            return node
        operator_ = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
        total = node.values[0]
        for value in node.values[1:]:
            total = ast.copy_location(ast.BinOp(total, operator_, value), node)
        return total

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        depends = self.dependence.of(node)
        self.generic_visit(node)
        if not depends or len(node.ops) == 1:
            return node
        total: Any = None
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            link = ast.Compare(copy.deepcopy(left), [op], [right])
            total = link if total is None else ast.BinOp(total, ast.BitAnd(), link)
            left = right
        return located(total, node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        depends = tuple(self.dependence.of(each) for each in node.args)
        self.generic_visit(node)
        target = self._resolve(node.func)
        if target is np.array and any(depends) and isinstance(node.args[0], (ast.List, ast.Tuple)):
            items = ast.Tuple(node.args[0].elts, ast.Load())
            return self._call(packed, [ast.Constant(self.owner.width), items], node)
        plain = plain_function(target)
        if not isinstance(plain, types.FunctionType) or node.keywords:
            return node
        if (plain.__module__ or "").partition(".")[0] in _FOREIGN or plain.__name__ == "<lambda>":
            return node
        if any(isinstance(each, ast.Starred) for each in node.args):
            depends = (any(depends),) * plain.__code__.co_argcount
        return self._call(self.owner.helper(target, depends), node.args, node)

    def _call(self, function: Any, args: list[ast.expr], node: ast.AST) -> ast.AST:
        name = next((key for key, value in self.extra.items() if value is function), None)
        name = name or f"_lanes_{len(self.extra)}"
        self.extra[name] = function
        return located(ast.Call(ast.Name(name, ast.Load()), args, []), node)

    def _resolve(self, node: ast.AST) -> Any:
        """What a name, or an attribute of a module, means in the function; None if unknown."""
        if isinstance(node, ast.Attribute):
            base = self._resolve(node.value)
            return getattr(base, node.attr, None) if isinstance(base, types.ModuleType) else None
        if not isinstance(node, ast.Name) or node.id in self.function.__code__.co_varnames:
            return None
        closed = dict(
            zip(self.function.__code__.co_freevars, self.function.__closure__ or (), strict=True)
        )
        if node.id in closed:
            return closed[node.id].cell_contents
        return self.function.__globals__.get(node.id, getattr(builtins, node.id, None))

    # --- statements

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Temporaries that hold what depends on z."""
        self.generic_visit(node)
        target, value = node.targets[0], node.value
        if (
            isinstance(target, ast.Name)
            and target.id in self.dependence.names
            and isinstance(value, ast.Call)
            and len(value.args) == 1
            and not value.keywords
        ):
            function = self._resolve(value.func)
            if function in _MAKERS if callable(function) else False:
                maker, number = _MAKERS[function]
                args: list[ast.expr] = [ast.Constant(self.owner.width), value.args[0]]
                if number is not None:
                    args.append(ast.Constant(number))
                node.value = self._call(maker, args, value)  # type: ignore[assignment]
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name in ("body", "orelse"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and node is not self.definition:
                setattr(node, name, self._block(block))
        for name, value in ast.iter_fields(node):
            if name in ("body", "orelse") and isinstance(value, list):
                continue
            if isinstance(value, list):
                setattr(node, name, [self.visit(e) if isinstance(e, ast.AST) else e for e in value])
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
        return node

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for node in body:
            if isinstance(node, ast.If) and self.dependence.of(node.test):
                result.extend(self._branch(node))
            elif not (isinstance(node, ast.FunctionDef)):
                result.append(self.visit(node))
            else:
                result.append(node)
        return result

    def _branch(self, node: ast.If) -> list[ast.stmt]:
        """An if whose condition depends on z."""
        if _assigns_only(node.body) and _assigns_only(node.orelse):
            return self._assigned(node)
        if _returns_at_end(node.body):
            return self._guard(node)
        self.generic_visit(node)
        return [node]

    def _assigned(self, node: ast.If) -> list[ast.stmt]:
        self.fresh += 1
        test = f"_lanes_test_{self.fresh}"
        result = [located(ast.Assign([ast.Name(test, ast.Store())], self.visit(node.test)), node)]
        sides = []
        for side, body in enumerate((node.body, node.orelse)):
            rename = Rename(f"_lanes_{self.fresh}_{side}_")
            for each in self._block(body):
                result.append(rename.statement(each))
            sides.append(rename)
        for name in dict.fromkeys((*sides[0].names, *sides[1].names)):
            one, other = (ast.Name(side.names.get(name, name), ast.Load()) for side in sides)
            value = _select(ast.Name(test, ast.Load()), one, other)
            result.append(located(ast.Assign([ast.Name(name, ast.Store())], value), node))
        return [located(each, node) for each in result]

    def _guard(self, node: ast.If) -> list[ast.stmt]:
        """``if c: return a``: lanes with c keep a, the rest goes on."""
        self.has_guards = True
        self.fresh += 1
        test = ast.Name(f"_lanes_test_{self.fresh}", ast.Load())
        first = ast.Assign([ast.Name(test.id, ast.Store())], self.visit(node.test))
        result = [located(first, node)]
        rename = Rename(f"_lanes_{self.fresh}_")
        result.extend(rename.statement(each) for each in self._block(node.body[:-1]))
        last = node.body[-1]
        assert isinstance(last, ast.Return)
        assert last.value is not None
        value = rename.visit(self.visit(last.value))
        done, kept = ast.Name(_DONE, ast.Load()), ast.Name(_RESULT, ast.Load())
        kept = _select(test, _select(done, kept, value), ast.Name(_RESULT, ast.Load()))
        result.append(located(ast.Assign([ast.Name(_RESULT, ast.Store())], kept), node))
        stop = ast.parse(f"{_DONE} = {_DONE} | {test.id}").body[0]
        result.append(located(stop, node))
        return result + self._block(node.orelse)


class _Returns(ast.NodeTransformer):
    """Returns keep the results of lanes that a guard has decided."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        done, kept = ast.Name(_DONE, ast.Load()), ast.Name(_RESULT, ast.Load())
        value = node.value or ast.Constant(None)
        return located(ast.Return(_select(done, kept, value)), node)


def _select(test: Any, one: Any, other: Any) -> Any:
    call = ast.Call(ast.Name(_CHOOSE, ast.Load()), [test, one, other], [])
    return located(call, test) if hasattr(test, "lineno") else call


def _assigns_only(body: list[ast.stmt]) -> bool:
    """Whether statements only assign to names, also in nested branches."""
    for node in body:
        if isinstance(node, ast.Assign):
            if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
                return False
        elif isinstance(node, ast.AugAssign):
            if not isinstance(node.target, ast.Name):
                return False
        elif isinstance(node, ast.If):
            if not (_assigns_only(node.body) and _assigns_only(node.orelse)):
                return False
        elif not isinstance(node, ast.Pass):
            return False
    return True


def _returns_at_end(body: list[ast.stmt]) -> bool:
    last = body[-1]
    return isinstance(last, ast.Return) and last.value is not None and _assigns_only(body[:-1])
