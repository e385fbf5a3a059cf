"""Parameters of one data point in the shared memory of a CUDA block; their sizes are constants.

A kernel is compiled for a `Form`. The compiler unrolls loops over constant sizes, and so keeps the
arrays of these loops in registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..draws.blocks import Density, Net, Plan, Sampler, Term, padded, row_of
from ..jit.compile import block
from .device import BLOCK_THREADS, cuda
from .forms import AffineForms, Form, NetForm, TermForm
from .views import viewer

# Most numbers of a row that is copied to shared memory.
_SHARED_ROW = 128


@block
def _load(source, i, out):
    """out[0] = source[i], for a source with two axes; all threads copy."""
    row = row_of(i, source.shape[0])
    for c in range(cuda.threadIdx.x, source.shape[1], BLOCK_THREADS):
        out[0, c] = source[row, c]


@block
def _load_vectors(source, i, out):
    row = row_of(i, source.shape[0])
    for c in range(source.shape[1]):
        for d in range(cuda.threadIdx.x, source.shape[2], BLOCK_THREADS):
            out[0, c, d] = source[row, c, d]


@block
def _load_matrices(source, i, out):
    row = row_of(i, source.shape[0])
    for c in range(source.shape[1]):
        for r in range(source.shape[2]):
            for d in range(cuda.threadIdx.x, source.shape[3], BLOCK_THREADS):
                out[0, c, r, d] = source[row, c, r, d]


def _row_loader(count: int, kind: Any) -> Any:
    """A function that copies row i of an array (N or 1, count) to shared memory.

    The size of the row is then a constant: the compiler removes loops over one component or none.
    The function returns a tuple, because numba forbids to return an array of its own alone.
    """
    if count == 0 or count > _SHARED_ROW:

        @block
        def load(source, i):
            return (source[:, :count],)

    else:

        @block
        def load(source, i):
            out = cuda.shared.array((1, count), kind)
            _load(source, i, out)
            return (out,)

    return load


def _forms_loader(components: int, rows: int, columns: int, form: Form) -> Any:
    """As `_row_loader`, for the matrices and the vectors of affine forms.

    Forms that do not fit into shared memory are read from global memory.
    """
    real = form.real
    if components == 0 or rows == 0:

        @block
        def load(matrices, vectors, i):
            return matrices[:, :, :0], vectors[:, :0]

    elif not form.fits:
        view_matrices = viewer((components, rows, columns))
        view_vectors = viewer((components, columns))

        @block
        def load(matrices, vectors, i):
            (row,) = view_matrices(matrices, row_of(i, matrices.shape[0]))
            (row_of_vectors,) = view_vectors(vectors, row_of(i, vectors.shape[0]))
            return row, row_of_vectors

    else:
        shape, vectors_shape = (1, components, rows, columns), (1, components, columns)

        @block
        def load(matrices, vectors, i):
            out = cuda.shared.array(shape, real)
            out_vectors = cuda.shared.array(vectors_shape, real)
            _load_matrices(matrices, i, out)
            _load_vectors(vectors, i, out_vectors)
            return out, out_vectors

    return load


def _shift_loader(part: AffineForms, columns: int) -> Any:
    """A function that views the shifts of data point i, where they are."""
    view = viewer((part.components, columns))

    if part.has_shift:

        @block
        def load(shift, i):
            return view(shift, row_of(i, shift.shape[0]))

    else:

        @block
        def load(shift, i):
            return (shift[:, :0],)

    return load


def _density_loader(part: AffineForms, form: Form) -> Any:
    """A function that makes the `Density` of data point i alone, in shared memory if it fits."""
    radial = part.radial
    load_forms = _forms_loader(part.components, part.rows, padded(form.dim), form)
    load_constants = _row_loader(part.components, np.float64)
    load_df = _row_loader(part.components if part.has_df else 0, form.real)
    load_shift = _shift_loader(part, padded(form.dim))

    @block
    def load(density, i):
        factor, target = load_forms(density.factor, density.target, i)
        (log_const,) = load_constants(density.log_const, i)
        (df,) = load_df(density.df, i)
        (shift,) = load_shift(density.shift, i)
        return Density(radial, factor, target, shift, log_const, df)

    return load


def _term_loader(part: TermForm, form: Form) -> Any:
    """As `_density_loader`, for a `Term`. Its kind becomes a constant."""
    kind, load_density = part.kind, _density_loader(part.density, form)

    @block
    def load(term, i):
        return Term(kind, load_density(term.density, i), term.values, term.first_draw, term.call)

    return load


def _rotation_loader(form: Form) -> Any:
    """A function that loads the rotation of data point i, with its size known."""
    rows, real = padded(form.dim), form.real
    shape = (1, rows, rows)
    if not form.rotated:

        @block
        def load(rotation, i):
            return (rotation[:, :0, :0],)

    elif not form.fits:
        view = viewer(shape[1:])

        @block
        def load(rotation, i):
            return view(rotation, row_of(i, rotation.shape[0]))

    else:

        @block
        def load(rotation, i):
            out = cuda.shared.array(shape, real)
            _load_vectors(rotation, i, out)
            return (out,)

    return load


def _net_loader(net: NetForm | None) -> Any:
    """A function that makes the `Net`, or None; its columns stay in global memory."""
    if net is None:

        @block
        def load(net):
            return None

    else:
        inverse = net.inverse

        @block
        def load(net):
            return Net(net.columns, net.log_size, inverse)

    return load


def _sampler_loader(form: Form) -> Any:
    """As `_density_loader`, for the `Sampler`."""
    full = form.net is not None and form.net.full
    load_rotation, load_net = _rotation_loader(form), _net_loader(form.net)
    part, radial = form.sampler, form.sampler.radial
    load_forms = _forms_loader(part.components, part.rows, form.dim, form)
    load_thresholds = _row_loader(part.components, np.int64)
    load_df = _row_loader(max(1, part.components) if part.has_df else 0, np.float64)

    @block
    def load(sampler, i):
        scale, location = load_forms(sampler.scale, sampler.location, i)
        (thresholds,) = load_thresholds(sampler.thresholds, i)
        (df,) = load_df(sampler.df, i)
        (rotation,) = load_rotation(sampler.rotation, i)
        net = load_net(sampler.net)
        return Sampler(radial, location, scale, thresholds, df, full, rotation, net)

    return load


def plan_loader(form: Form) -> Any:
    """A function that makes the plan of data point i, in shared memory if its parameters fit."""
    dim = form.dim
    load_sampler = _sampler_loader(form)
    load_q = _term_loader(form.q, form)
    load_prior = _term_loader(form.prior, form)
    load_likelihood = _term_loader(form.likelihood, form)

    @block
    def load(sampler, q, prior, likelihood, i):
        return Plan(
            load_sampler(sampler, i),
            load_q(q, i),
            load_prior(prior, i),
            load_likelihood(likelihood, i),
            dim,
        )

    return load
