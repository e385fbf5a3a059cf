"""CPU drivers of gradients."""

from __future__ import annotations

from ..draws.blocks import LANES, make_workspace, row_of
from ..draws.slopes import make_slope_room, slope_block
from ..jit.compile import block
from ..jit.threads import stopped
from ..math.copies import fill, load_rows, store_rows


@block
def most_components(prior, likelihood):
    """The largest number of components of two terms."""
    return max(prior.density.log_const.shape[1], likelihood.density.log_const.shape[1])


@block
def joint_slopes(part, parts, prior, likelihood, centre, x, values, slopes, counter):
    """log p(x, z) of member i at x[k, i], and its gradient there.

    The terms are those of the frame v = z - centre.
    """
    n_draws, members, dim = x.shape
    n_blocks = (n_draws + LANES - 1) // LANES
    items = members * n_blocks
    work = make_workspace(dim, centre, counter)
    room = make_slope_room(dim, most_components(prior, likelihood))
    for item in range(part * items // parts, (part + 1) * items // parts):
        if stopped(counter):
            break
        i = item // n_blocks
        first = (item % n_blocks) * LANES
        n = min(LANES, n_draws - first)
        load_rows(x[first : first + n, i], centre[row_of(i, centre.shape[0])], n, work.v)
        for d in range(dim):
            fill(room.slopes[d], n, 0.0)
        slope_block(prior, i, first, work.v, dim, work, room, n, work.log_prior, room.slopes)
        slope_block(
            likelihood, i, first, work.v, dim, work, room, n, work.log_likelihood, room.slopes
        )
        store_rows(room.slopes, n, dim, slopes[first : first + n, i])
        for k in range(n):
            values[first + k, i] = work.log_likelihood[k] + work.log_prior[k]
