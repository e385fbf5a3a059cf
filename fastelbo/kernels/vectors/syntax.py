"""The source of a function: its syntax tree, the meaning of its names, a function of a new tree."""

from __future__ import annotations
import __future__

import ast
import builtins
import copy
import functools
import inspect
import types
from typing import Any

_FUTURE = functools.reduce(
    lambda flags, name: flags | getattr(__future__, name).compiler_flag,
    __future__.all_feature_names,
    0,
)
# The names of a lambda once it is a definition, and of one that is compiled again.
_LAMBDA, _INNER = "_lanes_lambda", "_lanes_inner"


def definition(function: types.FunctionType) -> ast.FunctionDef | None:
    """The syntax tree of a function or lambda, with its line numbers in the file.

    It is None if there is no source, or if the source found compiles to other bytecode: a file may
    have been edited since, and a decorator may have put another function under the name.
    """
    code = function.__code__
    try:
        lines, _ = inspect.findsource(code)
        tree, codes = _parsed("".join(lines), code.co_filename, code.co_flags & _FUTURE)
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None
    if not any(_same(each, code) for each in codes.get(_place(code), ())):
        return None
    nodes = [node for node in ast.walk(tree) if _place_of(node) == _place(code)]
    if len(nodes) > 1:  # lambdas in one line
        nodes = [node for node in nodes if _alike(_code_of(code, _bare(copy.deepcopy(node))), code)]
    if len(nodes) != 1:
        return None
    return _as_definition(_bare(copy.deepcopy(nodes[0])))


@functools.lru_cache(maxsize=32)
def _parsed(text: str, filename: str, flags: int) -> tuple[ast.AST, dict[Any, list[Any]]]:
    """The syntax tree of a file, and the code objects in it by place."""
    found: dict[Any, list[Any]] = {}
    open_ = [compile(text, filename, "exec", flags, dont_inherit=True)]
    while open_:
        code = open_.pop()
        found.setdefault(_place(code), []).append(code)
        open_.extend(each for each in code.co_consts if isinstance(each, types.CodeType))
    return ast.parse(text), found


def _place(code: types.CodeType) -> tuple[str, int]:
    return code.co_name, code.co_firstlineno


def _place_of(node: ast.AST) -> tuple[str, int] | None:
    """The place of the code of a definition, which begins at its first decorator, or a lambda."""
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    if isinstance(node, ast.FunctionDef):
        return node.name, min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return None


def _bare(node: Any) -> Any:
    """A function without decorators, annotations and default values: they have been evaluated."""
    if isinstance(node, ast.FunctionDef):
        node.decorator_list, node.returns = [], None
    arguments = node.args
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [each and ast.Constant(None) for each in arguments.kw_defaults]
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return ast.fix_missing_locations(node)


def _as_definition(node: Any) -> ast.FunctionDef:
    """A definition, in which parameters by keyword alone come last."""
    if isinstance(node, ast.Lambda):
        body: list[ast.stmt] = [ast.copy_location(ast.Return(node.body), node)]
        made = ast.parse(f"def {_LAMBDA}(): pass").body[0]
        assert isinstance(made, ast.FunctionDef)
        made.args, made.body = node.args, body
        node = ast.copy_location(made, node)
    arguments = node.args
    if arguments.vararg is None:
        arguments.args.extend(arguments.kwonlyargs)
        arguments.kwonlyargs, arguments.kw_defaults = [], []
    arguments.defaults = []
    return ast.fix_missing_locations(node)


