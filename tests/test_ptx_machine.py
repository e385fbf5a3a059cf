"""The machine that runs PTX: results of its instructions, and the errors that it reports."""

from fractions import Fraction

import numpy as np
import pytest
from ptx_machine.machine import Machine
from ptx_machine.memory import Memory, MemoryFaultError, RaceError
from ptx_machine.operations import operation
from ptx_machine.program import UnknownPTXError, parse
from ptx_machine.threads import BarrierError

RNG = np.random.default_rng(0)
WORDS = RNG.integers(0, 2**64, 50, np.uint64)
SIGNED = WORDS.view(np.int64)
SMALL = RNG.integers(1, 100, 50) * RNG.choice([-1, 1], 50)
FLOATS = RNG.normal(size=50)


def compute(opcode, *operands):
    """The result of an instruction for arrays."""
    found = operation(tuple(opcode.split(".")))
    assert [array.dtype for array in operands] == found.sources
    result = found.function(*operands)
    assert result.dtype == found.result
    return result


def integers(function, *operands):
    """The same result for Python's integers."""
    return [function(*map(int, each)) for each in zip(*operands, strict=True)]


def towards_zero(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def test_division_of_integers():
    quotient = integers(towards_zero, SIGNED, SMALL)
    np.testing.assert_array_equal(compute("div.s64", SIGNED, SMALL), quotient)
    rest = integers(lambda a, b: a - towards_zero(a, b) * b, SIGNED, SMALL)
    np.testing.assert_array_equal(compute("rem.s64", SIGNED, SMALL), rest)


def test_products():
    other = WORDS[::-1].copy()
    high = integers(lambda a, b: a * b >> 64, WORDS, other)
    np.testing.assert_array_equal(compute("mul.hi.u64", WORDS, other), np.array(high, np.uint64))
    low = WORDS.astype(np.uint32)
    wide = integers(lambda a, b: a * b, low, low[::-1])
    np.testing.assert_array_equal(
        compute("mul.wide.u32", low, low[::-1].copy()), np.array(wide, np.uint64)
    )
    np.testing.assert_array_equal(compute("mul.lo.s64", SIGNED, SMALL), SIGNED * SMALL)


def test_upper_halves_of_signed_products():
    other = SIGNED[::-1].copy()
    high = integers(lambda a, b: a * b >> 64, SIGNED, other)
    np.testing.assert_array_equal(compute("mul.hi.s64", SIGNED, other), high)


def test_floats_rounded_to_integers_and_signs():
    x = 10.0 * FLOATS
    for opcode, function in {"rmi": np.floor, "rpi": np.ceil, "rzi": np.trunc}.items():
        np.testing.assert_array_equal(compute(f"cvt.{opcode}.f64.f64", x), function(x))
    # The sign is that of the first operand.
    np.testing.assert_array_equal(compute("copysign.f64", x, x[::-1]), np.copysign(x[::-1], x))


def test_rough_inverses_have_the_upper_half_of_the_bits():
    found = compute("rcp.approx.ftz.f64", FLOATS)
    np.testing.assert_allclose(found * FLOATS, 1.0, rtol=2.0**-20)
    assert not np.any(found.view(np.uint64) & np.uint64(2**32 - 1))
    edges = np.array([0.0, -0.0, np.inf, 1e-310])
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(
            compute("rcp.approx.ftz.f64", edges), [np.inf, -np.inf, 0.0, np.inf]
        )


def test_a_fused_product_is_rounded_once():
    a, b = FLOATS, FLOATS[::-1].copy()
    # The rounding error of the product is left.
    exact = [float(Fraction(x) * Fraction(y) - Fraction(x * y)) for x, y in zip(a, b, strict=True)]
    assert np.any(exact)
    np.testing.assert_array_equal(compute("fma.rn.f64", a, b, -(a * b)), exact)
    # In float64, it would be rounded to 1 first.
    a, b, c = (np.full(1, x, np.float32) for x in (97.0, 172961 * 2.0**-24, 2.0**-60))
    assert compute("fma.rn.f32", a, b, c) == 1.0 + 2.0**-23


def test_bits():
    places, lengths = np.full(50, 13, np.uint32), np.full(50, 20, np.uint32)
    mask = (2**20 - 1) << 13
    expected = integers(lambda a, b: b & ~mask | a << 13 & mask, WORDS, WORDS[::-1])
    np.testing.assert_array_equal(
        compute("bfi.b64", WORDS, WORDS[::-1].copy(), places, lengths),
        np.array(expected, np.uint64),
    )
    powers = np.array([0, 1, 2, 3, 2**32, 2**63, 2**64 - 1], np.uint64)
    np.testing.assert_array_equal(compute("clz.b64", powers), [64, 63, 62, 62, 31, 0, 0])
    np.testing.assert_array_equal(compute("shr.s64", SIGNED, places), SIGNED >> 13)
    # Shifts by all bits or more give 0.
    np.testing.assert_array_equal(compute("shl.b64", WORDS, places + np.uint32(51)), 0)


def test_comparisons_of_nan():
    a, b = np.array([1.0, np.nan, np.nan]), np.array([2.0, 2.0, np.nan])
    for opcode, expected in {
        "setp.lt.f64": [True, False, False],
        "setp.ne.f64": [True, False, False],
        "setp.gtu.f64": [False, True, True],
        "setp.num.f64": [True, False, False],
        "setp.nan.f64": [False, True, True],
    }.items():
        np.testing.assert_array_equal(compute(opcode, a, b), expected, err_msg=opcode)
    # Of a number and NaN, the number.
    np.testing.assert_array_equal(compute("max.f64", a, b), [2.0, 2.0, np.nan])


def test_conversions():
    x = np.array([2.7, -2.7, np.nan, 1e300, -1e300])
    ends = np.iinfo(np.int64)
    np.testing.assert_array_equal(
        compute("cvt.rzi.s64.f64", x), [2, -2, ends.min, ends.max, ends.min]
    )
    np.testing.assert_array_equal(compute("cvt.rni.s64.f64", x)[:2], [3, -3])
    np.testing.assert_array_equal(compute("cvt.rzi.s32.f32", x[:3].astype(np.float32)), [2, -2, 0])
    np.testing.assert_array_equal(compute("cvt.u32.u64", WORDS), WORDS.astype(np.uint32))
    np.testing.assert_array_equal(
        compute("cvt.s64.s32", np.array([-5], np.int32)), np.array([-5], np.int64)
    )


def test_what_is_not_normal_is_flushed():
    x = np.array([-126.0, -126.5, -np.inf], np.float32)
    np.testing.assert_array_equal(compute("ex2.approx.ftz.f32", x), [2.0**-126, 0.0, 0.0])


@pytest.mark.parametrize(
    "opcode", ["add.sat.s32", "div.approx.f32", "mul.hi.s32", "sin.approx.f32", "cvt.sat.f32.f64"]
)
def test_other_instructions_are_refused(opcode):
    with pytest.raises(UnknownPTXError):
        operation(tuple(opcode.split(".")))


# --- programs -----------------------------------------------------------------------------------


def run(body, *arrays, threads=64, blocks=1, functions=""):
    """Run a kernel with arrays at the addresses %rd0, %rd1, ..., and return the first array.

    %r0 is the thread and %r1 the block. %rd8 is the address of the thread's number of 8 bytes in
    the first array, %rd9 that in the shared array ``near``.
    """
    parameters = ", ".join(f".param .u64 p{k}" for k in range(len(arrays)))
    loads = " ".join(f"ld.param.u64 %rd{k}, [p{k}];" for k in range(len(arrays)))
    program = parse(f"""
        .version 9.0
        {functions}
        .visible .shared .align 8 .b8 near[{8 * threads}];
        .visible .entry kernel({parameters})
        {{
            .local .align 8 .b8 own[16];
            .pragma "nounroll"; .pragma "used_bytes_mask 4095";
            .reg .pred %p<9>; .reg .b32 %r<20>; .reg .b64 %rd<40>; .reg .f64 %fd<20>;
            {loads}
            mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x;
            mul.wide.u32 %rd9, %r0, 8; add.s64 %rd8, %rd0, %rd9;
            mov.u64 %rd10, near; add.s64 %rd9, %rd10, %rd9;
            {body}
            ret;
        }}""")
    memory = Memory(2**20)
    there = [memory.put(array) for array in arrays]
    Machine(program, threads, memory).launch(blocks, [array.ctypes.data for array in there])
    return np.array(there[0])


ZEROS = np.zeros(64, np.int64)


def test_threads_part_and_meet():
    # Odd threads sum the numbers below their own; even threads return 7.
    body = """
        and.b32 %r2, %r0, 1; setp.eq.s32 %p0, %r2, 0; mov.u64 %rd11, 7; @%p0 bra $done;
        mov.u64 %rd11, 0; mov.u32 %r3, 0;
        $again: cvt.u64.u32 %rd12, %r3; add.s64 %rd11, %rd11, %rd12; add.s32 %r3, %r3, 1;
        setp.lt.u32 %p1, %r3, %r0; @%p1 bra $again;
        $done: bar.sync 0; st.global.u64 [%rd8], %rd11;"""
    expected = [k * (k - 1) // 2 if k % 2 else 7 for k in range(64)]
    np.testing.assert_array_equal(run(body, ZEROS), expected)


def test_functions_are_called():
    functions = """
        .func (.param .b64 result) triple(.param .b64 given)
        { .reg .b64 %rd<9>; ld.param.u64 %rd0, [given]; add.s64 %rd1, %rd0, %rd0;
          add.s64 %rd1, %rd1, %rd0; st.param.b64 [result], %rd1; ret; }"""
    body = """
        cvt.u64.u32 %rd11, %r0;
        { .param .b64 param0; st.param.b64 [param0], %rd11; .param .b64 retval0;
          call.uni (retval0), triple, (param0); ld.param.b64 %rd12, [retval0]; }
        { .param .b64 param0; st.param.b64 [param0], %rd12; .param .b64 retval0;
          call.uni (retval0), triple, (param0); ld.param.b64 %rd12, [retval0]; }
        st.u64 [%rd8], %rd12;"""
    np.testing.assert_array_equal(run(body, ZEROS, functions=functions), 9 * np.arange(64))


def test_local_memory_vectors_and_guards():
    body = """
        mov.u64 %rd11, own; cvt.u64.u32 %rd12, %r0; st.local.v2.u64 [%rd11], {%rd12, 5};
        ld.local.u64 %rd13, [%rd11+8]; setp.gt.u32 %p0, %r0, 9; @!%p0 mov.u64 %rd13, 1;
        mov.b64 {%r4, %r5}, %rd13; mov.b64 %rd14, {%r5, %r4}; st.u64 [%rd8], %rd14;"""
    expected = np.where(np.arange(64) > 9, 5, 1) << 32
    np.testing.assert_array_equal(run(body, ZEROS), expected)


def test_atomic_sums():
    body = """
        atom.global.add.u64 %rd11, [%rd0], 2; bar.sync 0; setp.ne.s32 %p0, %r0, 5;
        @%p0 bra $end; ld.global.u64 %rd12, [%rd0]; st.global.u64 [%rd8], %rd12; $end: """
    out = run(body, ZEROS)
    assert out[0] == out[5] == 128


def test_what_was_never_written_is_nan():
    assert np.isnan(run("ld.shared.f64 %fd0, [%rd9]; st.f64 [%rd8], %fd0;", np.zeros(64))).all()


def test_exchanges_of_a_warp():
    body = """
        shfl.sync.bfly.b32 %r2|%p0, %r0, 5, 31, -1; cvt.u64.u32 %rd11, %r2;
        st.u64 [%rd8], %rd11;"""
    np.testing.assert_array_equal(run(body, ZEROS), np.arange(64) ^ 5)


def test_arrays_of_constants():
    items = ", ".join(map(str, np.array([7, 2**40], np.uint64).view(np.uint8)))
    table = f".global .align 16 .b8 table[16] = {{{items}}};"
    body = """
        mov.u64 %rd11, table; ld.global.nc.v2.u64 {%rd12, %rd13}, [%rd11];
        add.s64 %rd12, %rd12, %rd13; st.u64 [%rd8], %rd12;"""
    np.testing.assert_array_equal(run(body, ZEROS, functions=table), np.full(64, 2**40 + 7))


def test_products_of_a_warp():
    """The manual gives the places of elements: section "Matrix fragments for mma.m8n8k4"."""
    a, b, c = RNG.normal(size=(8, 4)), RNG.normal(size=(4, 8)), RNG.normal(size=(8, 8))
    lane = np.arange(32)
    row, rest = lane // 4, lane % 4
    sums = np.stack([c[row, 2 * rest], c[row, 2 * rest + 1]], axis=1)
    body = """
        sub.s64 %rd11, %rd8, %rd0; add.s64 %rd12, %rd1, %rd11; add.s64 %rd13, %rd2, %rd11;
        add.s64 %rd14, %rd8, %rd11; ld.f64 %fd0, [%rd12]; ld.f64 %fd1, [%rd13];
        ld.v2.f64 {%fd2, %fd3}, [%rd14];
        mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%fd4, %fd5}, {%fd0}, {%fd1}, {%fd2, %fd3};
        st.v2.f64 [%rd14], {%fd4, %fd5};"""
    got = run(body, sums, a[row, rest], b[rest, row], threads=32)
    expected = a @ b + c
    np.testing.assert_allclose(got[:, 0], expected[row, 2 * rest], rtol=1e-14)
    np.testing.assert_allclose(got[:, 1], expected[row, 2 * rest + 1], rtol=1e-14)


# --- what goes wrong ----------------------------------------------------------------------------

# A thread writes its number to ``near``. Then it reads its neighbour's number.
NEIGHBOUR = """
    cvt.u64.u32 %rd11, %r0; st.shared.u64 [%rd9], %rd11; {barrier}
    xor.b32 %r2, %r0, {mask}; mul.wide.u32 %rd12, %r2, 8; mov.u64 %rd13, near;
    add.s64 %rd13, %rd13, %rd12; ld.shared.u64 %rd14, [%rd13]; st.u64 [%rd8], %rd14;"""


def test_reading_what_another_thread_wrote_takes_a_barrier():
    body = NEIGHBOUR.format(barrier="bar.sync 0;", mask=33)
    np.testing.assert_array_equal(run(body, ZEROS), np.arange(64) ^ 33)
    run(NEIGHBOUR.format(barrier="", mask=0), ZEROS)
    with pytest.raises(RaceError, match="thread 33 touched what thread 0"):
        run(NEIGHBOUR.format(barrier="", mask=33), ZEROS)


def test_writing_where_another_thread_read_takes_a_barrier():
    body = "ld.u64 %rd11, [%rd0]; {barrier} st.u64 [%rd8], %rd11;"
    run(body.format(barrier="bar.sync 0;"), ZEROS)
    with pytest.raises(RaceError):
        run(body.format(barrier=""), ZEROS)


@pytest.mark.parametrize("blocks", [1, 2])
def test_several_threads_may_not_write_to_one_place(blocks):
    with pytest.raises(RaceError):
        run("st.u64 [%rd0], 1;", ZEROS)
    body = "setp.ne.s32 %p0, %r0, 0; @%p0 bra $end; st.u64 [%rd0], 1; $end: "
    if blocks == 1:
        assert run(body, ZEROS)[0] == 1
    else:
        with pytest.raises(RaceError):
            run(body, ZEROS, blocks=2)


def test_sums_that_are_not_atomic():
    with pytest.raises(RaceError):
        run("atom.add.u64 %rd11, [%rd0], 1; ld.u64 %rd12, [%rd0];", ZEROS)
    first = "setp.ne.s32 %p0, %r0, 0; @!%p0 st.u64 [%rd0], 1; atom.add.u64 %rd11, [%rd0], 1;"
    with pytest.raises(RaceError):
        run(first, ZEROS)


@pytest.mark.parametrize("others", ["ld.u64 %rd11, [%rd0];", "atom.add.u64 %rd11, [%rd0], 1;"])
def test_blocks_know_no_order(others):
    # All threads of both blocks access the number; after a barrier, one of the second writes it.
    body = f"""
        {others} bar.sync 0; setp.eq.s32 %p0, %r0, 0; setp.eq.s32 %p1, %r1, 1;
        and.pred %p2, %p0, %p1; @%p2 st.u64 [%rd0], 7;"""
    run(others, ZEROS, blocks=2)
    with pytest.raises(RaceError, match="another block"):
        run(body, ZEROS, blocks=2)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("st.v2.u64 [%rd0+8], {%rd0, %rd0};", "multiple of 16"),
        ("st.global.u64 [%rd9], 1;", "no global memory"),
        ("ld.shared.u64 %rd11, [%rd8];", "no shared memory"),
        ("mov.u64 %rd11, own; ld.local.u64 %rd12, [%rd11+16];", "no memory"),
    ],
)
def test_addresses_of_another_kind(instruction, message):
    with pytest.raises(MemoryFaultError, match=message):
        run(instruction, ZEROS)


