"""Arrays on a (simulated) device, and their errors."""

import numpy as np
import pytest
from cases import around, triangles
from helpers import IGNORE_DIAGNOSTICS
from test_parity import assert_close

import fastelbo as fe
from fastelbo import reference
from fastelbo.arrays import devices
from fastelbo.kernels.cuda import device

pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 200), (2, 2, 75)])
def test_summarize(shape, dtype):
    x = (5.0 * np.random.default_rng(0).standard_t(3, shape)).astype(dtype)
    x[..., 3] = -np.inf
    there = device.put(x)
    got = fe.summarize(there, iw_sizes=(1, 7, 70))
    assert_close(got.to_dict(), fe.summarize(x, iw_sizes=(1, 7, 70)).to_dict())
    np.testing.assert_array_equal(device.fetch(there), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("iw_sizes", [(), (7,)])
def test_lower_tails_of_rows(iw_sizes, dtype):
    rng = np.random.default_rng(4)
    x = (-rng.pareto([[0.8], [1.0], [1.2]], (3, 300))).astype(dtype)
    x = np.vstack([x, rng.random((1, 300))]).astype(dtype)
    got = fe.summarize(device.put(x), iw_sizes=iw_sizes)
    assert (got.pareto_k_elbo[:3] > 0.5).all()
    assert np.isnan(got.pareto_k_elbo[3])
    expected = fe.summarize(x, iw_sizes=iw_sizes)
    np.testing.assert_array_equal(got.pareto_k_elbo, expected.pareto_k_elbo)


@pytest.mark.parametrize("iw_sizes", [(), (7,)])
def test_lower_tails_of_draws(iw_sizes):
    model, q = fe.Gaussian([0.0], scale=1.0), fe.StudentT(1.0, np.zeros((2, 1)), scale=1.0)
    options = {"rng": 0, "iw_sizes": iw_sizes}
    got = fe.estimate(model, q, 300, backend="cuda", **options)
    expected = fe.estimate(model, q, 300, backend="cpu", **options)
    assert (got.pareto_k_elbo > 1.0).all()
    np.testing.assert_allclose(got.pareto_k_elbo, expected.pareto_k_elbo, rtol=1e-9)


def rows_of_all_kinds():
    rng = np.random.default_rng(3)
    normal = 3.0 * rng.normal(size=(12, 300))
    normal[1] = np.sort(normal[1])  # each value is the largest so far
    normal[2] = np.sort(normal[2])[::-1]
    normal[3] = 700.0
    normal[4] = -1e5 + 1e-3 * rng.normal(size=300)  # weights nearly equal
    normal[5] = -np.inf
    normal[6, ::2] = -np.inf
    normal[7] = -np.inf
    normal[7, 33] = 2.0
    normal[8] *= 300.0  # one weight outweighs all
    normal[9, ::4] = normal[9].max()
    # A sample of every ninth value sees only the largest, or only the smallest.
    normal[10] = np.where(np.arange(300) % 9 == 0, 9.0 + rng.random(300), rng.random(300))
    normal[11] = np.where(np.arange(300) % 9 == 0, -9.0, rng.random(300))
    return normal


@pytest.mark.parametrize("iw_sizes", [(), (7, 70)])
def test_summaries_are_those_of_plain_numpy(iw_sizes):
    # Plain sums fail if all weights are 0, or if one outweighs all.
    x = np.delete(rows_of_all_kinds(), [5, 7, 8], axis=0)
    got = fe.summarize(device.put(x), iw_sizes=iw_sizes, pareto_k=False).to_dict()
    plain = reference.summaries(x, np.zeros_like(x), np.zeros_like(x), iw_sizes)
    names = ["log_evidence", "elbo", "elbo_se", "relative_variance", "ess", "n_zero"]
    assert_close({name: got[name] for name in names}, {name: plain[name] for name in names})
    for size in iw_sizes:
        value, se = plain["iw"][size]
        assert_close({"value": got[f"iw_elbo_{size}"]}, {"value": value})
        assert_close({"se": got[f"iw_elbo_{size}_se"]}, {"se": se})


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 5e-7)])
@pytest.mark.parametrize("pareto_k", [True, False])
def test_summarize_without_groups(pareto_k, dtype, tolerance):
    """Rows of float32 have weights of single precision."""
    x = rows_of_all_kinds().astype(dtype)
    options = {"iw_sizes": (), "pareto_k": pareto_k}
    got = fe.summarize(device.put(x), **options).to_dict()
    expected = fe.summarize(x, **options).to_dict()
    # Sums of the log weights themselves are float64 in both cases.
    for name in ("elbo", "elbo_se", "n_zero", "n_samples"):
        assert_close({name: got[name]}, {name: expected[name]})
    assert_close(got, expected, tolerance)


