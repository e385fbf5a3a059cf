"""Log densities of a block of draws, and their log weights."""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower, by_precision, by_target, scalar
from ..jit.sharing import stopped
from ..math.copies import copy, fill
from ..math.diagonal import diagonal_terms
from ..math.lane_sums import add_shares, close_sum, raise_top, rescale
from ..math.scalar import exp_normal, log_positive
from ..math.triangular import square_norms
from ..vectors.calls import call_block
from .blocks import CALLED, ELLIPTICAL, GROUP, SUPPLIED, TILE, DeviceCall, padded, row_of
from .far import any_zero, has_zero, mend_far
from .radial import GAUSSIAN, STUDENT_T, log_radial

_ZERO, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)


@borrower
def square_norm_identity(v, rows, n, out):
    """out = |v|^2; ``rows`` is a multiple of `TILE`."""
    zero = out.dtype.type(0.0)
    for d in range(0, rows, TILE):
        for k in range(n):
            before = zero if d == 0 else out[k]
            v0, v1, v2, v3 = v[d, k], v[d + 1, k], v[d + 2, k], v[d + 3, k]
            out[k] = (((before + v0 * v0) + v1 * v1) + v2 * v2) + v3 * v3


@borrower(interleave=4)
def square_norm_diagonal(factor, target, v, n, out):
    """out = |factor * v - target|^2."""
    zero = out.dtype.type(0.0)
    for d in range(0, target.shape[0], TILE):
        f0, f1, f2, f3 = factor[d], factor[d + 1], factor[d + 2], factor[d + 3]
        t0, t1, t2, t3 = target[d], target[d + 1], target[d + 2], target[d + 3]
        for k in range(n):
            before = zero if d == 0 else out[k]
            a0 = f0 * v[d, k] - t0
            a1 = f1 * v[d + 1, k] - t1
            a2 = f2 * v[d + 2, k] - t2
            a3 = f3 * v[d + 3, k] - t3
            out[k] = (((before + a0 * a0) + a1 * a1) + a2 * a2) + a3 * a3


@borrower
def add_tile(factor, start, j, d, v, n, acc):
    """acc[r] += factor[j + r, d:d + 4] v[d:d + 4]; at d = 0, acc begins with start."""
    s0, s1, s2, s3 = start
    row0, row1, row2, row3 = factor[j], factor[j + _ONE], factor[j + _TWO], factor[j + _THREE]
    f00, f01, f02, f03 = row0[d], row0[d + _ONE], row0[d + _TWO], row0[d + _THREE]
    f10, f11, f12, f13 = row1[d], row1[d + _ONE], row1[d + _TWO], row1[d + _THREE]
    f20, f21, f22, f23 = row2[d], row2[d + _ONE], row2[d + _TWO], row2[d + _THREE]
    f30, f31, f32, f33 = row3[d], row3[d + _ONE], row3[d + _TWO], row3[d + _THREE]
    for k in range(n):
        v0, v1, v2, v3 = v[d, k], v[d + _ONE, k], v[d + _TWO, k], v[d + _THREE, k]
        a0 = s0 if d == _ZERO else acc[0, k]
        a1 = s1 if d == _ZERO else acc[1, k]
        a2 = s2 if d == _ZERO else acc[2, k]
        a3 = s3 if d == _ZERO else acc[3, k]
        acc[0, k] = (((a0 + f00 * v0) + f01 * v1) + f02 * v2) + f03 * v3
        acc[1, k] = (((a1 + f10 * v0) + f11 * v1) + f12 * v2) + f13 * v3
        acc[2, k] = (((a2 + f20 * v0) + f21 * v1) + f22 * v2) + f23 * v3
        acc[3, k] = (((a3 + f30 * v0) + f31 * v1) + f32 * v2) + f33 * v3


