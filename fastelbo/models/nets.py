"""Quasi-random draws of a q: from a `Design` to what the kernels read of it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import constant
from ..errors import InvalidInputError
from ..kernels.cpu.scrambles import scrambled_columns
from ..kernels.draws.blocks import Cut, Net, Sampler, padded
from ..kernels.draws.sobol import BITS, UNIT
from ..validation import Floats
from .protocol import Points, Proposal


class Design(NamedTuple):
    """Replicates of scrambled Sobol points, from which the draws of a q are made."""

    replicates: int  # R
    per_replicate: int  # n, a power of two
    transform: str  # "box_muller" or "inverse"
    columns: NDArray[np.uint32]  # (R, coordinates, 32): scrambled generator matrices
    rotation: Floats | None = None  # (N or 1, C, D, D), of the standard normals of a draw
    rotation_kind: str = "identity"  # or "exact", "pilot"

    @property
    def cut(self) -> Cut:
        """The chunks of the draws."""
        return Cut(self.replicates, self.per_replicate, min(self.per_replicate, UNIT))

    @property
    def net(self) -> Net:
        """The points, as the kernels read them."""
        return Net(self.columns, self.per_replicate.bit_length() - 1, self.transform == "inverse")

    def sampler(self, own: Sampler, points: Points) -> Sampler:
        """The sampler of independent draws of some data points, made one of points of the net."""
        own = own._replace(net=self.net)
        if self.rotation is None:
            return own
        rotation = points.select(self.rotation, 3)
        if own.location.shape[1] == 0:
            return own._replace(rotation=_padded(rotation[:, 0]))
        diagonal = own.scale.shape[2] == 1
        scale = own.scale.swapaxes(2, 3) * rotation if diagonal else own.scale @ rotation
        return own._replace(scale=constant(scale), full=True)


def _padded(rotation: Floats) -> Floats:
    dim, rows = rotation.shape[-1], padded(rotation.shape[-1])
    out = np.zeros((len(rotation), rows, rows))
    out[:, :dim, :dim] = rotation
    padded_rotation: Floats = constant(out)
    return padded_rotation


def new_design(
    q: Proposal, batch: tuple[int, ...], n_samples: int, replicates: int, transform: str, key: int
) -> Design:
    """The design of ``n_samples`` draws of q, in ``replicates`` scrambles, without a rotation."""
    chooses = q.source(Points(batch, slice(0, 1))).sampler.location.shape[1] > 1
    # Normals come in pairs; one coordinate chooses a component.
    coordinates = q.dim + q.dim % 2 + int(chooses)
    columns = constant(scrambled_columns(_directions(coordinates), replicates, key))
    return Design(replicates, n_samples // replicates, transform, columns)


@functools.lru_cache(maxsize=8)
def _directions(coordinates: int) -> NDArray[np.uint32]:
    """Columns (coordinates, 32) of the generator matrices of Joe and Kuo (2008), from SciPy."""
    from scipy.stats import qmc  # takes half a second

    most = qmc.Sobol.MAXDIM
    if coordinates > most:
        raise InvalidInputError(
            f'sampler must be "iid" for draws that take {coordinates} uniforms: SciPy has Sobol '
            f'points of at most {most} coordinates; got "sobol"'
        )
    engine: Any = qmc.Sobol(coordinates, scramble=False, bits=BITS)
    columns: NDArray[np.uint32] = constant(np.ascontiguousarray(engine._sv, dtype=np.uint32))
    return columns
