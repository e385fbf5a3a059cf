"""What a user reads where a function has no compiled form: the reason and the line, in one text."""

from __future__ import annotations

import linecache
import os
import re
from typing import Any

import numba

READ_ONLY = "z is read only: write to a copy of it, such as 1.0 * z"
# Lines of these are not the user's: fastelbo's kernels, numba.
_PACKAGES = tuple(
    os.path.dirname(path) + os.sep
    for path in (os.path.dirname(os.path.abspath(__file__)), os.path.abspath(numba.__file__))
)
_NUMBA_CUDA = f"{os.sep}numba_cuda{os.sep}"


class NotCompiled(Exception):  # noqa: N818
    """A function has no compiled form.

    ``line`` is the line in ``filename``, ``reason`` the text without the place. With ``one_lane``,
    the function may have a form of one lane, in which z may steer the control flow.
    """

    def __init__(
        self, function: Any, reason: str, line: int | None = None, filename: str | None = None,
        one_lane: bool = False,
    ) -> None:  # fmt: skip
        code = getattr(function, "__code__", None)
        self.name = getattr(function, "__qualname__", None) or type(function).__name__
        self.name = self.name.rpartition("<locals>.")[2]
        self.reason, self.one_lane = reason, one_lane
        self.filename = filename or getattr(code, "co_filename", None)
        self.line = line or (code and _first_line(code))
        super().__init__(self._text())

    def _text(self) -> str:
        if self.filename is None or self.line is None:
            return f"{self.name} cannot be compiled: {self.reason}"
        source = linecache.getline(self.filename, self.line).strip()
        shown = f", `{source}`" if source else ""
        place = f"{os.path.basename(self.filename)}, line {self.line}{shown}"
        return f"{self.name} cannot be compiled: {self.reason} ({place})"

    def __reduce__(self) -> Any:
        return _restored, (self.args[0], self.__dict__.copy())


def _first_line(code: Any) -> int:
    """The line of a function's ``def``, after its decorators."""
    lines = range(code.co_firstlineno, code.co_firstlineno + 20)
    found = (
        each for each in lines if re.match(r"\s*def ", linecache.getline(code.co_filename, each))
    )
    return next(found, code.co_firstlineno) if code.co_name != "<lambda>" else code.co_firstlineno


def _restored(text: str, state: dict[str, Any]) -> NotCompiled:
    made = NotCompiled.__new__(NotCompiled, text)
    made.__dict__.update(state)
    return made


