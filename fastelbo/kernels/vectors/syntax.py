"""Syntax trees of functions: reading one, renaming what it assigns, and making a function of it."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from typing import Any


def definition(function: types.FunctionType) -> ast.FunctionDef | None:
    """The syntax tree of a function defined by ``def``, with its line numbers in the file."""
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None
    definition = tree.body[0] if tree.body else None
    if not isinstance(definition, ast.FunctionDef) or definition.name != function.__code__.co_name:
        return None
    ast.increment_lineno(tree, max(first, 1) - 1)
    definition.decorator_list, definition.returns = [], None
    definition.args.defaults = [ast.Constant(None) for _ in definition.args.defaults]
    definition.args.kw_defaults = [
        each and ast.Constant(None) for each in definition.args.kw_defaults
    ]
    for argument in ast.walk(definition.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return definition


def located(node: Any, at: Any) -> Any:
    """A new node, at the lines of another."""
    for part in ast.walk(node):
        if isinstance(part, (ast.expr, ast.stmt)) and not hasattr(part, "lineno"):
            ast.copy_location(part, at)
    return ast.fix_missing_locations(ast.copy_location(node, at))


class Rename(ast.NodeTransformer):
    """Names that a side of a branch assigns become names of its own."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.names: dict[str, str] = {}

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Name(self.names.get(node.id, node.id), node.ctx), node)

    def statement(self, node: Any) -> Any:
        if isinstance(node, ast.Pass):
            return node
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            read = ast.Name(node.target.id, ast.Load())
            node = located(
                ast.Assign(
                    [ast.Name(node.target.id, ast.Store())], ast.BinOp(read, node.op, node.value)
                ),
                node,
            )
        assert isinstance(node, ast.Assign)
        assert isinstance(node.targets[0], ast.Name)
        name = node.targets[0].id
        value = self.visit(node.value)
        if not name.startswith("_lanes_"):
            self.names[name] = self.prefix + name
        target = ast.Name(self.names.get(name, name), ast.Store())
        return located(ast.Assign([target], value), node)


def rebuilt(function: Any, definition: ast.FunctionDef, extra: dict[str, Any]) -> Any:
    """A function of the new syntax tree with the old closure, defaults and globals."""
    free = function.__code__.co_freevars
    outer = ast.parse(f"def _outer({', '.join(free)}):\n    return None").body[0]
    assert isinstance(outer, ast.FunctionDef)
    outer.body.insert(0, definition)
    module = ast.fix_missing_locations(ast.Module([outer], []))
    code = compile(module, function.__code__.co_filename, "exec")
    (outer_code,) = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    (inner,) = [
        each
        for each in outer_code.co_consts
        if isinstance(each, types.CodeType) and each.co_name == definition.name
    ]
    cells = dict(zip(free, function.__closure__ or (), strict=True))
    closure = tuple(cells[name] for name in inner.co_freevars)
    scope = {**function.__globals__, **extra}
    result = types.FunctionType(inner, scope, function.__name__, function.__defaults__, closure)
    result.__kwdefaults__ = function.__kwdefaults__
    result.__module__ = function.__module__
    return result
