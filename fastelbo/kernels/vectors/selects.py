"""Branches on z as selects: statements that run for all lanes, and take effect for some.

An ``if`` whose condition depends on z becomes a mask. A statement under it computes its value for
all lanes, and an assignment keeps the old value in the others:

    if z[0] > 0:                m = truth(z[0] > 0)
        t = z[1]                t = choose(m, z[1], t)
        return t                result = choose(done, result, choose(m, t, result))
                                done = either(done, m)

So it can be for statements that assign, return or loop over what is not masked, and for expressions
that change nothing (see `purity`). Any other ``if`` stays, and the compiler rejects it if its
condition is a mask.
"""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Callable
from typing import Any

from .choices import both, choose, either, negated, truth
from .dataflow import Dependence
from .syntax import assign, call, load, located

_CHOOSE, _TRUTH, _BOTH, _EITHER, _NOT = (f"_lanes_{each}" for each in (
    "choose", "truth", "both", "either", "not",
))  # fmt: skip
_DONE, _RESULT, _NONE = "_lanes_done", "_lanes_result", "_lanes_none"
# What the rewritten source calls.
SCOPE: dict[str, Any] = {
    _CHOOSE: choose, _TRUTH: truth, _BOTH: both, _EITHER: either, _NOT: negated, _NONE: math.nan,
}  # fmt: skip


