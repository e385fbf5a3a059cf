"""Turn instructions into steps: functions that run an instruction for some threads."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .memory import KINDS, Memory
from .operations import TYPES, operation
from .program import Function, Instruction, Program, UnknownPTXError
from .threads import WARP, Threads

# The bytes of a register before the first write; as a float they are NaN.
_GARBAGE = 0xFF

Read = Callable[[Any], Any]
Write = Callable[[Any, Any], None]


class Step(NamedTuple):
    """One instruction, ready to run."""

    run: Callable[[Any], None]  # takes the threads
    parts: bool  # whether it sets where each thread goes next
    text: str


class Assembler:
    """The steps of a program, its parameters, and the registers and memory of one block."""

    def __init__(self, program: Program, threads: Threads, memory: Memory) -> None:
        self.threads, self.memory = threads, memory
        self.functions = {function.name: function for function in program.functions}
        self.parameters: dict[tuple[str, str], Any] = {}
        # For each function: from where, and from which path of calls, each thread came.
        self.came_from = {name: np.zeros((2, threads.count), np.int64) for name in self.functions}
        self.block = np.zeros(1, np.uint32)
        self.registers: list[Any] = []
        self._room: list[tuple[int, int]] = []
        self.shared = {name: self.reserve(size, "shared") for name, size in program.shared.items()}
        self.constants = {
            name: memory.put(np.frombuffer(items, np.uint8)).ctypes.data
            for name, items in program.constants.items()
        }
        self.steps: list[Step] = []
        # Steps where threads may meet others.
        self.leaders: set[int] = set()
        self.starts: dict[str, int] = {}
        for function in program.functions:
            self.starts[function.name] = len(self.steps)
            _FunctionAssembler(self, function).assemble()

    def take(self, arguments: Sequence[int]) -> None:
        """Pass the bits of arguments to the kernel."""
        kernel = next(iter(self.functions.values()))
        for name, bits in zip(kernel.parameters, arguments, strict=True):
            self.parameter(kernel.name, name)[:] = bits

    def start_block(self, block: int) -> None:
        """Reset the registers and memory that the previous block used."""
        self.block[:] = block
        for register in self.registers:
            register.view(np.uint8)[:] = 0 if register.dtype == np.bool_ else _GARBAGE
        for address, size in self._room:
            self.memory.forget(address, size)

    def reserve(self, size: int, kind: str) -> int:
        """Reserve ``size`` bytes for each block; return their address."""
        address = self.memory.reserve(size, kind)
        self._room.append((address, size))
        return address

    def parameter(self, function: str, name: str) -> Any:
        """The bits of a parameter of a function, or of a call in it, for each thread."""
        place = (function, name)
        if place not in self.parameters:
            self.parameters[place] = np.full(self.threads.count, 2**64 - 1, np.uint64)
        return self.parameters[place]


class _FunctionAssembler:
    """The steps of one function."""

    def __init__(self, whole: Assembler, function: Function) -> None:
        self.whole, self.function = whole, function
        self.threads, self.memory = whole.threads, whole.memory
        self.base = len(whole.steps)
        self.registers: dict[str, Any] = {}
        self.local = {name: self._reserve_local(size) for name, size in function.local.items()}
        # For each opcode: the method that makes its step, and whether the step sets where threads
        # go next.
        self.forms = {
            "bra": (self._branch, True),
            "call": (self._call, True),
            "ret": (self._return, True),
            "bar": (self._barrier, True),
            "shfl": (self._exchange, True),
            "mma": (self._multiply, True),
            "ld": (self._load, False),
            "st": (self._store, False),
            "atom": (self._add, False),
        }

    def assemble(self) -> None:
        whole = self.whole
        whole.leaders.update(self.base + place for place in self.function.labels.values())
        for instruction in self.function.code:
            make, parts = self.forms.get(instruction.opcode[0], (self._compute, False))
            run = make(instruction)
            if instruction.guard and instruction.opcode[0] != "bra":
                if parts:
                    raise UnknownPTXError(instruction.text)
                run = self._guarded(run, instruction.guard)
            whole.steps.append(Step(run, parts, instruction.text))
            if parts:
                whole.leaders.add(len(whole.steps))

    # --- operands -------------------------------------------------------------------------------

    def _register(self, name: str) -> Any:
        if name not in self.registers:
            kinds = self.function.registers
            kind = kinds.get(name) or kinds[name.rstrip("0123456789")]
            self.registers[name] = np.empty(self.threads.count, TYPES[kind])
            self.whole.registers.append(self.registers[name])
        return self.registers[name]

    def _reserve_local(self, size: int) -> Any:
        """Reserve ``size`` bytes for each thread; return their addresses."""
        addresses = [self.whole.reserve(size, "local") for _ in self.threads.numbers]
        return np.array(addresses, np.uint64)

    def _address(self, name: str) -> Any:
        """The address of the shared, local or constant memory of that name, or None."""
        if name in self.local:
            return self.local[name]
        address = self.whole.shared.get(name, self.whole.constants.get(name))
        return None if address is None else np.full(self.threads.count, address, np.uint64)

    def _special(self, name: str) -> Any:
        """A special register, which the machine itself writes."""
        if name == "%tid.x":
            return self.threads.numbers.astype(np.uint32)
        if name == "%ntid.x":
            return np.full(self.threads.count, self.threads.count, np.uint32)
        if name == "%ctaid.x":
            return np.broadcast_to(self.whole.block, self.threads.count)
        raise UnknownPTXError(name)

    def _source(self, text: str, kind: np.dtype[Any]) -> Read:
        """A function that reads an operand."""
        if text.startswith("%"):
            array = self._special(text) if "." in text else self._register(text)
        else:
            array = self._address(text)
        if array is None:
            value = np.full(self.threads.count, _constant(text, kind))
            return lambda who: value[who]
        if array.dtype.itemsize == kind.itemsize:
            view = array.view(kind)
            return lambda who: view[who]
        return lambda who: array[who].astype(kind)

    def _target(self, name: str, kind: np.dtype[Any]) -> Write:
        """A function that writes to a register. Sign or zeros extend narrower numbers."""
        array = self._register(name)
        if array.dtype.itemsize != kind.itemsize:
            kind = np.dtype(f"{'i' if kind.kind == 'i' else 'u'}{array.dtype.itemsize}")
        view = array.view(kind)

        def write(who: Any, value: Any) -> None:
            view[who] = value

        return write

    def _predicate(self, guard: str) -> Read:
        array = self._register(guard.lstrip("!"))
        return (lambda who: ~array[who]) if guard.startswith("!") else (lambda who: array[who])

    def _guarded(self, run: Callable[[Any], None], guard: str) -> Callable[[Any], None]:
        holds, numbers = self._predicate(guard), self.threads.numbers

        def guarded(who: Any) -> None:
            chosen = numbers[who][holds(who)]
            if len(chosen):
                run(chosen)

        return guarded

    # --- computing ------------------------------------------------------------------------------

    def _compute(self, instruction: Instruction) -> Callable[[Any], None]:
        to, *others = instruction.operands
        if instruction.opcode[0] == "mov" and (to + others[0]).count("{"):
            return self._pack(instruction)
        found = operation(instruction.opcode)
        sources = [self._source(*pair) for pair in zip(others, found.sources, strict=True)]
        write, function = self._target(to, found.result), found.function
        return lambda who: write(who, function(*[source(who) for source in sources]))

    def _pack(self, instruction: Instruction) -> Callable[[Any], None]:
        """Pack two halves into a register, or unpack a register into two halves."""
        to, of = instruction.operands
        whole = TYPES[instruction.opcode[1]]
        half = np.dtype(f"u{whole.itemsize // 2}")
        if of.startswith("{"):
            low, high = (self._source(name, half) for name in _listed(of))
            write = self._target(to, whole)
            return lambda who: write(who, np.stack([low(who), high(who)], 1).view(whole)[:, 0])
        source, writes = self._source(of, whole), [self._target(n, half) for n in _listed(to)]

        def unpack(who: Any) -> None:
            halves = source(who).reshape(-1, 1).view(half)
            for k, write in enumerate(writes):
                write(who, halves[:, k])

        return unpack

    # --- memory ---------------------------------------------------------------------------------

    def _memory_operand(self, instruction: Instruction, text: str) -> tuple[Any, Any]:
        """A function that reads the addresses of [base + offset], or the parameter of that name."""
        base, _, offset = text.strip("[]").replace(" ", "").partition("+")
        step = int(offset or 0)
        modifiers = set(instruction.opcode[1:-1])
        if modifiers == {"param"} and not step:
            return None, self.whole.parameter(self.function.name, base)
        if modifiers - {*KINDS} - {"v2", "v4", "add", "nc"}:
            raise UnknownPTXError(instruction.text)
        start = self._source(base, TYPES["u64"])
        return lambda who: start(who) + np.uint64(step & (2**64 - 1)), None

    def _load(self, instruction: Instruction) -> Callable[[Any], None]:
        to, pointer = instruction.operands
        kind = TYPES[instruction.opcode[-1]]
        writes = [self._target(name, kind) for name in _listed(to)]
        addresses, bits = self._memory_operand(instruction, pointer)
        if addresses is None:
            return lambda who: writes[0](who, bits[who].astype(f"u{kind.itemsize}").view(kind))
        memory, numbers, where = self.memory, self.threads.numbers, _kind_of(instruction)

        def load(who: Any) -> None:
            address, threads = addresses(who), numbers[who]
            memory.require_multiple(address, len(writes) * kind.itemsize)
            for k, write in enumerate(writes):
                place = address + np.uint64(k * kind.itemsize)
                write(who, memory.load(place, kind, threads, where))

        return load

    def _store(self, instruction: Instruction) -> Callable[[Any], None]:
        pointer, of = instruction.operands
        kind = TYPES[instruction.opcode[-1]]
        sources = [self._source(name, kind) for name in _listed(of)]
        addresses, bits = self._memory_operand(instruction, pointer)
        memory, numbers, where = self.memory, self.threads.numbers, _kind_of(instruction)

        def give(who: Any) -> None:
            bits[who] = sources[0](who).view(f"u{kind.itemsize}")

        def store(who: Any) -> None:
            address, threads = addresses(who), numbers[who]
            memory.require_multiple(address, len(sources) * kind.itemsize)
            for k, source in enumerate(sources):
                place = address + np.uint64(k * kind.itemsize)
                memory.store(place, source(who), kind, threads, where)

        return give if addresses is None else store

    def _add(self, instruction: Instruction) -> Callable[[Any], None]:
        to, pointer, of = instruction.operands
        kind = TYPES[instruction.opcode[-1]]
        if instruction.opcode[-2] != "add":
            raise UnknownPTXError(instruction.text)
        addresses, _ = self._memory_operand(instruction, pointer)
        write, source = self._target(to, kind), self._source(of, kind)
        memory, numbers, where = self.memory, self.threads.numbers, _kind_of(instruction)
        return lambda who: write(
            who, memory.add(addresses(who), source(who), kind, numbers[who], where)
        )

    # --- where threads go -----------------------------------------------------------------------

    def _branch(self, instruction: Instruction) -> Callable[[Any], None]:
        place = self.threads.place
        target = self.base + self.function.labels[instruction.operands[0]]
        after = len(self.whole.steps) + 1
        holds = self._predicate(instruction.guard) if instruction.guard else None

        def branch(who: Any) -> None:
            place[who] = target if holds is None else np.where(holds(who), target, after)

        return branch

    def _call(self, instruction: Instruction) -> Callable[[Any], None]:
        whole, here, after = self.whole, self.function.name, len(self.whole.steps) + 1
        results, name, given = instruction.operands
        called = whole.functions[name]
        pairs = [
            (whole.parameter(name, formal), whole.parameter(here, actual))
            for formal, actual in zip(called.parameters, _listed(given), strict=True)
        ]
        # The caller reads a result where the function wrote it.
        for actual, formal in zip(_listed(results), called.result, strict=True):
            whole.parameters[here, actual] = whole.parameter(name, formal)
        threads, came_from = self.threads, whole.came_from[name]

        def call(who: Any) -> None:
            for formal, actual in pairs:
                formal[who] = actual[who]
            came_from[0, who], came_from[1, who] = after, threads.path[who]
            threads.place[who] = whole.starts[name]
            threads.path[who] = 31 * threads.path[who] + after

        return call

    def _return(self, instruction: Instruction) -> Callable[[Any], None]:
        if self.base == 0:
            return self.threads.finish
        threads, came_from = self.threads, self.whole.came_from[self.function.name]

        def leave(who: Any) -> None:
            threads.place[who], threads.path[who] = came_from[0, who], came_from[1, who]

        return leave

    def _barrier(self, instruction: Instruction) -> Callable[[Any], None]:
        if instruction.opcode != ("bar", "sync") or instruction.operands != ("0",):
            raise UnknownPTXError(instruction.text)

        def wait(who: Any) -> None:
            if len(self.threads.meet(who, self.threads.count)):
                self.memory.barrier()

        return wait

    def _exchange(self, instruction: Instruction) -> Callable[[Any], None]:
        if instruction.opcode != ("shfl", "sync", "bfly", "b32"):
            raise UnknownPTXError(instruction.text)
        to, *others = instruction.operands
        to, _, valid = to.partition("|")
        write = self._target(to, TYPES["b32"])
        mark = self._target(valid, TYPES["pred"]) if valid else None
        source, distance, clamp, members = (self._source(each, TYPES["b32"]) for each in others)

        def exchange(who: Any) -> None:
            warps = self.threads.meet(who, WARP)
            if np.any(clamp(warps) != WARP - 1) or np.any(members(warps) != 2**WARP - 1):
                raise UnknownPTXError("an exchange of less than a warp")
            write(warps, source(warps ^ (distance(warps) & np.uint32(WARP - 1))))
            if mark is not None:
                mark(warps, True)

        return exchange

    def _multiply(self, instruction: Instruction) -> Callable[[Any], None]:
        shape = ("mma", "sync", "aligned", "m8n8k4", "row", "col", "f64", "f64", "f64", "f64")
        if instruction.opcode != shape:
            raise UnknownPTXError(instruction.text)
        kind = TYPES["f64"]
        to, left, right, before = map(_listed, instruction.operands)
        writes = [self._target(name, kind) for name in to]
        a, b, *sums = (self._source(name, kind) for name in (*left, *right, *before))

        def multiply(who: Any) -> None:
            warps = self.threads.meet(who, WARP)
            # Thread 4 r + k has [r, k] of the left factor, [k, r] of the right one, and the sums
            # [r, 2 k] and [r, 2 k + 1].
            rows, columns = a(warps).reshape(-1, 8, 4), b(warps).reshape(-1, 8, 4)
            products = np.einsum("wik,wjk->wij", rows, columns).reshape(-1, 2).T
            values = [total(warps) + product for total, product in zip(sums, products, strict=True)]
            for write, value in zip(writes, values, strict=True):
                write(warps, value)

        return multiply


def _kind_of(instruction: Instruction) -> str:
    """The kind of memory that the instruction names; "" for a generic pointer."""
    return next((part for part in instruction.opcode if part in KINDS), "")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.strip("{}()").split(",") if part.strip()]


def _constant(text: str, kind: np.dtype[Any]) -> Any:
    if kind.kind == "f":
        prefix, code = ("0d", ">d") if kind.itemsize == 8 else ("0f", ">f")
        if not text.startswith(prefix):
            raise UnknownPTXError(text)
        return kind.type(struct.unpack(code, bytes.fromhex(text[2:]))[0])
    value = int(text.rstrip("U"), 0)
    if kind.kind == "b":
        return np.bool_(value)
    return np.array(value & (2 ** (8 * kind.itemsize) - 1), f"u{kind.itemsize}").view(kind)[()]
