"""A compiler for functions that are only parts of kernels.

numba compiles every function by itself, down to machine code, and optimises it again wherever it is
linked into another. A kernel consists of a hundred nested functions, whose own machine code never
runs: that took two thirds of the compile time. This compiler only lowers a function to LLVM's
language; it is optimised once, with the kernel.

There nobody else calls it, and LLVM may drop the arguments that it does not read. An array is seven
words or more, of which most functions read two; a plan with its workspace is some hundreds, which
each call would copy: for few draws that took longer than to draw them. A function that takes many
words and has a single caller also becomes a part of that one. If all did, a kernel would compile a
tenth longer.

Loops may ask the vectoriser for several vectors in flight. A long chain of dependent operations, as
of an exponential, then waits less for the result of the one before: a core sees too few iterations
ahead to overlap them by itself. No sum is reordered, so the bits stay. Processors with vectors of
512 bits see farther: there LLVM decides, and a loop has fewer instructions for each element.
"""

from __future__ import annotations

import contextlib
from typing import Any

from llvmlite import binding, ir
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.controlflow import CFGraph
from numba.core.typed_passes import NativeLowering

from .targets import vector_bits

# The widest vectors of which loops may ask for several in flight.
_INTERLEAVED_BITS = 256
# Arguments of LLVM's functions: a loop over some arrays takes fewer.
_MANY_WORDS = 48


def _innermost_back_edges(function: Any) -> list[Any]:
    """The branches that close the innermost loops of a function."""
    graph = CFGraph()
    for block in function.blocks:
        graph.add_node(block)
    for block in function.blocks:
        for target in block.terminator.operands:
            if isinstance(target, ir.Block):
                graph.add_edge(block, target)
    graph.set_entry_point(function.entry_basic_block)
    graph.process()
    loops = graph.loops()
    return [
        block.terminator
        for header, loop in loops.items()
        if not any(other in loop.body for other in loops if other is not header)
        for block, _ in graph.predecessors(header)
        if block in loop.body
    ]


def _ask_for_vectors(module: Any, interleave: int, rolled: bool) -> None:
    """Ask for so many vectors in flight in the innermost loops of a module.

    A loop of few iterations would be unrolled before it could become one of vectors. If ``rolled``,
    it stays a loop whatever is in flight.
    """
    count, wishes = ir.IntType(32), []
    if interleave > 1:
        wishes = [["llvm.loop.interleave.count", count(interleave)], ["llvm.loop.unroll.disable"]]
    if rolled:
        wishes.append(["llvm.loop.unroll.count", count(1)])
    wishes = [module.add_metadata(wish) for wish in wishes]
    for function in module.functions:
        for branch in _innermost_back_edges(function) if function.blocks else ():
            # The identity of a loop is a node whose first operand is that node.
            loop = ir.MDValue(module, (), name=str(len(module.metadata)))
            loop.operands = (loop, *wishes)
            branch.set_metadata("llvm.loop", loop)


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """LLVM code that is linked into a kernel."""

    # Vectors in flight that its loops ask for, and whether they stay loops until there are vectors.
    interleave, rolled = 1, False

    def add_ir_module(self, ir_module: Any) -> None:
        interleave = self.interleave if vector_bits() <= _INTERLEAVED_BITS else 1
        if interleave > 1 or self.rolled:
            _ask_for_vectors(ir_module, interleave, self.rolled)
        super().add_ir_module(ir_module)

    def _optimize_final_module(self) -> None:
        """Nothing: the kernel is optimised as a whole."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


def _make_private(module: Any, words: int) -> None:
    """Leave functions that take more than so many words to nobody but their callers in a module.

    numba itself knows its own functions, which count references, by their names.
    """
    for function in module.functions:
        is_part = function.linkage == binding.Linkage.linkonce_odr and not function.is_declaration
        takes_many = sum(1 for _ in function.arguments) > words
        if is_part and takes_many and not function.name.startswith("NRT_"):
            function.linkage = binding.Linkage.internal


class KernelLibrary(JITCodeLibrary):  # type: ignore[misc]
    """LLVM code of a kernel, with all that it consists of."""

    def _optimize_final_module(self) -> None:
        _make_private(self._final_module, _MANY_WORDS)
        super()._optimize_final_module()
        _make_private(self._final_module, 0)
        # A version without this pass leaves the arguments.
        with contextlib.suppress(AttributeError):
            passes = binding.create_new_module_pass_manager()
            passes.add_dead_arg_elimination_pass()
            passes.run(self._final_module, self._codegen._pass_builder())


# The size of a type, by the type: LLVM has to be asked by a module with a variable of that type.
_sizes: dict[Any, int] = {}


def _remember_sizes(context: Any) -> None:
    size_of = context.get_abi_sizeof

    def remembered(kind: Any) -> Any:
        if kind not in _sizes:
            _sizes[kind] = size_of(kind)
        return _sizes[kind]

    context.get_abi_sizeof = remembered


def _is_counted(state: Any) -> bool:
    """Whether the function returns what its caller will count down."""
    model = state.targetctx.data_model_manager[state.return_type]
    return bool(model.contains_nrt_meminfo())


@register_pass(mutates_CFG=False, analysis_only=False)
class _LinkedLowering(NativeLowering):  # type: ignore[misc]
    """Lowering into a `_Library`, without an entry point."""

    _name = "fastelbo_linked_lowering"

    def run_pass(self, state: Any) -> bool:
        if not state.flags.nrt and _is_counted(state):
            raise TypeError(f"{state.func_id.func_qualname} returns an array: use block")
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.interleave = state.pipeline.interleave
        state.library.rolled = state.pipeline.rolled
        _remember_sizes(state.targetctx)
        super().run_pass(state)
        lowered = state["cr"]
        # Callers look a function up by its entry point. Any unique object will do.
        stand_in = [].append  # type: ignore[var-annotated]
        state.targetctx.insert_user_function(stand_in, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=stand_in)
        return True


class LinkOnlyCompiler(Compiler):  # type: ignore[misc]
    """numba's compiler, for functions that are never called from Python."""

    interleave, rolled = 1, False

    def define_pipelines(self) -> list[Any]:
        """The usual passes, without the last steps of lowering."""
        flags = self.state.flags
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state, "fragment")
        manager.passes = [
            (_LinkedLowering if step is NativeLowering else step, description)
            for step, description in manager.passes
        ]
        manager.finalize()
        return [manager]
