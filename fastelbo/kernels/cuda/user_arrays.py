"""Vectors that a user's function makes, as arrays of a thread: a device allocates no memory.

``name = np.zeros(3)`` and its like stand for one place in memory, again and again in a loop. So
such a vector has one name: no other name, tuple or return value may hold it.
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..vectors.errors import NotCompiled
from ..vectors.syntax import assign, load, located
from .device import cuda

_NUMBERS: dict[Any, float | None] = {
    np.empty: None, np.zeros: 0.0, np.ones: 1.0,
    np.empty_like: None, np.zeros_like: 0.0, np.ones_like: 1.0,
}  # fmt: skip
MAKERS = {np.array, *_NUMBERS}
_SIZES: dict[Any, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
}  # fmt: skip
# Names in the rewritten source.
SCOPE = {"_device_cuda": cuda, "_device_float": np.float64}


class ThreadArrays:
    """The vectors of one function. ``draw`` is the name of its z of ``dim`` coordinates, if any."""

    def __init__(
        self, function: Any, tree: ast.FunctionDef, meaning: Callable[[ast.AST], Any],
        draw: str | None, dim: int,
    ) -> None:  # fmt: skip
        self.function, self.meaning, self.dim = function, meaning, dim
        # As it was before it is rewritten.
        tree = self._tree = copy.deepcopy(tree)
        is_kept = not any(_is_name(each, draw, ast.Store) for each in ast.walk(tree))
        self.draw = draw if is_kept else None
        self._parents = {
            part: node for node in ast.walk(tree) for part in ast.iter_child_nodes(node)
        }

    def made(self, node: ast.Assign, visit: Callable[[Any], Any]) -> list[ast.stmt] | None:
        """The statements for ``name = np.zeros(3)`` and its like; None if the node is no such."""
        target, value = node.targets[0], node.value
        if len(node.targets) > 1 or not isinstance(target, ast.Name):
            return None
        if not isinstance(value, ast.Call) or len(value.args) != 1 or value.keywords:
            return None
        maker, (argument,) = self.meaning(value.func), value.args
        if (maker not in MAKERS) if callable(maker) else True:
            return None
        if maker is np.array:
            found = self._of_items(target.id, argument, node, visit)
        else:
            found = self._of_one_number(target.id, argument, node, _NUMBERS[maker])
        if found is not None:
            self._require_one_name(target.id)
        return found

    def _of_one_number(
        self, name: str, argument: ast.expr, node: ast.stmt, number: float | None
    ) -> list[ast.stmt] | None:
        size = self.dim if self._is_draw(argument) else self._size(argument)
        if size is None:
            return None
        found = [_array(name, size, node)]
        if number is not None:
            everything = ast.Subscript(load(name), ast.Slice(), ast.Store())
            found.append(located(ast.Assign([everything], ast.Constant(number)), node))
        return found

    def _of_items(
        self, name: str, argument: ast.expr, node: ast.stmt, visit: Callable[[Any], Any]
    ) -> list[ast.stmt] | None:
        if not isinstance(argument, (ast.List, ast.Tuple)) or not argument.elts:
            return None
        # The items may look at the vector that has the name now.
        names = [f"_device_item_{k}" for k in range(len(argument.elts))]
        found = [
            assign(own, visit(item), node) for own, item in zip(names, argument.elts, strict=True)
        ]
        found.append(_array(name, len(names), node))
        for k, own in enumerate(names):
            place = ast.Subscript(load(name), ast.Constant(k), ast.Store())
            found.append(located(ast.Assign([place], load(own)), node))
        return found

    # --- sizes

    def _size(self, node: ast.AST) -> int | None:
        """The constant that a size stands for; None if it is none."""
        if isinstance(node, ast.Call) and self.meaning(node.func) is len:
            return self.dim if self._is_draw(node.args[0]) else None
        if isinstance(node, ast.Attribute) and node.attr == "size" and self._is_draw(node.value):
            return self.dim
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
            is_first = node.value.attr == "shape" and self._is_draw(node.value.value)
            return self.dim if is_first else None
        if isinstance(node, ast.BinOp) and type(node.op) in _SIZES:
            left, right = self._size(node.left), self._size(node.right)
            known = left is not None and right is not None
            return _SIZES[type(node.op)](left, right) if known else None
        value = node.value if isinstance(node, ast.Constant) else self.meaning(node)
        return value if type(value) is int and value > 0 else None

    def _is_draw(self, node: ast.AST) -> bool:
        return self.draw is not None and _is_name(node, self.draw, ast.Load)

    # --- names

    def _require_one_name(self, name: str) -> None:
        for node in ast.walk(self._tree):
            if _is_name(node, name, ast.Load) and not self._is_read(node):
                reason = f"{name}, a vector that it makes, gets another name or is returned"
                raise NotCompiled(self.function, reason, getattr(node, "lineno", None))

    def _is_read(self, node: ast.AST) -> bool:
        """Whether a vector is only read or written where a name of it stands."""
        around = self._parents.get(node)
        if isinstance(around, ast.Subscript) and around.value is node:
            parts = around.slice.elts if isinstance(around.slice, ast.Tuple) else [around.slice]
            is_view = any(isinstance(each, ast.Slice) for each in parts)
            return not is_view or isinstance(around.ctx, ast.Store) or self._is_read(around)
        if isinstance(around, ast.For):
            return around.iter is node
        if isinstance(around, ast.BinOp):
            return isinstance(around.op, ast.MatMult)
        if isinstance(around, ast.Attribute):
            return around.attr in ("shape", "size", "ndim", "sum", "mean")
        return isinstance(around, (ast.Call, ast.comprehension))


def _is_name(node: ast.AST, name: str | None, context: Any) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, context)


def _array(name: str, size: int, node: ast.stmt) -> ast.stmt:
    local = ast.Attribute(load("_device_cuda"), "local", ast.Load())
    maker = ast.Attribute(local, "array", ast.Load())
    arguments: list[ast.expr] = [ast.Constant(size), load("_device_float")]
    found: ast.stmt = assign(name, ast.Call(maker, arguments, []), node)
    return found