@borrower
def _close_tile(factor, target, j, v, n, acc, out):
    """Add the tile on the diagonal to acc, and the four squares to out."""
    zero = out.dtype.type(0.0)
    t0, t1, t2, t3 = target[j], target[j + _ONE], target[j + _TWO], target[j + _THREE]
    f00 = factor[j, j]
    f10, f11 = factor[j + _ONE, j], factor[j + _ONE, j + _ONE]
    f20, f21, f22 = factor[j + _TWO, j], factor[j + _TWO, j + _ONE], factor[j + _TWO, j + _TWO]
    row3 = factor[j + _THREE]
    f30, f31, f32, f33 = row3[j], row3[j + _ONE], row3[j + _TWO], row3[j + _THREE]
    for k in range(n):
        v0, v1, v2, v3 = v[j, k], v[j + _ONE, k], v[j + _TWO, k], v[j + _THREE, k]
        a0 = -t0 if j == _ZERO else acc[0, k]
        a1 = -t1 if j == _ZERO else acc[1, k]
        a2 = -t2 if j == _ZERO else acc[2, k]
        a3 = -t3 if j == _ZERO else acc[3, k]
        before = zero if j == _ZERO else out[k]
        a0 = a0 + f00 * v0
        a1 = a1 + f10 * v0 + f11 * v1
        a2 = ((a2 + f20 * v0) + f21 * v1) + f22 * v2
        a3 = (((a3 + f30 * v0) + f31 * v1) + f32 * v2) + f33 * v3
        out[k] = (((before + a0 * a0) + a1 * a1) + a2 * a2) + a3 * a3


@scalar
def _minus(target, j):
    """Minus four entries of a target."""
    return -target[j], -target[j + _ONE], -target[j + _TWO], -target[j + _THREE]


@borrower
def _norm_in_registers(factor, target, v, n, acc, out):
    square_norms(factor, target, v, n, acc, 0.0, 1.0, out)


@borrower(on_host=_norm_in_registers)
def square_norm_triangular(factor, target, v, n, acc, out):
    """out = |factor v - target|^2 for a lower triangular factor.

    A tile of 4 x 4 has 16 products for at most 8 reads and 4 writes.
    """
    # With these loop bounds, a device's compiler unrolls the loops for few coordinates. Indices are
    # unsigned: a signed one is tested for negative values, which count from the end.
    for j in range(0, target.shape[0], TILE):
        for d in range(0, target.shape[0], TILE):
            if d < j:
                start = _minus(target, np.uint64(j))
                add_tile(factor, start, np.uint64(j), np.uint64(d), v, n, acc)
            elif d == j:
                _close_tile(factor, target, np.uint64(j), v, n, acc, out)


@borrower
def move(v, shift, rows, n, out):
    """out[:rows] = v - shift."""
    for d in range(rows):
        here = shift[d]
        for k in range(n):
            out[d, k] = v[d, k] - here


@borrower
def log_component(density, i, c, base, v, dim, n, mend, moved, acc, square, out):
    """out = log_const_c - base + g_c(square), and square = |F_c (v - shift_c) - t_c|^2.

    If ``mend``, also where the square overflows; a Student-t is always mended.
    """
    rows = density.factor.shape[2]
    place = v
    if density.shift.shape[1] > 0:
        move(v, density.shift[row_of(i, density.shift.shape[0]), c], padded(dim), n, moved)
        place = moved
    if rows == 0:
        square_norm_identity(place, padded(dim), n, square)
    else:
        factor = density.factor[row_of(i, density.factor.shape[0]), c]
        target = density.target[row_of(i, density.target.shape[0]), c]
        if rows == 1:
            square_norm_diagonal(factor[0], target, place, n, square)
        else:
            square_norm_triangular(factor, target, place, n, acc, square)
    log_radial(density, i, c, base, square, dim, n, out)
    if (mend or density.radial == STUDENT_T) and has_zero(out, n):
        mend_far(density, i, c, base, v, dim, n, out)


@borrower
def set_terms(density, i, first, count, base, v, dim, n, mend, moved, acc, square, counter, terms):
    """terms[c] = what `log_component` finds of component first + c, for c < count.

    Whether all are done: not where the launch is stopped.
    """
    rows = density.factor.shape[2]
    log_const = density.log_const[row_of(i, density.log_const.shape[0])]
    factor = density.factor[row_of(i, density.factor.shape[0])]
    target = density.target[row_of(i, density.target.shape[0])]
    if rows == 0 or density.shift.shape[1] > 0 or density.radial != GAUSSIAN:
        for c in range(count):
            if stopped(counter):
                return False
            log_component(
                density, i, first + c, base, v, dim, n, mend, moved, acc, square, terms[c]
            )
        return True
    if rows == 1:
        if stopped(counter):
            return False
        diagonal_terms(log_const, base, factor, target, first, count, v, n, terms)
    else:
        for c in range(count):
            if stopped(counter):
                return False
            const = log_const[first + c] - base
            square_norms(factor[first + c], target[first + c], v, n, acc, const, -0.5, terms[c])
    if mend:
        for c in range(count):
            if has_zero(terms[c], n):
                mend_far(density, i, first + c, base, v, dim, n, terms[c])
    return True