def _code_of(code: types.CodeType, node: Any) -> types.CodeType:
    """The code object of a definition or a lambda with the closed-over names of another code."""
    free = code.co_freevars
    outer = ast.parse(f"def _outer({', '.join(free)}):\n    return None").body[0]
    assert isinstance(outer, ast.FunctionDef)
    if isinstance(node, ast.FunctionDef):
        node.name = _INNER  # its own name is a global one, or closed over
    outer.body.insert(0, node if isinstance(node, ast.stmt) else ast.Expr(node))
    module = ast.fix_missing_locations(ast.Module([outer], []))
    flags = code.co_flags & _FUTURE
    compiled = compile(module, code.co_filename, "exec", flags, dont_inherit=True)
    (outer_code,) = [each for each in compiled.co_consts if isinstance(each, types.CodeType)]
    inner = next(each for each in outer_code.co_consts if isinstance(each, types.CodeType))
    return inner.replace(co_name=code.co_name)


def _alike(one: types.CodeType, other: types.CodeType) -> bool:
    """Whether two code objects name the same, with the same constants."""
    names = ("co_names", "co_varnames", "co_freevars", "co_argcount", "co_consts")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _same(one: types.CodeType, other: types.CodeType) -> bool:
    """Whether two code objects do the same."""
    names = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_argcount")
    if any(getattr(one, name) != getattr(other, name) for name in names):
        return False
    if len(one.co_consts) != len(other.co_consts):
        return False
    for a, b in zip(one.co_consts, other.co_consts, strict=True):
        if isinstance(a, types.CodeType) and isinstance(b, types.CodeType):
            if not _same(a, b):
                return False
        elif type(a) is not type(b) or repr(a) != repr(b):
            return False
    return True


def rebuilt(function: Any, definition: ast.FunctionDef, extra: dict[str, Any]) -> Any:
    """A function of a new syntax tree, with the old closure and globals, and more of these."""
    inner = _code_of(function.__code__, definition)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    closure = tuple(cells[name] for name in inner.co_freevars)
    scope = {**function.__globals__, **extra}
    result = types.FunctionType(inner, scope, function.__name__, None, closure)
    result.__module__ = function.__module__
    return result


def meaning(function: types.FunctionType, node: ast.AST) -> Any:
    """What a name, or an attribute of a module, means in a function; None if unknown."""
    if isinstance(node, ast.Attribute):
        base = meaning(function, node.value)
        return getattr(base, node.attr, None) if isinstance(base, types.ModuleType) else None
    code = function.__code__
    if not isinstance(node, ast.Name) or node.id in code.co_varnames + code.co_cellvars:
        return None
    if node.id in code.co_freevars:
        cell = (function.__closure__ or ())[code.co_freevars.index(node.id)]
        try:
            return cell.cell_contents
        except ValueError:  # not bound yet
            return None
    return function.__globals__.get(node.id, getattr(builtins, node.id, None))


def without_continue(body: list[ast.stmt]) -> list[ast.stmt]:
    """``if c: continue`` with the rest of a loop's body as its other side."""
    result: list[ast.stmt] = []
    for index, node in enumerate(body):
        if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Continue):
            one = node.body[:-1] or [ast.copy_location(ast.Pass(), node)]
            other = without_continue([*node.orelse, *body[index + 1 :]])
            return [*result, ast.copy_location(ast.If(node.test, one, other), node)]
        result.append(node)
    return result


class _Loops(ast.NodeTransformer):
    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.body = without_continue(node.body)
        return node


def normalised(definition: ast.FunctionDef) -> ast.FunctionDef:
    """The definition without the ``continue`` that an ``else`` can say."""
    return _Loops().visit(definition)


def located(node: Any, at: Any) -> Any:
    """A new node, at the lines of another."""
    for part in ast.walk(node):
        if isinstance(part, (ast.expr, ast.stmt)) and not hasattr(part, "lineno"):
            ast.copy_location(part, at)
    return ast.fix_missing_locations(ast.copy_location(node, at))


def load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def assign(name: str, value: Any, at: Any) -> Any:
    """``name = value``, at the lines of another node."""
    return located(ast.Assign([ast.Name(name, ast.Store())], value), at)


def call(name: str, *values: Any) -> ast.Call:
    return ast.Call(load(name), list(values), [])
