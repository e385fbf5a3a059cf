"""Models of torch, NumPyro and PyMC against the same density written in NumPy."""

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS
from scipy import stats

import fastelbo as fe
from fastelbo.errors import InvalidInputError

pytestmark = [
    pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS),
    # Warnings of other libraries about each other.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

# Eight schools (Rubin, 1981), non-centred.
Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
LOG_EVIDENCE = -31.3113473523
NAMES = [f"eta[{i}]" for i in range(8)]


def log_joint(mu, log_tau, eta):
    """log p(y, mu, log tau, eta) with its Jacobian, for arrays (n,), (n,) and (n, 8)."""
    tau = np.exp(log_tau)
    theta = mu[:, None] + tau[:, None] * eta
    total = stats.norm.logpdf(mu, 0.0, 5.0) + stats.halfcauchy.logpdf(tau, 0.0, 5.0) + log_tau
    total += stats.norm.logpdf(eta).sum(-1)
    return total + stats.norm.logpdf(Y, theta, SIGMA).sum(-1)


Z = np.random.default_rng(0).normal(size=(20, 10)) * np.array([3.0, 1.0] + [1.0] * 8) + np.array(
    [4.0, 1.0] + [0.0] * 8
)
Q = fe.StudentT(5.0, [4.5, 1.0] + [0.0] * 8, scale=[4.0, 1.2] + [1.1] * 8)


def check(model, places, names, tolerance=1e-9):
    """The density at Z, and the evidence; ``places`` are those of mu, log tau and eta."""
    assert model.names == tuple(names)
    order = np.argsort(places)
    np.testing.assert_allclose(
        model.log_joint(Z[:, order]), log_joint(Z[:, 0], Z[:, 1], Z[:, 2:]), rtol=tolerance
    )
    q = fe.StudentT(5.0, Q.mean[order], scale=Q.scale[order])
    est = fe.estimate(model, q, 100_000, rng=0)
    assert abs(est.log_evidence - LOG_EVIDENCE) < 4.0 * est.log_evidence_se
    plain = fe.summarize(
        log_joint(*_parts(q.sample(2000, rng=0)[:, places])) - q.log_prob(q.sample(2000, rng=0))
    )
    few = fe.estimate(model, q, 2000, rng=0)
    np.testing.assert_allclose(few.log_evidence, plain.log_evidence, rtol=0.0, atol=1e-6)


def _parts(z):
    return z[:, 0], z[:, 1], z[:, 2:]


def test_numpyro():
    numpyro = pytest.importorskip("numpyro")
    jax = pytest.importorskip("jax")
    dist = numpyro.distributions

    def eight_schools(sigma, y=None):
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
        with numpyro.plate("schools", 8):
            eta = numpyro.sample("eta", dist.Normal(0.0, 1.0))
            numpyro.sample("y", dist.Normal(mu + tau * eta, sigma), obs=y)

    before = jax.config.jax_enable_x64
    try:
        jax.config.update("jax_enable_x64", False)
        with pytest.raises(InvalidInputError, match="from_numpyro needs float64"):
            fe.from_numpyro(eight_schools, SIGMA, y=Y)
        jax.config.update("jax_enable_x64", True)
        model = fe.from_numpyro(eight_schools, SIGMA, y=Y)
        check(model, [8, 9, *range(8)], [*NAMES, "mu", "tau"])
        with pytest.raises(InvalidInputError, match="at least one latent variable"):
            fe.from_numpyro(lambda: None)
    finally:
        jax.config.update("jax_enable_x64", before)


def test_pymc():
    pm = pytest.importorskip("pymc")
    with pm.Model() as eight_schools:
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        eta = pm.Normal("eta", shape=8)
        pm.Normal("y", mu + tau * eta, SIGMA, observed=Y)
    model = fe.from_pymc(eight_schools)
    # PyMC's own value has constants of single precision.
    check(model, range(10), ["mu", "tau_log__", *NAMES], tolerance=1e-8)
    own = eight_schools.compile_logp()
    expected = [own({"mu": z[0], "tau_log__": z[1], "eta": z[2:]}) for z in Z]
    np.testing.assert_allclose(model.log_joint(Z), expected, rtol=1e-13)
    with pm.Model() as counts:
        pm.Poisson("n", 3.0)
    with pytest.raises(InvalidInputError, match="no discrete latent variables, got n"):
        fe.from_pymc(counts)


def test_torch():
    torch = pytest.importorskip("torch")

    class Schools(torch.nn.Module):
        def forward(self, z):
            mu, log_tau, eta = z[:, 0], z[:, 1], z[:, 2:]
            # With plain floats, the constants of distributions would be those of float32.
            zero, one, five = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
            normal = torch.distributions.Normal
            tau = log_tau.exp()
            theta = mu[:, None] + tau[:, None] * eta
            total = normal(zero, five).log_prob(mu) + log_tau
            total = total + torch.distributions.HalfCauchy(five).log_prob(tau)
            total = total + normal(zero, one).log_prob(eta).sum(-1)
            likelihood = normal(theta, torch.from_numpy(SIGMA)).log_prob(torch.from_numpy(Y))
            return total + likelihood.sum(-1)

    module = Schools()
    with pytest.raises(InvalidInputError, match=r"evaluation mode.*eval\(\)"):
        fe.from_torch(module, 10)
    names = ("mu", "log_tau", *NAMES)
    check(fe.from_torch(module.eval(), 10, names=names), range(10), names)
    given = fe.from_torch(lambda z: -(z**2).sum(-1), prior=fe.Gaussian([0.0], scale=1.0))
    assert np.isfinite(fe.estimate(given, fe.Gaussian([0.0], scale=1.0), 100, rng=0).kl)