@scalar
def _single_base(like, log_const):
    base = log_const[0]
    for c in range(1, log_const.shape[0]):
        base = max(base, log_const[c])
    return base


@by_precision(_single_base)
def _base(like, log_const):
    """A base to subtract from the constants of components: 0 for float64, the largest for float32.

    float32 would round away a large constant that the components share.
    """
    return 0.0


@scalar
def add_term(top, total, term, one):
    """Add one term to a running maximum, and to the sum of exponentials relative to it.

    ``one`` is 1 in their precision.
    """
    zero = one - one
    gap = term - top
    e = exp_normal(-abs(gap))
    # If both are -inf (components of weight 0), the gap is NaN, and nothing is added.
    e = e if gap == gap else zero
    raised = gap > zero
    scaled = total if raised else one
    unscaled = one if raised else total
    return (term if raised else top), scaled * e + unscaled


@borrower
def _sum_in_groups(density, i, v, dim, work, n, mend, out):
    """As `_sum_components`, with the terms of some components in the cache."""
    moved, acc, square = work.packed, work.accumulator, work.square
    top, total, before = work.top, work.total, work.norm
    components = density.log_const.shape[1]
    if components == 1:
        log_component(density, i, 0, 0.0, v, dim, n, mend, moved, acc, square, out)
        return
    base = _base(v, density.log_const[row_of(i, density.log_const.shape[0])])
    fill(top, n, -np.inf)
    fill(total, n, 0.0)
    for first in range(0, components, GROUP):
        count = min(GROUP, components - first)
        if not set_terms(
            density, i, first, count, base, v, dim, n, mend, moved, acc, square, work.counter,
            work.terms,
        ):  # fmt: skip
            return
        copy(top, n, before)
        if first == 0:
            copy(work.terms[0], n, top)
        for c in range(0, count, 2):
            raise_top(top, work.terms[c], work.terms[min(c + 1, count - 1)], n)
        if first > 0:
            rescale(total, before, top, n)
        for c in range(count):
            add_shares(total, work.terms[c], top, n)
    close_sum(base, top, total, n, out)


@borrower(on_host=_sum_in_groups)
def _sum_components(density, i, v, dim, work, n, mend, out):
    """out = the log density of data point i at v[:dim, :n]; undone where the launch is stopped."""
    moved, acc, square = work.packed, work.accumulator, work.square
    term, top, total = work.norm, work.top, work.total
    components = density.log_const.shape[1]
    if components == 1:
        log_component(density, i, 0, 0.0, v, dim, n, mend, moved, acc, square, out)
        return
    base = _base(v, density.log_const[row_of(i, density.log_const.shape[0])])
    one = v.dtype.type(1.0)
    # top is the running maximum, total the sum of exponentials relative to it. One call for all
    # components: where calls are inlined, as on a device, a second one takes registers.
    for c in range(components):
        if c > 0 and stopped(work.counter):
            break
        log_component(density, i, c, base, v, dim, n, mend, moved, acc, square, term)
        if c == 0:
            for k in range(n):
                top[k], total[k] = term[k], one
            continue
        for k in range(n):
            top[k], total[k] = add_term(top[k], total[k], term[k], one)
    for k in range(n):
        out[k] = (base + top[k]) + log_positive(total[k])


@borrower
def elliptical_block(density, i, v, dim, work, n, out):
    """out = the log density of data point i at v[:dim, :n].

    Where a Gaussian comes out as 0, all of its squares may have overflowed: it is summed again.
    """
    _sum_components(density, i, v, dim, work, n, False, out)
    if density.radial == GAUSSIAN and any_zero(out, n):
        _sum_components(density, i, v, dim, work, n, True, out)


@borrower
def supplied_block(values, first, n, out):
    """out = the values of draws first, first + 1, ...; NaN for a draw without a value."""
    fill(out, n, np.nan)
    for k in range(max(0, -first), min(n, values.shape[0] - first)):
        out[k] = values[first + k]


