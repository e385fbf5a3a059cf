"""Without one of numba's internals, or with another in its place, results are the same."""

import subprocess
import sys

import numba
import numpy as np
import pytest

import fastelbo as fe
from fastelbo.kernels.jit import compile, internals
from fastelbo.kernels.jit.announce import compilations

pytestmark = pytest.mark.compiler

# A kernel whose parts call each other.
PROGRAM = """
import numpy as np
import fastelbo as fe
from fastelbo.kernels.cpu import drivers, launch
from fastelbo.kernels.jit.compile import block, kernel
from fastelbo.kernels.jit.internals import is_fast
from fastelbo.kernels.math.scalar import exp_normal, log

@block
def logarithms(x, out):
    for k in range(x.size):
        out[k] = log(exp_normal(x[k]) + x[k] * x[k])

@kernel
def run(x, out):
    logarithms(x, out)

x = np.random.default_rng(0).normal(size=1000)
out = np.empty_like(x)
run(x, out)
cached = launch.compiled(drivers.log_prob).stats.cache_path is not None
print("fast" if is_fast() else "public", "cached" if cached else "uncached", out.tobytes().hex())
"""
REDUCTION = """
x = np.random.default_rng(0).normal(size=(20, 3000))
print(fe.logsumexp(x, axis=-1).tobytes().hex())
"""

# What numba itself imports later on is imported first, with the names that are taken away.
LOADED = "from numba.core import caching, codegen, compiler, compiler_machinery, typed_passes\n"
LOADED += "import numba.experimental.function_type\n"

TAKEN_FROM_THE_COMPILER = {
    "library": "del codegen.JITCodeLibrary",
    "lowering": "del typed_passes.NativeLowering",
    "registration": "del compiler_machinery.register_pass",
    "compiler": "del compiler.Compiler",
    # Another class than the one in the list of passes.
    "list of passes": """
class NativeLowering(typed_passes.NativeLowering): pass
typed_passes.NativeLowering = NativeLowering
""",
    "name of a pipeline": """
define = compiler.DefaultPassBuilder.define_nopython_pipeline
compiler.DefaultPassBuilder.define_nopython_pipeline = lambda state: define(state)
""",
    "steps of linking": """
library = codegen.CPUCodeLibrary
verify, finalize = library._verify_declare_only_symbols, library._finalize_final_module
del library._verify_declare_only_symbols
def finalize_otherwise(self):
    self._verify_declare_only_symbols = lambda: verify(self)
    finalize(self)
library._finalize_final_module = finalize_otherwise
""",
    "entry points": """
from numba.core.base import BaseContext
insert = BaseContext.insert_user_function
def insert_machine_code(self, function, *args):
    if function.__name__ == "append":
        raise TypeError
    insert(self, function, *args)
BaseContext.insert_user_function = insert_machine_code
""",
}
TAKEN_FROM_THE_CACHE = {
    "cache": "del caching.FunctionCache",
    "results": "del caching.CompileResultCacheImpl",
    # What is set is not read.
    "class of the results": """
make = caching.Cache.__init__
def make_otherwise(self, function):
    type(self)._impl_class = caching.CompileResultCacheImpl
    make(self, function)
caching.Cache.__init__ = make_otherwise
""",
    "place in a dispatcher": """
from numba.core.dispatcher import Dispatcher
Dispatcher._cache = property(lambda self: caching.NullCache(), lambda self, cache: None)
""",
}


def run(taken, program):
    done = subprocess.run(
        [sys.executable, "-c", f"{LOADED}{taken}\n{program}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def usual():
    *how, result = run("", PROGRAM)
    assert how == ["fast", "cached"]
    return result


@pytest.mark.parametrize("taken", TAKEN_FROM_THE_COMPILER)
def test_without_an_internal_of_the_compiler(taken, usual):
    assert run(TAKEN_FROM_THE_COMPILER[taken], PROGRAM) == ["public", "cached", usual]


@pytest.mark.parametrize("taken", TAKEN_FROM_THE_CACHE)
def test_without_an_internal_of_the_cache(taken, usual):
    assert run(TAKEN_FROM_THE_CACHE[taken], PROGRAM) == ["fast", "uncached", usual]


def test_a_reduction_without_internals():
    taken = f"{TAKEN_FROM_THE_COMPILER['library']}; {TAKEN_FROM_THE_CACHE['cache']}"
    x = np.random.default_rng(0).normal(size=(20, 3000))
    expected = fe.logsumexp(x, axis=-1).tobytes().hex()
    assert run(taken, PROGRAM + REDUCTION)[-1] == expected


def test_without_the_option_of_references(usual):
    taken = "from numba.core.options import DefaultOptions; del DefaultOptions._nrt"
    check = "from fastelbo.kernels.jit.internals import UNCOUNTED; assert not UNCOUNTED\n"
    assert run(taken, check + PROGRAM) == ["fast", "cached", usual]


@pytest.mark.parametrize("returned", ["x", "x[1:]", "(x, 1.0)", "np.empty(3)"])
def test_a_borrower_returns_no_array(returned):
    """Its caller would count the array down, and free memory that is in use."""
    space = {"np": np}
    exec(f"def part(x): return {returned}\ndef whole(x): part(x)", space)
    compile.borrower(space["part"])
    with pytest.raises(Exception, match=r"return(s an|ing of) array|NRT required"):
        numba.njit(space["whole"])(np.zeros(3))


def test_all_internals_are_as_they_were():
    # In every version of numba that the tests run with.
    assert internals.is_fast()
    assert internals.UNCOUNTED


def test_compilations_are_announced(monkeypatch, tmp_path):
    # A cache of its own, in which nothing is compiled yet.
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    @compile.block
    def part(x):
        return x + 1.0

    @compile.kernel
    def whole(x):
        return part(x) + part(x)

    kernels = []
    with compilations(kernels.append):
        assert whole(1.0) == 4.0
    assert kernels == ["whole"]