@pytest.mark.parametrize("offset", [-8, 8 * 64, 2**40, 4])
def test_addresses_where_nothing_is(offset):
    with pytest.raises(MemoryFaultError, match="multiple" if offset == 4 else "no memory"):
        run(f"setp.ne.s32 %p0, %r0, 0; @!%p0 st.u64 [%rd0+{offset}], 1;", ZEROS)


def test_barriers_that_not_all_come_to():
    with pytest.raises(BarrierError, match="63 of 64"):
        run("setp.eq.s32 %p0, %r0, 9; @%p0 bra $end; bar.sync 0; $end: ", ZEROS)
    apart = "setp.lt.s32 %p0, %r0, 9; @%p0 bra $b; bar.sync 0; bra $end; $b: bar.sync 0; $end: "
    with pytest.raises(BarrierError):
        run(apart, ZEROS)


def test_barriers_in_functions_that_threads_called_at_two_places():
    functions = ".func meet() { bar.sync 0; ret; }"
    call = "{ call.uni (), meet, (); }"
    apart = f"setp.lt.s32 %p0, %r0, 9; @%p0 bra $b; {call} bra $end; $b: {call} $end: "
    run(f"{call} {call}", ZEROS, functions=functions)
    with pytest.raises(BarrierError):
        run(apart, ZEROS, functions=functions)


def test_registers_of_another_block_are_forgotten():
    body = """
        setp.eq.s32 %p0, %r1, 0; @%p0 mov.f64 %fd1, 0d3FF0000000000000;
        @!%p0 st.f64 [%rd8], %fd1;"""
    assert np.isnan(run(body, np.zeros(64), blocks=2)).all()


def test_the_error_names_the_instruction():
    with pytest.raises(RaceError) as caught:
        run("st.u64 [%rd0], 1;", ZEROS)
    assert "st.u64 [%rd0], 1" in caught.value.__notes__[0]
