"""Estimates as a DataFrame and as a Dataset hold what the estimate holds, under its names."""

import sys
import warnings

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo.version import STREAM_VERSION

pandas = pytest.importorskip("pandas")
xarray = pytest.importorskip("xarray")
pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

SHAPES = [(), (3,), (2, 3), (0,)]


def an_estimate(shape=(3,), **options):
    return fe.summarize(np.random.default_rng(0).normal(size=(*shape, 200)), **options)


@pytest.mark.parametrize("shape", SHAPES)
def test_to_pandas_has_a_row_a_data_point(shape):
    est = an_estimate(shape)
    frame = est.to_pandas()
    arrays = est.to_dict()
    del arrays["n_samples"]
    assert list(frame.columns) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(frame[name].to_numpy(), array.reshape(-1))
    assert frame.attrs["n_samples"] == 200


def test_index_of_a_frame_is_that_of_the_batch():
    assert an_estimate().to_pandas().index.name == "point"
    est = an_estimate((2, 3))
    frame = est.to_pandas()
    assert list(frame.index.names) == ["point_0", "point_1"]
    for index in np.ndindex(2, 3):
        assert frame.loc[index, "elbo"] == est.elbo[index]
        assert frame.loc[index, "iw_elbo_10"] == est.iw_elbo(10).value[index]


@pytest.mark.parametrize("shape", SHAPES)
def test_to_xarray_has_the_batch_as_dimensions(shape):
    est = an_estimate(shape)
    data = est.to_xarray()
    dimensions = {(): (), (2, 3): ("point_0", "point_1")}.get(shape, ("point",))
    assert data["log_evidence"].dims == dimensions
    assert data["iw_elbo"].dims == data["iw_elbo_se"].dims == (*dimensions, "k")
    assert data["k"].values.tolist() == [10, 100]
    for name, array in est.to_dict().items():
        if name != "n_samples" and not name.startswith("iw_elbo"):
            np.testing.assert_array_equal(data[name].values, array)
    for k in est.iw_sizes:
        bound = est.iw_elbo(k)
        np.testing.assert_array_equal(data["iw_elbo"].sel(k=k).values, bound.value)
        np.testing.assert_array_equal(data["iw_elbo_se"].sel(k=k).values, bound.se)


def test_attributes_tell_draws_units_and_version():
    data = an_estimate().to_xarray()
    assert data.attrs == {
        "inference_library": "fastelbo", "inference_library_version": fe.__version__,
        "n_samples": 200, "stream_version": STREAM_VERSION, "units": "nats",
    }  # fmt: skip
    units = {name: variable.attrs["units"] for name, variable in data.data_vars.items()}
    ratios = {name for name, unit in units.items() if unit == "1"}
    assert ratios == {"ess", "relative_variance", "pareto_k", "pareto_k_elbo", "n_zero"}
    assert set(units.values()) == {"1", "nats"}


def test_without_group_sizes_there_is_no_k():
    data = an_estimate(iw_sizes=()).to_xarray()
    assert "k" not in data.coords
    assert "iw_elbo" not in data


def test_exact_sums_are_exported_too():
    model = fe.MixtureModel([[0.0], [1.0]], fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0)))
    est = fe.estimate(model, fe.Categorical([1.0]))
    assert est.to_pandas()["log_evidence"].tolist() == est.log_evidence.tolist()
    assert est.to_xarray().attrs["n_samples"] == 0


def test_as_a_group_of_a_datatree():
    est = an_estimate()
    tree = xarray.DataTree.from_dict({"posterior": xarray.Dataset({"mu": ("draw", [0.0, 1.0])})})
    tree["evidence"] = xarray.DataTree(est.to_xarray())
    np.testing.assert_array_equal(tree["evidence/elbo"].values, est.elbo)


def test_as_a_group_of_arviz_inference_data():
    with warnings.catch_warnings():
        # ArviZ warns about its coming changes, and about groups outside of its own scheme.
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz")
        if not hasattr(arviz, "InferenceData"):
            pytest.skip("ArviZ 1.0 and later use a DataTree")
        inference_data = arviz.from_dict({"mu": np.zeros((1, 10))})
        est = an_estimate()
        inference_data.add_groups(evidence=est.to_xarray())
    np.testing.assert_array_equal(inference_data["evidence"]["elbo"].values, est.elbo)
    assert "evidence" in inference_data.groups()


@pytest.mark.parametrize("name", ["pandas", "xarray"])
def test_without_the_library_the_extra_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"to_{name}\(\) needs .* \"fastelbo\[export\]\""):
        getattr(an_estimate(), f"to_{name}")()
