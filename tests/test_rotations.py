"""Rotations of the normals of q: eigenvectors where they are known, and those of a pilot."""

import numpy as np
import pytest
from cases import CASES, linear, scales, triangles

import fastelbo as fe
from fastelbo.engine.cpu import CPUBackend
from fastelbo.engine.reference import NumPyBackend
from fastelbo.engine.rotation import pilot_size, with_rotation
from fastelbo.engine.states import StateForm
from fastelbo.engine.task import EstimateRequest
from fastelbo.models.nets import new_design
from fastelbo.models.protocol import Points
from fastelbo.models.rotations import exact_rotation, mixture_rotation, pilot_rotation
from fastelbo.models.terms import Supplied


def request(model, q, first_index=0):
    batch = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    design = new_design(q, batch, 4096, 16, "box_muller", 7)
    form = StateForm((), 0)
    return EstimateRequest(model, q, batch, 4096, 7, first_index, "float64", form, design)


def rotation_of(model, q, backend=None, first_index=0):
    """Matrices, kind, and draws of the pilot."""
    turned, draws = with_rotation(request(model, q, first_index), backend or CPUBackend())
    return turned.design.rotation, turned.design.rotation_kind, draws


def assert_orthogonal(matrix):
    product = np.swapaxes(matrix, -1, -2) @ matrix
    eye = np.broadcast_to(np.eye(matrix.shape[-1]), product.shape)
    np.testing.assert_allclose(product, eye, atol=1e-13)


# --- exact ----------------------------------------------------------------------------------


def precision_in_units_of_q(model, q, i):
    """S' (P0 + W' N^-1 W) S of data point i, from the public parameters."""
    prior = model.prior
    cov = np.broadcast_to(prior.cov, (*model.batch_shape, q.dim, q.dim))[i]
    precision = np.linalg.inv(cov)
    if isinstance(model, fe.LinearGaussian):
        noise = model.noise_cov if model.noise_cov.ndim == 2 else np.diag(model.noise_cov)
        precision = precision + model.loadings.T @ np.linalg.inv(noise) @ model.loadings
    if q.scale is not None:
        scale = np.broadcast_to(q.scale, (*model.batch_shape, q.dim))[i] * np.eye(q.dim)
    else:
        scale = np.broadcast_to(q.scale_tril, (*model.batch_shape, q.dim, q.dim))[i]
    return scale.T @ precision @ scale


KNOWN = {
    f"{q}-{prior}-{noise}": lambda q=q, prior=prior, noise=noise: linear(
        q, prior, noise, dim=5, features=7, model_batch=(3,), q_batch=(3,)
    )
    for q, prior, noise in [
        ("diagonal", "standard", "scalar"),
        ("full", "gaussian", "full"),
        ("t", "gaussian", "diagonal"),
        ("t_full", "standard", "full"),
    ]
} | {
    "few features": lambda: linear("full", dim=6, features=2, model_batch=(3,), q_batch=(3,)),
    "prior batch": lambda: linear(
        "full", "gaussian", dim=4, model_batch=(3,), prior_batch=(3,), q_batch=(3,)
    ),
    "plain": lambda: (
        fe.Gaussian(np.zeros((3, 4)), scale_tril=triangles(np.random.default_rng(0), 4)),
        fe.StudentT(4.0, np.ones((3, 4)), scale=scales(np.random.default_rng(1), 3, 4)),
    ),
}


@pytest.mark.parametrize("case", KNOWN)
def test_exact_rotation_has_the_eigenvectors_of_the_precision(case):
    model, q = KNOWN[case]()
    rotation = exact_rotation(model, q, Points(model.batch_shape))
    assert_orthogonal(rotation)
    for i in range(3):
        matrix = precision_in_units_of_q(model, q, i)
        turned = rotation[min(i, len(rotation) - 1), 0]
        diagonal = turned.T @ matrix @ turned
        values = np.diag(diagonal)
        np.testing.assert_allclose(diagonal, np.diag(values), atol=1e-9 * values.max())
        np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(matrix), rtol=1e-9)
        sizes = np.abs(np.log(values))
        assert (np.diff(sizes) <= 1e-9).all()


