"""Kernels and plain NumPy answer requests for quasi-random draws alike."""

import numpy as np
import pytest
from cases import CASES

from fastelbo.engine.cpu import CPUBackend
from fastelbo.engine.reference import NumPyBackend
from fastelbo.engine.rotation import with_rotation
from fastelbo.engine.states import StateForm
from fastelbo.engine.task import EstimateRequest
from fastelbo.models.nets import new_design

SIZES = (1, 2, 3, 8)


def request(case, transform, replicates, per_replicate):
    model, q = CASES[case]()
    batch = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    draws = replicates * per_replicate
    design = new_design(q, batch, draws, replicates, transform, 3)
    form = StateForm(SIZES, 0, replicates=replicates)
    unturned = EstimateRequest(model, q, batch, draws, 3, 5, "float64", form, design)
    return with_rotation(unturned, CPUBackend())[0]


@pytest.mark.parametrize("transform", ["box_muller", "inverse"])
@pytest.mark.parametrize(
    "case",
    [
        "one_dimension",
        "diagonal-gaussian-full",
        "plain_t",
        "full-mixture-full",
        "every_batch",
        "mixture_full-standard-full",
        "zero_weight-gaussian-scalar",
    ],
)
def test_kernels_and_plain_numpy_agree(case, transform):
    of = request(case, transform, 8, 256)
    for terms in zip(CPUBackend().terms(of), NumPyBackend().terms(of), strict=True):
        np.testing.assert_allclose(*terms, rtol=1e-13, atol=1e-13)
    found, expected = (
        backend.quantities(of, lambda done: None) for backend in (CPUBackend(), NumPyBackend())
    )
    replicated = {name for name in expected if name.startswith("replicate_")}
    assert len(replicated) == 5
    assert found["replicate_iw"].shape == (of.points, len(SIZES), 8)
    names = replicated | {"log_evidence", "elbo", "kl", "relative_variance", "iw_value", "iw_se"}
    for name in names:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=1e-9, atol=1e-9, err_msg=name, equal_nan=True
        )


@pytest.mark.parametrize("per_replicate", [1, 2, 512, 2048])
def test_sizes_of_replicates_agree(per_replicate):
    """Below, at and above the draws of a block, and the positions that are permuted together."""
    of = request("plain_t", "box_muller", 9, per_replicate)
    found, expected = (
        backend.quantities(of, lambda done: None) for backend in (CPUBackend(), NumPyBackend())
    )
    for name in ("replicate_log_evidence", "replicate_iw", "iw_value", "elbo"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-9, err_msg=name)
