"""Functions that are compiled only as parts of kernels.

numba optimises every function that another one calls by itself, down to machine code, and once more
wherever it is linked into. A kernel is made of a hundred such functions, nested ten deep, whose own
machine code nobody runs: that was two thirds of the time it took to compile. A fragment is only
lowered to LLVM's language, and optimised once, with the whole kernel.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """LLVM code to be linked into that of a kernel."""

    def _optimize_final_module(self) -> None:
        """Left to the kernel."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


@register_pass(mutates_CFG=False, analysis_only=False)
class _LinkedLowering(NativeLowering):  # type: ignore[misc]
    """Lowering into a `_Library`, without an entry point."""

    _name = "fastelbo_linked_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        super().run_pass(state)
        lowered = state["cr"]
        # Callers know a function by its entry point. Any that is like no other will do.
        stand_in = [].append  # type: ignore[var-annotated]
        state.targetctx.insert_user_function(stand_in, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=stand_in)
        return True


class LinkOnlyCompiler(Compiler):  # type: ignore[misc]
    """numba's compiler, for functions that are never called from Python."""

    def define_pipelines(self) -> list[Any]:
        """The usual passes, but for the last steps of lowering."""
        flags = self.state.flags
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state, "fragment")
        manager.passes = [
            (_LinkedLowering if step is NativeLowering else step, description)
            for step, description in manager.passes
        ]
        manager.finalize()
        return [manager]
