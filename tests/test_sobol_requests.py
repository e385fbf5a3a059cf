"""Requests for quasi-random draws at their edges: errors, backends, targets, terms, files."""

import re

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo import cli
from fastelbo.engine import targets
from fastelbo.engine.terms import ReplicatedTerms

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

P, Q = fe.Gaussian(np.zeros((3, 2)), scale=1.0), fe.Gaussian([0.2, 0.2], scale=1.2)


def terms(**options):
    return fe.elbo_terms(P, Q, 1024, rng=0, sampler="sobol", **options)


def test_a_mixture_of_one_component_has_the_draws_of_all_backends():
    q = fe.Mixture([1.0], fe.Gaussian([[0.2, 0.2]], scale=1.2))
    draws = [
        fe.log_weights(P, q, 256, rng=0, sampler="sobol", backend=name) for name in ("cpu", "numpy")
    ]
    np.testing.assert_allclose(*draws, rtol=1e-10, atol=1e-12)


def test_tails_of_terms_have_the_limit_of_replicates():
    # The k-hats of both terms are between 0.5 and 0.7: too high for replicates alone.
    model = fe.LinearGaussian([[0.5], [-0.5]], [[1.0]], noise_cov=1.0)
    q = fe.StudentT(3.0, [0.3], scale=1.0)
    found = [
        fe.estimate(model, q, 1024, rng=rng, sampler="sobol", backend=name)
        for rng in range(8)
        for name in ("cpu", "numpy")
    ]
    above = [(each.pareto_k_elbo > 0.5) & (each.pareto_k_elbo < 0.66) for each in found]
    assert np.concatenate(above).any()
    for cpu, plain in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_allclose(cpu.kl_se, plain.kl_se, rtol=1e-9)
        np.testing.assert_allclose(
            cpu.expected_log_likelihood_se, plain.expected_log_likelihood_se, rtol=1e-9
        )


@pytest.mark.parametrize(("draws", "fit"), [(15, "least is 16"), (100, "nearest are 64 and 128")])
def test_sizes_that_do_not_fit(draws, fit):
    with pytest.raises(fe.errors.InvalidInputError, match=f"got {draws}; the {fit}$"):
        fe.estimate(P, Q, draws, rng=0, sampler="sobol")


def test_group_sizes_of_a_target_are_limited_by_max_samples():
    with pytest.raises(fe.errors.InvalidInputError, match="at most max_samples = 1000, got 2000"):
        fe.estimate(P, Q, rng=0, target_se=0.1, iw_sizes=[2000], max_samples=1000)


# --- terms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [fe.summarize, fe.ess])
@pytest.mark.parametrize(
    "change",
    [
        lambda each: each.reshape(-1),
        lambda each: each[:, :1],  # errors of independent draws would be silently taken
        lambda each: each[:, 0],
    ],
)
def test_terms_without_replicates_are_refused(function, change):
    changed = ReplicatedTerms(*map(change, terms()))
    if change(terms().log_q).shape == (3, 64):
        # Three data points look like three replicates.
        changed = changed._replace(log_q=terms().log_q)
    with pytest.raises(fe.errors.InvalidInputError, match=r"log_weights must .*at least two"):
        function(changed)


@pytest.mark.parametrize("sampler", ["iid", "sobol"])
def test_terms_of_different_shapes_are_refused(sampler):
    own = fe.elbo_terms(P, Q, 1024, rng=0, sampler=sampler)
    with pytest.raises(fe.errors.InvalidInputError, match=r"log_weights must .*\(3, .*, 5\)"):
        fe.summarize(own._replace(log_q=own.log_q[..., :5]))


# --- the draw of an error ---------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["iid", "sobol"])
def test_an_error_names_the_draw_of_a_size_of_its_own(monkeypatch, sampler):
    """The number of draws of a data point is part of the address of a quasi-random one."""
    q = fe.Gaussian([0.0, 0.0], scale=0.9)
    draws = q.sample(4096, rng=0, sampler=sampler).reshape(-1, 2)
    bound = float(draws[:256, 0].max())  # the first draw beyond it is of another replicate
    model = fe.Model(
        log_joint=lambda z: np.nan if z[0] > bound else -0.5 * (z[0] ** 2 + z[1] ** 2), dim=2
    )
    monkeypatch.setattr(targets, "sizes_for", lambda *_: np.array([4096]))
    monkeypatch.setattr("fastelbo.engine.sampled.sizes_for", targets.sizes_for)
    with pytest.raises(fe.errors.InvalidWeightError) as error:
        fe.estimate(model, q, rng=0, sampler=sampler, rotate=sampler == "iid", target_se=0.01)
    k = int(re.search(r"draw (\d+): ", str(error.value))[1])
    assert k == (draws[:, 0] > bound).argmax()
    if sampler == "sobol":
        z = re.search(r"That draw is z = \[(.*?)\]", str(error.value))[1].split(",")
        np.testing.assert_allclose([float(each) for each in z], draws[k], rtol=1e-7)
    else:
        assert f"fastelbo.draw(q, 0, {k}, key=" in str(error.value)


# --- files --------------------------------------------------------------------------------------


def test_command_line_reads_replicates(tmp_path, capsys):
    path = tmp_path / "weights.npy"
    np.save(path, terms().log_weights)
    assert cli.main(["estimate", str(path), "--replicates", "16"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("3 data points, K = 1024 draws in 16 replicates")
    assert "variance_ratio" in text
    assert cli.main(["estimate", str(path), "--replicates", "8"]) == 2
    assert "shape (..., R, n)" in capsys.readouterr().err
    assert cli.main(["estimate", str(path), "--replicates", "1"]) == 2
    assert "--replicates must be at least 2" in capsys.readouterr().err


@pytest.mark.parametrize(("sampler", "shape"), [("iid", (1000,)), ("sobol", (16, 256))])
def test_terms_have_as_many_draws_as_an_estimate_by_default(sampler, shape):
    p, q = fe.Gaussian([0.0, 1.0], scale=1.0), fe.Gaussian([0.0, 1.0], scale=1.2)
    log_weights = fe.log_weights(p, q, rng=0, sampler=sampler)
    assert log_weights.shape == fe.elbo_terms(p, q, rng=0, sampler=sampler).log_q.shape == shape
    draws = fe.estimate(p, q, rng=0, sampler=sampler).n_samples
    assert draws == log_weights.size