@borrower
def given_block(term, i, first, n, out):
    """out = a log density that does not depend on where the draws are, from draw ``first`` on."""
    if term.kind == SUPPLIED:
        values = term.values[row_of(i, term.values.shape[0])]
        supplied_block(values, first - term.first_draw, n, out)
    else:
        fill(out, n, 0.0)


@borrower
def place_block(density, i, v, n, z):
    """z = F v - t, for the one component of a density."""
    factor = density.factor[row_of(i, density.factor.shape[0]), 0]
    target = density.target[row_of(i, density.target.shape[0]), 0]
    for d in range(0, target.shape[0], TILE):
        if factor.shape[0] > 1:
            for j in range(0, d + TILE, TILE):
                start = _minus(target, np.uint64(d))
                add_tile(factor, start, np.uint64(d), np.uint64(j), v, n, z[d : d + TILE])
            continue
        for r in range(d, d + TILE):
            t = target[r]
            if factor.shape[0] == 0:
                for k in range(n):
                    z[r, k] = v[r, k] - t
            else:
                f = factor[0, r]
                for k in range(n):
                    z[r, k] = f * v[r, k] - t


@scalar
def _cannot_call(z, call, row, n, out):
    return 1


@scalar
def _call_on_host(z, call, row, n, out):
    return call_block(call.function, call.arguments, z, row, n, out)


def _on_device(z, call, row, n, out):
    evaluate = getattr(call.instance_class, "evaluate", None)
    if evaluate is None:
        return lambda z, call, row, n, out: 1
    return lambda z, call, row, n, out: evaluate(z, call, row, out)


def _on_host(z, call, row, n, out):
    return lambda z, call, row, n, out: _call_on_host(z, call, row, n, out)


@by_target(_on_device, _on_host)
def _call_of_target(z, call, row, n, out):
    if isinstance(call, DeviceCall):  # in the simulator
        return call.evaluate(z, call, row, out)
    return _call_on_host(z, call, row, n, out)


@by_precision(_cannot_call)
def _call(z, call, row, n, out):
    """Call a user's function for z[:, :n]; not 0 if it raised an error."""
    return _call_of_target(z, call, row, n, out)


@borrower
def called_block(term, i, v, dim, work, n, out):
    """out = what a user's function makes of the draws; NaN from the first on that it refuses."""
    place_block(term.density, i, v, n, work.packed)
    z, row = work.packed[:dim], np.int64(term.values[row_of(i, term.values.shape[0]), 0])
    if _call(z, term.call, row, n, out) == 0:
        return
    passed, failed = 0, n
    while failed - passed > 1:
        middle = (passed + failed) // 2
        if _call(z, term.call, row, middle, out) == 0:
            passed = middle
        else:
            failed = middle
    for k in range(passed, n):
        out[k] = np.nan


@borrower
def other_block(term, i, first, v, dim, work, n, out):
    """out = a log density of a kind that is not elliptical."""
    if term.kind == CALLED:
        called_block(term, i, v, dim, work, n, out)
    else:
        given_block(term, i, first, n, out)


@borrower
def log_weights(log_likelihood, log_prior, log_q, n, out):
    """out = log p(x | z) + (log p(z) - log q(z))."""
    for k in range(n):
        out[k] = log_likelihood[k] + (log_prior[k] - log_q[k])


@borrower
def weigh_block(plan, i, first, work, n):
    """Fill the three log densities of the block, and its log weights; the first draw is ``first``.

    The kinds are looked at here, once a block. One more call here cost about 10 % in
    measurements.
    """
    v, dim = work.v, plan.dim
    if plan.q.kind == ELLIPTICAL:
        elliptical_block(plan.q.density, i, v, dim, work, n, work.log_q)
    else:
        given_block(plan.q, i, first, n, work.log_q)
    if plan.prior.kind == ELLIPTICAL:
        elliptical_block(plan.prior.density, i, v, dim, work, n, work.log_prior)
    else:
        other_block(plan.prior, i, first, v, dim, work, n, work.log_prior)
    if plan.likelihood.kind == ELLIPTICAL:
        elliptical_block(plan.likelihood.density, i, v, dim, work, n, work.log_likelihood)
    else:
        other_block(plan.likelihood, i, first, v, dim, work, n, work.log_likelihood)
    log_weights(work.log_likelihood, work.log_prior, work.log_q, n, work.log_weight)
