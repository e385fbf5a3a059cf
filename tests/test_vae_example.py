"""The example of a variational autoencoder: its estimate against a plain loop over images."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = [
    pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS),
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="not a checkout"),
]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def example(torch):
    pytest.importorskip("matplotlib").use("Agg")
    sys.path.insert(0, str(EXAMPLES))
    yield importlib.import_module("vae_digits")
    sys.path.remove(str(EXAMPLES))


def plain_loop(torch, vae, images, draws):
    """Log evidence and ELBO of each image, in torch alone, at draws (K, N, D)."""
    prior = torch.distributions.Normal(0.0, 1.0)
    found = []
    with torch.no_grad():
        for x, z in zip(images, torch.from_numpy(draws).unbind(1), strict=True):
            q = torch.distributions.Normal(*vae.encode(x))
            pixels = torch.distributions.Bernoulli(logits=vae.decoder(z))
            log_weights = pixels.log_prob(x).sum(-1)
            log_weights += prior.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)
            evidence = torch.logsumexp(log_weights, 0) - np.log(len(z))
            found.append((evidence.item(), log_weights.mean().item()))
    return np.array(found).T


def test_estimates_equal_a_plain_loop_on_the_same_draws(torch, example):
    training, test = example.digits()
    vae, images = example.train(training, 1), test[:20]
    est = example.evaluate(vae, images, 5000)
    q = fe.Gaussian(*vae.encode(images)[:1], scale=vae.encode(images)[1])
    evidence, elbo = plain_loop(torch, vae, images, q.sample(5000, rng=0))
    np.testing.assert_allclose(est.log_evidence, evidence, atol=1e-5, rtol=0.0)
    np.testing.assert_allclose(est.elbo, elbo, atol=1e-5, rtol=0.0)
    assert np.isfinite(est.pareto_k).all()


def test_the_script_writes_its_figure(example, tmp_path, capsys):
    path = tmp_path / "figure.png"
    example.main(["--epochs", "1", "--draws", "200", "--out", str(path)])
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert "k-hat" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_q_takes_the_output_of_an_encoder(torch, dtype):
    kind = getattr(torch, dtype)
    layer = torch.nn.Linear(3, 4, dtype=kind)
    mean, log_scale = layer(torch.ones(5, 3, dtype=kind)).chunk(2, dim=-1)
    q = fe.Gaussian(mean, scale=log_scale.exp())
    assert mean.requires_grad
    np.testing.assert_array_equal(q.mean, mean.detach().float().double().numpy()
                                  if dtype != "float64" else mean.detach().numpy())  # fmt: skip
    t = fe.StudentT(4.0, mean, scale=log_scale.exp())
    np.testing.assert_array_equal(t.scale, q.scale)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_q_takes_the_output_of_an_encoder_in_jax(dtype):
    jax = pytest.importorskip("jax")
    mean = jax.numpy.asarray([[0.1, 0.2]], dtype=dtype)
    scale = jax.nn.softplus(mean)
    q = fe.Gaussian(mean, scale=scale)
    np.testing.assert_array_equal(q.mean, np.asarray(mean.astype("float32"), np.float64))
    np.testing.assert_array_equal(q.scale, np.asarray(scale.astype("float32"), np.float64))