_PLACE = re.compile(r'File "([^"\n]+)", line (\d+)|(?:at|from) (\S+?) \((\d+)\)')
# numba's sentence, and what the user reads; {0} and {1} are its groups. A regular expression that
# stands earlier wins.
_REASONS = [
    (r"NRT required|_ol_array_allocate|allocate_uninitialized", "it makes an array or a list"),
    (r"\b(?:bool|int)\((?:Mask|Lanes)\([\d, ]+\)\)", "control flow or an index depends on z"),
    (re.escape(READ_ONLY), READ_ONLY),
    (r"Cannot modify readonly|setitem\(readonly|'NoneType' object has no attribute 'args'",
     "it writes to data, to a parameter or to a global array; write to a copy"),
    (r"it returns (none); expected a number", "it returns None; expected a number"),
    (r"it returns OptionalType", "it returns None for some z; expected a number"),
    (r"it returns (.+?); expected a number", "it returns {0}; expected a number"),
    (r"Can't unify return type from the following types: ([^\n]+)",
     "it returns once this and once that: {0}"),
    (r"Untyped global name '_?(\w+)'", "{0} has no compiled form"),
    (r"exception_match\(|yield in a closure", "try and generators have no compiled form"),
    (r">>> choose\((?:Mask|bool).*LaneVector", "z chooses one of two vectors"),
    (r"found for signature:\s*>>> (?:range|getitem)\(.*Lanes\(1[\d, ]*\)",
     "an index or a count is a float; int(...) makes it an integer"),
    (r"found for signature:\s*>>> (.+?)\n", "`{0}` has no compiled form"),
    (r"NameError: name '(\w+)' is not defined", "there is no name {0}"),
    (r"tuple index out of range", "an index is outside of a tuple of arguments"),
    (r"Unknown attribute '(\w+)' of type Module\(<module '([\w.]+)'",
     "{1}.{0} has no compiled form"),
    (r"Unknown attribute '(\w+)' of type (.+?)\n", "{1} has no attribute {0}"),
    (r"Variable '(\w+)' (?:is not defined|referenced before)", "{0} may have no value"),
    (r"Use of unsupported opcode \((\w+)\)", "it uses a statement without a compiled form ({0})"),
    (r"Cannot unify (.+?) and (.+?) for '(\w+)", "{2} is once {0} and once {1}"),
    (r"'LaneVector' object has no attribute", "one of its functions has no form for vectors of z"),
    (r"del found at: del (\w+)", "del {0} has no compiled form"),
    (r"use of a (reflected \w+)|OverloadSelector",
     "a list that the function does not make has no compiled form"),
]  # fmt: skip
_TYPES = [
    (r"Literal\[str\]\([^)]*\)", "str"),
    (r"Literal\[\w+\]\(([^)]*)\)", r"\1"),
    (r"LaneVector\(\d+, [^)]*\)", "vector"),
    (r"Lanes\([\d, ]+\)", "float"),
    (r"Mask\([\d, ]+\)", "bool"),
    (r"readonly |unaligned ", ""),
    (r"array\((\w+), (\d)d, \w\)", r"array(\1, \2d)"),
    (r"unicode_type", "str"),
    (r"float64", "float"),
    (r"int64", "int"),
    (r"<iv=None>", ""),
]


def explained(error: Exception, function: Any, width: int) -> NotCompiled:
    """The error of a compiler as a `NotCompiled`."""
    text = re.sub(r"\x1b\[[\d;]*m", "", str(error))
    filename, line = _place(text) or _traced(error) or (None, None)
    reason, in_lanes = _reason(text)
    return NotCompiled(function, reason, line, filename, one_lane=width > 1 and in_lanes)


def _place(text: str) -> tuple[str, int] | None:
    """The innermost place outside of this package and of the compiler's."""
    for match in _PLACE.finditer(text):
        found = _of_user(match[1] or match[3], int(match[2] or match[4]))
        if found:
            return found
    return None


def _traced(error: Exception) -> tuple[str, int] | None:
    """The same from what the compiler worked on; numba-cuda leaves it out of some texts."""
    found, trace = None, error.__traceback__
    while trace is not None:
        at = getattr(trace.tb_frame.f_locals.get("self"), "loc", None)
        path, line = getattr(at, "filename", None), getattr(at, "line", None)
        if isinstance(path, str) and isinstance(line, int):
            found = _of_user(path, line) or found
        trace = trace.tb_next
    return found


def _of_user(path: str, line: int) -> tuple[str, int] | None:
    full = path if path.startswith("<") else os.path.abspath(path)
    is_own = not full.startswith(_PACKAGES) and _NUMBA_CUDA not in full
    return (full, line) if is_own else None


def _reason(text: str) -> tuple[str, bool]:
    """The reason, and whether values in lanes are part of it."""
    for pattern, reason in _REASONS:
        match = re.search(pattern, text)
        if match:
            found = reason.format(*match.groups())
            break
    else:
        lines = [each.strip() for each in text.splitlines()]
        found = next((each for each in lines if each and "pipeline (step" not in each), "unknown")
        match = None
    in_lanes = re.search(r"(Lanes|Mask|LaneVector)\(", match[0] if match else text) is not None
    for pattern, short in _TYPES:
        found = re.sub(pattern, short, found)
    return found[:300], in_lanes
