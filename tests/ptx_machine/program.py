"""Parse the text of a PTX module into lists of instructions."""

from __future__ import annotations

import re
from typing import NamedTuple


class UnknownPTXError(Exception):
    """PTX that the machine does not know."""


class Instruction(NamedTuple):
    """One instruction: ``@guard opcode operands``."""

    opcode: tuple[str, ...]  # parts between the dots
    operands: tuple[str, ...]
    guard: str  # a predicate, with "!" before it if it is negated; or ""
    text: str


class Function(NamedTuple):
    """A kernel, or a function that it calls."""

    name: str
    parameters: tuple[str, ...]
    result: tuple[str, ...]
    code: list[Instruction]
    labels: dict[str, int]  # places in the code
    registers: dict[str, str]  # types by prefix
    local: dict[str, int]  # sizes in bytes


class Program(NamedTuple):
    """A module. The first of its functions is the kernel."""

    functions: list[Function]
    shared: dict[str, int]  # sizes in bytes
    constants: dict[str, bytes]


_HEAD = re.compile(
    r"\.(?P<kind>entry|func)\s+(?:\((?P<result>[^)]*)\)\s*)?(?P<name>[\w$]+)\s*\((?P<params>[^)]*)\)"
    r"(?P<directives>[^;{]*)(?P<end>[;{])"
)
_SHARED = re.compile(r"\.shared\s+\.align\s+\d+\s+\.b8\s+([\w$]+)\[(\d+)\]\s*;")
_CONSTANTS = re.compile(
    r"\.(?:global|const)\s+\.align\s+\d+\s+\.b8\s+([\w$]+)\[\d+\]\s*=\s*\{([\d,\s]*)\}\s*;"
)
_STATEMENT = re.compile(r"\s*(?:(?P<label>[\w$]+):|(?P<brace>[{}])|(?P<text>[^;]+);)")


def parse(text: str) -> Program:
    """Read a module."""
    text = re.sub(r"//.*", "", text)
    kernels, functions = [], []
    outside, place = [], 0
    while head := _HEAD.search(text, place):
        outside.append(text[place : head.start()])
        place = head.end()
        if head["end"] == "{":
            end = _closing(text, place)
            into = kernels if head["kind"] == "entry" else functions
            into.append(_function(head, text[place : end - 1]))
            place = end
    declarations = "".join([*outside, text[place:]])
    constants = {
        name: bytes(map(int, items.split(","))) for name, items in _CONSTANTS.findall(declarations)
    }
    if re.search(r"\.(const|extern)\b|\.global\b[^;]*=", _CONSTANTS.sub("", declarations)):
        raise UnknownPTXError("constants that are no arrays of bytes")
    shared = {name: int(size) for name, size in _SHARED.findall(declarations)}
    return Program(kernels + functions, shared, constants)


def _closing(text: str, place: int) -> int:
    depth = 1
    for brace in re.compile("[{}]").finditer(text, place):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    raise UnknownPTXError("braces that do not close")


def _names(parameters: str | None) -> tuple[str, ...]:
    return tuple(part.split()[-1] for part in (parameters or "").split(",") if part.strip())


def _function(head: re.Match[str], body: str) -> Function:
    function = Function(
        head["name"], _names(head["params"]), _names(head["result"]), [], {}, {}, {}
    )
    scopes, opened, place = [""], 0, 0
    while statement := _STATEMENT.match(body, place):
        place = statement.end()
        if statement["label"]:
            function.labels[statement["label"]] = len(function.code)
        elif statement["brace"] == "{":
            opened += 1
            scopes.append(f"@{opened}")
        elif statement["brace"] == "}":
            scopes.pop()
        elif statement["text"].startswith("."):
            _declare(function, statement["text"])
        else:
            function.code.append(_instruction(statement["text"], scopes[-1]))
    if body[place:].strip():
        raise UnknownPTXError(body[place : place + 80])
    return function


def _declare(function: Function, text: str) -> None:
    if register := re.fullmatch(r"\.reg\s+\.(\w+)\s+(%?\w+?)(?:<\d+>)?", text):
        function.registers[register[2]] = register[1]
    elif local := re.fullmatch(r"\.local\s+\.align\s+\d+\s+\.b8\s+([\w$]+)\[(\d+)\]", text):
        function.local[local[1]] = int(local[2])
    elif not re.fullmatch(r"\.param\s+\.\w+\s+\w+|\.pragma\s+\"[\w ]+\"", text):
        raise UnknownPTXError(text)


def _instruction(text: str, scope: str) -> Instruction:
    found = re.fullmatch(r"(?:@(!?%\w+)\s+)?([\w.]+)\s*(.*)", text.strip(), re.DOTALL)
    if found is None:
        raise UnknownPTXError(text)
    guard, opcode, rest = found[1] or "", found[2], found[3]
    # Each call has braces in which the names of its parameters start again.
    rest = re.sub(r"\b(param\d+|retval0)\b(?=[\s,)+\]])", rf"\1{scope}", rest)
    operands = re.findall(r"\{[^}]*\}|\([^)]*\)|\[[^\]]*\]|[^\s,]+", rest)
    return Instruction(tuple(opcode.split(".")), tuple(operands), guard, " ".join(text.split()))
