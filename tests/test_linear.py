"""Scales in the coordinates of draws, and data in latent coordinates, against plain NumPy."""

import itertools

import numpy as np
import pytest
from cases import scales, triangles

from fastelbo.kernels.draws.blocks import padded
from fastelbo.models.linear_likelihood import LinearLikelihood
from fastelbo.models.lowering import standardised
from fastelbo.models.protocol import Frame

SHAPES = [(1, 1), (3, 2), (1, 2), (3, 1)]  # data points, components


def scale_of(rng, diagonal, *shape):
    """A scale as rows, and as a matrix."""
    if diagonal:
        values = scales(rng, *shape)
        return values[..., None, :], values[..., None] * np.eye(shape[-1])
    tril = triangles(rng, *shape)
    return tril, tril


@pytest.mark.parametrize("dim", [1, 3, 4, 10])
@pytest.mark.parametrize("kinds", list(itertools.product([True, False], repeat=2)))
def test_standardised(kinds, dim):
    """Products of diagonals and triangles, shared by data points or components or not."""
    rng = np.random.default_rng(0)
    for (n, count), points, own in itertools.product(SHAPES, (1, 3), (1, 3)):
        scale, matrix = scale_of(rng, kinds[0], n, count, dim)
        frame, transform = scale_of(rng, kinds[1], points, dim)
        mean, centre = rng.normal(size=(own, count, dim)), rng.normal(size=(points, dim))
        frame = (frame[:, 0], None) if kinds[1] else (None, frame)
        factor, target = standardised(scale, Frame(centre, *frame), mean)
        expected = matrix @ transform[:, None]
        rows = 1 if all(kinds) or dim == 1 else dim
        expected = np.diagonal(expected, 0, -2, -1)[..., None, :] if rows == 1 else expected
        np.testing.assert_allclose(factor[..., :rows, :dim], expected, rtol=1e-14, atol=1e-15)
        shift = (matrix @ (mean - centre[:, None])[..., None])[..., 0]
        np.testing.assert_allclose(target[..., :dim], shift, rtol=1e-14, atol=1e-14)
        assert factor.shape[2:] == (1 if rows == 1 else padded(dim), padded(dim))
        assert not factor[..., dim:].any()
        assert not factor[..., rows:, :].any()
        assert target.shape[2] == padded(dim)
        assert not target[..., dim:].any()


@pytest.mark.parametrize("noise", ["diagonal", "full"])
@pytest.mark.parametrize(("features", "dim"), [(1, 1), (2, 3), (7, 5), (20, 10)])
def test_reduction_of_data(features, dim, noise):
    """Of many data points and components, whose last block is not full."""
    rng = np.random.default_rng(1)
    tril = np.tril(0.1 * rng.normal(size=(features, features)), -1) + np.eye(features)
    covariance = tril @ tril.T if noise == "full" else scales(rng, features)
    whitener = np.linalg.inv(tril) if noise == "full" else np.diag(covariance**-0.5)
    loadings, offset = rng.normal(size=(features, dim)), rng.normal(size=features)
    for n, places, count in ((150, 150, 1), (150, 1, 1), (1, 150, 1), (70, 70, 2), (70, 1, 3)):
        x, centre = rng.normal(size=(n, features)), rng.normal(size=(places, count, dim))
        likelihood = LinearLikelihood(x, loadings, covariance, offset)
        target, const = likelihood.reduce(x, centre, padded(dim))
        assert target.shape == (max(n, places), count, padded(dim))
        assert not target[..., dim:].any()
        residual = (x[:, None] - offset - centre @ loadings.T) @ whitener.T
        projected = residual @ likelihood.reduced.basis
        rest = residual - projected @ likelihood.reduced.basis.T
        np.testing.assert_allclose(target[..., :dim], projected, rtol=1e-12, atol=1e-12)
        square = 2.0 * (likelihood.reduced.log_const - const)
        np.testing.assert_allclose(square, (rest**2).sum(-1), rtol=1e-11, atol=1e-11)
        # A data point does not depend on the others.
        own = slice(None) if n == 1 else slice(3, 40)
        middle = centre[3:40] if places > 1 else centre
        part, part_const = likelihood.reduce(x[own], middle, padded(dim))
        np.testing.assert_array_equal(part, target[3:40])
        np.testing.assert_array_equal(part_const, const[3:40])