def test_exact_rotation_is_shared_where_the_scales_are():
    rng = np.random.default_rng(0)
    model, _ = linear("full", dim=4, model_batch=(50,), q_batch=(50,))
    q = fe.Gaussian(rng.normal(size=(50, 4)), scale_tril=triangles(rng, 4))
    assert exact_rotation(model, q, Points((50,))).shape == (1, 1, 4, 4)
    own = fe.Gaussian(q.mean, scale_tril=triangles(rng, 50, 4))
    whole = exact_rotation(model, own, Points((50,)))
    assert whole.shape == (50, 1, 4, 4)
    part = exact_rotation(model, own, Points((50,), slice(17, 29)))
    np.testing.assert_array_equal(part, whole[17:29])


def test_exact_rotation_of_scales_that_differ_by_far():
    """The squares of the singular values would be beyond the digits of a sum."""
    rng = np.random.default_rng(2)
    loadings = rng.normal(size=(8, 5)) * [1e9, 1.0, 1.0, 1.0, 1.0]
    model = fe.LinearGaussian(np.zeros((1, 8)), loadings, noise_cov=1.0)
    q = fe.Gaussian(np.zeros(5), scale=1.0)
    rotation = exact_rotation(model, q, Points((1,)))[0, 0]
    root = np.vstack([loadings, np.eye(5)])
    # Below the largest, the rest of the precision, of which 18 digits less are left in root' root.
    rest = root[:, 1:] - np.outer(root[:, 0], root[:, 0] @ root[:, 1:]) / (root[:, 0] @ root[:, 0])
    values = np.linalg.norm(root @ rotation, axis=0)[1:]
    expected = np.sort(np.linalg.svd(rest, compute_uv=False))[::-1]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_exact_rotation_beyond_floats_is_orthogonal(size):
    q = fe.Gaussian(np.zeros(3), scale=size)
    model = fe.Gaussian(np.zeros(3), scale=[1.0, size, 1.0 / size])
    assert_orthogonal(exact_rotation(model, q, Points(())))


def test_no_exact_rotation_for_other_targets():
    others = [linear("mixture"), linear("diagonal", "mixture"), CASES["plain_t"]()]
    for model, q in others:
        assert exact_rotation(model, q, Points((1,))) is None


# --- pilots ---------------------------------------------------------------------------------


