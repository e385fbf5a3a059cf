"""Which names of a function depend on z, from its syntax tree."""

from __future__ import annotations

import ast

# Attributes and functions of z that are the same in all lanes.
_SHAPES = {"shape", "size", "ndim", "dtype"}


class Dependence:
    """The names of a function that may depend on z."""

    def __init__(self, definition: ast.FunctionDef, parameters: set[str]) -> None:
        self.names = set(parameters)
        before = -1
        while before != len(self.names):
            before = len(self.names)
            self._visit(definition.body, under=False)

    def of(self, node: ast.AST | None) -> bool:
        """Whether an expression may depend on z."""
        if node is None:
            return False
        if isinstance(node, ast.Name):
            return node.id in self.names
        if isinstance(node, ast.Attribute) and node.attr in _SHAPES:
            return False
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
            return False
        return any(self.of(child) for child in ast.iter_child_nodes(node))

    def _bind(self, target: ast.AST) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            for each in target.elts:
                self._bind(each)
        elif isinstance(target, (ast.Subscript, ast.Attribute, ast.Starred)):
            self._bind(target.value)
        elif isinstance(target, ast.Name):
            self.names.add(target.id)

    def _visit(self, body: list[ast.stmt], under: bool) -> None:
        for node in body:
            for part in ast.walk(node):
                if isinstance(part, ast.NamedExpr) and self.of(part.value):
                    self._bind(part.target)
                if isinstance(part, ast.comprehension) and self.of(part.iter):
                    self._bind_loop(part.target, part.iter)
            if isinstance(node, ast.Assign) and (under or self.of(node.value)):
                for target in node.targets:
                    self._bind(target)
            elif isinstance(node, (ast.AugAssign, ast.AnnAssign)) and (
                under or self.of(node.value)
            ):
                self._bind(node.target)
            elif isinstance(node, ast.For):
                if self.of(node.iter):
                    self._bind_loop(node.target, node.iter)
                self._visit(node.body + node.orelse, under)
            elif isinstance(node, (ast.If, ast.While)):
                self._visit(node.body + node.orelse, under or self.of(node.test))
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                call = node.value  # items.append(z[0])
                if isinstance(call.func, ast.Attribute) and any(map(self.of, call.args)):
                    self._bind(call.func.value)

    def _bind_loop(self, target: ast.AST, source: ast.AST) -> None:
        """Names of a loop over ``source``; the count of enumerate does not depend on z."""
        name = (
            source.func.id
            if isinstance(source, ast.Call) and isinstance(source.func, ast.Name)
            else ""
        )
        if isinstance(source, ast.Call) and isinstance(target, ast.Tuple):
            if name == "enumerate" and len(target.elts) == 2:
                self._bind(target.elts[1])
                return
            if name == "zip" and len(target.elts) == len(source.args):
                for each, part in zip(target.elts, source.args, strict=True):
                    if self.of(part):
                        self._bind(each)
                return
        self._bind(target)
