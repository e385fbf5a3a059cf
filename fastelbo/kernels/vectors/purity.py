"""Whether an expression may be computed for lanes that do not need it: it changes nothing."""

from __future__ import annotations

import ast
import builtins
import types
from typing import Any

import numpy as np

from .syntax import definition, meaning

_BUILTINS = {
    getattr(builtins, name)
    for name in (
        "abs", "bool", "divmod", "enumerate", "float", "int", "len", "list", "max", "min", "pow",
        "range", "reversed", "round", "sum", "tuple", "zip",
    )
}  # fmt: skip
_METHODS = {"all", "any", "astype", "copy", "dot", "max", "mean", "min", "prod", "sum"}
_WRITING: set[Any] = {np.copyto, np.fill_diagonal, np.place, np.put, np.putmask, np.put_along_axis}
_EFFECTS = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Await, ast.Lambda)


def plain_function(function: Any) -> Any:
    """The Python function of a compiled one."""
    from numba.core.dispatcher import Dispatcher

    return function.py_func if isinstance(function, Dispatcher) else function


def is_pure(function: types.FunctionType, node: ast.AST | None, seen: Any = ()) -> bool:
    """Whether an expression of a function changes nothing, so far as its source shows."""
    for part in ast.walk(node) if node is not None else ():
        if isinstance(part, _EFFECTS):
            return False
        if isinstance(part, ast.Call) and not _is_pure_call(function, part, seen):
            return False
    return True


def _is_pure_call(function: types.FunctionType, node: ast.Call, seen: Any) -> bool:
    if any(keyword.arg == "out" for keyword in node.keywords):
        return False
    target = plain_function(meaning(function, node.func))
    if target is None:
        return isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS
    if isinstance(target, types.FunctionType):
        package = (target.__module__ or "").partition(".")[0]
        if package == "numpy":
            return target not in _WRITING
        return target not in seen and _is_pure_function(target, (*seen, target))
    if getattr(target, "__module__", None) == "math" or isinstance(target, np.ufunc):
        return True
    if target in _BUILTINS:
        return True
    module = getattr(target, "__module__", None) or ""
    return module.partition(".")[0] == "numpy" and target not in _WRITING


def _is_pure_function(function: types.FunctionType, seen: Any) -> bool:
    tree = definition(function)
    if tree is None:
        return False
    for part in ast.walk(tree):
        if isinstance(part, (ast.Global, ast.Nonlocal, ast.Delete, *_EFFECTS)):
            return False
        if isinstance(part, ast.Expr) and not isinstance(part.value, ast.Constant):
            return False
        if isinstance(part, ast.AugAssign) and not _is_own(tree, part.target):
            return False
        if isinstance(part, (ast.Subscript, ast.Attribute)) and isinstance(part.ctx, ast.Store):
            return False
        if isinstance(part, ast.Call) and not _is_pure_call(function, part, seen):
            return False
    return True


def _is_own(tree: ast.FunctionDef, target: ast.AST) -> bool:
    """Whether a name stands for a value that only the function holds, and may change in place."""
    if not isinstance(target, ast.Name):
        return False
    if any(isinstance(each, ast.arg) and each.arg == target.id for each in ast.walk(tree.args)):
        return False
    made = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.Call)
    for part in ast.walk(tree):
        if isinstance(part, (ast.For, ast.comprehension)):
            names = ast.walk(part.target)
        elif isinstance(part, ast.Assign) and not isinstance(part.value, made):
            names = (name for each in part.targets for name in ast.walk(each))
        else:
            continue
        if any(isinstance(name, ast.Name) and name.id == target.id for name in names):
            return False
    return True
