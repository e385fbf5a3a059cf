"""Names that may have no value where they are read: Python raises there, machine code reads 0."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from numba.extending import overload

from .syntax import assign, call, load, located

# Names with a value at a place; None where no run comes by.
Bound = frozenset[str] | None
_SCOPES = (ast.FunctionDef, ast.Lambda)
# What the rewritten source calls.
ASSIGNED = "_lanes_assigned"
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Unassigned:
    """The reads of local names that may have no value yet."""

    def __init__(self, definition: ast.FunctionDef) -> None:
        arguments = definition.args
        own = {each.arg for each in ast.walk(arguments) if isinstance(each, ast.arg)}
        shared = (each.names for each in ast.walk(definition) if isinstance(each, ast.Global))
        given = {name for each in definition.body for name in stored(each)}
        self._local = given - own - {name for names in shared for name in names}
        self.reads: list[ast.Name] = []
        self._leaving: list[tuple[list[Bound], list[Bound]]] = []
        self._block(definition.body, frozenset(own))
        self.names = {each.id for each in self.reads}

    # --- in the rewritten source, a flag for each name

    def start(self, first: ast.stmt) -> list[ast.stmt]:
        """Statements at the start of the function."""
        return [assign(_flag(name), ast.Constant(False), first) for name in sorted(self.names)]

    def checked(self, node: ast.Name) -> ast.AST:
        """A name; it raises an error if it has no value."""
        if node not in self.reads:
            return node
        return located(call(ASSIGNED, load(_flag(node.id)), node), node)

    def around(self, node: Any) -> tuple[list[ast.stmt], list[ast.stmt], list[ast.stmt]]:
        """Statements before a statement, first in its body, and after it."""
        before: list[ast.stmt] = []
        name = getattr(node.target, "id", None) if isinstance(node, ast.AugAssign) else None
        if name in self.names:
            check = call(ASSIGNED, load(_flag(name)), ast.Constant(0))
            before = [located(ast.Expr(check), node)]
        is_loop = isinstance(node, ast.For)
        places = node.target if is_loop else None if hasattr(node, "body") else node
        given = sorted(self.names & stored(places))
        flags = [assign(_flag(name), ast.Constant(True), node) for name in given]
        return (before, flags, []) if is_loop else (before, [], flags)

    # --- the analysis

    def _block(self, body: list[ast.stmt], bound: Bound) -> Bound:
        for node in body:
            if bound is None:
                return None
            bound = self._statement(node, bound)
        return bound

    def _statement(self, node: Any, bound: frozenset[str]) -> Bound:
        if isinstance(node, ast.If):
            self._read(node.test, bound)
            return _joined(self._block(node.body, bound), self._block(node.orelse, bound))
        if isinstance(node, (ast.For, ast.While)):
            return self._loop(node, bound)
        if isinstance(node, (ast.Break, ast.Continue)):
            breaks, continues = self._leaving[-1]
            (breaks if isinstance(node, ast.Break) else continues).append(bound)
            return None
        if isinstance(node, (ast.Try, ast.Match)):
            return self._parts(node, bound)
        if isinstance(node, ast.With):
            for item in node.items:
                self._read(item.context_expr, bound)
            own = {name for item in node.items for name in stored(item)}
            return self._block(node.body, bound | own)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self._read(ast.copy_location(ast.Name(node.target.id, ast.Load()), node), bound)
        self._read(node, bound)
        return None if isinstance(node, (ast.Return, ast.Raise)) else bound | stored(node)

    def _loop(self, node: Any, bound: frozenset[str]) -> Bound:
        is_for = isinstance(node, ast.For)
        self._read(node.iter if is_for else node.test, bound)
        self._leaving.append(([], []))
        end = self._block(node.body, bound | stored(node.target) if is_for else bound)
        breaks, continues = self._leaving.pop()
        for each in continues:
            end = _joined(end, each)
        if is_for:
            end = end if _has_items(node.iter) else _joined(end, bound)
        else:
            forever = isinstance(node.test, ast.Constant) and node.test.value
            end = None if forever else bound
        end = self._block(node.orelse, end)
        for each in breaks:
            end = _joined(end, each)
        return end

    def _parts(self, node: Any, bound: frozenset[str]) -> Bound:
        """The blocks of a statement of which any number may run."""
        for part in ast.iter_child_nodes(node):
            body = getattr(part, "body", None)
            self._block(body, bound | stored(part)) if body else self._statement(part, bound)
        return bound

    def _read(self, node: ast.AST | None, bound: frozenset[str]) -> None:
        for part, own in _names(node, frozenset()):
            if part.id in self._local and part.id not in bound | own:
                self.reads.append(part)


def _joined(one: Bound, other: Bound) -> Bound:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _has_items(node: ast.AST) -> bool:
    """Whether a loop over it runs at least once."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return bool(node.elts)
    is_range = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if is_range and node.func.id == "range" and len(node.args) == 1:  # type: ignore[attr-defined]
        (count,) = node.args  # type: ignore[attr-defined]
        return isinstance(count, ast.Constant) and count.value not in (0, False)
    return False


def stored(node: ast.AST | None) -> set[str]:
    """The names that a statement gives values, outside of functions inside it."""
    if node is None or isinstance(node, (*_COMPREHENSIONS, ast.Lambda)):
        return set()
    if isinstance(node, ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.Name):
        return set() if isinstance(node.ctx, ast.Load) else {node.id}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(each.asname or each.name).partition(".")[0] for each in node.names}
    own: set[str] = set()
    if isinstance(node, (ast.MatchAs, ast.MatchStar, ast.ExceptHandler)) and node.name:
        own.add(node.name)
    return own.union(*map(stored, ast.iter_child_nodes(node)))


def _names(node: ast.AST | None, own: frozenset[str]) -> Iterable[tuple[ast.Name, frozenset[str]]]:
    """The names that are read, each with the names of the comprehensions around it."""
    if node is None or isinstance(node, _SCOPES):
        return
    if isinstance(node, _COMPREHENSIONS):
        targets = (each.target for each in node.generators)
        own = own | {
            part.id for each in targets for part in ast.walk(each) if isinstance(part, ast.Name)
        }
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node, own
    for child in ast.iter_child_nodes(node):
        yield from _names(child, own)


# --- for rewritten source -----------------------------------------------------------------------


def assigned(has_value: bool, value: Any) -> Any:
    """The value of a name; an error if it has none."""
    if not has_value:
        raise UnboundLocalError("a name has no value")
    return value


@overload(assigned, strict=False)
def _assigned(has_value, value):
    return assigned


def _flag(name: Any) -> str:
    return f"_lanes_has_{name}"