def correlated(dim, count=3, draws=2000, seed=0):
    """Draws of N(0, I), and log weights of Gaussian targets with precisions of their own."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(count, draws, dim))
    basis = np.linalg.qr(rng.normal(size=(count, dim, dim)))[0]
    values = np.linspace(1.2, 3.0, dim)[::-1]
    precision = (basis * values) @ np.swapaxes(basis, -1, -2)
    logs = -0.5 * np.einsum("nkd,nde,nke->nk", v, precision - np.eye(dim), v)
    return v, logs, basis


def test_pilot_finds_the_eigenvectors_of_the_target():
    v, logs, basis = correlated(4, draws=20_000)
    rotation = pilot_rotation(v, logs)
    assert rotation.shape == (3, 1, 4, 4)
    assert_orthogonal(rotation)
    overlap = np.abs(np.swapaxes(basis, -1, -2) @ rotation[:, 0])
    np.testing.assert_allclose(overlap, np.broadcast_to(np.eye(4), overlap.shape), atol=0.25)


def test_pilot_of_a_data_point_does_not_depend_on_others():
    v, logs, _ = correlated(7, count=9)
    logs[5] = np.nan
    whole = pilot_rotation(v, logs)
    for rows in (slice(2, 3), slice(1, 8), [8, 0, 3]):
        np.testing.assert_array_equal(pilot_rotation(v[rows], logs[rows]), whole[rows])


def test_independent_coordinates_are_not_turned():
    """A weight that is a product over coordinates stays one; skewness is no correlation."""
    v = np.random.default_rng(0).normal(size=(30, 1000, 6))
    logs = (3.0 * v - 6.0 * np.exp(0.45 * v) + 0.5 * v**2)[..., :3].sum(axis=-1)
    rotation = pilot_rotation(v, logs)[:, 0]
    permutations = (np.abs(rotation) == 1.0).any(axis=-1).all(axis=-1)
    # Chance correlates two of fifteen pairs once in a hundred pilots.
    assert permutations.sum() >= 27


def test_correlated_coordinates_are_turned_apart_from_the_others():
    v = np.random.default_rng(1).normal(size=(20, 2000, 5))
    logs = -1.5 * (v[..., 1] + v[..., 3]) ** 2 - 0.4 * v[..., 0] ** 2
    rotation = np.abs(pilot_rotation(v, logs)[:, 0])
    pair = rotation[:, [1, 3]]
    assert (np.abs(pair[:, :, 0] - np.sqrt(0.5)) < 0.05).all()
    others = rotation[:, [0, 2, 4]][..., 0]
    assert (others < 0.05).all()
    assert (others < 1e-12).mean() > 0.8


def test_the_mean_leads_where_no_scale_differs():
    """A target that is only shifted has weights of one direction, which comes first."""
    rng = np.random.default_rng(2)
    shift = rng.normal(size=(10, 1, 20))
    shift *= 0.8 / np.linalg.norm(shift, axis=-1, keepdims=True)
    v = rng.normal(size=(10, 1000, 20))
    rotation = pilot_rotation(v, (v * shift).sum(axis=-1))
    assert_orthogonal(rotation)
    along = np.abs((rotation[:, 0, :, 0] * shift[:, 0]).sum(axis=-1)) / 0.8
    assert (along > 0.7).all()
    assert np.median(along) > 0.9


@pytest.mark.parametrize(
    "spoil",
    {
        "nan": lambda logs: logs * np.nan,
        "one nan": lambda logs: np.where(np.arange(logs.size) == 5, np.nan, logs),
        "inf": lambda logs: np.where(np.arange(logs.size) == 5, np.inf, logs),
        "all zero": lambda logs: np.full_like(logs, -np.inf),
        "one draw": lambda logs: np.where(np.arange(logs.size) == 5, 0.0, -np.inf),
        "few draws": lambda logs: np.where(np.arange(logs.size) < 15, 0.0, -np.inf),
    }.items(),
    ids=lambda item: item[0],
)
def test_pilot_without_enough_weights_is_the_identity(spoil):
    v, logs, _ = correlated(4)
    logs[1] = spoil[1](logs[1])
    whole = pilot_rotation(v, logs)
    np.testing.assert_array_equal(whole[1, 0], np.eye(4))
    assert (np.abs(whole[[0, 2], 0] - np.eye(4)).max(axis=(1, 2)) > 0.1).all()


def test_zero_weights_and_large_logs_do_no_harm():
    v, logs, _ = correlated(4)
    logs[:, ::3] = -np.inf
    expected = pilot_rotation(v[:, logs[0] > -np.inf], logs[:, logs[0] > -np.inf])
    np.testing.assert_allclose(pilot_rotation(v, logs + 1e6), expected, atol=1e-6)


@pytest.mark.parametrize("family", ["gaussian", "t", "diagonal"])
def test_each_component_has_its_own_rotation(family):
    rng = np.random.default_rng(4)
    means, tril = np.array([[-30.0, 0.0, 0.0], [30.0, 0.0, 0.0]]), triangles(rng, 2, 3)
    components = {
        "gaussian": fe.Gaussian(means, scale_tril=tril),
        "t": fe.StudentT([5.0, np.inf], means, scale_tril=tril),
        "diagonal": fe.Gaussian(means, scale=scales(rng, 2, 3)),
    }[family]
    q = fe.Mixture([0.4, 0.6], components)
    z = q.sample(8000, rng=0)[None]
    first = (z[..., 0] < 0.0)[0]
    rows = np.where(first, 0, 1)
    scale = tril if family != "diagonal" else components.scale[..., None] * np.eye(3)
    v = np.linalg.solve(scale[rows], (z[0] - means[rows])[..., None])[..., 0]
    directions = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]) / np.sqrt(2.0)
    logs = -2.0 * (v * directions[rows]).sum(axis=-1)[None] ** 2
    found = mixture_rotation(q._components, Points((1,)), z, logs)
    assert found.shape == (1, 2, 3, 3)
    assert_orthogonal(found)
    np.testing.assert_allclose(np.abs((found[0, :, :, 0] * directions).sum(-1)), 1.0, atol=0.02)
    # Apart, the components are two single distributions.
    for c, own in enumerate((first, ~first)):
        alone = pilot_rotation(v[None, own], logs[:, own])[0, 0]
        np.testing.assert_allclose(np.abs(alone.T @ found[0, c])[0, 0], 1.0, atol=1e-3)


# --- of a request ---------------------------------------------------------------------------


def test_pilot_sizes():
    assert [pilot_size(4096, dim) for dim in (2, 10, 50, 100)] == [409, 409, 1000, 2000]
    assert pilot_size(16384, 10) == 1638
    assert pilot_size(10**6, 10) == 2000


KINDS = {
    "diagonal-gaussian-full": "exact",
    "plain_gaussian": "exact",
    "every_batch": "pilot",
    "plain_t": "pilot",
    "mixture_full-standard-full": "pilot",
    "full-mixture-full": "pilot",
    "one_dimension": "identity",
}


@pytest.mark.parametrize("case", KINDS)
def test_rotation_of_a_request(case):
    model, q = CASES[case]()
    found, kind, draws = rotation_of(model, q)
    assert kind == KINDS[case]
    assert draws == (pilot_size(4096, q.dim) if kind == "pilot" else 0)
    if kind == "identity":
        assert found is None
        return
    components = q.weights.shape[-1] if isinstance(q, fe.Mixture) else 1
    assert found.shape[0] in (1, request(model, q).points)
    assert found.shape[1:] == (components, q.dim, q.dim)
    assert_orthogonal(found)
    plain, _, _ = rotation_of(model, q, NumPyBackend())
    np.testing.assert_allclose(plain, found, atol=1e-9)


def test_independent_draws_are_not_turned():
    model, q = CASES["plain_t"]()
    independent = request(model, q)._replace(design=None)
    assert with_rotation(independent, CPUBackend()) == (independent, 0)


def test_pilot_of_a_request_does_not_depend_on_threads_slices_and_other_data_points(monkeypatch):
    rng = np.random.default_rng(3)
    target = fe.StudentT(6.0, np.zeros(3), scale_tril=triangles(rng, 3))
    mean = rng.normal(size=(12, 3)) / 4.0
    q = fe.Gaussian(mean, scale=1.0)
    whole, _, _ = rotation_of(target, q, first_index=5)
    assert whole.shape == (12, 1, 3, 3)
    some = fe.Gaussian(mean[4:7], scale=1.0)
    part, _, _ = rotation_of(target, some, CPUBackend(1), first_index=9)
    np.testing.assert_array_equal(part, whole[4:7])
    monkeypatch.setattr("fastelbo.engine.rotation._PIECE", 5 * 409 * 3)
    sliced, _, _ = rotation_of(target, q, first_index=5)
    np.testing.assert_array_equal(sliced, whole)


def test_pilot_of_a_function_on_the_host():
    def log_joint(z):
        return -2.0 * (z[:, 0] - z[:, 1]) ** 2 - 0.5 * z[:, 2] ** 2

    model = fe.Model(log_joint=log_joint, dim=3, vectorized=True)
    found, kind, _ = rotation_of(model, fe.Gaussian(np.zeros(3), scale=1.0))
    assert kind == "pilot"
    leading = np.abs(found[0, 0, :, 0])
    np.testing.assert_allclose(leading, [np.sqrt(0.5), np.sqrt(0.5), 0.0], atol=0.06)


def test_weights_that_are_none_give_no_error_here():
    model = fe.Model(log_joint=lambda z: np.nan * z[:, 0], dim=2, vectorized=True)
    found, _, _ = rotation_of(model, fe.Gaussian(np.zeros(2), scale=1.0))
    np.testing.assert_array_equal(found, np.eye(2)[None, None])


@pytest.mark.parametrize(("dim", "kind"), [(100, "pilot"), (101, "identity")])
def test_no_pilot_of_more_coordinates_than_it_can_tell_apart(dim, kind):
    target = fe.StudentT(6.0, np.zeros(dim), scale=1.0)
    assert rotation_of(target, fe.Gaussian(np.zeros(dim), scale=1.0))[1] == kind


def test_no_pilot_whose_rotations_do_not_fit(monkeypatch):
    target, q = fe.StudentT(6.0, np.zeros(3), scale=1.0), fe.Gaussian(np.zeros((5, 3)), scale=1.0)
    monkeypatch.setattr("fastelbo.engine.rotation._MOST_NUMBERS", 5 * 9)
    assert rotation_of(target, q)[1] == "pilot"
    monkeypatch.setattr("fastelbo.engine.rotation._MOST_NUMBERS", 5 * 9 - 1)
    assert rotation_of(target, q) == (None, "identity", 0)


def test_supplied_densities_have_no_pilot():
    class Given:
        dim, batch_shape = 2, ()
        prior = fe.Gaussian(np.zeros(2), scale=1.0)
        likelihood = Supplied(np.zeros(4096), dim=2)

    found = rotation_of(Given(), fe.Gaussian(np.zeros(2), scale=1.0))
    assert found == (None, "identity", 0)
