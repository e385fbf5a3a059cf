"""Machine code for processors that are not at hand, and what it consists of.

numba lowers a kernel to LLVM's language, which is the same for all processors of a width. LLVM then
optimises it for each, by the passes that numba asks it for.
"""

import collections
import copy
import platform
import re
from typing import NamedTuple

import llvmlite.binding as llvm
import numba
from numba.core.compiler_lock import global_compiler_lock
from numba.core.controlflow import CFGraph
from numba.core.registry import cpu_target

from fastelbo.kernels.jit import link_only
from fastelbo.kernels.jit.internals import UNCOUNTED

HASWELL = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+f16c,+fma,+lzcnt,+mmx,+movbe,"
    "+pclmul,+popcnt,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave",
}
_AVX512 = ",+avx512f,+avx512dq,+avx512cd,+avx512bw,+avx512vl"


class Target(NamedTuple):
    """A processor as LLVM knows it; ``bits`` is the width of its vectors."""

    triple: str
    cpu: str
    features: str
    bits: int

    @property
    def fuses(self):
        """Whether a b + c, rounded once, is one instruction."""
        return self.bits > 128 or self.is_arm

    @property
    def is_arm(self):
        return self.triple.startswith("aarch64")


X86 = "x86_64-unknown-linux-gnu"
TARGETS = {
    "AVX-512": Target(X86, "znver4", HASWELL["NUMBA_CPU_FEATURES"] + _AVX512, 512),
    "AVX2": Target(X86, "haswell", HASWELL["NUMBA_CPU_FEATURES"], 256),
    "SSE2": Target(X86, "x86-64", "", 128),
    "NEON": Target("aarch64-unknown-linux-gnu", "neoverse-n1", "+neon", 128),
}


def is_x86():
    return platform.machine().lower() in ("x86_64", "amd64")


def host_is_wide():
    if not is_x86():
        return False
    return {"avx2", "fma"} <= {name for name, on in llvm.get_host_cpu_features().items() if on}


# --- from a kernel to the machine code of a target ------------------------------------------------


def result_type(dispatcher, signature):
    """The type of what a kernel returns."""
    return _lowered(dispatcher, signature).signature.return_type


def lower(dispatcher, signature):
    """The code of a kernel, with all that it calls, not optimised.

    It has no counts of references: their functions come with numba, compiled for this processor.
    """
    library = _lowered(dispatcher, signature, **UNCOUNTED).library
    with global_compiler_lock:
        library._ensure_finalized()
    return library._final_module


def _lowered(dispatcher, signature, **options):
    """A kernel in LLVM's language.

    Functions are not even simplified one by one, as numba does when it lowers them, for that looks
    at the processor.
    """
    options = {"pipeline_class": link_only.LinkOnlyCompiler} | dispatcher.targetoptions | options
    fragment = numba.jit(**options)
    lowered = fragment(dispatcher.py_func)
    simplify = link_only._Library._optimize_functions
    link_only._Library._optimize_functions = lambda self, module: None
    try:
        lowered.compile(signature)
    finally:
        link_only._Library._optimize_functions = simplify
    return lowered.overloads[signature]


def _as_lowered_for(target, module):
    """A copy of the module, in which loops ask for several vectors only if they would there."""
    if target.bits <= link_only._INTERLEAVED_BITS:
        return module.clone()
    text = re.sub(r"llvm\.loop\.(interleave\.count|unroll\.disable)", "not.asked.for", str(module))
    return llvm.parse_assembly(text)