def test_nearly_equal_weights_keep_their_variance():
    x = 5.0 + 1e-9 * np.random.default_rng(4).normal(size=(1, 8000))
    got, expected = (
        fe.summarize(rows, iw_sizes=(), pareto_k=False).relative_variance
        for rows in (device.put(x), x)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("iw_sizes", [(), (7, 70)])
def test_moments_that_overflow_are_those_of_the_host(iw_sizes):
    """Rows of any size beside ordinary ones; the device cannot hold their squares."""
    places = np.arange(300)
    rows = np.stack([
        np.random.default_rng(3).normal(size=300),
        np.linspace(-1e160, 1e160, 300),
        np.linspace(-3e152, 3e152, 300),
        np.where(places == 7, 0.0, -1e200),
        np.where(places % 2, -1e308, 1e308),
        np.full(300, -1e308),
    ])  # fmt: skip
    for x in (rows, np.where(np.arange(8500) == 8400, -1e300, 0.0)[None]):
        with np.errstate(over="ignore", invalid="ignore"):
            got = fe.summarize(device.put(x), iw_sizes=iw_sizes).to_dict()
        with np.errstate(all="raise", under="ignore"):
            expected = fe.summarize(x, iw_sizes=iw_sizes).to_dict()
        assert np.isfinite(expected["elbo"]).all()
        # The means of large values that cancel are as far off as a few units of the last place.
        largest = abs(x).max(axis=1)
        for name in ("elbo", "jensen_gap", *(f"iw_elbo_{size}" for size in iw_sizes)):
            assert (abs(got.pop(name) - expected.pop(name)) <= 1e-13 * largest).all(), name
        assert_close(got, expected)


def test_bad_weights_without_groups_are_refused():
    x = np.zeros((2, 9000))
    x[1, [8500, 8777]] = np.nan, np.inf
    with pytest.raises(fe.errors.InvalidWeightError, match=r"2.*8500"):
        fe.summarize(device.put(x), iw_sizes=())


class Told:
    """An array that says it is on a device, by the protocols in ``words``."""

    def __init__(self, array, *words):
        self.array, self.shape, self.ndim, self.asked = array, array.shape, array.ndim, []
        if "dlpack" in words:
            self.__dlpack_device__ = lambda: (2, 0)
            self.__dlpack__ = self.capsule
        if "interface" in words:
            self.__cuda_array_interface__ = array.__array_interface__

    def capsule(self, stream):
        self.asked.append(stream)
        return self.array.__dlpack__()


@pytest.mark.parametrize("words", [("dlpack",), ("interface",), ("dlpack", "interface")])
def test_arrays_of_other_libraries_are_taken_in_place(words):
    x = np.random.default_rng(2).normal(size=(3, 200))
    assert_close(fe.summarize(Told(x, *words)).to_dict(), fe.summarize(x).to_dict())
    told = Told(x, *words)
    there = devices.adopt(told, "x")
    # DLPack is used first: with it, the owner waits for work that is not yet done.
    assert told.asked == [1] * ("dlpack" in words)
    before = device.fetch(there)[1, 7]
    x[1, 7] = before + 1.0
    assert device.fetch(there)[1, 7] == before + 1.0
    p = fe.Gaussian(np.zeros(200), scale=1.0)
    np.testing.assert_allclose(
        device.fetch(p.log_prob(Told(x, *words))), p.log_prob(x), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(
    ("rounded", "draws"),
    [
        (True, 8192 + 600),
        *(pytest.param(each, 3 * 8192, marks=pytest.mark.slow) for each in (0, 1)),
    ],
)
def test_largest_weights_of_several_chunks(rounded, draws):
    x = np.random.default_rng(1).standard_cauchy((1, draws))
    x = np.round(x) if rounded else x  # most of the largest values are equal
    assert_close(fe.summarize(device.put(x)).to_dict(), fe.summarize(x).to_dict())


def test_bad_weights_are_refused():
    x = np.zeros((2, 90))
    x[1, 77] = np.nan
    with pytest.raises(fe.errors.InvalidWeightError, match="77"):
        fe.summarize(device.put(x))


def test_refused_arrays():
    with pytest.raises(fe.errors.InvalidInputError, match="last one"):
        fe.summarize(device.put(np.zeros((3, 40))), axis=0)
    with pytest.raises(fe.errors.InvalidInputError, match="C-contiguous"):
        fe.summarize(device.put(np.zeros((3, 40)))[:, ::2])
    with pytest.raises(fe.errors.UnsupportedDTypeError, match="int64"):
        fe.summarize(device.put(np.zeros((3, 40), np.int64)))


@pytest.mark.parametrize("function", [fe.logsumexp, fe.psis, fe.loo, lambda x: fe.iw_elbo(x, 2)])
def test_functions_that_do_not_compute_on_a_device(function):
    with pytest.raises(fe.errors.InvalidInputError, match="is on a device"):
        function(device.put(np.zeros((3, 40))))


@pytest.mark.parametrize("by_warps", [True, False])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_log_prob(batch, by_warps, monkeypatch):
    monkeypatch.setattr(device, "multiplies", lambda: by_warps)
    rng = np.random.default_rng(2)
    mean = around(rng, np.zeros((*batch, 3)), 4, 1.0)
    p = fe.Mixture([0.1, 0.2, 0.3, 0.4], fe.Gaussian(mean, scale_tril=triangles(rng, 4, 3)))
    z = rng.normal(size=(11, *batch, 3))
    got = device.fetch(p.log_prob(device.put(z)))
    assert got.shape == (11, *batch)
    np.testing.assert_allclose(got, reference.log_prob(p, z), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dim", "points"), [(2, 3), (8, 33), (10, 5), (13, 40)])
def test_log_prob_by_warps(dim, points):
    """Sizes around steps of 4 coordinates, rows of 8 and warps of 32 points; weights of 0."""
    rng = np.random.default_rng(5)
    mean = 2.0 * rng.normal(size=(3, dim))
    t = fe.StudentT([3.0, 8.0, 20.0], mean, scale_tril=triangles(rng, 3, dim))
    p = fe.Mixture([0.0, 0.3, 0.7], t)
    z = 2.0 * rng.normal(size=(points, dim))
    z[1] = mean[1] + 100.0
    got = device.fetch(p.log_prob(device.put(z)))
    np.testing.assert_allclose(got, reference.log_prob(p, z), rtol=1e-9, atol=1e-9)
    z[0, 0] = np.nan
    got = device.fetch(p.log_prob(device.put(z)))
    assert np.isnan(got[0])
    assert np.isfinite(got[1:]).all()


def test_log_prob_of_points_of_another_shape():
    with pytest.raises(fe.errors.InvalidInputError, match="z on a device"):
        fe.Gaussian([0.0, 0.0], scale=1.0).log_prob(device.put(np.zeros((4, 3))))


@pytest.mark.parametrize("shared", [True, False])
def test_mixture_model(shared):
    rng = np.random.default_rng(3)
    mixture = fe.Mixture([0.0, 0.4, 0.6], fe.StudentT(4.0, rng.normal(size=(3, 2)), scale=1.0))
    model = fe.MixtureModel(rng.normal(size=(9, 2)), mixture)
    probs = rng.dirichlet(np.ones(2), () if shared else 9)
    q = fe.Categorical(np.insert(probs, 0, 0.0, axis=-1))
    got = fe.estimate(model, q, backend="cuda").to_dict()
    expected = reference.exact_mixture(model, q.probs)
    assert_close({name: got[name] for name in expected}, expected)
    assert_close(got, fe.estimate(model, q, backend="cpu").to_dict())


def test_device_that_is_not_there():
    p = fe.Gaussian([0.0], scale=1.0)
    with pytest.raises(fe.errors.InvalidInputError, match="device must be below"):
        fe.estimate(p, p, 10, backend="cuda", device=99)


class ShortOfMemory:
    """Refuses to make arrays of more than ``most`` elements."""

    def __init__(self, most):
        self.most, self.refused, self.room = most, 0, device.room

    def __call__(self, shape, dtype=np.float64):
        if np.prod(shape) > self.most:
            self.refused += 1
            raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
        return self.room(shape, dtype)


def test_less_at_a_time_where_memory_is_short(monkeypatch):
    x = np.random.default_rng(4).normal(size=(6, 90))
    there, expected = device.put(x), fe.summarize(x).to_dict()
    short = ShortOfMemory(300)
    monkeypatch.setattr(device, "room", short)
    monkeypatch.setattr(devices, "_MOST_BYTES", 2**16)
    monkeypatch.setattr(devices, "_LEAST_BYTES", 2**10)
    assert_close(fe.summarize(there).to_dict(), expected)
    assert short.refused
    monkeypatch.setattr(device, "room", ShortOfMemory(10))
    with pytest.raises(fe.errors.DeviceMemoryError, match="bytes free"):
        fe.summarize(there)
    with pytest.raises(fe.errors.DeviceMemoryError, match="the log densities take 4,320 bytes"):
        fe.Gaussian([0.0], scale=1.0).log_prob(there.reshape(540, 1))
