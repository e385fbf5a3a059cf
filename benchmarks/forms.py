"""Precomputed parameters of Gaussian mixtures, for densities that are written by hand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import fastelbo as fe

from .inputs import Floats

LOG_2PI = float(np.log(2.0 * np.pi))


class Forms(NamedTuple):
    """log weight_c + log density_c at z is ``const_c - |inverse_c z - target_c|^2 / 2``."""

    inverse: Floats  # (C, D) reciprocal scales, or (C, D, D) inverse triangles
    target: Floats  # (C, D)
    const: Floats  # (C,)


def forms(mixture: fe.Mixture) -> Forms:
    """The parameters of a mixture of Gaussians without a batch."""
    components = mixture.components
    if components.scale is None:
        inverse = np.tril(np.linalg.inv(components.scale_tril))
        target = np.einsum("cij,cj->ci", inverse, components.mean)
        log_det = np.log(np.diagonal(components.scale_tril, axis1=-2, axis2=-1)).sum(axis=-1)
    else:
        inverse = 1.0 / components.scale
        target = inverse * components.mean
        log_det = np.log(components.scale).sum(axis=-1)
    const = np.log(mixture.weights) - 0.5 * mixture.dim * LOG_2PI - log_det
    return Forms(inverse, target, const)
