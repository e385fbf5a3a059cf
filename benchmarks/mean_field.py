"""A mean-field fit of the digits: how far each library is from the optimum, after which time.

The optimum is known in closed form, and so is the ELBO of any q on the way. A trace has the seconds
so far, without compilation, and the gap to the optimum in nats a data point. Every fit begins at
mean 0 and scale 1.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import fastelbo as fe
from fastelbo.demo import digits_model

# A fit is there when it is within this of the optimum.
TARGET = 0.01
# Steps of a stochastic fit between two looks at it.
_LOOK = 25
# Draws of a step.
_DRAWS = 4


class Look(NamedTuple):
    """Seconds so far, and the gap in nats a data point."""

    seconds: float
    gap: float


class Problem:
    """The model, and the exact ELBO of any diagonal Gaussian q."""

    def __init__(self, points: int) -> None:
        self.model = digits_model(slice(points))
        self.shape = (len(self.model.x), self.model.dim)
        mean = self.model.exact_posterior().mean
        cov = self.model.exact_posterior().cov[0]
        self.best = self.elbo(
            mean, np.broadcast_to(np.diag(np.linalg.inv(cov)) ** -0.5, self.shape)
        )

    def elbo(self, mean: Any, scale: Any) -> float:
        """The mean over data points."""
        q = fe.Gaussian(np.asarray(mean), scale=np.asarray(scale))
        return float(fe.exact_elbo(self.model, q).mean())

    def gap(self, mean: Any, scale: Any) -> float:
        """The optimum less the ELBO of a q."""
        return self.best - self.elbo(mean, scale)


def seconds_to_target(trace: list[Look]) -> float:
    """When a fit was there; infinite if never."""
    return min((look.seconds for look in trace if look.gap < TARGET), default=np.inf)


Trace = Callable[[Problem, bool], list[Look]]


# Fits of fastelbo, of which the quickest counts: they take a twentieth of a second.
_REPEATS = 7


def _fastelbo(method: str, **options: Any) -> Trace:
    """The ELBO on the draws of the fit, which is exact for a model that is quadratic in z."""

    def run(problem: Problem, small: bool) -> list[Look]:
        start = fe.Gaussian(np.zeros(problem.shape), scale=np.ones(problem.shape))
        found: list[Any] = [
            fe.fit(problem.model, start, method=method, n_eval=0, rng=0, **options)
            for _ in range(2 if small else _REPEATS)
        ]
        quickest = min(found[1:], key=lambda fit: fit.history.seconds[-1])
        gaps = problem.best - quickest.history.elbo / problem.shape[0]
        np.testing.assert_allclose(
            gaps[-1], problem.gap(quickest.q.mean, quickest.q.scale), atol=1e-8
        )
        return [Look(*each) for each in zip(quickest.history.seconds, gaps, strict=True)]

    return run


def _stepped(
    problem: Problem, steps: int, advance: Callable[[], None], read: Callable[[], Any]
) -> list[Look]:
    """Looks at a fit every so many steps. Time is that of steps alone."""
    looks, seconds = [Look(0.0, problem.gap(*read()))], 0.0
    for _ in range(steps // _LOOK):
        begin = time.perf_counter()
        advance()
        seconds += time.perf_counter() - begin
        looks.append(Look(seconds, problem.gap(*read())))
    return looks


def _numpyro(rate: float, steps: int) -> Trace:
    """NumPyro's SVI with Adam, whose rate falls to a thousandth."""

    def run(problem: Problem, small: bool) -> list[Look]:
        import jax
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist
        from numpyro.infer import SVI, Trace_ELBO

        jax.config.update("jax_enable_x64", True)
        count, dim = problem.shape
        model = problem.model
        loadings, x = jnp.asarray(model.loadings), jnp.asarray(model.x - model.offset)
        sd = jnp.sqrt(jnp.asarray(model.noise_cov))

        def density() -> None:
            with numpyro.plate("points", count):
                z = numpyro.sample("z", dist.Normal(jnp.zeros(dim), 1.0).to_event(1))
                numpyro.sample("x", dist.Normal(z @ loadings.T, sd).to_event(1), obs=x)

        def guide() -> None:
            mean = numpyro.param("mean", jnp.zeros((count, dim)))
            scale = numpyro.param(
                "scale", jnp.ones((count, dim)), constraint=dist.constraints.positive
            )
            with numpyro.plate("points", count):
                numpyro.sample("z", dist.Normal(mean, scale).to_event(1))

        all_steps = 2 * _LOOK if small else steps
        falling = numpyro.optim.Adam(lambda i: rate * 1e-3 ** (i / all_steps))
        svi = SVI(density, guide, falling, Trace_ELBO(num_particles=_DRAWS))
        look = jax.jit(
            lambda state: jax.lax.fori_loop(0, _LOOK, lambda _, s: svi.update(s)[0], state)
        )
        states = [svi.init(jax.random.key(0))]
        jax.block_until_ready(look(states[0]))  # compiles

        def advance() -> None:
            states[0] = jax.block_until_ready(look(states[0]))

        def read() -> Any:
            found = svi.get_params(states[0])
            return found["mean"], found["scale"]

        return _stepped(problem, all_steps, advance, read)

    return run


def _torch(rate: float, steps: int) -> Trace:
    """PyTorch's Adam along the path through the draws alone, with a falling rate."""

    def run(problem: Problem, small: bool) -> list[Look]:
        import torch

        model = problem.model
        sd = np.sqrt(model.noise_cov)
        loadings = torch.tensor((model.loadings / sd[:, None]).T)
        x = torch.tensor((model.x - model.offset) / sd)
        mean = torch.zeros(problem.shape, dtype=torch.float64, requires_grad=True)
        log_scale = torch.zeros(problem.shape, dtype=torch.float64, requires_grad=True)
        all_steps = 2 * _LOOK if small else steps
        optimiser = torch.optim.Adam([mean, log_scale], lr=rate)
        falling = torch.optim.lr_scheduler.ExponentialLR(optimiser, 1e-3 ** (1.0 / all_steps))
        torch.manual_seed(0)

        def advance() -> None:
            for _ in range(_LOOK):
                optimiser.zero_grad()
                scale = log_scale.exp()
                y = torch.randn((_DRAWS, *problem.shape), dtype=torch.float64)
                z = mean + scale * y
                away = (z - mean.detach()) / scale.detach()
                log_q = -0.5 * (away**2).sum(-1) - log_scale.detach().sum(-1)
                log_p = -0.5 * ((x - z @ loadings) ** 2).sum(-1) - 0.5 * (z**2).sum(-1)
                (-(log_p - log_q).mean(0).sum()).backward()
                optimiser.step()
                falling.step()

        return _stepped(
            problem, all_steps, advance, lambda: (mean.detach(), log_scale.detach().exp())
        )

    return run


def _traces() -> Iterator[tuple[str, Trace]]:
    yield "fastelbo", _fastelbo("newton")
    yield "fastelbo, 20 draws", _fastelbo("newton", n_samples=20)
    yield "fastelbo, L-BFGS", _fastelbo("lbfgs")
    if importlib.util.find_spec("numpyro"):
        # The best of some rates and numbers of steps: fewer steps do not reach the target.
        for rate, steps in ((0.1, 600), (0.2, 600), (0.3, 500)):
            yield f"numpyro, {steps} steps at {rate}", _numpyro(rate, steps)
    if importlib.util.find_spec("torch"):
        yield "torch, 400 steps at 0.2", _torch(0.2, 400)


TRACES: dict[str, Trace] = dict(_traces())
