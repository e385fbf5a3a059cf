"""Draws of one component of a mixture q, with the density and the scores of all components there.

In the coordinates v of a draw of component c, z = m_c + L_c v, component j has the standardised
draw y_j = F_j v - t_j, and with s = |y_j|^2

    log q_j = const_j + g_j(s),    u_j = -grad_z log q_j = rho_j(s) L_j^-T y_j,

rho = 1 (Gaussian) or (df + D) / (df + s) (Student-t). With the share r_j = pi_j q_j / q of
component j in q = sum_j pi_j q_j, grad_z log q = -sum_j r_j u_j, and the scores are

    d log q / d m_j = r_j u_j,    d log q / d L_j = r_j (tril(u_j y_j') - diag(1 / L_j)).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..caching import cached_property
from ..special import logsumexp
from ..validation import Floats
from . import lowering
from .lowering import Components
from .mixture import Mixture
from .protocol import Frame, Points, Source

# What leaves the range of floats is infinite or NaN, which callers refuse.
_unflagged = np.errstate(all="ignore")


class Scores(NamedTuple):
    """Of draws (m, n) of m data points; components count along axes of length C.

    Draws and pulls of components that have no share are 0, but for the own draws.
    """

    log_q: Floats  # (m, n)
    shares: Floats  # r, (C, m, n)
    draws: Floats  # y, (C, m, n, D)
    pulls: Floats  # u, (C, m, n, D)


class ComponentDraws:
    """The draws of component ``place`` of q, for some data points."""

    def __init__(self, q: Mixture, place: int, points: Points) -> None:
        components = q._components
        self.count = int(components.log_weight.shape[-1])
        own = [_single(components, c) for c in range(self.count)]
        self._place = place
        self.source: Source = lowering.source(own[place], points)
        self.frame: Frame = self.source.frame
        self._densities = [lowering.density(each, points, self.frame) for each in own]
        self._inverses = [_inverse(each, points) for each in own]
        self._log_weight = points.select(components.log_weight, 1)
        self._dim = components.dim
        # Whether the scales are triangular, and their diagonals (m or 1, 1, D).
        self.full = components.scale is None
        self.diagonals = [_diagonal(each, points) for each in own]
        self.weights = np.exp(self._log_weight[:, place, None])

    @_unflagged
    def at(self, v: Floats) -> Scores:
        """Densities and scores at v (m, n, D)."""
        shape, dim = v.shape[:2], self._dim
        logs = np.empty((self.count, *shape))
        draws, pulls = np.empty((2, self.count, *v.shape))
        for c, density in enumerate(self._densities):
            factor = np.asarray(density.factor[:, 0, :dim, :dim], np.float64)
            target = density.target[:, 0, None, :dim]
            draws[c] = _transformed(v, factor) - target
            square = (draws[c] ** 2).sum(-1)
            const = self._log_weight[:, c, None] + density.log_const
            if density.df.shape[1]:
                df = density.df
                finite = np.isfinite(df)
                scaled = np.where(finite, 0.5 * (df + dim), 1.0)
                logs[c] = const - scaled * np.where(finite, np.log1p(square / df), 0.5 * square)
                rho = np.where(finite, (1.0 + dim / df) / (1.0 + square / df), 1.0)
            else:
                logs[c] = const - 0.5 * square
                rho = np.ones(1)
            pulls[c] = _pulled_back(rho[..., None] * draws[c], self._inverses[c])
        log_q = logsumexp(logs, axis=0)
        shares = np.exp(logs - log_q)
        for c in range(self.count):
            # One that has no share may be too far away for finite numbers.
            counts = (shares[c] > 0.0)[..., None]
            pulls[c] = np.where(counts, pulls[c], 0.0)
            if c != self._place:
                draws[c] = np.where(counts, draws[c], 0.0)
        return Scores(log_q, shares, draws, pulls)

    def latents(self, v: Floats) -> Floats:
        """z = m + L v less m, for v (m, n, D)."""
        return _transformed(v, self._scale)

    def slopes_in_z(self, slopes: Floats) -> Floats:
        """L^-T times slopes (m, n, D) in v."""
        return _pulled_back(slopes, self._own_inverse)

    @cached_property
    def _scale(self) -> Floats:
        tril = self.frame.scale_tril
        if tril is not None:
            return tril
        assert self.frame.scale is not None
        return self.frame.scale[:, None, :]

    @cached_property
    @_unflagged
    def _own_inverse(self) -> Floats:
        tril = self.frame.scale_tril
        return 1.0 / self._scale if tril is None else lowering.invert_lower(tril)


def _single(components: Components, c: int) -> Components:
    """Component c alone, of weight 1."""
    place = slice(c, c + 1)
    tril, base, df = components.scale_tril, components.log_base, components.df
    return replace(
        components,
        log_weight=np.zeros(1),
        mean=components.mean[..., place, :],
        scale=None if components.scale is None else components.scale[..., place, :],
        scale_tril=None if tril is None else tril[..., place, :, :],
        log_base=base[..., place] if base.shape[-1] > 1 else base,
        df=None if df is None else df[..., place],
    )


def _inverse(single: Components, points: Points) -> Floats:
    """(n or 1, 1, D) reciprocals, or (n or 1, D, D) inverse triangles."""
    if single.scale is not None:
        return points.select(single.inverse_scale, 2)
    return points.select(single.inverse_scale, 3)[:, 0]


def _diagonal(single: Components, points: Points) -> Floats:
    """(n or 1, 1, D) diagonals of a scale."""
    if single.scale is not None:
        return points.select(single.scale, 2)
    assert single.scale_tril is not None
    return np.diagonal(points.select(single.scale_tril, 3), axis1=-2, axis2=-1)


def _transformed(v: Floats, factor: Floats) -> Floats:
    """F v, for v (m, n, D) and F of 0 rows (identity), 1 row (diagonal) or D (triangular)."""
    if factor.shape[1] == 0:
        return v
    if factor.shape[1] == 1:
        return v * factor
    return np.asarray(v @ np.swapaxes(factor, 1, 2))


def _pulled_back(slopes: Floats, inverse: Floats) -> Floats:
    """L^-T times slopes, from reciprocals or an inverse triangle."""
    return slopes * inverse if inverse.shape[1] == 1 else np.asarray(slopes @ inverse)
