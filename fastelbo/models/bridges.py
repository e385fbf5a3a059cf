"""Models of other libraries: torch, NumPyro and PyMC, each as a `Model` over all real vectors.

Latent variables that are constrained there come as their unconstrained forms here, with the log
Jacobian in log p(x, z). The log evidence is therefore that of the library's own model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InvalidInputError
from ..optional import optional
from ..validation import Floats, shown
from .constraints import Constraint
from .protocol import LogDensity
from .user import Model


def from_torch(
    function: Callable[..., Any],
    dim: int | None = None,
    *,
    prior: LogDensity | None = None,
    data: ArrayLike | None = None,
    device: Any = None,
    batch_size: int | None = None,
    names: tuple[str, ...] | None = None,
) -> Model:
    """A model of a torch function or module.

    Parameters
    ----------
    function : callable or torch.nn.Module
        log p(x, z), as ``f(z)`` for z of shape (n, D), or with data as ``f(z, x)`` for (k, n, D)
        and (n, ...). With ``prior``, log p(x | z). A module must be in evaluation mode.
    dim : int, optional
        D; not needed with a prior.
    prior, data, device, batch_size, names
        As for `Model`.

    Returns
    -------
    Model

    Raises
    ------
    InvalidInputError
        As for `Model`, and for a module that is training, as its values may be random.

    Examples
    --------
    >>> from typing import Any
    >>> import fastelbo as fe
    >>> def log_joint(z: Any) -> Any:  # of tensors
    ...     return -0.5 * (z**2).sum(-1)
    >>> model = fe.from_torch(log_joint, dim=2)  # doctest: +SKIP
    """
    modules = getattr(function, "modules", None)
    if callable(modules) and any(part.training for part in modules()):
        raise InvalidInputError(
            f"function must be in evaluation mode, got the training module {shown(function)}: "
            "call its eval() first"
        )
    is_joint = prior is None
    return Model(
        log_joint=function if is_joint else None, log_likelihood=None if is_joint else function,
        prior=prior, dim=dim, data=data, vectorized=True,
        array_namespace="torch", device=device, batch_size=batch_size, names=names,
    )  # fmt: skip


def from_numpyro(model: Callable[..., Any], *args: Any, **kwargs: Any) -> Model:
    """A NumPyro model, with its data.

    Parameters
    ----------
    model : callable
        A NumPyro model without discrete latent variables.
    *args
        Its arguments, the observations among them.
    **kwargs
        Its arguments by keyword.

    Returns
    -------
    Model
        Over the unconstrained latent variables, in the order of their names. `Model.names` are the
        names of the sites, with indices.

    Raises
    ------
    InvalidInputError
        If JAX does not compute in float64, or the model has no latent variables.

    Examples
    --------
    >>> import fastelbo as fe
    >>> from typing import Any
    >>> # q is over the unconstrained variables.
    >>> def evidence(q: fe.StudentT, model: Any, *data: Any) -> fe.Estimate:
    ...     return fe.estimate(fe.from_numpyro(model, *data), q, 100_000)
    """
    jax = optional("jax", "from_numpyro", '"fastelbo[numpyro]"')
    util = optional("numpyro.infer.util", "from_numpyro", '"fastelbo[numpyro]"')
    if not jax.config.jax_enable_x64:
        raise InvalidInputError(
            'from_numpyro needs float64: call jax.config.update("jax_enable_x64", True) before the '
            "first JAX array is made"
        )
    info = util.initialize_model(jax.random.PRNGKey(0), model, model_args=args, model_kwargs=kwargs)
    sites = {name: np.asarray(value) for name, value in sorted(info.param_info.z.items())}
    names = _names(sites)

    def log_joint(v: Any) -> Any:
        values, start = {}, 0
        for name, value in sites.items():
            values[name] = v[start : start + value.size].reshape(value.shape)
            start += value.size
        return -info.potential_fn(values)

    made = Model(
        log_joint=jax.jit(jax.vmap(log_joint)), dim=len(names), vectorized=True,
        array_namespace="jax", names=names,
    )  # fmt: skip
    # Its sites have the same names with and without constraints, so that draws must be told apart.
    given = util.constrain_fn(model, args, kwargs, info.param_info.z)
    constrained = {name: np.asarray(given[name]) for name in sites}

    def unconstrain(values: Any) -> Any:
        found = util.unconstrain_fn(model, args, kwargs, values)
        return jax.numpy.concatenate([found[name].reshape(-1) for name in sites])

    def unconstrained(draws: Floats) -> Floats:
        ends = np.cumsum([value.size for value in constrained.values()])
        parts = np.split(draws, ends[:-1], axis=1)
        values = {
            name: part.reshape(-1, *value.shape)
            for (name, value), part in zip(constrained.items(), parts, strict=True)
        }
        return np.asarray(jax.vmap(unconstrain)(values), dtype=np.float64)

    vars(made.likelihood)["constraint"] = Constraint(_names(constrained), unconstrained)
    return made


def from_pymc(model: Any) -> Model:
    """A PyMC model, with its data.

    Parameters
    ----------
    model : pymc.Model
        A model without discrete latent variables.

    Returns
    -------
    Model
        Over the unconstrained variables, in PyMC's order. `Model.names` are their names in PyMC,
        such as ``tau_log__``, with indices.

    Raises
    ------
    InvalidInputError
        If the model has no latent variables, or discrete ones.

    Examples
    --------
    >>> import fastelbo as fe
    >>> from typing import Any
    >>> # q is over the unconstrained variables.
    >>> def evidence(q: fe.StudentT, model: Any) -> fe.Estimate:
    ...     return fe.estimate(fe.from_pymc(model), q, 100_000)
    """
    optional("pymc", "from_pymc", '"fastelbo[pymc]"')
    pytensor = optional("pytensor", "from_pymc", '"fastelbo[pymc]"')
    replace = optional("pytensor.graph.replace", "from_pymc", '"fastelbo[pymc]"')
    point = model.initial_point()
    sites = {value.name: np.asarray(point[value.name]) for value in model.value_vars}
    discrete = [name for name, value in sites.items() if value.dtype.kind != "f"]
    if discrete:
        raise InvalidInputError(
            f"model must have no discrete latent variables, got {', '.join(discrete)}"
        )
    names = _names(sites)
    z = pytensor.tensor.matrix("z", dtype="float64")
    values, start = {}, 0
    for variable in model.value_vars:
        shape, size = sites[variable.name].shape, sites[variable.name].size
        part = z[:, start : start + size].reshape((z.shape[0], *shape))
        values[variable] = part.astype(variable.dtype)
        start += size
    compiled = pytensor.function([z], replace.vectorize_graph(model.logp(), values))
    return Model(log_joint=compiled, dim=len(names), vectorized=True, names=names)


def _names(sites: Mapping[str, np.ndarray[Any, Any]]) -> tuple[str, ...]:
    """Names of the coordinates: of the sites, with indices in row order."""
    names: list[str] = []
    for name, value in sites.items():
        if value.ndim == 0:
            names.append(name)
            continue
        names += [f"{name}[{','.join(map(str, index))}]" for index in np.ndindex(value.shape)]
    if not names:
        raise InvalidInputError("model must have at least one latent variable")
    return tuple(names)