class Selects:
    """Rewrites the branches of one function."""

    def __init__(
        self,
        definition: ast.FunctionDef,
        dependence: Dependence,
        pure: Callable[[ast.AST | None], bool],
        visit: Callable[[Any], Any],
    ) -> None:
        self.definition, self.dependence = definition, dependence
        self.pure, self.visit = pure, visit
        self.returns = False
        self.fresh = 0
        # Names that may have no value yet where a select keeps the old one.
        self.merged: set[str] = set()

    def finished(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """The body of the function after its branches: with first values and the masked results."""
        first = body[0]
        names = [each.arg for each in ast.walk(self.definition.args) if isinstance(each, ast.arg)]
        start = [assign(name, load(_NONE), first) for name in sorted(self.merged - set(names))]
        if self.returns:
            start.append(assign(_DONE, ast.Constant(False), first))
            start.append(assign(_RESULT, load(_NONE), first))
            body = [_Returns().visit(each) for each in body]
            if not isinstance(body[-1], ast.Return):
                body.append(located(ast.Return(load(_RESULT)), body[-1]))
        return start + body

    # --- conditions

    def condition(self, node: ast.expr) -> Any:
        """A mask, or a plain truth, of an expression of which the truth alone counts."""
        if not self.dependence.of(node):
            return call(_TRUTH, self.visit(node))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return call(_NOT, self.condition(node.operand))
        if isinstance(node, ast.BoolOp):
            function = _BOTH if isinstance(node.op, ast.And) else _EITHER
            return self._joined(node, self.condition, lambda here, rest: call(function, here, rest))
        here = self.visit(node)
        return here if isinstance(node, ast.Compare) else call(_TRUTH, here)

    def negation(self, operand: Any) -> Any:
        """``not x`` of a value."""
        return call(_NOT, call(_TRUTH, operand))

    def ternary(self, node: ast.IfExp) -> ast.AST:
        """``a if c else b`` where c depends on z."""
        split = self._split(node)
        if split is not None:
            return self.visit(split)
        test = self.condition(node.test)
        return located(call(_CHOOSE, test, self.visit(node.body), self.visit(node.orelse)), node)

    def boolean(self, node: ast.BoolOp) -> ast.AST:
        """The value of ``and`` and ``or``, which is that of an operand."""

        def joined(here: Any, rest: Any) -> Any:
            sides = (rest, here) if isinstance(node.op, ast.And) else (here, rest)
            return call(_CHOOSE, call(_TRUTH, copy.deepcopy(here)), *sides)

        return located(self._joined(node, self.visit, joined), node)

    def _joined(self, node: ast.BoolOp, visit: Any, joined: Any) -> Any:
        """Operands, the last ones first. One that does not depend on z is looked at first."""
        total: Any = None
        for value in reversed(node.values):
            here = visit(value)
            if total is None:
                total = here
            elif self.dependence.of(value):
                total = joined(here, total)
            else:
                sides = (total, here) if isinstance(node.op, ast.And) else (here, total)
                total = ast.IfExp(copy.deepcopy(here), *sides)
        return total

    def _split(self, node: Any) -> Any:
        """A choice by ``plain and of_z`` as two, so that the plain one guards an index, say."""
        test = node.test
        if not isinstance(test, ast.BoolOp):
            return None
        of_z = [each for each in test.values if self.dependence.of(each)]
        plain = [each for each in test.values if not self.dependence.of(each)]
        if not of_z or not plain:
            return None

        def part(values: list[ast.expr]) -> ast.expr:
            whole = ast.BoolOp(test.op, values) if len(values) > 1 else values[0]
            return located(whole, test)

        again = copy.deepcopy
        is_statement = isinstance(node, ast.If)
        inner: Any = located(type(node)(part(of_z), again(node.body), again(node.orelse)), node)
        inner = [inner] if is_statement else inner
        conjunction = isinstance(test.op, ast.And)
        sides = (inner, node.orelse) if conjunction else (node.body, inner)
        return located(type(node)(part(plain), *sides), node)

    def chain(self, node: ast.Compare) -> ast.AST:
        """``a < b < c`` of masks."""
        total: Any = None
        left = self.visit(node.left)
        for op, right in zip(node.ops, map(self.visit, node.comparators), strict=True):
            link = ast.Compare(copy.deepcopy(left), [op], [copy.deepcopy(right)])
            total = link if total is None else call(_BOTH, total, link)
            left = right
        return located(total, node)

    # --- statements

    def branch(self, node: ast.If, mask: str | None = None) -> list[ast.stmt] | None:
        """The selects of an ``if`` whose condition depends on z; None if it has no such form."""
        if mask is None and not self._is_simple(node):
            return None
        split = self._split(node)
        if split is not None:
            return [self.visit(split)] if mask is None else self._under([split], mask)
        test, result = self._name(node, self.condition(node.test))
        here, there = test, None
        if mask is not None:
            here, [more] = self._name(node, call(_BOTH, load(mask), load(test)))
            result.append(more)
        body = self._under(node.body, here)
        if node.orelse:
            other: Any = call(_NOT, load(test))
            other = other if mask is None else call(_BOTH, load(mask), other)
            there, [more] = self._name(node, other)
            result.append(more)
            body += self._under(node.orelse, there)
        return result + body

    def _name(self, node: ast.AST, value: Any) -> tuple[str, list[ast.stmt]]:
        """A new name, and its assignment."""
        self.fresh += 1
        name = f"_lanes_mask_{self.fresh}"
        return name, [assign(name, value, node)]

    def _is_simple(self, node: ast.stmt) -> bool:
        """Whether a statement can run under a mask."""
        if isinstance(node, ast.If):
            return self.pure(node.test) and all(map(self._is_simple, node.body + node.orelse))
        if isinstance(node, ast.For):
            return (
                self.pure(node.iter)
                and not node.orelse
                and self._is_inside(node)
                and all(map(self._is_simple, node.body))
            )
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return len(targets) == 1 and _is_place(targets[0]) and self.pure(node.value)
        if isinstance(node, ast.Return):
            return node.value is not None and self.pure(node.value)
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        return is_text or isinstance(node, ast.Pass)

    def _is_inside(self, loop: ast.For) -> bool:
        """Whether the names of a loop are read in loops over them alone."""
        names = _names(loop.target)
        inside: set[ast.AST] = set()
        for node in ast.walk(self.definition):
            if isinstance(node, ast.For) and names <= _names(node.target):
                inside.update(ast.walk(node))
        uses = (each for each in ast.walk(self.definition) if isinstance(each, ast.Name))
        return all(each in inside for each in uses if each.id in names)

    def _under(self, body: list[ast.stmt], mask: str) -> list[ast.stmt]:
        """Statements for the lanes of a mask."""
        result: list[ast.stmt] = []
        for node in body:
            if isinstance(node, ast.If) and self.dependence.of(node.test):
                result.extend(self.branch(node, mask) or ())
            elif isinstance(node, ast.If):
                test, one = self.visit(node.test), self._under(node.body, mask)
                other = self._under(node.orelse, mask)
                result.append(located(ast.If(test, one or [ast.Pass()], other), node))
            elif isinstance(node, ast.For):
                inner = self._under(node.body, mask) or [ast.Pass()]
                result.append(located(ast.For(node.target, self.visit(node.iter), inner, []), node))
            elif isinstance(node, ast.Return):
                result.extend(self._masked_return(node, mask))
            elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
                result.extend(self._masked_assignment(node, mask))
        return result

    def _masked_return(self, node: ast.Return, mask: str) -> list[ast.stmt]:
        self.returns = True
        kept = call(_CHOOSE, load(mask), self.visit(node.value), load(_RESULT))
        kept = call(_CHOOSE, load(_DONE), load(_RESULT), kept)
        done = call(_EITHER, load(_DONE), load(mask))
        return [assign(_RESULT, kept, node), assign(_DONE, done, node)]

    def _masked_assignment(self, node: Any, mask: str) -> list[ast.stmt]:
        target, value = node.targets[0] if isinstance(node, ast.Assign) else node.target, node.value
        if value is None:  # an annotation alone
            return []
        if isinstance(node, ast.AugAssign):
            value = located(ast.BinOp(_read(target), node.op, value), node)
        value = self.visit(value)
        if not isinstance(target, (ast.Tuple, ast.List)):
            return [self._kept(target, value, mask, node)]
        names = []
        for _ in target.elts:
            self.fresh += 1
            names.append(f"_lanes_item_{self.fresh}")
        items = ast.Tuple([ast.Name(name, ast.Store()) for name in names], ast.Store())
        first = located(ast.Assign([items], value), node)
        pairs = zip(target.elts, names, strict=True)
        return [first, *(self._kept(each, load(name), mask, node) for each, name in pairs)]

    def _kept(self, target: Any, value: Any, mask: str, node: ast.AST) -> ast.stmt:
        if isinstance(target, ast.Name):
            self.merged.add(target.id)
        chosen = call(_CHOOSE, load(mask), value, _read(target))
        return located(ast.Assign([copy.deepcopy(target)], chosen), node)


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _read(target: Any) -> Any:
    read = copy.deepcopy(target)
    read.ctx = ast.Load()
    return read


def _is_place(target: ast.AST) -> bool:
    """A name, an item of a named vector, or a tuple of such."""
    if isinstance(target, (ast.Tuple, ast.List)):
        return all(_is_place(e) and not isinstance(e, (ast.Tuple, ast.List)) for e in target.elts)
    if isinstance(target, ast.Subscript):
        calls = (isinstance(each, (ast.Call, ast.NamedExpr)) for each in ast.walk(target))
        return isinstance(target.value, ast.Name) and not any(calls)
    return isinstance(target, ast.Name)


class _Returns(ast.NodeTransformer):
    """Other returns keep the results of lanes that a mask has decided."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node  # a function inside

    def visit_Return(self, node: ast.Return) -> ast.AST:
        value = node.value or ast.Constant(None)
        return located(ast.Return(call(_CHOOSE, load(_DONE), load(_RESULT), value)), node)