def compile_for(target, module):
    """The optimised module and its assembly, with LLVM's comments on loops and spills."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, jit=True,
        reloc="default" if target.is_arm else "static",
        codemodel="default" if target.is_arm else "jitdefault",
    )  # fmt: skip
    machine.set_asm_verbosity(True)
    codegen = copy.copy(cpu_target.target_context.codegen())
    codegen._tm, codegen._data_layout = machine, str(machine.target_data)
    library = link_only.KernelLibrary(codegen, "kernel")
    library._final_module = module = _as_lowered_for(target, module)
    module.triple = target.triple
    library._optimize_functions(module)
    library._optimize_final_module()
    return module, machine.emit_assembly(module)


# --- loops, in the optimised module --------------------------------------------------------------

_PRODUCT = re.compile(
    r" = (tail )?(f(mul|div)|call)\b[^@(]* (double|float) (@llvm\.(fma|fmuladd|sqrt)|%|0x|-?\d)"
)
_PACKED = re.compile(r"<\d+ x (double|float|i\d+)>")
# A loop of fewer is no hot one: LLVM unrolls those of one product.
_MANY = 4


def scalar_loops(module):
    """The first blocks of innermost loops with many products of single numbers.

    A loop that was vectorised leaves one for the last few elements, which is no finding: LLVM marks
    both, and names the parts into which it unrolls that one after it.
    """
    text = str(module)
    marks = set(re.findall(r'(?m)^(!\d+) = .*"llvm\.loop\.isvectorized"', text))
    vectorised = {
        loop
        for loop, operands in re.findall(r"(?m)^(!\d+) = distinct !\{(.*)\}", text)
        if marks & set(operands.split(", "))
    }
    found = []
    for function in re.findall(r"(?ms)^define .*?^}", text):
        marked, scalar = set(), set()
        for first, lines in innermost_loops(function).items():
            source = re.sub(r"\.(prol|epil)$", "", first)
            if vectorised & set(re.findall(r"!llvm\.loop (!\d+)", lines)):
                marked.add(source)
            elif len(_PRODUCT.findall(lines)) >= _MANY and not _PACKED.search(lines):
                scalar.add(source)
        found += scalar - marked
    return sorted(found)


def innermost_loops(function):
    """The text of each innermost loop of a function, by the name of its first block."""
    # The first block may have no label.
    head, *rest = re.split(r'(?m)^"?([\w.$-]+)"?:.*$', function)
    blocks = dict(zip(["define", *rest[::2]], [head, *rest[1::2]], strict=True))
    graph = CFGraph()
    for name in blocks:
        graph.add_node(name)
    if rest and "label" not in head:
        graph.add_edge("define", rest[0])
    for name, text in blocks.items():
        for successor in re.findall(r'label %"?([\w.$-]+)"?', text):
            graph.add_edge(name, successor)
    graph.set_entry_point("define")
    graph.process()
    loops = graph.loops()
    return {
        first: "".join(blocks[name] for name in loop.body)
        for first, loop in loops.items()
        if not any(other in loop.body for other in loops if other != first)
    }


# --- instructions, in the assembly ----------------------------------------------------------------

# The names of AVX stand for those of other instruction sets.
_OF_NEON = {
    "fmla": "vfmadd231", "fmls": "vfnmadd231", "fmul": "vmul", "fadd": "vadd", "fsub": "vsub",
    "fdiv": "vdiv", "fsqrt": "vsqrt", "fcmgt": "vcmplt", "fcmge": "vcmple", "fmaxnm": "vmax",
    "fmax": "vmax", "fcmeq": "vcmpeq", "umull": "vpmuludq", "umull2": "vpmuludq",
    "umlal": "vpmuludq", "eor": "vpxor", "eor3": "vpternlogq", "cmgt": "vpcmpgt", "ushr": "vpsrl",
    "usra": "vpsrl", "ushl": "vpsrlv", "shl": "vpsll", "sli": "vpsll", "add": "vpadd",
    "sub": "vpsub", "ucvtf": "vcvtudq2", "scvtf": "vcvtdq2", "fcvtl": "vcvtps2pd",
    "fcvtl2": "vcvtps2pd", "fcvtn": "vcvtpd2ps", "fcvtn2": "vcvtpd2ps",
}  # fmt: skip
_FLOATS, _INTEGERS = {"2d": "pd", "4s": "ps"}, {"2d": "q", "4s": "d"}


def _of_neon(line):
    """The name in AVX of a NEON instruction on whole vectors."""
    found = re.match(r"(\w+)\s+v\d+\.(2d|4s|16b)", line)
    if not found:
        return ()
    name, kind = found.groups()
    known = _OF_NEON.get(name, name)
    if known.startswith("vpmuludq") or name.startswith(("fcvtl", "fcvtn")):
        return (known,)
    suffixes = _FLOATS if name.startswith("f") or "cvtf" in name else _INTEGERS
    return (known + suffixes.get(kind, ""),)


def _of_sse(name):
    """Names in AVX of an SSE instruction; without FMA, a product stands for a multiply-add."""
    if name in ("mulpd", "mulps"):
        return (f"v{name}", f"vfmadd213{name[-2:]}")
    # There are no comparisons of 64-bit integers.
    return ("vpcmpgtd", "vpcmpgtq") if name == "pcmpgtd" else (f"v{name}",)


def _names(target, line):
    if target.is_arm:
        return _of_neon(line)
    name = line.split()[0]
    register = "%xmm" if target.bits == 128 else "%[yz]mm"
    if not re.search(register, line) or re.search(r"[^u]s[sd]$", name):
        return ()
    return _of_sse(name) if target.bits == 128 else (name,)


def instructions(target, assembly):
    """What a kernel's machine code consists of.

    ``packed`` counts instructions on vectors, by their names in AVX; ``wide`` those on the widest;
    ``spills`` those that keep a vector on the stack, or fetch it, in an innermost loop; ``called``
    are the functions that are called.
    """
    packed, called, wide, spills = collections.Counter(), set(), 0, 0
    widest = {512: "%zmm", 256: "%ymm", 128: "%xmm"}[target.bits]
    inner, block, header = set(), None, None
    for line in assembly.splitlines():
        if label := re.match(r"\.?L?(BB\d+_\d+):", line):
            block = header = label[1]
        if "This Inner Loop Header" in line:
            inner.add(block)
        elif found := re.search(r"in Loop: Header=(BB\d+_\d+)", line):
            header = found[1]
        code = line.strip()
        if not re.match(r"[a-z]", code):
            continue
        names = _names(target, code)
        packed.update(names)
        wide += bool(names) and (target.is_arm or widest in code)
        if header in inner and re.search(r"\b(16|32|64)-byte (Folded )?(Spill|Reload)", code):
            spills += 1
        name, *operands = code.split()
        if name in ("callq", "jmp", "movabsq", "bl", "b", "blr") or name.startswith("mov"):
            called.update(re.findall(r"[A-Za-z_]\w*", operands[0]) if operands else ())
    return {"packed": packed, "wide": wide, "spills": spills, "called": sorted(called)}
